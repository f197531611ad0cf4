"""Who gets what: every address against every kind of person. An address without a row fails."""

import pytest
from django.contrib.auth.models import Group
from django.urls import get_resolver, reverse
from django.urls.resolvers import URLPattern

from accounts.models import Account, LoginAttempt
from tests.support.factories import make_attempt

SEE = {"anonymous": 302, "viewer": 200, "operator": 200, "stranger": 404, "admin": 200}
DO = {"anonymous": 302, "viewer": 403, "operator": 302, "stranger": 404, "admin": 302}
ANYBODY = dict.fromkeys(SEE, 200)
SIGNED_IN = {**SEE, "stranger": 200}
ADMINS_ONLY = {**SEE, "viewer": 404, "operator": 404}
# name: (method, what each person gets)
MATRIX = {
    "overview": ("get", SIGNED_IN),
    "overview_now": ("get", SIGNED_IN),
    "overview_charts": ("get", SIGNED_IN),
    "accounts": ("get", SIGNED_IN),
    "account_counts": ("get", SIGNED_IN),
    "export_accounts": ("get", SIGNED_IN),
    "export_list_attempts": ("get", SIGNED_IN),
    "export_list_events": ("get", SIGNED_IN),
    "export_attempts": ("get", SEE),
    "import_accounts": ("get", {**SIGNED_IN, "viewer": 403}),
    "export_events": ("get", SEE),
    "list_news": ("get", SIGNED_IN),
    "save_view": ("post", {**DO, "viewer": 302, "stranger": 302}),
    "me": ("get", SIGNED_IN),
    "notifications": ("get", SIGNED_IN),
    "account_notifications": ("get", SIGNED_IN),
    "people": ("get", ADMINS_ONLY),
    "new_person": ("get", ADMINS_ONLY),
    "teams": ("get", ADMINS_ONLY),
    "sign_ins": ("get", ADMINS_ONLY),
    "audit": ("get", ADMINS_ONLY),
    "export_audit": ("get", ADMINS_ONLY),
    "status": ("get", ADMINS_ONLY),
    "status_now": ("get", ADMINS_ONLY),
    "runbook": ("get", ADMINS_ONLY),
    "alarm": ("get", SIGNED_IN),
    "waiting": ("get", SIGNED_IN),
    "new_account": ("get", {**SIGNED_IN, "viewer": 403}),
    "account": ("get", SEE),
    "edit_account": ("get", {**SEE, "viewer": 403}),
    "account_row": ("get", SEE),
    "account_live": ("get", SEE),
    "account_history": ("get", SEE),
    "avatar": ("get", {**SEE, "viewer": 404, "operator": 404, "admin": 404}),
    "start_login": ("post", DO),
    "attempt": ("get", SEE),
    "attempt_live": ("get", SEE),
    "qr_png": ("get", {**SEE, "viewer": 403}),
    "scan_instead": ("post", {**DO, "operator": 404, "admin": 404}),  # it is no phone prompt
    "cancel_login": ("post", DO),
    "take_as_meant": ("post", {**DO, "operator": 404, "admin": 404}),  # nobody else scanned
    "submit_code": ("post", {**DO, "operator": 422, "admin": 422}),
    "ask_phone": ("post", {**DO, "operator": 404, "admin": 404}),  # it never logged in
    "check_all": ("post", {**DO, "viewer": 302, "stranger": 302}),
    "check_account": ("post", {**DO, "viewer": 302}),
    "keep_online": ("post", {**DO, "operator": 200, "admin": 200}),  # asks for a reason
    "take_account": ("post", DO),
    "release_account": ("post", DO),
    "silence_account": ("post", {**DO, "operator": 200, "admin": 200}),  # asks for how long
    "archive_account": ("post", {**DO, "operator": 200, "admin": 200}),  # asks first
    "restore_account": ("post", {**DO, "operator": 404, "admin": 404}),  # it is not archived
    "archived_accounts": ("get", SIGNED_IN),
    "bulk_runs": ("get", SIGNED_IN),
    "choose_bulk": ("post", SIGNED_IN),
    "account_link": ("get", {**SEE, "viewer": 403}),
    "log_out_account": ("post", {**DO, "operator": 404, "admin": 404}),  # it is not online
    "due": ("post", DO),
    "undo_merge_of_account": ("post", {**DO, "operator": 403, "admin": 403}),  # it is not merged
    "to_scan": ("get", dict.fromkeys(SEE, 302)),
    "incidents": ("get", SIGNED_IN),
    "unmanaged": ("get", {**SIGNED_IN, "viewer": 403, "operator": 403, "stranger": 403}),
    "healthz": ("get", ANYBODY),
    "readyz": ("get", ANYBODY),
}
ELSEWHERE = {
    "events": "realtime/test_sse.py",
    "sign_in": "web/test_sign_in.py",
    **dict.fromkeys(("second_step", "two_step", "admin_login"), "web/test_two_step.py"),
    "sign_out": "web/test_sign_in.py",
    "set_language": "web/test_own_settings.py",
    "remove_view": "web/test_saved_views.py",
    "incident": "web/test_scan_queue.py",
    "recover_incident": "web/test_scan_queue.py",
    "report": "web/test_overview.py",
    "take_incident": "web/test_incident.py",
    "release_incident": "web/test_incident.py",
    "add_incident_note": "web/test_incident.py",
    **dict.fromkeys(("person", "team", "delete_team", "set_password"), "web/test_people.py"),
    "adopt": "web/test_scan_queue.py",
    **dict.fromkeys(("prepare_bulk", "bulk_run", "bulk_run_live", "cancel_bulk_run"), "web/test_bulk.py"),
    "ignore": "web/test_scan_queue.py",
    **dict.fromkeys(
        ("start_station", "station", "station_live", "station_queue", "station_do", "wall", "wall_live"),
        "web/test_station.py",
    ),
    **dict.fromkeys(
        ("scan_link", "scan_link_live", "scan_link_do", "account_link_live"), "web/test_scan_link.py"
    ),
    "callback": "web/test_upstream_callback.py",
}


