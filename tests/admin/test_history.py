import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from accounts.admin import actions
from accounts.models import Account, AccountEvent, LoginAttempt, Tag, UpstreamAccess
from accounts.models.event import record
from accounts.reasons import Reason
from accounts.states import AttemptState, EventType, Trigger
from tests.support.factories import make_attempt

pytestmark = pytest.mark.slow

ACCOUNTS = "/admin/accounts/account/"
ATTEMPTS = "/admin/accounts/loginattempt/"
EVENTS = "/admin/accounts/accountevent/"


def staff(person, *codenames):
    person.is_staff = True
    person.save()
    person.user_permissions.add(*Permission.objects.filter(codename__in=codenames))
    return person


def change_form(account, **changed):
    return {
        "label": account.label,
        "wc_id": account.wc_id or "",
        "proxy": account.proxy or "",
        "team": account.team_id or "",
        "tag_names": "",
        "keep_online": "on",
        "relogin_at": "",
        "note": "",
        "policy": "",
        "hours_from": "",
        "hours_until": "",
        "time_zone": "",
        **changed,
    }


def shown(response):
    """The ids of the rows of a list."""
    return [row.pk for row in response.context["cl"].result_list]


def shown_messages(response):
    return [str(message) for message in response.context["messages"]]


# --- history ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["loginattempt", "accountevent"])
@pytest.mark.usually("sqlite")
def test_nobody_adds_changes_or_deletes_history(people, model):
    attempt = make_attempt(people.account())
    event = record(attempt.account, EventType.ATTEMPT_STARTED, attempt=attempt)
    pk = {"loginattempt": attempt.pk, "accountevent": event.pk}[model]
    before = list(LoginAttempt.objects.values()), list(AccountEvent.objects.values())
    client, base = people.admin.client, f"/admin/accounts/{model}/"
    assert client.get(f"{base}add/").status_code == 403
    for path in ("add/", f"{pk}/change/", f"{pk}/delete/"):
        sent = {"state": "succeeded", "happened": "joined", "post": "yes", "account": attempt.account_id}
        assert client.post(base + path, sent).status_code == 403
    client.post(base, {"action": "delete_selected", "_selected_action": [pk], "post": "yes"})
    assert (list(LoginAttempt.objects.values()), list(AccountEvent.objects.values())) == before


def test_an_attempt_shows_why_it_failed_what_to_do_and_its_timeline(people):
    account = people.account(label="Shop 7")
    attempt = make_attempt(account, asked_by=people.operator, asked_by_name="operator", proxy=3)
    attempt.move(AttemptState.FAILED, reason=Reason.LINE_DOWN, upstream_code="1001", upstream_text="线路不通")
    page = people.admin.client.get(f"{ATTEMPTS}{attempt.pk}/change/")
    text = page.content.decode()
    for expected in ("Shop 7", "Proxy unavailable", "Choose another proxy", "线路不通", "杭州", "operator"):
        assert expected in text
    assert "Waiting for scan → Failed" in text
    assert f"{EVENTS}?attempt__id__exact={attempt.pk}" in text
    assert 'name="_save"' not in text


def test_an_overdue_attempt_is_ended_by_who_reads_it(people):
    late = timezone.now() - timedelta(minutes=5)
    listed, opened, of_account = (make_attempt(people.account(), deadline_at=late) for _n in range(3))
    people.admin.client.get(f"{ATTEMPTS}{opened.pk}/change/")
    people.admin.client.get(f"{ACCOUNTS}{of_account.account_id}/change/")
    page = people.admin.client.get(f"{ATTEMPTS}?account__id__exact={listed.account_id}")
    assert 'data-state="expired"' in page.content.decode()
    assert set(LoginAttempt.objects.values_list("state", flat=True)) == {AttemptState.EXPIRED}


