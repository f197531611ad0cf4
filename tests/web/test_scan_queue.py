"""The pages about keeping accounts online: the next one to scan, incidents, accounts nobody here knows, buttons."""

import re
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import (
    Account,
    AccountEvent,
    Drop,
    Incident,
    LoginAttempt,
    Presence,
    UnmanagedAccount,
    event,
)
from accounts.relogin import recover
from accounts.states import AttemptState, DetectedBy, DropKind, EventType, Method, NextStep
from tests.support.factories import make_account, make_attempt

pytestmark = pytest.mark.usually("sqlite")

HOURS_AGO = [timezone.now() - timedelta(hours=n) for n in range(10)]


def html(answer, status: int = 200) -> str:
    assert answer.status_code == status
    return answer.content.decode()


def dropped(people, to_scan_hours: int | None = None, **fields) -> Account:
    """An account that is offline, in an open drop; on the list "To scan" for so many hours."""
    drop = fields.pop("drop", {})
    account = people.account(
        state="offline", wc_id=f"wxid_{Account.objects.count()}_gone", state_since=HOURS_AGO[3], **fields
    )
    if to_scan_hours is not None:
        Account.objects.filter(pk=account.pk).update(queued_for_scan_at=HOURS_AGO[to_scan_hours])
        drop.setdefault("next_step", NextStep.SCAN)
    Drop.objects.create(account=account, w_id="gone", at=HOURS_AGO[3], **drop)
    account.refresh_from_db()
    return account


def accounts_on(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'<(?:tr|li)[^>]*data-account="(\d+)"', page)]


def test_one_place_of_the_navigation_is_where_one_is(people):
    account = dropped(people, 1, drop={"incident": Incident.objects.create()})
    places = {
        "/accounts/": "Accounts",
        f"/accounts/{account.pk}/": "Accounts",
        "/station/": "Scan station",
        "/incidents/": "Incidents",
        f"/incidents/{account.drops.get().incident_id}/": "Incidents",
        "/discovered/": "Unmanaged",
    }
    for path, place in places.items():
        page = html(people.admin.client.get(path))
        nav = re.search(r"<nav.*?</nav>", page, re.DOTALL)[0]
        assert re.findall(r'class="item[^>]*aria-current[^>]*>.*?<span>(.*?)</span>', nav, re.DOTALL) == [
            place
        ], path


# --- after a login ---------------------------------------------------------------------------------------


def test_after_a_login_the_next_one_is_one_key_away(people):
    done, waiting = people.account(w_id="w-new"), dropped(people, 2)
    attempt = make_attempt(done, AttemptState.SUCCEEDED, w_id="w-new")
    page = html(people.operator.client.get(f"/attempts/{attempt.pk}/"))
    assert f"/accounts/{waiting.pk}/login/" in page and 'id="next-in-queue"' in page
    assert 'id="next-in-queue"' not in html(people.viewer.client.get(f"/attempts/{attempt.pk}/"))
    make_attempt(waiting, asked_by=people.mate)
    assert 'id="next-in-queue"' not in html(people.operator.client.get(f"/attempts/{attempt.pk}/"))


# --- incidents ------------------------------------------------------------------------------------------


@pytest.fixture
def incident(people):
    found = Incident.objects.create(shares="proxy", shared="2")
    for _n in range(3):
        dropped(people, drop={"incident": found})
    dropped(people, team=people.west, drop={"incident": found})
    return found


def test_an_incident_shows_the_accounts_of_ones_teams(people, incident):
    page = html(people.operator.client.get(f"/incidents/{incident.pk}/"))
    assert len(accounts_on(page)) == 3 and "南京" in page
    assert len(accounts_on(html(people.admin.client.get(f"/incidents/{incident.pk}/")))) == 4
    assert f'data-incident="{incident.pk}"' in html(people.operator.client.get("/incidents/"))


def test_an_incident_of_other_teams_is_not_there(people):
    found = Incident.objects.create()
    dropped(people, team=people.west, drop={"incident": found})
    assert people.operator.client.get(f"/incidents/{found.pk}/").status_code == 404
    assert "data-incident=" not in html(people.operator.client.get("/incidents/"))


def test_the_list_counts_the_drops_of_ones_teams_and_those_still_open(people, incident):
    back = incident.drops.filter(account__team=people.east).first()
    Drop.objects.filter(pk=back.pk).update(ended_at=timezone.now())
    seen = {}
    for who in (people.operator, people.admin):
        row = re.search(r"<tr data-incident.*?</tr>", html(who.client.get("/incidents/")), re.DOTALL)[0]
        seen[who] = re.findall(r">(\d+)<", row)
    assert seen == {people.operator: ["3", "2"], people.admin: ["4", "3"]}


