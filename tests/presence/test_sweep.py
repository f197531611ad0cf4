"""One call settles who is online: who is verified, who dropped, who came back by other ways, who is unmanaged."""

from datetime import timedelta
from threading import Barrier, Thread

import pytest
import time_machine
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import tasks
from accounts.lib import db_clock
from accounts.logins import expire, finish
from accounts.logins import start as logins_start
from accounts.models import Account, AccountEvent, Drop, LoginAttempt, Presence, UnmanagedAccount
from accounts.models.drop import kind_of
from accounts.presence import offline, reconcile, sweep
from accounts.states import AccountState, AttemptState, DetectedBy, DropKind, EventType, Method, Trigger
from accounts.upstream.client import Client
from tests.support.factories import make_account, make_attempt
from tests.support.scenarios import fresh

LIST, IS_ONLINE, REASON = "/queryLoginWx", "/isOnline", "/offlineReason"
AN_HOUR = timedelta(hours=1)
SAID = "登录出现错误，请你重新登录。"

pytestmark = pytest.mark.django_db


@pytest.fixture
def online(upstream):
    """Makes accounts that are online here and there, since an hour."""

    def make(wc_id: str, **fields) -> Account:
        person = upstream.person(wc_id, online=True)
        since = timezone.now() - AN_HOUR
        times = {"first_login_at": since - 30 * AN_HOUR, "last_login_at": since, "state_since": since}
        return make_account(**{"wc_id": wc_id, "w_id": person["wId"], "checked_at": since, **times, **fields})

    return make


def happened(account: Account) -> list[str]:
    return [event.happened for event in AccountEvent.objects.filter(account=account).order_by("id")]


def moved_on(account: Account, upstream) -> str:
    """The account logs in by other means: its new wId."""
    upstream.drop(account.wc_id, callback=False)
    return upstream.person(account.wc_id, online=True)["wId"]


def logs_in_before_the_answer(account: Account, patch: pytest.MonkeyPatch) -> None:
    """While the upstream is asked who is online, the account logs in with the wId w-newer."""

    def answered_late(client, seconds=None):
        found = ask(client, seconds)
        row = Account.objects.get(pk=account.pk)
        assert row.go_online(row.bound_seq + 1, "w-newer", db_clock.now(), None)
        return found

    ask = Client.online
    patch.setattr(Client, "online", answered_late)


# --- online, missed, offline


def test_one_call_verifies_everybody_who_is_online(online, upstream):
    missed = {"absent": 1, "missed_at": timezone.now() - AN_HOUR}
    accounts = [online(f"wxid_{n}", **(missed if n % 2 else {})) for n in range(6)]
    before = timezone.now()
    swept = sweep.check()
    assert (swept.online, swept.verified, swept.offline) == (6, 6, ())
    for account in map(fresh, accounts):
        assert account.last_checked(sweep.seen()) >= before
        assert (account.absent, account.missed_at, account.state) == (0, None, "online")
        assert happened(account) == []
    assert upstream.calls(LIST) == 1
    assert sweep.seen().online == 6


def test_an_account_is_offline_after_two_checks_that_do_not_name_it(online, upstream):
    account, other = online("wxid_a", proxy=3, region="中国 杭州"), online("wxid_b")
    w_id = account.w_id
    upstream.drop("wxid_a", callback=False)

    first = sweep.check()
    assert (first.absent, first.offline) == ((account.pk,), ())
    assert (fresh(account).state, fresh(account).absent) == ("online", 1)
    assert not Drop.objects.exists()

    second = sweep.check()
    assert (second.absent, second.offline) == ((), (account.pk,))
    account = fresh(account)
    assert (account.state, account.w_id, account.absent) == ("offline", "", 0)
    drop, event = account.drops.get(), account.events.get()
    assert account.state_since == account.last_offline_at == drop.at == event.at
    assert (event.happened, event.from_state, event.to_state) == ("account_offline", "online", "offline")
    assert (drop.kind, drop.detected_by, drop.w_id) == ("ordinary", "sweep", w_id)
    assert (drop.proxy, drop.region, drop.online_since) == (3, "中国 杭州", account.last_login_at)
    assert (drop.next_step, drop.next_at) == ("look", drop.at)
    assert fresh(other).state == "online"

    sweep.check()
    assert account.drops.count() == account.events.count() == 1


def test_absences_count_only_in_a_row(online, upstream):
    account = online("wxid_a")
    online("wxid_b")
    entries = [{"wcId": "wxid_b", "wId": "w"}]
    for _ in range(3):
        upstream.fault(LIST, "raw", json={"code": "1000", "message": "", "data": entries}, times=1)
        assert sweep.check().absent[:1] == (account.pk,)
        assert sweep.check().offline == ()
    assert fresh(account).state == "online"


