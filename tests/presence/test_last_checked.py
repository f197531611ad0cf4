"""When an account was last confirmed: one row says it for all that the last answered check did not miss."""

import io
import json
import re
from collections import Counter
from datetime import timedelta
from threading import Event

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import localize
from django.utils.html import strip_tags

from accounts.lib import db_clock
from accounts.models import Account, Presence
from accounts.presence import sweep
from accounts.states import AccountState
from accounts.upstream.client import Client
from tests.presence.test_sweep import logs_in_before_the_answer
from tests.support.factories import make_account
from tests.support.scenarios import fresh
from tests.support.threads import running

LIST = "/queryLoginWx"
AN_HOUR = timedelta(hours=1)

pytestmark = pytest.mark.django_db


@pytest.fixture
def online(upstream):
    """Makes accounts that are online here and there. They logged in an hour ago, and no check has confirmed them."""

    def make(wc_id: str, **fields) -> Account:
        since = timezone.now() - AN_HOUR
        times = dict.fromkeys(("first_login_at", "last_login_at", "state_since", "checked_at"), since)
        w_id = upstream.person(wc_id, online=True)["wId"]
        return make_account(**{"wc_id": wc_id, "w_id": w_id, **times, **fields})

    return make


def last_checked(account: Account):
    return fresh(account).last_checked(sweep.seen())


def check():
    """Return when the check began."""
    assert sweep.check().known
    return sweep.seen().asked_at