def test_an_account_shows_its_logins_and_timeline_with_links_to_all(people):
    account = people.account()
    for _n in range(55):
        make_attempt(account, AttemptState.EXPIRED, reason=Reason.NOT_SCANNED)
        record(account, EventType.CHANGED, detail="note")
    page = people.admin.client.get(f"{ACCOUNTS}{account.pk}/change/")
    assert len(page.context["latest_attempts"]) == 50
    assert len(page.context["timeline"]) == 50
    text = page.content.decode()
    assert f"{ATTEMPTS}?account__id__exact={account.pk}" in text
    assert f"{EVENTS}?account__id__exact={account.pk}" in text


@pytest.mark.usually("sqlite")
def test_merged_records_point_at_each_other(people):
    owner = people.account(label="Owner", wc_id="wxid_owner")
    joined = people.account(label="Placeholder", merged_into=owner)
    assert (
        "was merged into another"
        in people.admin.client.get(f"{ACCOUNTS}{joined.pk}/change/").content.decode()
    )
    assert "Placeholder" in people.admin.client.get(f"{ACCOUNTS}{owner.pk}/change/").content.decode()


# --- finding ---------------------------------------------------------------------------------------------


def test_accounts_are_found_by_each_of_their_names(people):
    found = people.account(label="Shop Süd", nickname="小店", wc_id="wxid_7", wechat_id="wx4711")
    people.account(label="Other")
    for text in ("shop", "小店", "wxid_7", "4711", "süd shop"):
        assert shown(people.admin.client.get(ACCOUNTS, {"q": text})) == [found.pk]
    assert shown(people.admin.client.get(ACCOUNTS, {"q": "nothing"})) == []


def test_history_is_found_by_account_and_attempts_by_wid(people):
    one, other = (make_attempt(people.account(label=label), w_id=f"w-{label}") for label in ("One", "Other"))
    event = record(one.account, EventType.CHANGED)
    record(other.account, EventType.CHANGED)
    assert shown(people.admin.client.get(ATTEMPTS, {"q": "one"})) == [one.pk]
    assert shown(people.admin.client.get(ATTEMPTS, {"q": "w-Other"})) == [other.pk]
    assert shown(people.admin.client.get(EVENTS, {"q": "one"})) == [event.pk]


def test_a_search_that_many_accounts_match_says_so(people, monkeypatch):
    monkeypatch.setattr("accounts.admin.review.search.FOUND_LIMIT", 2)
    for _n in range(3):
        make_attempt(people.account())
    page = people.admin.client.get(ATTEMPTS, {"q": "account"})
    assert shown_messages(page) == ["More than 2 accounts match. Showing the history of 2 of them."]
    assert len(shown(page)) == 2


def test_accounts_are_filtered_by_state_proxy_team_tag_and_day(people):
    day = timezone.make_aware(timezone.datetime(2026, 3, 4, 23, 59))
    tag = Tag.objects.create(name="vip")
    found = people.account(
        w_id="w-1", proxy=4, keep_online=False, last_login_at=day, first_login_at=day, team=people.west
    )
    found.tags.add(tag)
    people.account(proxy=5, last_login_at=day + timedelta(days=1), first_login_at=day - timedelta(days=1))
    for query in (
        {"state__exact": "online"},
        {"line": 4},
        {"team": people.west.pk},
        {"tag": tag.pk},
        {"keep_online__exact": 0},
        {"last_login_at_from": "2026-03-04", "last_login_at_to": "2026-03-04"},
        {"last_login_at_to": "2026-03-04"},
        {"first_login_at_from": "2026-03-04"},
    ):
        assert shown(people.admin.client.get(ACCOUNTS, query)) == [found.pk], query
    assert shown(people.admin.client.get(ACCOUNTS, {"line": "none"})) == []