@pytest.mark.parametrize(
    ("kind", "how", "why"),
    [
        ("html", {"status": 502}, "bad_answer"),
        ("reset", {}, "outcome_unknown"),
        ("empty", {}, "bad_answer"),
        ("data_string", {}, "bad_answer"),
        ("rewrite", {"set": {"data": [{"x": 1}]}}, "bad_answer"),
        ("raw", {"json": {"code": "1001", "message": "失败", "data": None}}, "refused"),
        ("raw", {"json": {"code": "1001", "message": "token无效", "data": None}}, "sign_in_refused"),
    ],
)
def test_trouble_upstream_is_never_offline(kind, how, why, online, upstream):
    account = online("wxid_a", absent=1, missed_at=timezone.now())
    upstream.drop("wxid_a", callback=False)
    upstream.fault(LIST, kind, **how)
    swept = [sweep.check() for _ in range(2)]
    assert [found.unknown_why for found in swept] == [why, why]
    row = sweep.seen()
    assert (row.unknown_why, row.answered_at) == (why, None)
    first_trouble = row.unknown_since
    assert first_trouble < row.asked_at
    assert (fresh(account).state, fresh(account).absent) == ("online", 1)
    assert not AccountEvent.objects.exists()

    upstream.clear()
    upstream.person("wxid_a", online=True)
    sweep.check()
    row = sweep.seen()
    assert (row.unknown_since, row.unknown_why) == (None, "")


@pytest.mark.slow
def test_a_list_without_anybody_is_not_believed_while_somebody_is_online(online, upstream):
    account = online("wxid_a", absent=1, missed_at=timezone.now())
    upstream.fault(LIST, "data_null")
    assert sweep.check().unknown_why == "bad_answer"
    assert fresh(account).state == "online"
    upstream.clear()
    upstream.drop("wxid_a", callback=False)
    assert sweep.check().offline == (account.pk,)


def test_an_entry_without_wid_still_says_that_the_account_is_online(online, upstream):
    account = online("wxid_a", absent=1, missed_at=timezone.now() - AN_HOUR)
    upstream.fault(LIST, "raw", json={"code": "1000", "data": [{"wcId": "wxid_a"}]})
    assert sweep.check().verified == 1
    assert (fresh(account).absent, fresh(account).w_id) == (0, account.w_id)


def test_a_login_that_ends_while_the_upstream_is_asked_is_newer_than_its_answer(
    online, upstream, monkeypatch
):
    account = online("wxid_a", absent=1, missed_at=timezone.now())
    upstream.drop("wxid_a", callback=False)
    online("wxid_b")
    logs_in_before_the_answer(account, monkeypatch)
    assert sweep.check().offline == ()
    assert (fresh(account).state, fresh(account).w_id, fresh(account).absent) == ("online", "w-newer", 0)


def test_answers_that_were_asked_for_at_the_same_time_are_not_two_checks(online, upstream, monkeypatch):
    account, _other = online("wxid_a"), online("wxid_b")
    upstream.drop("wxid_a", callback=False)

    def with_another(client, seconds=None):
        monkeypatch.setattr(Client, "online", ask)
        assert sweep.check().absent == (account.pk,)
        return ask(client, seconds)

    ask = Client.online
    monkeypatch.setattr(Client, "online", with_another)
    assert sweep.check().offline == ()
    assert (fresh(account).state, fresh(account).absent) == ("online", 1)


def test_a_merged_record_is_left_alone(online, upstream):
    owner = online("wxid_a")
    merged = make_account(wc_id="wxid_old", merged_into=owner)
    upstream.person("wxid_old", online=True)
    swept = sweep.check()
    assert (swept.back, swept.unmanaged) == ((), 0)
    assert fresh(merged).state == "new"


# --- drops


@pytest.mark.parametrize(
    ("first", "last", "at", "kind"),
    [
        (0, 0, 30, DropKind.AT_ONCE),
        (0, 0, 60, DropKind.AT_ONCE),
        (0, 0, 61, DropKind.FIRST_NIGHT),
        (0, 0, 24 * 3600, DropKind.FIRST_NIGHT),
        (0, 0, 24 * 3600 + 1, DropKind.ORDINARY),
        (0, 7200, 7300, DropKind.ORDINARY),
        (0, 7200, 7230, DropKind.AT_ONCE),
        (None, 0, 61, DropKind.ORDINARY),
        (None, None, 61, DropKind.ORDINARY),
    ],
)
def test_what_kind_of_drop_it_was(first, last, at, kind):
    start = timezone.now()
    times = [None if seconds is None else start + timedelta(seconds=seconds) for seconds in (first, last, at)]
    assert kind_of(*times) == kind