def rows_written_by(step) -> Counter:
    """Count the rows that were inserted, changed or deleted, by table."""
    written = Counter()

    def count(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if found := re.match(r'(?:UPDATE|INSERT INTO|DELETE FROM) "(\w+)"', sql):
            written[found[1]] += context["cursor"].rowcount
        return result

    with connection.execute_wrapper(count):
        step()
    return +written


# --- what a check writes


@pytest.mark.parametrize("count", [1, 60])
def test_a_check_in_which_nothing_changed_writes_one_row(count, online):
    for number in range(count):
        online(f"wxid_{number}")
    make_account(wc_id="wxid_offline", state=AccountState.OFFLINE)
    before = list(Account.objects.order_by("pk").values())
    sweep.check()  # the first one also signs in to the upstream
    assert Presence.objects.count() == 1
    assert rows_written_by(sweep.check) == {"accounts_presence": 2}  # when it is asked, and when answered
    Presence.objects.update(due_at=timezone.now())
    assert rows_written_by(sweep.check_if_due).keys() == {"accounts_presence"}
    assert list(Account.objects.order_by("pk").values()) == before


def test_a_check_writes_the_accounts_that_changed_and_no_others(online, upstream):
    dropped, *_others = (online(f"wxid_{number}") for number in range(9))
    sweep.check()
    upstream.drop(dropped.wc_id, callback=False)
    assert rows_written_by(sweep.check)["accounts_account"] == 1
    upstream.person(dropped.wc_id, online=True)
    Account.objects.filter(pk=dropped.pk).update(w_id=upstream.person(dropped.wc_id)["wId"])
    assert rows_written_by(sweep.check)["accounts_account"] == 1
    assert (fresh(dropped).absent, fresh(dropped).missed_at, fresh(dropped).missed_by) == (0, None, "")
    assert rows_written_by(sweep.check)["accounts_account"] == 0


# --- when each account was last confirmed


def test_an_online_account_was_last_checked_when_the_last_answered_check_began(online, upstream):
    account = online("wxid_a")
    assert last_checked(account) == account.last_login_at
    began = [check() for _ in range(2)]
    assert last_checked(account) == began[1] > began[0]

    for kind, fault in (("html", {"status": 502}), ("data_null", {})):
        upstream.fault(LIST, kind, **fault)
        assert not sweep.check().known
        assert last_checked(account) == began[1]
        upstream.clear()


def test_an_account_without_a_known_login_is_confirmed_too(online, upstream):
    account = online("wxid_a", last_login_at=None, checked_at=None)
    assert last_checked(account) is None
    began = check()
    assert last_checked(account) == began
    upstream.drop("wxid_a", callback=False)
    sweep.check()
    assert (fresh(account).absent, last_checked(account)) == (1, began)


def test_an_account_that_is_missed_was_last_checked_by_the_check_before(online, upstream):
    account, other = online("wxid_a"), online("wxid_b")
    seen = check()
    upstream.drop("wxid_a", callback=False)
    missed = check()
    assert (last_checked(account), last_checked(other)) == (seen, missed)
    gone = check()
    assert fresh(account).state == AccountState.OFFLINE
    assert (last_checked(account), last_checked(other)) == (seen, gone)


def test_an_account_that_is_found_again_was_last_checked_by_the_check_that_found_it(online, upstream):
    account, other = online("wxid_a"), online("wxid_b")
    seen = check()
    only_b = [{"wcId": "wxid_b", "wId": other.w_id}]
    upstream.fault(LIST, "raw", json={"code": "1000", "data": only_b}, times=1)
    sweep.check()
    assert last_checked(account) == seen
    began = check()
    assert last_checked(account) == began > seen


def test_an_account_that_a_callback_reports_was_last_checked_by_the_check_before(online, upstream):
    account, _other = online("wxid_a"), online("wxid_b")
    seen = check()
    assert sweep.callback_received(account.w_id)
    assert last_checked(account) == seen
    seen = check()
    assert last_checked(account) == seen  # it was not true

    upstream.drop("wxid_a", callback=False)
    assert sweep.callback_received(account.w_id)
    check()
    assert fresh(account).state == AccountState.OFFLINE
    assert last_checked(account) == seen


def test_a_callback_during_a_check_is_settled_by_the_next_one(online, monkeypatch):
    account, _other = online("wxid_a"), online("wxid_b")
    seen = check()

    def reported_meanwhile(client, seconds=None):
        assert sweep.callback_received(account.w_id)
        return ask(client, seconds)

    ask = Client.online
    with monkeypatch.context() as patch:
        patch.setattr(Client, "online", reported_meanwhile)
        assert sweep.check().verified == 1
    assert (fresh(account).absent, last_checked(account)) == (1, seen)
    assert sweep.check().verified == 2
    assert (fresh(account).absent, last_checked(account)) == (0, sweep.seen().asked_at)


@pytest.mark.parametrize("is_listed", [True, False])
def test_a_login_that_is_newer_than_the_answer_is_the_last_that_is_known(
    is_listed, online, upstream, monkeypatch
):
    account, _other = online("wxid_a"), online("wxid_b")
    if not is_listed:
        upstream.drop("wxid_a", callback=False)
    with monkeypatch.context() as patch:
        logs_in_before_the_answer(account, patch)
        began = check()
    assert last_checked(account) == fresh(account).last_login_at > began
    # The next check misses the newer wId: nothing has confirmed it since the login.
    upstream.fault(LIST, "raw", json={"code": "1000", "data": [{"wcId": "wxid_b"}]}, times=1)
    sweep.check()
    assert (fresh(account).absent, last_checked(account)) == (1, fresh(account).last_login_at)


def test_accounts_that_are_not_online_are_not_confirmed(online):
    owner = online("wxid_a")
    never, merged = make_account(wc_id="wxid_b"), make_account(wc_id="wxid_c", merged_into=owner)
    earlier = timezone.now() - AN_HOUR
    gone = make_account(wc_id="wxid_d", state=AccountState.OFFLINE, checked_at=earlier)
    sweep.check()
    assert [last_checked(account) for account in (never, merged, gone)] == [None, None, earlier]


def test_an_account_that_the_version_before_confirms_during_an_upgrade_was_checked_then(online, upstream):
    account, _other = online("wxid_a"), online("wxid_b")
    sweep.check()
    theirs = timezone.now()
    Account.objects.update(checked_at=theirs)
    assert last_checked(account) == theirs
    upstream.drop("wxid_a", callback=False)
    sweep.check()
    assert (fresh(account).absent, last_checked(account)) == (1, theirs)


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite locks no rows")
def test_a_check_that_could_not_mark_a_missed_account_confirms_none(committed, online, upstream):
    account, other = online("wxid_a"), online("wxid_b")
    seen = check()
    upstream.drop("wxid_a", callback=False)
    locked, done = Event(), Event()

    def hold():
        with transaction.atomic():
            Account.objects.select_for_update().get(pk=account.pk)
            locked.set()
            done.wait(60)

    with running(hold):
        assert locked.wait(60)
        sweep.check()
        done.set()
    assert (fresh(account).absent, last_checked(account), last_checked(other)) == (0, seen, seen)
    began = check()
    assert (fresh(account).absent, last_checked(account), last_checked(other)) == (1, seen, began)


# --- what it decides


@pytest.mark.parametrize(
    ("checks", "drops_before", "kind"),
    [
        # Seconds after the login. No check lists the account: it may have dropped an interval before the first.
        ((60, 120), 60, "at_once"),
        ((130, 190), 130, "first_night"),
        # The check after 20 s lists it: it was online until then, and is missed by the one after 80 s.
        ((20, 80, 140), 80, "first_night"),
        ((20, 50, 110), 50, "at_once"),
    ],
)
def test_the_kind_of_a_drop_follows_from_the_checks_since_the_login(
    checks, drops_before, kind, online, upstream, monkeypatch
):
    login_at = timezone.now()
    account, _other = online("wxid_a", w_id="w-before"), online("wxid_b")
    w_id = upstream.person("wxid_a", online=True)["wId"]
    monkeypatch.setattr(db_clock, "now", lambda: login_at - AN_HOUR)
    sweep.check()
    Account.objects.filter(pk=account.pk).update(first_login_at=login_at)
    assert fresh(account).go_online(99, w_id, login_at, None)
    for seconds in checks:
        if seconds == drops_before:
            upstream.drop("wxid_a", callback=False)
        monkeypatch.setattr(db_clock, "now", lambda at=login_at + timedelta(seconds=seconds): at)
        assert sweep.check().known
    assert account.drops.get().kind == kind


# --- who reads it


@pytest.mark.slow
def test_pages_show_the_last_check(people, online):
    account = online("wxid_a", team=people.east)
    began = check()
    shown = f'datetime="{began.isoformat(timespec="seconds")}"'
    of_account = [reverse(name, args=[account.pk]) for name in ("account", "account_history", "account_row")]
    for address in (reverse("accounts"), *of_account):
        assert shown in people.operator.client.get(address).content.decode(), address


@pytest.mark.slow
def test_admin_shows_the_last_check(people, online):
    account = online("wxid_a", team=people.east)
    Account.objects.update(checked_at=None)
    page = reverse("admin:accounts_account_change", args=[account.pk])

    def shown() -> str:
        found = people.admin.client.get(page).content.decode()
        field = re.search(r'field-last_checked.*?class="readonly">(.*?)</div>', found, re.DOTALL)[1]
        return strip_tags(field)

    assert shown() == "-"
    began = check()
    assert shown() == localize(timezone.localtime(began))


def test_the_command_tells_the_last_check_of_each_account(online):
    account = online("wxid_a")
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("presence", "--json", "--all", stdout=out)
    (row,) = json.loads(out.getvalue())["accounts"]
    assert row["verified"] == last_checked(account).isoformat() == sweep.seen().asked_at.isoformat()