def test_attempts_and_events_are_filtered(people):
    found = make_attempt(
        people.account(), AttemptState.FAILED, reason=Reason.DECLINED, trigger=Trigger.API, proxy=2,
        asked_by=people.operator, created_at=timezone.now() - timedelta(days=40),
    )  # fmt: skip
    event = record(
        found.account, EventType.ATTEMPT_MOVED, attempt=found, reason=Reason.DECLINED, by=people.operator
    )
    record(make_attempt(people.account(), asked_by=people.mate).account, EventType.CHANGED, by=people.mate)
    until = (timezone.localdate() - timedelta(days=39)).isoformat()
    for query in (
        {"state__exact": "failed"},
        {"reason__exact": "declined"},
        {"trigger__exact": "api"},
        {"line": 2},
        {"operator": people.operator.pk},
        {"created_at_to": until},
        {"account__id__exact": found.account_id},
    ):
        assert shown(people.admin.client.get(ATTEMPTS, query)) == [found.pk], query
    for query in (
        {"happened__exact": "attempt_moved"},
        {"reason__exact": "declined"},
        {"operator": people.operator.pk},
        {"attempt__id__exact": found.pk},
    ):
        assert shown(people.admin.client.get(EVENTS, query)) == [event.pk], query


def test_only_operators_who_started_something_are_offered(people):
    make_attempt(people.account(), asked_by=people.mate)
    page = people.admin.client.get(ATTEMPTS)
    offered = next(spec for spec in page.context["cl"].filter_specs if spec.title == "operator")
    assert [title for _key, title in offered.lookup_choices] == ["mate", "nobody, or a deleted person"]


@pytest.mark.parametrize(
    "query",
    [
        "qr_text__startswith=a", "qr_png__gt=a", "page_url__contains=a", "verify_code=1", "lease_owner__contains=a",
        "account__mobile__startswith=1", "asked_by__password__startswith=p",
    ],
)  # fmt: skip
@pytest.mark.usually("sqlite")
def test_no_secret_can_be_asked_for_in_the_address(people, query):
    make_attempt(people.account())
    assert people.admin.client.get(f"{ATTEMPTS}?{query}").status_code == 400


@pytest.mark.parametrize(
    "query",
    [
        f"line={'9' * 30}", "team=-1", "created_at_to=9999-12-31", "created_at_from=0001-01-01", "at_from=0001-01-01",
        "last_login_at_from=0001-01-01", "p=9999", "q=%00",
        *(pytest.param(junk, marks=pytest.mark.usually("sqlite")) for junk in (
            "line=x", "line=²", "tag=none", "created_at_from=x", "account__id__exact=x", "p=0", "p=x", "nonsense=1", "o=99.-3.x",
            "_facets=True", "all=",
        )),
    ],
)  # fmt: skip
def test_junk_in_the_address_breaks_no_list(people, query):
    make_attempt(people.account())
    for base in (ACCOUNTS, ATTEMPTS, EVENTS):
        assert people.admin.client.get(f"{base}?{query}", follow=True).status_code in (200, 400)


# --- whose ----------------------------------------------------------------------------------------------


def test_staff_see_the_accounts_and_history_of_their_teams_only(people):
    person = staff(people.operator, "view_accountevent")
    mine, theirs = make_attempt(people.account()), make_attempt(people.account(team=people.west))
    events = [record(attempt.account, EventType.CHANGED, attempt=attempt) for attempt in (mine, theirs)]
    client = person.client
    assert shown(client.get(ACCOUNTS)) == [mine.account_id]
    assert shown(client.get(ATTEMPTS)) == [mine.pk]
    assert shown(client.get(EVENTS)) == [events[0].pk]
    assert client.get(f"{ACCOUNTS}{mine.account_id}/change/").status_code == 200
    for path in (
        f"{ACCOUNTS}{theirs.account_id}/change/",
        f"{ACCOUNTS}{theirs.account_id}/history/",
        f"{ATTEMPTS}{theirs.pk}/change/",
        f"{EVENTS}{events[1].pk}/change/",
    ):
        assert client.get(path).status_code == 302
    for query in (
        f"?account__id__exact={theirs.account_id}",
        f"?q={theirs.account.label}",
        f"?q={theirs.w_id}",
    ):
        assert shown(client.get(ATTEMPTS + query)) == []


@pytest.mark.parametrize("limit", ["accounts.web.account_list.FEW", "accounts.admin.base.COUNT_LIMIT"])
def test_a_large_team_sees_the_same_as_a_small_one(people, monkeypatch, limit):
    """Large by its accounts, or by their history."""
    monkeypatch.setattr(limit, 1)
    person = staff(people.operator)
    mine = [make_attempt(people.account()).pk for _n in range(3)]
    make_attempt(people.account(team=people.west))
    assert sorted(shown(person.client.get(ATTEMPTS))) == mine