def own_names() -> set[str]:
    def walk(patterns):
        for pattern in patterns:
            if isinstance(pattern, URLPattern):
                yield pattern.name
            elif pattern.app_name != "admin":
                yield from walk(pattern.url_patterns)

    return set(walk(get_resolver().url_patterns))


def test_every_address_has_a_row():
    assert own_names() == set(MATRIX) | set(ELSEWHERE)


def client_of(people, who, client):
    return client if who == "anonymous" else getattr(people, who).client


def address(name, account, attempt) -> str:
    pattern = (
        {"account_id": account.pk}
        if "account" in name
        and name
        not in (
            "accounts",
            "account_counts",
            "new_account",
            "archived_accounts",
            "export_accounts",
            "import_accounts",
            "account_notifications",
        )
        else {}
    )
    if name in (
        "export_attempts",
        "export_events",
        "avatar",
        "start_login",
        "ask_phone",
        "keep_online",
        "due",
    ):
        pattern = {"account_id": account.pk}
    of_attempt = ("attempt", "attempt_live", "qr_png", "scan_instead", "cancel_login", "submit_code")
    if name in (*of_attempt, "take_as_meant"):
        pattern = {"attempt_id": attempt.pk}
    return reverse(name, kwargs=pattern)


@pytest.mark.parametrize("name", MATRIX)
def test_everybody_gets_what_is_theirs(name, committed, client, upstream):
    method, expected = MATRIX[name]
    found = {}
    for who in SEE:
        account = committed.account()
        attempt = make_attempt(account, qr_png=b"\x89PNG", qr_text="x")
        ask = getattr(client_of(committed, who, client), method)
        found[who] = ask(address(name, account, attempt)).status_code
    assert found == expected


def test_a_stranger_changes_nothing(committed, upstream):
    attempt = make_attempt(committed.account())
    before = LoginAttempt.objects.values().get(pk=attempt.pk)
    for name in ("start_login", "cancel_login", "submit_code"):
        committed.stranger.client.post(address(name, attempt.account, attempt), {"code": "123456"})

    assert LoginAttempt.objects.values().get(pk=attempt.pk) == before
    assert upstream.calls("/iPadLogin") == 0


def test_a_stranger_sees_nothing_of_it_in_the_list(committed):
    committed.account(label="Ours only")
    assert "Ours only" not in committed.stranger.client.get("/accounts/").content.decode()
    assert "Ours only" in committed.mate.client.get("/accounts/").content.decode()


def test_a_team_that_is_left_is_a_team_not_seen(committed):
    account = committed.account()
    committed.operator.groups.remove(committed.east)
    assert committed.operator.client.get(f"/accounts/{account.pk}/").status_code == 404