@pytest.mark.parametrize(
    ("since_login", "seen_after", "since_missed", "kind"),
    [
        # Login, then not in a single list: it dropped before the first sweep came by.
        (100, None, 60, DropKind.AT_ONCE),
        (130, None, 60, DropKind.AT_ONCE),
        (200, None, 60, DropKind.ORDINARY),
        (100, 20, 60, DropKind.AT_ONCE),
        (130, 20, 60, DropKind.ORDINARY),
    ],
)
def test_a_drop_is_judged_by_when_the_account_was_missed_first(
    since_login, seen_after, since_missed, kind, online, upstream
):
    now = timezone.now()
    login_at = now - timedelta(seconds=since_login)
    seen = login_at + timedelta(seconds=seen_after) if seen_after else login_at
    account = online(
        "wxid_a",
        last_login_at=login_at,
        checked_at=seen,
        absent=1,
        missed_at=now - timedelta(seconds=since_missed),
    )
    upstream.drop("wxid_a", callback=False)
    sweep.check()
    assert account.drops.get().kind == kind


@pytest.mark.parametrize(("method", "by"), [(Method.QR, "qr"), (Method.POPUP, "popup"), (None, "")])
def test_a_drop_ends_when_the_account_is_online_again(method, by, online, upstream):
    account = online("wxid_a", absent=1, missed_at=timezone.now())
    upstream.drop("wxid_a", callback=False)
    sweep.check()
    account = fresh(account)
    assert offline.end_drops() == 0
    now = timezone.now()
    if method:
        make_attempt(account, AttemptState.SUCCEEDED, method=method, w_id="w-9")
    account.go_online(99, "w-9", now, None)
    assert offline.end_drops() == 1
    drop = account.drops.get()
    assert (drop.ended_at, drop.ended_by, drop.next_at) == (now, by, None)
    assert offline.end_drops() == 0


def test_an_account_that_drops_again_has_a_drop_of_its_own_for_it(online, upstream):
    account = online("wxid_a", absent=1, missed_at=timezone.now())
    online("wxid_b")
    upstream.drop("wxid_a", callback=False)
    sweep.check()
    fresh(account).go_online(99, "w-9", timezone.now(), None)
    for _ in range(2):
        sweep.check()
    assert [drop.ended_at is None for drop in account.drops.order_by("id")] == [False, True]
    assert fresh(account).state == "offline"


# --- online by other ways


def test_a_wid_that_changed_elsewhere_is_taken_at_once(online, upstream):
    account = online("wxid_a")
    w_id = moved_on(account, upstream)
    swept = sweep.check()
    account = fresh(account)
    assert (swept.back, swept.absent) == ((account.pk,), ())
    assert (account.w_id, account.state) == (w_id, "online")
    assert happened(account) == ["account_online", "found_online"]
    sweep.check()
    assert happened(account) == ["account_online", "found_online"]


def test_an_account_that_logged_in_elsewhere_is_online_here(upstream):
    account = make_account(wc_id="wxid_a", state=AccountState.OFFLINE, queued_for_scan_at=timezone.now())
    w_id = upstream.person("wxid_a", online=True)["wId"]
    assert sweep.check().back == (account.pk,)
    account = fresh(account)
    assert (account.state, account.w_id, account.queued_for_scan_at) == ("online", w_id, None)


@pytest.fixture
def typed(people, upstream):
    """A record whose wcId its team only typed, of an account that is online without us."""
    account = people.account(wc_id="wxid_a")
    account.listed = upstream.person("wxid_a", online=True)["wId"]
    return account


def test_a_wc_id_that_was_only_typed_does_not_take_the_account_that_is_online(typed):
    for _check in range(2):
        swept = sweep.check()
        assert (swept.back, swept.unmanaged) == ((), 1)
    assert (fresh(typed).state, fresh(typed).w_id, happened(typed)) == ("new", "", [])
    assert UnmanagedAccount.objects.values_list("wc_id", "w_id").get() == ("wxid_a", typed.listed)


def test_a_prompt_to_an_account_whose_wc_id_was_only_typed_is_not_confirmed_by_the_list(typed):
    attempt, _new = logins_start.start_login(typed, method=Method.POPUP, queued=True)
    LoginAttempt.objects.filter(pk=attempt.pk).update(state=AttemptState.WAITING, sent_at=timezone.now())
    assert expire.reconcile(attempt) is None
    sweep.check()
    assert (fresh(typed).state, fresh(attempt).state) == ("new", "expired")