@pytest.mark.usually("sqlite")
def test_staff_of_a_team_cannot_move_an_account_out_of_it(people):
    person = staff(people.operator)
    account = people.account()
    path = f"{ACCOUNTS}{account.pk}/change/"
    for team in (people.west.pk, ""):
        page = person.client.post(path, change_form(account, team=team))
        assert page.context["adminform"].errors["team"]
    other = people.account(team=people.west)
    person.client.post(f"{ACCOUNTS}{other.pk}/change/", change_form(other, label="mine", team=people.east.pk))
    assert set(Account.objects.values_list("label", "team__name")) == {
        (account.label, "East"),
        (other.label, "West"),
    }


@pytest.mark.usually("sqlite")
def test_viewers_read_and_are_offered_no_action(people):
    person = staff(people.viewer)
    account = people.account(w_id="w-1", proxy=2)
    account.tags.add(Tag.objects.create(name="vip"))
    page = person.client.get(f"{ACCOUNTS}{account.pk}/change/")
    text = page.content.decode()
    assert "南京" in text
    assert "vip" in text
    assert 'name="_save"' not in text
    assert person.client.post(f"{ACCOUNTS}{account.pk}/change/", change_form(account)).status_code == 403
    assert not person.client.get(ACCOUNTS).context["action_form"]
    person.client.post(ACCOUNTS, {"action": "log_in", "_selected_action": [account.pk]})
    assert not LoginAttempt.objects.exists()


def test_who_is_not_staff_gets_no_admin_page(people):
    for path in (ACCOUNTS, ATTEMPTS, EVENTS, "/admin/"):
        assert people.operator.client.get(path).status_code == 302


# --- changing an account ----------------------------------------------------------------------------------


def test_an_admin_changes_what_people_decide(people):
    account = people.account(label="Old")
    sent = change_form(
        account, label="New", proxy="3", team=people.west.pk, tag_names="vip, night", note="by phone",
        wc_id="wxid_known", relogin_at="2027-01-02T03:04:05",
    )  # fmt: skip
    sent.pop("keep_online")
    assert people.admin.client.post(f"{ACCOUNTS}{account.pk}/change/", sent).status_code == 302
    account.refresh_from_db()
    assert (account.label, account.proxy, account.team, account.note) == ("New", 3, people.west, "by phone")
    assert (account.wc_id, account.keep_online) == ("wxid_known", False)
    assert timezone.localtime(account.relogin_at).isoformat()[:19] == "2027-01-02T03:04:05"
    assert [tag.name for tag in account.tags.all()] == ["night", "vip"]
    event = AccountEvent.objects.get()
    assert (event.happened, event.actor) == (EventType.CHANGED, people.admin)
    assert "by phone" not in event.detail


def test_an_admin_cannot_change_what_the_upstream_decides(people):
    account = people.account(w_id="w-1", wc_id="wxid_1", nickname="Real")
    forged = {
        "wc_id": "wxid_2", "w_id": "w-2", "state": "offline", "nickname": "Forged", "login_seq": 9, "bound_seq": 9,
        "first_login_at_0": "2020-01-01", "merged_into": account.pk, "mobile": "1", "state_since_0": "2020-01-01",
    }  # fmt: skip
    before = Account.objects.values().get(pk=account.pk)
    people.admin.client.post(f"{ACCOUNTS}{account.pk}/change/", change_form(account, **forged))
    assert Account.objects.values().get(pk=account.pk) == before


def test_an_admin_adds_an_account(people):
    sent = change_form(Account(label="Fresh"), team=people.east.pk, proxy="none")
    assert people.admin.client.post(f"{ACCOUNTS}add/", sent).status_code == 302
    account = Account.objects.get()
    assert (account.label, account.state, account.team) == ("Fresh", "new", people.east)


# --- deleting ------------------------------------------------------------------------------------------