@pytest.mark.parametrize("who", ["operator", "admin"])
def test_the_incidents_need_as_many_queries_for_more_of_them(people, who):
    client = getattr(people, who).client

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            html(client.get("/incidents/"))
        return len(captured)

    def more(number: int) -> None:
        for _n in range(number):
            dropped(people, drop={"incident": Incident.objects.create()})

    more(2)
    few = queries()
    more(5)
    assert queries() == few


def test_recover_these_takes_the_open_drops_of_ones_teams(people, incident):
    later = timezone.now() + timedelta(hours=5)
    Drop.objects.update(kind=DropKind.FIRST_NIGHT, next_step=NextStep.BACK_OFF, next_at=later)
    assert people.viewer.client.post(f"/incidents/{incident.pk}/recover/").status_code == 403
    with CaptureQueriesContext(connection) as captured:
        assert people.operator.client.post(f"/incidents/{incident.pk}/recover/").status_code == 302
    assert sum(query["sql"].startswith("UPDATE") for query in captured) == 1
    assert set(Drop.objects.exclude(asked_by=None).values_list("asked_by", "next_step")) == {
        (people.operator.pk, NextStep.WAITING)
    }
    recover.tick()
    soon = timezone.now() + timedelta(hours=1)
    hurried = Drop.objects.filter(next_at__lt=soon) | Drop.objects.filter(next_at=None)
    assert {drop.account.team for drop in hurried} == {people.east}
    assert hurried.count() == 3
    assert not Drop.objects.exclude(asked_by=None).exists()
    scanned = AccountEvent.objects.filter(happened=EventType.TO_SCAN)
    assert set(scanned.values_list("actor_name", flat=True)) == {"operator"}


# --- unmanaged accounts ---------------------------------------------------------------------------------


def test_only_who_sees_every_account_may_adopt(people):
    found = UnmanagedAccount.objects.create(wc_id="wxid_stranger", w_id="w-stranger")
    assert people.operator.client.get("/discovered/").status_code == 403
    assert people.operator.client.post(f"/discovered/{found.pk}/adopt/").status_code == 403
    assert "wxid_stranger" in html(people.admin.client.get("/discovered/"))
    answer = people.admin.client.post(
        f"/discovered/{found.pk}/adopt/", {"label": "Front desk", "team": people.east.pk}
    )
    account = Account.objects.get(wc_id="wxid_stranger")
    assert answer.url == f"/accounts/{account.pk}/"
    assert (account.label, account.team, account.w_id) == ("Front desk", people.east, "w-stranger")
    assert account.state == "online" and not UnmanagedAccount.objects.exists()


def test_a_record_that_claims_an_unmanaged_account_is_shown_and_adopted(people):
    account = people.account(wc_id="wxid_typed", label="Typed by East")
    found = UnmanagedAccount.objects.create(wc_id="wxid_typed", w_id="w-1")
    row = re.search(r"<tr data-unmanaged.*?</tr>", html(people.admin.client.get("/discovered/")), re.DOTALL)[
        0
    ]
    assert f'href="/accounts/{account.pk}/"' in row and "Typed by East" in row and "East</bdi>" in row
    assert 'name="team"' not in row
    answer = people.admin.client.post(f"/discovered/{found.pk}/adopt/")
    assert answer.url == f"/accounts/{account.pk}/"
    account.refresh_from_db()
    assert (account.label, account.team, account.state) == ("Typed by East", people.east, "online")


def test_what_is_ignored_is_not_offered_until_it_is_again(people):
    found = UnmanagedAccount.objects.create(wc_id="wxid_stranger", w_id="w-stranger")
    client = people.admin.client
    for ignored in (True, False):
        assert client.post(f"/discovered/{found.pk}/ignore/").status_code == 302
        found.refresh_from_db()
        assert found.ignored is ignored


@pytest.mark.parametrize("action", ["ignore", "adopt"])
def test_an_unmanaged_account_that_is_gone_by_now_gets_a_sentence(people, action):
    answer = people.admin.client.post(f"/discovered/4711/{action}/", follow=True)
    assert "not unmanaged any more" in html(answer)
    assert not Account.objects.exists()


def test_a_team_that_is_not_there_adopts_nobody(people):
    found = UnmanagedAccount.objects.create(wc_id="wxid_stranger", w_id="w-stranger")
    people.admin.client.post(f"/discovered/{found.pk}/adopt/", {"team": "99999"})
    assert UnmanagedAccount.objects.filter(pk=found.pk).exists()
    assert not Account.objects.filter(wc_id="wxid_stranger").exists()


# --- one account ----------------------------------------------------------------------------------------