def test_a_login_through_us_confirms_a_wc_id_that_was_typed(typed):
    sweep.check()
    attempt = make_attempt(typed, AttemptState.EXPIRED, w_id=typed.listed)
    assert sweep.check().back == (typed.pk,)
    assert (fresh(typed).state, fresh(typed).w_id) == ("online", attempt.w_id)
    assert sweep.check().unmanaged == UnmanagedAccount.objects.count() == 0


def test_adopting_an_account_confirms_the_record_that_has_its_wc_id(typed, people):
    sweep.check()
    assert reconcile.adopt(UnmanagedAccount.objects.get(), by=people.admin, team=people.west) == typed
    row = fresh(typed)
    assert (row.state, row.w_id, row.team, row.first_login_at) == ("online", typed.listed, people.east, None)
    swept = sweep.check()
    assert (swept.verified, swept.unmanaged) == (1, 0)


def test_a_login_that_was_open_meanwhile_still_is_the_newer_one(online, upstream):
    account = online("wxid_a")
    attempt = make_attempt(account, w_id="w-mine")
    w_id = moved_on(account, upstream)
    sweep.check()
    assert fresh(account).w_id == w_id
    answer = expire.found_online({"w-mine": "wxid_a"}, attempt)
    finish.finish_login(LoginAttempt.objects.get(pk=attempt.pk), answer)
    assert fresh(account).w_id == "w-mine"
    assert fresh(attempt).state == "succeeded"


@pytest.mark.parametrize("state", [AttemptState.WAITING, AttemptState.EXPIRED, AttemptState.CANCELLED])
def test_a_login_of_ours_whose_listener_is_gone_counts(state, upstream):
    account = make_account(wc_id="wxid_a", state=AccountState.OFFLINE)
    w_id = upstream.person("wxid_a", online=True)["wId"]
    attempt = make_attempt(account, state, w_id=w_id)
    assert sweep.check().back == (account.pk,)
    assert (fresh(account).w_id, fresh(account).state) == (w_id, "online")
    if state == AttemptState.WAITING:
        assert fresh(attempt).state == "succeeded"
    else:
        assert EventType.LATE_SUCCESS in happened(account)
    before = AccountEvent.objects.count()
    sweep.check()
    assert AccountEvent.objects.count() == before


def test_a_first_login_whose_listener_is_gone_gets_its_wcid(upstream):
    account = make_account()
    w_id = upstream.person("wxid_new", online=True)["wId"]
    make_attempt(account, AttemptState.EXPIRED, w_id=w_id)
    swept = sweep.check()
    assert (swept.back, swept.unmanaged) == ((account.pk,), 0)
    assert (fresh(account).wc_id, fresh(account).w_id) == ("wxid_new", w_id)


def test_what_answered_a_prompt_is_the_prompts(online, upstream):
    account = online("wxid_a", absent=1, missed_at=timezone.now())
    upstream.drop("wxid_a", callback=False)
    sweep.check()
    account = fresh(account)
    attempt, _new = logins_start.start_login(
        account, method=Method.POPUP, trigger=Trigger.RECOVERY, queued=True
    )
    LoginAttempt.objects.filter(pk=attempt.pk).update(state=AttemptState.WAITING, sent_at=timezone.now())
    w_id = upstream.person("wxid_a", online=True)["wId"]
    assert sweep.check().back == (account.pk,)
    assert (fresh(attempt).state, fresh(attempt).w_id, fresh(account).w_id) == ("succeeded", w_id, w_id)
    assert account.drops.get().ended_by == "popup"


def test_an_account_that_was_only_thought_to_be_offline_comes_back_with_its_wid(online, upstream):
    account = online("wxid_a")
    other = online("wxid_b")
    make_attempt(account, AttemptState.SUCCEEDED, w_id=account.w_id)
    Account.objects.filter(pk=account.pk).update(bound_seq=1)
    others = [{"wcId": "wxid_b", "wId": other.w_id}]
    upstream.fault(LIST, "raw", json={"code": "1000", "data": others}, times=2)
    sweep.check(), sweep.check()
    assert fresh(account).state == "offline"
    assert sweep.check().back == (account.pk,)
    assert (fresh(account).state, fresh(account).w_id) == ("online", account.w_id)
    assert not Drop.objects.open().filter(account=account).exists()


def test_a_list_that_is_behind_does_not_bring_back_the_instance_before(online, upstream):
    account = online("wxid_a")
    old = account.w_id
    make_attempt(account, AttemptState.SUCCEEDED, w_id=old)
    newer = make_attempt(account, AttemptState.SUCCEEDED, w_id="w-newer")
    Account.objects.filter(pk=account.pk).update(w_id="w-newer", bound_seq=newer.seq)
    sweep.check()
    assert (fresh(account).w_id, fresh(account).absent) == ("w-newer", 1)
    sweep.check()
    assert (fresh(account).w_id, fresh(account).state) == (old, "online")