def test_deleting_an_account_tells_how_much_history_goes_with_it(people):
    account = people.account()
    for _n in range(3):
        record(account, EventType.CHANGED, attempt=make_attempt(account, AttemptState.EXPIRED))
    path = f"{ACCOUNTS}{account.pk}/delete/"
    page = people.admin.client.get(path)
    counts = {str(name): count for name, count in page.context["model_count"]}
    assert counts == {"accounts": 1, "login attempts": 3, "events": 3}
    people.admin.client.post(path, {"post": "yes"})
    assert not Account.objects.exists()


def test_an_account_with_an_open_login_is_not_deleted(people):
    account = make_attempt(people.account()).account
    path = f"{ACCOUNTS}{account.pk}/delete/"
    assert "Waiting for scan" in people.admin.client.get(path).content.decode()
    people.admin.client.post(path, {"post": "yes"})
    assert Account.objects.get() == account


def test_deleting_needs_its_permission_and_is_done_one_by_one(people):
    account = people.account()
    person = staff(people.operator)
    assert person.client.post(f"{ACCOUNTS}{account.pk}/delete/", {"post": "yes"}).status_code == 403
    sent = {"action": "delete_selected", "_selected_action": [account.pk], "post": "yes"}
    people.admin.client.post(ACCOUNTS, sent)
    assert Account.objects.get() == account


# --- actions -------------------------------------------------------------------------------------------


def act(person, action, rows, base=ACCOUNTS):
    return person.client.post(
        base, {"action": action, "_selected_action": [row.pk for row in rows]}, follow=True
    )


def test_logging_in_many_leaves_the_asking_to_a_worker_with_room(people, upstream):
    accounts = [people.account(label=f"Shop {n}") for n in range(2)]
    page = act(people.admin, "log_in", accounts)
    attempts = LoginAttempt.objects.order_by("account__label")
    assert [(attempt.state, attempt.trigger, attempt.asked_by) for attempt in attempts] == [
        (AttemptState.PREPARING, Trigger.BULK, people.admin)
    ] * 2
    assert upstream.calls("/iPadLogin") == 0
    (sentence,) = shown_messages(page)
    assert sentence.startswith("2 logins started. Each QR code appears as soon as a worker is free:")
    for account in accounts:
        assert f'<a href="{reverse("account", args=[account.pk])}">{account.label}</a>' in sentence


def test_logging_in_leaves_alone_who_is_online_merged_or_waiting(people, upstream):
    online = people.account(label="1", w_id="w-1")
    joined = people.account(label="2", merged_into=online)
    waiting = make_attempt(people.account(label="3")).account
    page = act(people.admin, "log_in", [online, joined, waiting])
    assert [text.partition(" <a")[0] for text in shown_messages(page)] == [
        "1 account is already online and was skipped:",
        "1 account was merged into another record. Log in that record instead:",
        "1 account already has a login in progress:",
    ]
    assert LoginAttempt.objects.count() == 1


def test_logging_in_more_than_can_be_started_at_once_starts_none(people, upstream, monkeypatch):
    monkeypatch.setattr(actions, "AT_ONCE", 2)
    page = act(people.admin, "log_in", [people.account() for _n in range(3)])
    assert shown_messages(page) == ["You can log in at most 2 accounts at a time. Nothing was started."]
    assert not LoginAttempt.objects.exists()


def test_logging_in_needs_its_permission(people):
    person = staff(people.viewer)
    account = make_attempt(people.account()).account
    for action, base in (("log_in", ACCOUNTS), ("cancel_login", ACCOUNTS), ("cancel_login", ATTEMPTS)):
        act(person, action, [account], base)
    assert LoginAttempt.objects.get().is_open


def test_open_logins_are_cancelled_from_both_lists(people):
    one, two = make_attempt(people.account(label="One")), make_attempt(people.account(label="Two"))
    idle = people.account()
    assert shown_messages(act(people.admin, "cancel_login", [one.account, idle])) == [
        "1 login cancelled: One"
    ]
    assert shown_messages(act(people.admin, "cancel_login", [one, two], ATTEMPTS)) == [
        "1 login cancelled: Two"
    ]
    assert shown_messages(act(people.admin, "cancel_login", [idle])) == [
        "No logins in progress in your selection."
    ]
    assert set(LoginAttempt.objects.values_list("state", flat=True)) == {AttemptState.CANCELLED}


