"""The logins and the drops of the last 31 days as columns of numbers, for reports that count all of them.

To read 50,000 rows takes half a second. Rows of ended days do not change, so each day of UTC is kept as one row
(`ReportDay`): its accounts, quarters of an hour and so on. Whose accounts are counted, and where a day begins, is the
reader's, so it is decided when a report is made.
"""

from array import array
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from itertools import chain

from django.db import DatabaseError, transaction
from django.db.models import Expression, Model, QuerySet

from accounts.models import Drop, LoginAttempt, ReportDay
from accounts.reasons import Reason
from accounts.reports.buckets import Quarter, WholeSeconds
from accounts.states import AttemptState, Method

DAY, KEPT = timedelta(days=1), timedelta(days=31)
# Longer than any transaction takes: after it a day has all its rows.
SETTLED = timedelta(hours=1)
A = AttemptState
DECLINED, OPEN = "declined", "open"
# Their places are kept in rows: append only.
OUTCOMES = (A.SUCCEEDED.value, A.EXPIRED.value, DECLINED, A.FAILED.value, A.CANCELLED.value, OPEN)
NOT_SCANNED = NO_PROXY = -1


@dataclass(frozen=True, slots=True)
class Kind:
    """`columns` of a row become `numbers`, which follow its account and its quarter."""

    name: str
    table: type[Model]
    time: str
    columns: tuple[str | Expression, ...]
    numbers: Callable[..., tuple[int, ...]]
    width: int

    def between(self, begin: date, end: date | None) -> QuerySet:
        """Return the rows of the days from `begin` to before `end`; None for all since then."""
        rows = self.table.objects.order_by().filter((f"{self.time}__gte", _midnight(begin)))
        return rows if end is None else rows.filter((f"{self.time}__lt", _midnight(end)))

    def read(self, begin: date, end: date | None) -> array:
        rows = self.between(begin, end).values_list("account", Quarter(self.time), *self.columns)
        numbers = ((account, quarter, *self.numbers(*row)) for account, quarter, *row in rows)
        return array("i", chain.from_iterable(numbers))

    def may_change(self, numbers: array) -> bool:
        """Return whether a login of a day is still in progress."""
        return self is LOGINS and OUTCOMES.index(OPEN) in numbers[2 :: self.width]


def _login(state: str, reason: str, method: str, seconds: int | None) -> tuple[int, int]:
    outcome = DECLINED if state == A.FAILED and reason == Reason.DECLINED else state
    scanned = state == A.SUCCEEDED and method == Method.QR and seconds is not None
    place = OUTCOMES.index(outcome if outcome in OUTCOMES else OPEN)
    return place, max(0, seconds) if scanned else NOT_SCANNED


LOGINS = Kind(
    "logins",
    LoginAttempt,
    "created_at",
    ("state", "reason", "method", WholeSeconds("qr_shown_at", "ended_at")),
    _login,
    width=4,
)
DROPS = Kind("drops", Drop, "at", ("proxy",), lambda proxy: (NO_PROXY if proxy is None else proxy,), width=3)


class History:
    """The columns, each read when it is used."""

    def __init__(self, now: datetime):
        self.now = now

    @cached_property
    def logins(self) -> tuple[array, ...]:
        """Return accounts, quarters, places in OUTCOMES, and seconds from the QR code to the login."""
        return _columns(LOGINS, self.now)

    @cached_property
    def drops(self) -> tuple[array, ...]:
        """Return accounts, quarters and proxies."""
        return _columns(DROPS, self.now)


def _columns(kind: Kind, now: datetime) -> tuple[array, ...]:
    first, live = (now - KEPT).astimezone(UTC).date(), (now - SETTLED).astimezone(UTC).date()
    numbers = kind.read(live, None)
    for day in _ended(kind, [first + n * DAY for n in range((live - first).days)]):
        numbers.extend(day)
    return tuple(numbers[n :: kind.width] for n in range(kind.width))


def _ended(kind: Kind, days: list[date]) -> Iterable[array]:
    """Return the numbers of these days. All are read again if rows were deleted, or came too late."""
    kept = ReportDay.objects.filter(kind=kind.name, day__in=days).values_list("day", "numbers")
    found = {day: array("i", bytes(numbers)) for day, numbers in kept}
    made = {day: kind.read(day, day + DAY) for day in days if day not in found}
    found |= made
    if sum(map(len, found.values())) != kind.width * kind.between(days[0], days[-1] + DAY).count():
        found = made = {day: kind.read(day, day + DAY) for day in days}
    if made:
        _keep(kind, days[0], made)
    return found.values()


def _keep(kind: Kind, first: date, made: dict[date, array]) -> None:
    rows = [
        ReportDay(kind=kind.name, day=day, numbers=numbers.tobytes())
        for day, numbers in made.items()
        if not kind.may_change(numbers)
    ]
    with suppress(DatabaseError), transaction.atomic():  # it may take no rows now, as with a full disk
        ReportDay.objects.filter(kind=kind.name, day__lt=first).delete()
        ReportDay.objects.bulk_create(
            rows, update_conflicts=True, unique_fields=["kind", "day"], update_fields=["numbers"]
        )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)