# --- unmanaged accounts


@pytest.fixture
def five_drop(committed, upstream, monkeypatch):
    """Five accounts that drop with this check, which saves two at a time; one more is online."""
    monkeypatch.setattr(reconcile, "WRITTEN_AT_ONCE", 2)
    w_id = upstream.person("wxid_there", online=True)["wId"]
    make_account(wc_id="wxid_there", w_id=w_id, team=committed.east)
    return [make_account(wc_id=f"wxid_{n}", w_id=f"w-{n}", absent=1) for n in range(5)]


@pytest.mark.django_db(transaction=True)
def test_what_was_saved_of_many_drops_stays_and_the_next_check_saves_the_rest(
    five_drop, client, committed, monkeypatch
):
    batches = []

    def third_fails(ids, before, now):
        batches.append(go_offline(ids, before, now))
        if len(batches) == 3:
            raise OperationalError("terminating connection due to idle-in-transaction timeout")
        return batches[-1]

    go_offline = offline.go_offline
    monkeypatch.setattr(offline, "go_offline", third_fails)
    with pytest.raises(OperationalError):
        sweep.check()
    assert Drop.objects.count() == Account.objects.filter(state="offline").count() == 4
    row = sweep.seen()
    assert (row.unknown_why, row.checked_at) == ("not_saved", None)
    client.force_login(committed.operator)
    assert 'data-unknown="not_saved"' in client.get("/accounts/").content.decode()

    assert len(sweep.check().offline) == 1
    row = sweep.seen()
    assert (row.unknown_since, row.unknown_why) == (None, "")
    assert row.checked_at is not None
    assert Drop.objects.count() == AccountEvent.objects.filter(happened="account_offline").count() == 5


@pytest.mark.django_db(transaction=True)
def test_what_was_saved_of_many_first_misses_stays_too(five_drop, monkeypatch):
    Account.objects.filter(absent=1).update(absent=0)
    batches = []

    def third_fails(accounts, at, by):
        batches.append(miss(accounts, at, by))
        if len(batches) == 3:
            raise OperationalError("terminating connection due to idle-in-transaction timeout")

    miss = offline.miss
    monkeypatch.setattr(offline, "miss", third_fails)
    with pytest.raises(OperationalError):
        sweep.check()
    assert Account.objects.filter(absent=1).count() == 4


@pytest.mark.django_db(transaction=True)
def test_a_check_that_a_later_one_overtakes_saves_no_more(five_drop, monkeypatch):
    """Its marks would confirm, or miss, what the later one has settled."""
    later = []

    def overtaken(ids, before, now):
        found = go_offline(ids, before, now)
        if not later:
            later.append(True)
            transaction.on_commit(lambda: later.append(sweep.check()))
        return found

    go_offline = offline.go_offline
    monkeypatch.setattr(offline, "go_offline", overtaken)
    first = sweep.check()
    assert (len(first.offline), len(later[1].offline)) == (2, 3)
    assert Drop.objects.count() == 5


def test_drops_are_saved_by_the_hundred():
    """The server ends a transaction in which we are busy with drops for ten seconds."""
    assert reconcile.WRITTEN_AT_ONCE <= 500


def test_an_unmanaged_account_is_listed_until_it_is_gone(upstream):
    w_id = upstream.person("wxid_x", online=True)["wId"]
    upstream.person("wxid_y", online=True)
    assert sweep.check().unmanaged == 2
    UnmanagedAccount.objects.filter(wc_id="wxid_y").update(ignored=True)
    found = UnmanagedAccount.objects.get(wc_id="wxid_x")
    assert found.w_id == w_id

    upstream.drop("wxid_x", callback=False)
    w_id = upstream.person("wxid_x", online=True)["wId"]
    sweep.check()
    assert (fresh(found).w_id, fresh(found).found_at) == (w_id, found.found_at)

    upstream.drop("wxid_x", callback=False)
    upstream.drop("wxid_y", callback=False)
    sweep.check()
    assert list(UnmanagedAccount.objects.values_list("wc_id", "ignored")) == [("wxid_y", True)]


def test_an_unmanaged_account_is_adopted(people, upstream):
    w_id = upstream.person("wxid_x", online=True)["wId"]
    sweep.check()
    account = reconcile.adopt(
        UnmanagedAccount.objects.get(), by=people.operator, team=people.east, label="Shop 9"
    )
    account = fresh(account)
    assert (account.label, account.team, account.wc_id) == ("Shop 9", people.east, "wxid_x")
    assert (account.state, account.w_id, account.first_login_at) == ("online", w_id, None)
    assert happened(account) == ["added", "account_online", "found_online"]
    assert not UnmanagedAccount.objects.exists()
    assert sweep.check().verified == 1


