"""Whether today is normal: logins by outcome, success, time to scan, drops by proxy and by hour.

All are counted in `accounts.reports.history`, for the last 30 days of a time zone.
"""

from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import date, tzinfo
from functools import cached_property
from itertools import compress
from operator import and_

from django.db.models import Count, Q, QuerySet
from django.utils.translation import gettext as _

from accounts.models import Account
from accounts.proxies import OWN, proxy_name
from accounts.reports.buckets import Days
from accounts.reports.history import NO_PROXY, NOT_SCANNED, OPEN, OUTCOMES, History
from accounts.states import AccountState, AttemptState

MONTH, WEEK = 30, 7
# A proxy or an hour is named if it has this many times the drops of the others, and enough of them.
OUTLIER, ENOUGH = 2, 5


@dataclass(frozen=True, slots=True)
class Day:
    date: date
    succeeded: int
    other: int  # failed, declined, timed out; a login that a person cancelled says nothing

    @property
    def rate(self) -> float | None:
        return self.succeeded / (self.succeeded + self.other) if self.succeeded + self.other else None


@dataclass(frozen=True, slots=True)
class Scan:
    """Seconds from the code to the login: half of the scans took at most `p50`. None without scans.

    `date`: None for all of the last week.
    """

    date: date | None
    number: int
    p50: int | None
    p90: int | None


@dataclass(frozen=True, slots=True)
class Bar:
    """Drops of one proxy or hour. `times`: how many times as often as the others, if it stands out."""

    key: int | None
    name: str
    drops: int
    accounts: int = 0
    times: float | None = None


