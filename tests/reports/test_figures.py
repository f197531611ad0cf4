"""Figures of the overview: days of a time zone, and whose accounts they count."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from accounts.models import Account, Drop
from accounts.proxies import OWN
from accounts.reasons import Reason
from accounts.reports.figures import Figures, quantile, rate_of
from accounts.reports.history import OUTCOMES, History
from accounts.states import AccountState, AttemptState, Method
from tests.support.factories import make_attempt

NOW = datetime(2026, 11, 20, 4, 30, tzinfo=UTC)
SHANGHAI = ZoneInfo("Asia/Shanghai")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def login(account, when: datetime, state: str = AttemptState.SUCCEEDED, seconds: float = 10, **fields):
    ended = {"ended_at": when + timedelta(seconds=seconds)} if state not in ("waiting", "preparing") else {}
    return make_attempt(account, state, created_at=when, qr_shown_at=when, **ended, **fields)


def drop(account, when: datetime, **fields) -> Drop:
    fields = {"ended_at": when, "next_at": None, "w_id": "w", **fields}
    return Drop.objects.create(account=account, at=when, **fields)


def figures_of(now: datetime = NOW, zone: ZoneInfo = SHANGHAI, accounts=None) -> Figures:
    return Figures(History(now), zone, accounts)


def counts(days) -> dict[date, int]:
    return {day.date: day.succeeded for day in days if day.succeeded}


@pytest.mark.parametrize(
    ("zone", "day", "first", "last"),
    [
        ("Asia/Shanghai", "2026-11-17", "2026-11-16T16:00:00", "2026-11-17T15:59:59"),
        ("Asia/Kathmandu", "2026-11-17", "2026-11-16T18:15:00", "2026-11-17T18:14:59"),
        ("America/New_York", "2026-03-08", "2026-03-08T05:00:00", "2026-03-09T03:59:59"),  # 23 hours
        ("America/New_York", "2026-11-01", "2026-11-01T04:00:00", "2026-11-02T04:59:59"),  # 25 hours
        ("Asia/Beirut", "2026-03-29", "2026-03-28T22:00:00", "2026-03-29T20:59:59"),  # begins at 01:00
        ("Australia/Lord_Howe", "2026-10-04", "2026-10-03T13:30:00", "2026-10-04T12:59:59"),  # 23 and a half
        ("UTC", "2026-02-28", "2026-02-28T00:00:00", "2026-02-28T23:59:59"),
    ],
)
def test_a_day_begins_and_ends_where_it_does_in_its_zone(people, zone, day, first, last):
    account, second = people.account(), timedelta(seconds=1)
    for when in (at(first) - second, at(first), at(last), at(last) + second):
        login(account, when)
        drop(account, when)
    figures = figures_of(at(first) + timedelta(days=3), ZoneInfo(zone))
    here = date.fromisoformat(day)
    around = [here - timedelta(days=1), here, here + timedelta(days=1)]
    assert counts(figures.success()) == dict(zip(around, (1, 2, 1), strict=True))
    scans, _week = figures.time_to_scan()
    assert [scan.number for scan in scans if scan.date in around] == [1, 2, 1]
    hours = {bar.key: bar.drops for bar in figures.drops_by_hour() if bar.drops}
    wanted = (at(first) - second, at(first), at(last), at(last) + second)
    assert hours == Counter(when.astimezone(ZoneInfo(zone)).hour for when in wanted)


def test_the_month_has_thirty_days_with_today(people):
    account = people.account()
    begin = datetime(2026, 10, 22, tzinfo=SHANGHAI)
    login(account, begin - timedelta(seconds=1))
    login(account, begin)
    drop(account, begin - timedelta(seconds=1), proxy=1)
    drop(account, begin, proxy=1)
    figures = figures_of()
    days = figures.success()
    assert (days[0].date, days[-1].date, len(days)) == (date(2026, 10, 22), date(2026, 11, 20), 30)
    assert counts(days) == {date(2026, 10, 22): 1}
    assert [bar.drops for bar in figures.drops_by_proxy()] == [1]


def test_each_login_of_today_has_one_outcome(people):
    account, midnight = people.account(), datetime(2026, 11, 20, tzinfo=SHANGHAI)
    for n, (state, reason) in enumerate([
        ("succeeded", ""), ("succeeded", ""), ("expired", Reason.NOT_SCANNED), ("failed", Reason.DECLINED),
        ("failed", Reason.UNREACHABLE), ("cancelled", Reason.CANCELLED), ("waiting", ""),
    ]):  # fmt: skip
        login(account, midnight + timedelta(minutes=n), state, reason=reason)
    login(account, midnight - timedelta(seconds=1))
    found = figures_of().today()
    assert found == dict(zip(OUTCOMES, (2, 1, 1, 1, 1, 1), strict=True))


def test_a_login_that_a_person_cancelled_says_nothing_about_success(people):
    account = people.account()
    for state, number in (("succeeded", 3), ("failed", 1), ("expired", 1), ("cancelled", 4)):
        for _n in range(number):
            login(account, NOW - timedelta(hours=1), state)
    days = figures_of().success()
    assert (days[-1].succeeded, days[-1].other) == (3, 2)
    assert rate_of(days) == rate_of(days[-7:]) == pytest.approx(0.6)
    assert rate_of(days[:7]) is None


def test_time_to_scan_is_from_the_code_to_the_login_and_counts_qr_codes_only(people):
    account = people.account()
    for seconds in (4.4, 10, 20, 30, 40, 50, 60, 70, 80, 90.6):
        login(account, NOW - timedelta(days=1), seconds=seconds)
    login(account, NOW - timedelta(days=1), method=Method.POPUP, seconds=500)
    login(account, NOW - timedelta(days=1), "failed", seconds=500)
    login(account, NOW - timedelta(days=20), seconds=7)
    days, week = figures_of().time_to_scan()
    assert (days[-2].number, days[-2].p50, days[-2].p90) == (10, 40, 80)
    assert (week.number, week.p50, week.p90) == (10, 40, 80)
    assert (days[-21].number, days[-21].p50, days[-21].p90) == (1, 7, 7)
    assert (days[-1].number, days[-1].p50) == (0, None)


def test_a_quantile_is_a_value_that_was_measured():
    assert [quantile(Counter([1, 2, 3, 4]), share) for share in (0.25, 0.5, 0.75, 0.9, 1)] == [1, 2, 3, 4, 4]
    assert quantile(Counter(), 0.5) is None


def test_own_proxies_are_told_apart_from_listed_ones(people):
    people.account(proxy=2, own_proxy="203.0.113.7:1080")
    people.account(proxy=2, state=AccountState.ARCHIVED, keep_online=False)
    people.account(proxy=2, merged_into=people.account(proxy=3))
    for proxy, number in ((2, 3), (OWN, 5), (None, 1)):
        account = people.account(proxy=proxy if proxy != OWN else None)
        for _n in range(number):
            drop(account, NOW - timedelta(days=2), proxy=proxy)
    bars = {bar.key: bar for bar in figures_of().drops_by_proxy()}
    assert list(bars) == [OWN, 2, None]
    assert {key: (bar.drops, bar.accounts) for key, bar in bars.items()} == {
        OWN: (5, 1), 2: (3, 1), None: (1, 2),
    }  # fmt: skip
    assert len({bar.name for bar in bars.values()}) == 3


def test_a_proxy_stands_out_by_its_drops_per_account(people):
    for proxy, accounts, drops in ((1, 10, 20), (2, 2, 12), (3, 1, 2)):
        made = [people.account(proxy=proxy) for _n in range(accounts)]
        for n in range(drops):
            drop(made[n % accounts], NOW - timedelta(days=2), proxy=proxy)
    times = {bar.key: bar.times for bar in figures_of().drops_by_proxy()}
    assert times == {1: None, 2: pytest.approx(6 / 2), 3: None}


def test_an_hour_stands_out_if_it_has_far_more_drops_than_the_others(people):
    account, ten = people.account(), datetime(2026, 11, 18, 10, tzinfo=SHANGHAI)
    for n in range(24):
        drop(account, ten + timedelta(hours=n))
    assert not any(bar.times for bar in figures_of().drops_by_hour())
    for n in range(5):
        drop(account, ten + timedelta(minutes=10 * n))
    out = [bar for bar in figures_of().drops_by_hour() if bar.times]
    assert [(bar.name, bar.drops, bar.times) for bar in out] == [("10:00", 6, pytest.approx(6))]


def test_figures_count_the_accounts_that_they_are_given(people):
    for team, number in ((people.east, 1), (people.west, 3)):
        account = people.account(team=team, proxy=1)
        for _n in range(number):
            login(account, NOW - timedelta(minutes=1))
            drop(account, NOW - timedelta(minutes=1), proxy=1)
    for accounts, number in ((Account.objects.visible_to(people.operator), 1), (None, 4)):
        figures = figures_of(accounts=accounts)
        assert figures.today()["succeeded"] == figures.success()[-1].succeeded == number
        assert figures.time_to_scan()[1].number == number
        assert [bar.drops for bar in figures.drops_by_proxy()] == [number]
        assert sum(bar.drops for bar in figures.drops_by_hour()) == number