def test_adopting_what_has_a_record_by_now_gives_that_record(people, online):
    account = online("wxid_x")
    stale = UnmanagedAccount.objects.create(wc_id="wxid_x", w_id="w-old")
    assert reconcile.adopt(stale, by=people.operator, team=people.west) == account
    assert (fresh(account).team, fresh(account).w_id) == (account.team, account.w_id)
    assert not UnmanagedAccount.objects.exists()


# --- what it costs


def queries_of_a_sweep() -> int:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert sweep.check().known
    return len(captured)


@pytest.mark.slow
def test_the_number_of_queries_does_not_depend_on_the_number_of_accounts(online, upstream):
    counts = []
    for batch in (range(5), range(5, 65)):
        for n in batch:
            online(f"wxid_{n}")
        queries_of_a_sweep()
        before = upstream.calls(LIST)
        counts.append(queries_of_a_sweep())
        assert upstream.calls(LIST) == before + 1
    assert counts[0] == counts[1] <= 16


@pytest.mark.slow
def test_many_drops_cost_one_insert_more_and_not_one_each(online, upstream):
    assert sweep.check().known  # signs in, unless a test before did
    accounts = [online(f"wxid_{n}", absent=1, missed_at=timezone.now()) for n in range(60)]
    online("wxid_stays")
    for account in accounts:
        upstream.drop(account.wc_id, callback=False)
    assert queries_of_a_sweep() < 40
    assert Drop.objects.count() == 60
    assert AccountEvent.objects.filter(happened=EventType.ACCOUNT_OFFLINE).count() == 60


@pytest.mark.slow
def test_logins_made_elsewhere_cost_one_update_more_and_not_one_each(online, upstream):
    """Also those of accounts whose own login is in progress: that one is the newer one if it succeeds."""
    counts = []
    for batch in (range(2), range(2, 62)):
        accounts = [online(f"wxid_{n}") for n in batch]
        attempts = [make_attempt(account, w_id=f"w-mine-{account.pk}") for account in accounts]
        sweep.check()
        w_ids = [moved_on(account, upstream) for account in accounts]
        counts.append(queries_of_a_sweep())
        for account, attempt, w_id in zip(map(fresh, accounts), map(fresh, attempts), w_ids, strict=True):
            assert (account.w_id, account.bound_seq) == (w_id, account.login_seq - 1)
            assert attempt.seq == account.login_seq
            assert happened(account)[-2:] == ["account_online", "found_online"]
    assert counts[1] < counts[0] + 10  # an INSERT holds so many rows at most


# --- when


