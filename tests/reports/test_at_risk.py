"""Accounts at risk: each by the first rule that applies to it."""

from datetime import timedelta

from django.utils import timezone

from accounts.models import Account, Drop
from accounts.reports.at_risk import FEWEST, at_risk, longest_sessions
from accounts.reports.history import History
from accounts.states import AccountState

NOW = timezone.now()
DAY = timedelta(days=1)


def online(people, first: timedelta = 100 * DAY, since: timedelta = DAY, **fields) -> Account:
    fields = {"w_id": f"w-{Account.objects.count()}", "first_login_at": NOW - first, **fields}
    return people.account(state_since=NOW - since, **fields)


def drops(account, number: int, ago: timedelta = 10 * DAY, lasted: timedelta | None = None) -> None:
    when = NOW - ago
    Drop.objects.bulk_create(
        Drop(account=account, at=when, ended_at=when, w_id="w", online_since=lasted and when - lasted)
        for _n in range(number)
    )


def found(most: int = 10) -> tuple[list, int]:
    risks, total = at_risk(Account.objects.all(), History(NOW), most)
    return [(risk.account.pk, risk.rule, risk.number) for risk in risks], total


def test_each_account_at_risk_has_its_first_reason(people):
    finished = people.account(state=AccountState.OFFLINE)
    drops(finished, FEWEST, ago=40 * DAY, lasted=5 * DAY)
    new = online(people, first=DAY / 2, since=DAY / 2)
    drops(new, 3)
    often = online(people, since=9 * DAY)
    drops(often, 4)
    long = online(people, since=7 * DAY)
    online(people, since=3 * DAY)
    drops(online(people, since=3 * DAY), 2)
    assert found() == ([(new.pk, "first_day", 0), (often.pk, "often", 4), (long.pk, "long", 7)], 3)
    assert found(most=1) == ([(new.pk, "first_day", 0)], 3)
    assert found(most=0) == ([], 3)


def test_only_accounts_that_are_online_and_kept_online_are_at_risk(people):
    for fields in (
        {"state": AccountState.OFFLINE, "w_id": ""},
        {"keep_online": False},
        {"state": AccountState.ARCHIVED, "keep_online": False, "w_id": ""},
        {"merged_into": people.account()},
    ):
        drops(online(people, first=DAY / 2, **fields), 3)
    assert found() == ([], 0)


def test_drops_of_more_than_thirty_days_ago_are_forgotten(people):
    account = online(people)
    drops(account, 3, ago=31 * DAY)
    assert found() == ([], 0)
    drops(account, 3, ago=29 * DAY)
    assert found()[1] == 1


def test_few_finished_sessions_say_nothing(people):
    account = people.account(state=AccountState.OFFLINE)
    drops(account, FEWEST - 1, ago=40 * DAY, lasted=DAY)
    drops(account, 30, ago=40 * DAY)  # since when it was online is not known
    assert longest_sessions() is None
    drops(account, 1, ago=40 * DAY, lasted=30 * DAY)
    assert longest_sessions() == 30 * DAY
    drops(account, 100, ago=40 * DAY, lasted=2 * DAY)
    assert longest_sessions() == 2 * DAY
