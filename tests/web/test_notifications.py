"""What a browser notification says: which accounts need attention, which runs of this person are done."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.bulk import execute, runs
from accounts.models import Account, BulkRun, ScanRun
from accounts.scanning import queue
from accounts.states import AccountState, AttemptState
from tests.support.factories import make_attempt
from tests.support.scanning import run_of

NEWS, OF_ACCOUNTS = "/me/notifications/", "/me/account-notifications/"


def news(person) -> dict:
    return person.client.get(NEWS).json()


def notifications(person, *ids) -> list[dict]:
    return person.client.get(OF_ACCOUNTS, {"id": ids}).json()["notifications"]


def to_scan(people, **fields) -> Account:
    fields = {"state": AccountState.OFFLINE, "queued_for_scan_at": timezone.now(), **fields}
    return people.account(wc_id=f"wxid_{Account.objects.count() + 1:06}", **fields)


def test_news_are_the_accounts_of_ones_teams_that_need_attention(people):
    ours = to_scan(people)
    people.account(w_id="w-1")
    to_scan(people, silenced_until=timezone.now() + timedelta(hours=1))
    awake = to_scan(people, silenced_until=timezone.now() - timedelta(hours=1))
    to_scan(people, state=AccountState.ARCHIVED)
    theirs = to_scan(people, team=people.west)
    assert news(people.viewer) == {
        "person": people.viewer.pk,
        "attention": [awake.pk, ours.pk],
        "whole_from": 0,
        "runs": [],
    }
    assert news(people.stranger)["attention"] == [theirs.pk]
    assert set(news(people.admin)["attention"]) == {ours.pk, awake.pk, theirs.pk}


def test_a_list_that_is_cut_says_down_to_which_account_it_is_whole(people, monkeypatch):
    monkeypatch.setattr("accounts.web.people.notifications.ACCOUNTS_MOST", 2)
    accounts = [to_scan(people).pk for _number in range(3)]
    assert news(people.viewer)["attention"] == [accounts[2], accounts[1]]
    assert news(people.viewer)["whole_from"] == accounts[1]
    Account.objects.filter(pk=accounts[2]).update(queued_for_scan_at=None)
    assert news(people.viewer)["attention"] == [accounts[1], accounts[0]]
    assert news(people.viewer)["whole_from"] == 0


def test_a_notification_says_the_label_and_the_need_and_nothing_else(people):
    asked = people.account(
        label="Shop 7", nickname="Anna", wc_id="wxid_7", mobile="138", note="secret", w_id="w-7"
    )
    make_attempt(asked, AttemptState.CODE_REQUIRED)
    unnamed = to_scan(people, label="", nickname="Bea")
    theirs = to_scan(people, team=people.west, label="Theirs")
    found = notifications(people.operator, asked.pk, unnamed.pk, theirs.pk)
    assert sorted(found, key=lambda each: each["key"]) == [
        {"key": f"account-{asked.pk}", "title": "Shop 7", "body": "Verification waiting", "url": f"/accounts/{asked.pk}/"},
        {"key": f"account-{unnamed.pk}", "title": "An account", "body": "Queued for scan",
         "url": f"/accounts/{unnamed.pk}/"},
    ]  # fmt: skip


def test_many_at_once_are_one_notification_with_their_number(people):
    ids = [to_scan(people).pk for _number in range(5)]
    assert len(notifications(people.operator, *ids[:3])) == 3
    assert notifications(people.operator, *ids) == [
        {
            "key": "attention",
            "title": "5 accounts need attention",
            "body": "",
            "url": "/accounts/?group=attention",
        }
    ]
    people.operator.client.cookies["django_language"] = "zh-hans"
    assert notifications(people.operator, *ids)[0]["title"] == "5 个账号待处理"


@pytest.mark.parametrize("ids", [(), ("x",), ("9" * 30,), ("-1",), ("1\0",), ("",), ("999999",)])
def test_ids_that_are_none_bring_nothing(people, ids):
    to_scan(people)
    assert notifications(people.operator, *ids) == []


def test_an_account_that_needs_nobody_any_more_is_not_told(people):
    account = to_scan(people)
    Account.objects.filter(pk=account.pk).update(queued_for_scan_at=None)
    assert notifications(people.operator, account.pk) == []


def keys(person) -> list[str]:
    return [run["key"] for run in news(person)["runs"]]


def test_a_bulk_run_is_told_to_who_started_it_when_it_is_done(people):
    people.account(label="a", w_id="w-1")
    run = runs.start(people.operator, "place", {"place": "Rack 1"}, Account.objects.all())
    assert keys(people.operator) == []
    execute.go_on(run.pk)
    assert news(people.operator)["runs"] == [
        {
            "key": f"bulk-{run.pk}",
            "title": "Bulk run done: Change place",
            "body": "",
            "url": f"/accounts/bulk/{run.pk}/",
        }
    ]
    assert keys(people.mate) == keys(people.admin) == []
    BulkRun.objects.update(cancelled_at=timezone.now())
    assert keys(people.operator) == []
    BulkRun.objects.update(cancelled_at=None, ended_at=timezone.now() - timedelta(hours=2))
    assert keys(people.operator) == []


def test_a_scan_run_is_told_when_nothing_is_left_and_not_when_it_is_left(people):
    accounts = [people.account(), people.account()]
    left = run_of(people.operator, accounts)
    queue.end_run(left)
    assert keys(people.operator) == []
    done = run_of(people.operator, accounts)
    done.items.update(state="skipped", ended_at=timezone.now())
    assert keys(people.operator) == []
    queue.end_run(done)
    assert news(people.operator)["runs"] == [
        {"key": f"station-{done.pk}", "title": "Scan run done", "body": "", "url": f"/station/{done.pk}/"}
    ]
    assert keys(people.mate) == []


def test_a_login_of_many_is_told_once(people):
    people.account(label="a")
    run = runs.start(people.operator, "log_in", {}, Account.objects.all())
    scan = ScanRun.objects.get()
    assert run.scan_run == scan
    scan.items.update(state="skipped", ended_at=timezone.now())
    queue.end_run(scan)
    runs.end(run, timezone.now())
    assert keys(people.operator) == [f"station-{scan.pk}"]