def test_a_role_is_not_a_team(committed):
    """Otherwise all operators would see what one of them was allowed to see."""
    role = Group.objects.get(role="operator")
    role.name = "Night shift"
    role.save()
    account = committed.account(team=role)
    assert committed.operator.client.get(f"/accounts/{account.pk}/").status_code == 404
    assert "Night shift" not in committed.admin.client.get("/accounts/new/").content.decode()


def test_somebody_without_a_role_sees_nothing(committed):
    nobody = committed.person("nobody", team=committed.east)
    account = committed.account()
    assert nobody.client.get(f"/accounts/{account.pk}/").status_code == 404
    assert nobody.client.get("/accounts/new/").status_code == 403


def test_an_account_without_a_team_is_seen_by_admins_only(committed):
    account = committed.account(team=None)
    assert committed.operator.client.get(f"/accounts/{account.pk}/").status_code == 404
    assert committed.admin.client.get(f"/accounts/{account.pk}/").status_code == 200


def test_what_changes_something_refuses_all_but_post(committed, upstream):
    account = committed.account()
    attempt = make_attempt(account)
    before = [Account.objects.values().get(), LoginAttempt.objects.values().get()]
    names = [name for name, (method, _expected) in MATRIX.items() if method == "post"]
    assert {"start_login", "cancel_login", "submit_code", "keep_online"} <= set(names)
    for name in names:
        for method in ("get", "head", "put", "delete", "patch"):
            ask = getattr(committed.operator.client, method)
            assert ask(address(name, account, attempt)).status_code == 405, (name, method)
    assert [Account.objects.values().get(), LoginAttempt.objects.values().get()] == before
    assert upstream.state()["calls"] == {}


def test_the_ids_come_from_the_path_alone(committed, upstream):
    ours, theirs = committed.account(), committed.account(team=committed.west)
    committed.operator.client.post(
        f"/accounts/{ours.pk}/login/?account_id={theirs.pk}", {"account": theirs.pk, "account_id": theirs.pk}
    )
    assert list(LoginAttempt.objects.values_list("account", flat=True)) == [ours.pk]


def test_state_and_ids_are_not_taken_from_forms(committed):
    account = committed.account(label="Before")
    form = {"label": "After", "proxy": "", "tag_names": "", "team": committed.east.pk, "note": ""}
    extra = {
        "state": "online",
        "w_id": "w-evil",
        "bound_seq": 9,
        "login_seq": 9,
        "nickname": "x",
        "merged_into": 1,
    }
    committed.operator.client.post(f"/accounts/{account.pk}/edit/", {**form, **extra})

    account.refresh_from_db()
    assert (account.label, account.state, account.w_id, account.nickname) == ("After", "new", "", "")
    assert (account.bound_seq, account.login_seq, account.merged_into) == (0, 0, None)


def test_an_account_cannot_be_given_to_a_team_one_is_not_in(committed):
    account = committed.account(label="Ours")
    answer = committed.operator.client.post(
        f"/accounts/{account.pk}/edit/", {"label": "Ours", "team": committed.west.pk, "tag_names": ""}
    )
    assert answer.status_code == 422
    account.refresh_from_db()
    assert account.team == committed.east


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/accounts/{}/edit/", "You can view accounts but not edit them. Operators and admins can."),
        ("/accounts/{}/link/", "You can view accounts but not log them in. Operators and admins can."),
        ("/accounts/new/", "You can view accounts but not add any. Operators and admins can."),
        ("/accounts/import/", "You can view accounts but not add any. Operators and admins can."),
        ("/station/", "You can view accounts but not log them in. Operators and admins can."),
        ("/discovered/", "Only people who see every account can adopt one."),
    ],
)
def test_who_sees_an_account_but_may_not_act_is_told_who_may(people, path, says):
    account = people.account()
    answer = people.viewer.client.get(path.format(account.pk))
    text = answer.content.decode()
    assert answer.status_code == 403
    assert says in text and "address is wrong" not in text
    assert (f'href="/accounts/{account.pk}/"' in text) == ("{}" in path)
    if "{}" in path:
        hidden = people.stranger.client.get(path.format(account.pk))
        assert hidden.status_code == 404 and "view accounts" not in hidden.content.decode()


def test_an_archived_and_a_merged_account_say_why_they_cannot_be_changed(people):
    archived = people.account(state="archived")
    merged = people.account(merged_into=people.account())
    for account, says in ((archived, "This account is archived."), (merged, "merged into another one")):
        text = people.operator.client.get(f"/accounts/{account.pk}/edit/").content.decode()
        assert says in text and "address is wrong" not in text
