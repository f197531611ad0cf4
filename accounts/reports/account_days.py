"""The last 30 days of accounts: which share of each day it was offline, and its drops.

A day begins at midnight of the chosen zone and has 23, 24 or 25 hours. The time before the first login, which is
neither online nor offline, is not counted.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from math import floor

from django.db.models import Q, QuerySet

from accounts.models import Account, Drop
from accounts.reports.buckets import Days
from accounts.states import AccountState

NUMBER = 30
READ = 500  # so many drops are read; an account with more has other problems than an exact chart


@dataclass(frozen=True, slots=True)
class Day:
    date: date
    counted: float  # seconds between the first login and now
    offline: float  # seconds of them
    drops: int

    @property
    def online_percent(self) -> float | None:
        return share_online(self.offline, self.counted)


@dataclass(frozen=True, slots=True)
class Month:
    days: list[Day]
    drops: list[Drop]  # newest first; in a list of accounts only `at` and `ended_at` of each
    longest: float  # seconds, within these days

    @property
    def online_percent(self) -> float | None:
        return share_online(sum(day.offline for day in self.days), sum(day.counted for day in self.days))


def share_online(offline: float, counted: float) -> float | None:
    """Return the percentage with one decimal, rounded down: with any time offline it is less than 100."""
    return floor(1000 * (1 - offline / counted)) / 10 if counted else None


def month_of(account: Account, now: datetime, zone: tzinfo) -> Month | None:
    """Return the last 30 days of the account, its drops with their incidents; None if it never logged in. One query."""
    if account.state == AccountState.NEW:
        return None
    days = Days(NUMBER, now, zone)
    return _month(account, list(_drops([account], days).select_related("incident")), days, now)


def months_of(accounts: list[Account], now: datetime, zone: tzinfo) -> dict[int, Month]:
    """Return the last 30 days of each account that has logged in, of its drops only the times. One query."""
    known = [account for account in accounts if account.state != AccountState.NEW]
    if not known:
        return {}
    days, drops = Days(NUMBER, now, zone), defaultdict(list)
    for drop in _drops(known, days).values_list("account", "at", "ended_at", named=True):
        drops[drop.account].append(drop)
    return {account.pk: _month(account, drops[account.pk], days, now) for account in known}


def _drops(accounts: list[Account], days: Days) -> QuerySet:
    recent = Drop.objects.filter(Q(ended_at=None) | Q(ended_at__gt=days.begin), account__in=accounts)
    return recent.order_by("-id")[: READ * len(accounts)]


def _month(account: Account, drops: list[Drop], days: Days, now: datetime) -> Month:
    """In seconds since 1970: comparing times would take most of the time of a list."""
    since = (account.first_login_at or account.created_at).timestamp()
    # The drop of an account that is back stays open for some seconds.
    latest = account.state_since if account.state == AccountState.ONLINE else now
    gaps = [(drop.at.timestamp(), (drop.ended_at or latest).timestamp()) for drop in drops]
    ends = [*days.begins[1:], now.timestamp()]
    offline, numbers = [0.0] * NUMBER, [0] * NUMBER
    for at, over in gaps:
        first = bisect_right(days.begins, at) - 1  # -1: before these days
        if first >= 0:
            numbers[first] += 1
        for place in range(max(first, 0), bisect_left(days.begins, over)):
            offline[place] += _overlap(days.begins[place], ends[place], (at, over))
    rows = []
    for place, (day, begin, end) in enumerate(zip(days.dates, days.begins, ends, strict=True)):
        counted = max(0.0, end - max(begin, since))
        rows.append(Day(day, counted, min(offline[place], counted), numbers[place]))
    longest = max((_overlap(days.begins[0], ends[-1], gap) for gap in gaps), default=0)
    return Month(rows, drops, longest)


def _overlap(begin: float, end: float, gap: tuple[float, float]) -> float:
    return max(0.0, min(end, gap[1]) - max(begin, gap[0]))