@pytest.mark.usually("sqlite")
def test_actions_reach_no_account_of_another_team(people):
    person = staff(people.operator)
    other = make_attempt(people.account(team=people.west))
    act(person, "cancel_login", [other.account])
    act(person, "cancel_login", [other], ATTEMPTS)
    act(person, "log_in", [people.account(team=people.west)])
    assert LoginAttempt.objects.get().is_open


# --- what is never shown --------------------------------------------------------------------------------


def every_page(account, attempt):
    event = account.events.first()
    access = UpstreamAccess.objects.first()
    return [
        "/admin/", ACCOUNTS, f"{ACCOUNTS}add/", f"{ACCOUNTS}{account.pk}/change/", f"{ACCOUNTS}{account.pk}/delete/",
        ATTEMPTS, f"{ATTEMPTS}{attempt.pk}/change/",
        f"{ATTEMPTS}{attempt.pk}/history/", EVENTS, f"{EVENTS}{event.pk}/change/",
        "/admin/accounts/tag/", "/admin/accounts/upstreamaccess/",
        f"/admin/accounts/upstreamaccess/{access.pk}/change/", "/admin/auth/user/", "/admin/auth/group/",
    ]  # fmt: skip


@pytest.mark.usually("sqlite")
def test_no_secret_is_on_any_page(people, settings):
    canaries = {name: f"canary-{name.replace('_', '-')}" for name in ("qr_text", "page_url", "verify_code")}
    account = people.account(mobile="13812345678")
    attempt = make_attempt(account, qr_png=b"canary-png", lease_owner="canary-lease", **canaries)
    record(account, EventType.ATTEMPT_STARTED, attempt=attempt, by=people.admin)
    UpstreamAccess.objects.create(
        base_url="http://upstream", account="dev", authorization="canary-authorization"
    )
    stored = json.dumps(list(LoginAttempt.objects.values("qr_text", "page_url")), default=str)
    assert "canary-qr-text" in stored
    for path in every_page(account, attempt):
        page = people.admin.client.get(path)
        assert page.status_code == 200, path
        text = page.content.decode()
        for secret in ("canary", "Y2FuYXJ5", "13812345678", settings.SECRET_KEY, settings.WK_PASSWORD):
            assert secret not in text.replace("canary-developer", ""), (path, secret)


@pytest.mark.usually("sqlite")
def test_nothing_from_the_upstream_is_taken_for_html(people):
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    account = people.account(
        label=evil[:90],
        nickname=evil[:90],
        region=evil[:90],
        signature=evil,
        avatar_url="javascript:alert(1)",
    )
    attempt = make_attempt(account, AttemptState.FAILED, upstream_text=evil, other_name=evil, w_id=evil[:90])
    record(account, EventType.MERGED, attempt=attempt, detail=evil)
    UpstreamAccess.objects.create(base_url="http://upstream", refused_text=evil)
    for path in every_page(account, attempt):
        text = people.admin.client.get(path).content.decode()
        assert "<img src=x" not in text, path
        assert "<script>alert" not in text, path
        assert 'href="javascript' not in text, path
    text = people.admin.client.get(f"{ATTEMPTS}{attempt.pk}/change/").content.decode()
    assert escape(evil) in text


def test_the_access_to_the_upstream_is_only_read(people):
    row = UpstreamAccess.objects.create(
        base_url="http://upstream", account="dev", refused_why="developer_frozen"
    )
    base = "/admin/accounts/upstreamaccess/"
    assert "developer_frozen" in people.admin.client.get(f"{base}{row.pk}/change/").content.decode()
    for path in ("add/", f"{row.pk}/change/", f"{row.pk}/delete/"):
        assert (
            people.admin.client.post(base + path, {"post": "yes", "base_url": "http://evil"}).status_code
            == 403
        )
    assert people.admin.client.get(f"{base}?authorization__startswith=g").status_code == 400
    assert people.operator.client.get(base).status_code == 302