def test_check_now_makes_the_next_sweep_due_at_once(people, broker_away):
    later = timezone.now() + timedelta(minutes=5)
    Presence.objects.update_or_create(pk=Presence.ONLY, defaults={"due_at": later})
    account = people.account(w_id="w1")
    assert people.stranger.client.post(f"/accounts/{account.pk}/check/").status_code == 404
    assert Presence.objects.get().due_at == later
    assert people.operator.client.post(f"/accounts/{account.pk}/check/").status_code == 302
    assert Presence.objects.get().due_at <= timezone.now()


@pytest.fixture
def broker_away(monkeypatch):
    """Nothing is put into a queue: the row alone has to do."""
    monkeypatch.setattr("accounts.lib.pubsub.ping", lambda: False)


def test_keep_online_is_not_changed_without_its_event(people, monkeypatch):
    account = people.account()

    def fails(*args, **kwargs):
        raise OperationalError("the server closed the connection unexpectedly")

    monkeypatch.setattr(event, "_write", fails)
    asked = {"wanted": "0", "reason": "Phone at the repair shop"}
    answer = people.operator.client.post(f"/accounts/{account.pk}/keep-online/", asked)
    assert answer.status_code == 503
    account.refresh_from_db()
    assert account.keep_online


def test_a_paused_account_leaves_the_list_and_says_so(people):
    account = dropped(people, 1, relogin_at=HOURS_AGO[1])
    client = people.operator.client
    assert (
        people.viewer.client.post(f"/accounts/{account.pk}/keep-online/", {"wanted": "0"}).status_code == 403
    )
    asked = {"wanted": "0", "reason": "Phone at the repair shop"}
    for _twice in range(2):
        assert client.post(f"/accounts/{account.pk}/keep-online/", asked).status_code == 302
    account.refresh_from_db()
    assert (account.keep_online, account.queued_for_scan_at, account.relogin_at) == (False, None, None)
    assert AccountEvent.objects.filter(account=account, happened=EventType.PAUSED).count() == 1
    assert 'data-recovery="paused"' in html(client.get(f"/accounts/{account.pk}/"))
    client.post(f"/accounts/{account.pk}/keep-online/", {"wanted": "1"})
    account.refresh_from_db()
    assert account.keep_online


def test_a_due_time_is_set_and_cleared(people):
    account = people.account(w_id="w1")
    client = people.operator.client
    client.post(f"/accounts/{account.pk}/due/", {"relogin_at": "2031-05-04T09:30"})
    account.refresh_from_db()
    assert timezone.localtime(account.relogin_at).strftime("%Y-%m-%d %H:%M") == "2031-05-04 09:30"
    assert 'value="2031-05-04T09:30"' in html(client.get(f"/accounts/{account.pk}/"))
    client.post(f"/accounts/{account.pk}/due/", {"relogin_at": "soon"})
    account.refresh_from_db()
    assert account.relogin_at is not None
    client.post(f"/accounts/{account.pk}/due/", {"relogin_at": ""})
    account.refresh_from_db()
    assert account.relogin_at is None
    changes = account.events.values_list("happened", "detail", "actor_name")
    assert list(changes) == [("changed", "relogin_at", "operator")] * 2


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("0001-01-01T00:00", "Enter a year from 2000 to 2100."),
        ("0026-11-27T09:00", "Enter a year from 2000 to 2100."),
        ("9999-12-31T23:59", "Enter a year from 2000 to 2100."),
        ("2101-01-01T00:00", "Enter a year from 2000 to 2100."),
        ("0001-01-01T00:00+14:00", "Enter a year from 2000 to 2100."),
        ("9999-12-31T23:59-12:00", "Enter a year from 2000 to 2100."),
        ("2031-03-30T02:30", "2031-03-30 02:30 does not exist in Europe/Berlin"),
        ("2031-10-26T02:30", "2031-10-26 02:30 occurs twice in Europe/Berlin"),
        ("x" * 60_000, "Enter a date and a time"),
        ("2031-05-04T25:00", "Enter a date and a time"),
    ],
)
@pytest.mark.slow
def test_a_time_that_cannot_be_meant_is_refused_with_a_sentence(people, typed, sentence):
    account = people.account(w_id="w1")
    choose = f"/admin/accounts/account/{account.pk}/change/"
    action = {"action": "make_due", "due_at": typed, "_selected_action": [account.pk]}
    with timezone.override("Europe/Berlin"):
        pages = [
            people.operator.client.post(f"/accounts/{account.pk}/due/", {"relogin_at": typed}, follow=True),
            people.admin.client.post(choose, {"label": "x", "relogin_at": typed}),
            people.admin.client.post("/admin/accounts/account/", action, follow=True),
        ]
    for page in pages:
        assert sentence in html(page)
    account.refresh_from_db()
    assert account.relogin_at is None