def test_two_beats_at_once_are_one_sweep(committed, online, upstream):
    online("wxid_a")
    ready = Barrier(4)

    def beat():
        try:
            ready.wait()
            sweep.check_if_due()
        finally:
            connection.close()

    threads = [Thread(target=beat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert upstream.calls(LIST) == 1
    assert not sweep.is_due()
    assert sweep.check_if_due() is None
    assert upstream.calls(LIST) == 1


@pytest.mark.slow
def test_the_next_sweep_is_about_a_minute_later(settings, upstream, monkeypatch):
    settings.WK_PRESENCE_SECONDS = 60
    now, pauses = timezone.now(), set()
    for n in range(12):
        monkeypatch.setattr(db_clock, "now", lambda at=now + n * AN_HOUR: at)
        assert sweep.check_if_due() is not None
        pauses.add((sweep.seen().due_at - db_clock.now()).total_seconds())
    assert len(pauses) > 6
    assert all(54 <= pause <= 66 for pause in pauses)


def test_a_process_that_died_while_asking_is_replaced(upstream, monkeypatch):
    now = timezone.now()
    Presence.objects.create(pk=1, due_at=now - AN_HOUR, taken_until=now + timedelta(seconds=20))
    assert not sweep.is_due()
    assert sweep.check_if_due() is None
    monkeypatch.setattr(db_clock, "now", lambda: now + timedelta(seconds=21))
    assert sweep.is_due()
    assert sweep.check_if_due().known


def test_a_step_that_fails_stops_no_other(online, upstream, monkeypatch, caplog):
    account = online("wxid_a")
    Drop.objects.create(account=account, w_id="w-old")

    def broken():
        raise OperationalError("the disk is full")

    monkeypatch.setattr(sweep, "is_due", broken)
    monkeypatch.setattr(tasks.EveryStep, "run_at", 0.0)
    tasks.tick()
    assert account.drops.get().ended_at == account.last_login_at
    assert "_presence_if_due failed" in caplog.text


# --- callbacks


def test_a_callback_for_the_current_wid_is_one_sign_and_the_check_after_it_the_other(online, upstream):
    account = online("wxid_a")
    online("wxid_b")
    assert sweep.check_if_due().verified == 2
    upstream.drop("wxid_a", callback=False)
    assert sweep.callback_received(account.w_id)
    assert sweep.callback_received(account.w_id, "wxid_a")
    assert (fresh(account).state, fresh(account).absent) == ("online", 1)
    assert sweep.seen().due_at <= db_clock.now() + sweep.SOONEST
    Presence.objects.update(due_at=timezone.now())
    assert sweep.check_if_due().offline == (account.pk,)
    assert account.drops.get().detected_by == "notice"
    assert not sweep.callback_received(account.w_id, "wxid_a")


def test_callbacks_of_many_drops_leave_a_second_between_two_sweeps(online, upstream):
    with time_machine.travel(timezone.now(), tick=False) as clock:
        assert sweep.check_if_due().known
        asked_at = sweep.seen().asked_at
        for _notice in range(3):
            sweep.check_soon()
        assert sweep.seen().due_at == asked_at + timedelta(seconds=1)
        assert not sweep.is_due()
        clock.shift(1)
        assert sweep.is_due() and sweep.check_if_due().known
        clock.shift(1.5)
        sweep.check_soon()
        assert sweep.seen().due_at == timezone.now()
    assert upstream.calls(LIST) == 2


def test_a_callback_is_not_trusted(online):
    account = online("wxid_a")
    assert sweep.callback_received(account.w_id)
    for _ in range(3):
        assert sweep.check().offline == ()
    assert (fresh(account).state, fresh(account).absent, fresh(account).missed_by) == ("online", 0, "")


@pytest.mark.parametrize("which", ["stale", "of another", "offline"])
def test_a_callback_for_anything_else_does_nothing(which, online):
    account, other = online("wxid_a"), online("wxid_b")
    sweep.check_if_due()
    callback = {"stale": ("w-old", "wxid_a"), "of another": (other.w_id, "wxid_a"), "offline": ("", "")}[
        which
    ]
    assert not sweep.callback_received(*callback)
    assert not sweep.is_due()
    assert fresh(account).absent == fresh(other).absent == 0


def test_a_callback_during_a_check_causes_another_check(online, upstream, monkeypatch):
    account = online("wxid_a")
    online("wxid_b")

    def dropped_meanwhile(client, seconds=None):
        monkeypatch.setattr(Client, "online", ask)
        found = ask(client, seconds)
        upstream.drop("wxid_a", callback=False)
        assert sweep.callback_received(account.w_id)
        return found

    ask = Client.online
    monkeypatch.setattr(Client, "online", dropped_meanwhile)
    monkeypatch.setattr(sweep, "SOONEST", timedelta(0))
    assert sweep.check_if_due().offline == (account.pk,)
    assert upstream.calls(LIST) == 2


# --- reasons


@pytest.fixture
def dropped(online, upstream, monkeypatch):
    monkeypatch.setattr(offline, "PAUSE", (0, 0))

    def make(wc_id: str, reason: str = SAID) -> Account:
        account = online(wc_id, absent=1, missed_at=timezone.now())
        upstream.drop(wc_id, callback=False, reason=reason)
        sweep.check()
        return fresh(account)

    return make


def test_the_reason_is_asked_once_and_unpacked_to_its_sentence(dropped, upstream):
    account = dropped("wxid_a")
    assert offline.reasons_are_due()
    assert offline.ask_reasons() == 1
    account = fresh(account)
    assert (account.last_offline_reason, account.drops.get().reason_text) == (SAID, SAID)
    assert account.events.get(happened=EventType.REASON_TOLD).detail == SAID
    assert not offline.reasons_are_due()
    assert offline.ask_reasons() == 0
    assert upstream.bodies(REASON) == [{"wcId": "wxid_a"}]


def test_a_reason_is_asked_for_once_in_twelve_hours(dropped, upstream, monkeypatch):
    account = dropped("wxid_a")
    upstream.fault(REASON, "data_null")
    now = timezone.now()
    for hours in range(30):
        monkeypatch.setattr(db_clock, "now", lambda at=now + hours * AN_HOUR: at)
        offline.ask_reasons()
    assert upstream.calls(REASON) == 1
    # It was back meanwhile, and dropped again.
    Drop.objects.update(at=db_clock.now())
    offline.ask_reasons()
    offline.ask_reasons()
    assert upstream.calls(REASON) == 2
    assert fresh(account).last_offline_reason == ""


def test_a_question_that_did_not_leave_was_not_asked(dropped, settings):
    account = dropped("wxid_a")
    address = settings.WK_BASE_URL
    settings.WK_BASE_URL = "http://127.0.0.1:9"
    settings.WK_AUTHORIZATION = "x"
    assert offline.ask_reasons() == 0
    assert fresh(account).reason_asked_at is None
    settings.WK_BASE_URL, settings.WK_AUTHORIZATION = address, ""
    assert offline.ask_reasons() == 1


def test_reasons_are_asked_by_one_process_at_a_time(dropped, upstream):
    dropped("wxid_a")
    Presence.objects.update(reasons_until=timezone.now() + AN_HOUR)
    assert offline.ask_reasons() == 0
    Presence.objects.update(reasons_until=timezone.now())
    assert offline.ask_reasons() == 1
    assert sweep.seen().reasons_until is None


def test_nobody_is_asked_about_who_is_back(dropped, upstream):
    account = dropped("wxid_a")
    account.go_online(99, "w-9", timezone.now(), None)
    assert offline.ask_reasons() == 0
    assert upstream.calls(REASON) == 0


def test_a_round_of_reasons_ends_in_time_and_the_next_goes_on(dropped, upstream, monkeypatch):
    for n in range(3):
        dropped(f"wxid_{n}")
    monkeypatch.setattr(offline, "ROUND_SECONDS", 0)
    assert [offline.ask_reasons() for _ in range(4)] == [1, 1, 1, 0]
    assert sorted(body["wcId"] for body in upstream.bodies(REASON)) == ["wxid_0", "wxid_1", "wxid_2"]


def test_a_callback_with_a_wc_id_only_counts_as_one_of_two_signs(online, upstream):
    account = online("wxid_1")
    upstream.drop("wxid_1", callback=False)
    assert sweep.callback_received("", "wxid_1")
    assert fresh(account).missed_by == DetectedBy.CALLBACK
    sweep.check()
    assert fresh(account).state == AccountState.OFFLINE
    assert not sweep.callback_received("", "")


# --- entries of the list that cannot be read


def listing(upstream, *entries) -> None:
    upstream.fault(LIST, "raw", json={"code": "1000", "message": "成功", "data": list(entries)})


@pytest.mark.parametrize("wc_id", [None, "", "null"])
def test_an_account_that_is_listed_by_its_w_id_alone_stays_online(wc_id, online, upstream):
    account = online("wxid_1")
    listing(upstream, {"wcId": wc_id, "wId": account.w_id})
    for _check in range(3):
        assert sweep.check().verified == 1
    assert (fresh(account).state, fresh(account).absent) == (AccountState.ONLINE, 0)


@pytest.mark.parametrize("entry", ["x", {}, {"wcId": "a b"}, {"wId": "another"}])
def test_an_entry_that_cannot_be_read_makes_a_missing_account_unknown(entry, online, upstream):
    missing, listed = online("wxid_1"), online("wxid_2")
    upstream.fault(IS_ONLINE, "html", status=502)
    listing(upstream, entry, {"wcId": "wxid_2", "wId": listed.w_id})
    before = sweep.seen()
    for _check in range(3):
        found = sweep.check()
        assert (found.absent, found.offline) == ((), ())
    assert (fresh(missing).state, fresh(missing).absent) == (AccountState.ONLINE, 0)
    assert sweep.seen().checked_at == (before and before.checked_at)


def test_beside_an_entry_that_cannot_be_read_is_online_decides(online, upstream):
    gone, there = online("wxid_1"), online("wxid_2")
    upstream.drop("wxid_1", callback=False)
    listing(upstream, {"wId": "another"})
    for _check in range(2):
        sweep.check()
    assert (fresh(gone).state, fresh(there).state) == (AccountState.OFFLINE, AccountState.ONLINE)


# --- one account


def test_a_check_of_one_account_asks_about_it_and_shows_a_contradiction(online, upstream):
    account = online("wxid_1")
    assert sweep.check_account(account.pk) is True
    assert happened(account) == []
    upstream.fault(IS_ONLINE, "rewrite", data_set={"isOnline": False})
    assert sweep.check_account(account.pk) is False
    assert happened(account) == [EventType.LISTED_BUT_OFFLINE]
    assert fresh(account).state == AccountState.ONLINE


def test_a_check_of_one_account_shows_that_it_is_online_and_not_listed(online, upstream):
    account, _other = online("wxid_1"), online("wxid_2")
    sweep.check()
    listing(upstream, {"wcId": "wxid_2", "wId": _other.w_id})
    sweep.check_soon()
    Presence.objects.update(due_at=db_clock.now())
    assert sweep.check_account(account.pk) is True
    assert happened(account) == [EventType.ONLINE_BUT_UNLISTED]