class Figures:
    """`accounts`: those that the reader may see, None for all."""

    def __init__(self, history: History, zone: tzinfo, accounts: QuerySet[Account] | None = None):
        self.history, self.accounts = history, accounts
        self.days = Days(MONTH, history.now, zone)

    @cached_property
    def _places(self) -> dict[int, int]:
        """Return which day each quarter of the month is in."""
        return {quarter: self.days.place_of(quarter) for quarter in self.days.quarters}

    @cached_property
    def _ids(self) -> set[int] | None:
        return None if self.accounts is None else set(self.accounts.order_by().values_list("pk", flat=True))

    def _of_reader(self, columns: tuple[array, ...]) -> list[list[int]]:
        """Return the columns but the first one, with the rows of the month and of the reader's accounts."""
        accounts, quarters, *_others = columns
        kept = map(self._places.__contains__, quarters)
        if self._ids is not None:
            kept = map(and_, kept, map(self._ids.__contains__, accounts))
        kept = bytes(kept)
        return [list(compress(column, kept)) for column in columns[1:]]

    # --- logins ---------------------------------------------------------------------------------------

    @cached_property
    def _logins(self) -> dict[tuple[int, str, int], int]:
        """Return the number of logins by day, outcome and seconds."""
        quarters, outcomes, seconds = self._of_reader(self.history.logins)
        counted = Counter(zip(map(self._places.__getitem__, quarters), outcomes, seconds, strict=True))
        return {(place, OUTCOMES[outcome], took): n for (place, outcome, took), n in counted.items()}

    def today(self) -> dict[str, int]:
        """Return {outcome: number} of the logins that began today; OPEN: those still in progress."""
        found = dict.fromkeys(OUTCOMES, 0)
        for (place, outcome, _seconds), number in self._logins.items():
            if place == MONTH - 1:
                found[outcome] += number
        return found

    def success(self) -> list[Day]:
        """Return the days, oldest first, with how many logins succeeded and how many did not."""
        found: Counter = Counter()
        for (place, outcome, _seconds), number in self._logins.items():
            if outcome not in (AttemptState.CANCELLED, OPEN):
                found[place, outcome == AttemptState.SUCCEEDED] += number
        return [Day(day, found[n, True], found[n, False]) for n, day in enumerate(self.days.dates)]

    def time_to_scan(self) -> tuple[list[Scan], Scan]:
        """Return the days with the seconds from a code to its login, by QR code; and the last week."""
        found: dict[int, Counter] = defaultdict(Counter)
        for (place, _outcome, seconds), number in self._logins.items():
            if seconds != NOT_SCANNED:
                found[place][seconds] += number
        week = sum((found[place] for place in range(MONTH - WEEK, MONTH)), Counter())
        return [_scan(day, found[place]) for place, day in enumerate(self.days.dates)], _scan(None, week)

    # --- drops ----------------------------------------------------------------------------------------

    @cached_property
    def _drops(self) -> list[list[int]]:
        """Return the quarters of the drops, and their proxies."""
        return self._of_reader(self.history.drops)

    def drops_by_proxy(self) -> list[Bar]:
        """Return the proxies with drops, the most first; one that drops far more often per account stands out."""
        counted = sorted(Counter(self._drops[1]).items(), key=_most_first)
        drops = {None if proxy == NO_PROXY else proxy: number for proxy, number in counted}
        have = self._accounts_by_proxy()
        bars = []
        for proxy, number in drops.items():
            rest, others = sum(drops.values()) - number, sum(have.values()) - have.get(proxy, 0)
            times = (number / max(1, have.get(proxy, 0))) / (rest / others) if rest and others else None
            stands_out = number >= ENOUGH and times is not None and times >= OUTLIER
            name = _("No proxy") if proxy is None else proxy_name(proxy)
            bars.append(Bar(proxy, name, number, have.get(proxy, 0), times if stands_out else None))
        return bars

    def _accounts_by_proxy(self) -> dict[int | None, int]:
        """Return how many accounts use each proxy now; those with an own one under OWN, as their drops are."""
        rows = (Account.objects.all() if self.accounts is None else self.accounts).order_by()
        # All are counted in an index; each kind that does not belong there is few, and found by an index of its own.
        counts = Counter(dict(rows.values_list("proxy").annotate(number=Count("pk"))))
        archived, every = Q(state=AccountState.ARCHIVED), Account.objects
        for gone in (every.filter(archived), every.filter(merged_into__isnull=False).exclude(archived)):
            counts -= self._proxies(gone)
        own = self._proxies(every.kept().filter(own_proxy__isnull=False).order_by("label_key"))
        return {**(counts - own), **({OWN: own.total()} if own else {})}

    def _proxies(self, accounts: QuerySet[Account]) -> Counter[int | None]:
        found = accounts.values_list("pk", "proxy")
        return Counter(proxy for pk, proxy in found if self._ids is None or pk in self._ids)

    def drops_by_hour(self) -> list[Bar]:
        """Return the 24 hours of the day; the one with the most drops stands out if it has far more than the others."""
        found: Counter = Counter()
        for quarter, number in Counter(self._drops[0]).items():
            found[self.days.hour_of(quarter)] += number
        [(most, number)] = found.most_common(1) or [(0, 0)]
        others = (found.total() - number) / 23
        times = number / others if others else None
        out = most if number >= ENOUGH and (times is None or times >= OUTLIER) else None
        return [
            Bar(hour, f"{hour:02}:00", found[hour], times=(times or number) if hour == out else None)
            for hour in range(24)
        ]


def rate_of(days: list[Day]) -> float | None:
    """Return the share of logins that succeeded in all these days, None without logins."""
    return Day(days[-1].date, sum(day.succeeded for day in days), sum(day.other for day in days)).rate


def _most_first(counted: tuple[int, int]) -> tuple[int, int]:
    return -counted[1], counted[0]


def _scan(day: date | None, seconds: Counter) -> Scan:
    return Scan(day, seconds.total(), quantile(seconds, 0.5), quantile(seconds, 0.9))


def quantile(counted: Counter, share: float) -> int | None:
    """Return the smallest value that at least this share of the counted values does not exceed."""
    left = share * counted.total()
    for value in sorted(counted):
        left -= counted[value]
        if left <= 1e-9:
            return value
    return None