def test_a_time_that_has_passed_asks_first(people):
    account = people.account(w_id="w1")
    path, passed = f"/accounts/{account.pk}/due/", {"relogin_at": "2020-05-04T09:30"}
    assert 'name="sure"' in html(people.operator.client.post(path, passed))
    account.refresh_from_db()
    assert account.relogin_at is None
    assert people.operator.client.post(path, {**passed, "sure": "1"}).status_code == 302
    account.refresh_from_db()
    assert timezone.localtime(account.relogin_at).year == 2020


@pytest.mark.slow
def test_a_time_that_has_passed_is_refused_in_the_admin_but_may_stay(people):
    account = people.account(relogin_at=timezone.now() - timedelta(minutes=1))
    path = f"/admin/accounts/account/{account.pk}/change/"
    form = people.admin.client.get(path).context["adminform"].form
    sent = {name: form[name].value() or "" for name in form.fields} | {"label": "New", "tag_names": ""}
    sent["relogin_at"] = re.search('value="([^"]*)"', str(form["relogin_at"]))[1]
    assert people.admin.client.post(path, sent).status_code == 302
    account.refresh_from_db()
    assert account.label == "New" and account.relogin_at is not None
    page = html(people.admin.client.post(path, {**sent, "relogin_at": "2020-05-04T09:30"}))
    assert "This time has passed." in page
    action = {"action": "make_due", "due_at": "2020-05-04T09:30", "_selected_action": [account.pk]}
    assert "This time has passed." in html(
        people.admin.client.post("/admin/accounts/account/", action, follow=True)
    )


def test_the_phone_is_asked_once_however_often_it_is_clicked(people, broker_away):
    account = dropped(people)
    client = people.operator.client
    answers = {client.post(f"/accounts/{account.pk}/popup/").url for _twice in range(2)}
    attempt = LoginAttempt.objects.get()
    assert answers == {f"/attempts/{attempt.pk}/"}
    assert (attempt.method, attempt.state, attempt.sent_at) == (Method.POPUP, AttemptState.PREPARING, None)
    assert 'id="qr-' not in html(client.get(f"/attempts/{attempt.pk}/"))


def test_who_never_logged_in_cannot_be_asked_on_the_phone(people):
    account = people.account()
    assert people.operator.client.post(f"/accounts/{account.pk}/popup/").status_code == 404
    assert 'id="send-prompt"' not in html(people.operator.client.get(f"/accounts/{account.pk}/"))


def test_a_new_code_as_a_mac_is_offered_where_a_new_device_is_checked(people, broker_away):
    account = dropped(people)
    make_attempt(account, AttemptState.FAILED, reason="new_device_check", ended_at=timezone.now())
    assert 'id="start-mac"' in html(people.operator.client.get(f"/accounts/{account.pk}/"))
    people.operator.client.post(f"/accounts/{account.pk}/login/", {"mac": "1"})
    assert LoginAttempt.objects.latest("pk").device_type == "mac"


@pytest.mark.parametrize(("kind", "shown"), [("first_night", True), ("at_once", True), ("ordinary", False)])
def test_a_drop_says_what_kind_it_is(people, kind, shown):
    account = dropped(people, drop={"kind": kind})
    page = html(people.operator.client.get(f"/accounts/{account.pk}/"))
    assert (f'data-drop="{kind}"' in page) is shown


def test_a_drop_says_how_it_was_detected(people):
    account = dropped(people, drop={"detected_by": DetectedBy.CHECK})
    assert str(DetectedBy.CHECK.label) in html(people.operator.client.get(f"/accounts/{account.pk}/"))


def test_a_check_on_a_page_is_a_link_and_a_code(people):
    account = make_account(team=people.east)
    attempt = make_attempt(account, AttemptState.PAGE_REQUIRED, page_url="https://upstream.example/check")
    page = html(people.operator.client.get(f"/attempts/{attempt.pk}/"))
    assert 'href="https://upstream.example/check"' in page and "data:image/png;base64," in page
    assert "upstream.example" not in html(people.viewer.client.get(f"/attempts/{attempt.pk}/"))


def test_only_one_time_of_the_owners_hours_is_a_sentence_and_loses_nothing(people):
    account = people.account()
    answer = people.operator.client.post(
        f"/accounts/{account.pk}/edit/",
        {"label": "Kept", "team": people.east.pk, "hours_from": "09:00", "time_zone": "Mars/Olympus"},
    )
    page = html(answer, 422)
    assert "Enter both times or neither." in page and 'value="Kept"' in page and 'value="09:00"' in page
    assert "Mars/Olympus" in page
