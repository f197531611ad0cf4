"""The last 30 days of accounts: which share of each day it was offline, and its drops.

A day begins at midnight of the chosen zone and has 23, 24 or 25 hours. The time before the first login, which is
neither online nor offline, is not counted.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from math import floor

from django.db.models import Q

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
    drops: list[Drop]  # newest first
    longest: float  # seconds, within these days

    @property
    def online_percent(self) -> float | None:
        return share_online(sum(day.offline for day in self.days), sum(day.counted for day in self.days))


def share_online(offline: float, counted: float) -> float | None:
    """Return the percentage with one decimal, rounded down: with any time offline it is less than 100."""
    return floor(1000 * (1 - offline / counted)) / 10 if counted else None


def month_of(account: Account, now: datetime, zone: tzinfo) -> Month | None:
    """Return the last 30 days of the account; None if it never logged in. One query."""
    return months_of([account], now, zone).get(account.pk)


def months_of(accounts: list[Account], now: datetime, zone: tzinfo) -> dict[int, Month]:
    """Return the last 30 days of each account that has logged in. One query."""
    known = [account for account in accounts if account.state != AccountState.NEW]
    if not known:
        return {}
    days, drops = Days(NUMBER, now, zone), defaultdict(list)
    recent = Drop.objects.filter(Q(ended_at=None) | Q(ended_at__gt=days.begin), account__in=known)
    for drop in recent.select_related("incident").order_by("-id")[: READ * len(known)]:
        drops[drop.account_id].append(drop)
    return {account.pk: _month(account, drops[account.pk], days, now) for account in known}


def _month(account: Account, drops: list[Drop], days: Days, now: datetime) -> Month:
    since = account.first_login_at or account.created_at
    # The drop of an account that is back stays open for some seconds.
    latest = account.state_since if account.state == AccountState.ONLINE else now
    gaps = [(drop.at, drop.ended_at or latest) for drop in drops]
    begins = [days.begin_of(place) for place in range(NUMBER)]
    rows = []
    for day, begin, end in zip(days.dates, begins, [*begins[1:], now], strict=True):
        counted = _overlap(begin, end, (since, now))
        offline = sum(_overlap(begin, end, gap) for gap in gaps)
        number = sum(begin <= drop.at < end for drop in drops)
        rows.append(Day(day, counted, min(offline, counted), number))
    return Month(rows, drops, max((_overlap(days.begin, now, gap) for gap in gaps), default=0))


def _overlap(begin: datetime, end: datetime, span: tuple[datetime, datetime]) -> float:
    return max(timedelta(0), min(end, span[1]) - max(begin, span[0])).total_seconds()
