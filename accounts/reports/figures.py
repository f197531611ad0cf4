"""Whether today is normal: logins by outcome, success, time to scan, drops by proxy and by hour.

Each report reads rows of the last 30 days along an index of their time. `accounts` are those that the reader may see,
None for all: a filter by account is then spared.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import date, datetime

from django.db.models import Count, Q, QuerySet
from django.utils.translation import gettext as _

from accounts.models import Account, Drop, LoginAttempt
from accounts.models.account_queries import of_accounts
from accounts.proxies import OWN, proxy_name
from accounts.reasons import Reason
from accounts.reports.buckets import Days, Quarter, WholeSeconds
from accounts.states import AccountState, AttemptState, Method

MONTH, WEEK = 30, 7
# A proxy or an hour is named if it has this many times the drops of the others, and enough of them.
OUTLIER, ENOUGH = 2, 5
A = AttemptState
DECLINED, OPEN = "declined", "open"
OUTCOMES = (A.SUCCEEDED.value, A.EXPIRED.value, DECLINED, A.FAILED.value, A.CANCELLED.value, OPEN)


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
    def __init__(self, now: datetime, zone, accounts: QuerySet[Account] | None = None):
        self.now, self.accounts = now, accounts
        self.days = Days(MONTH, now, zone)

    def _of_reader(self, rows: QuerySet) -> QuerySet:
        return rows if self.accounts is None else of_accounts(rows, self.accounts)

    def _attempts(self, since: datetime) -> QuerySet:
        return self._of_reader(LoginAttempt.objects.filter(created_at__gte=since)).order_by()

    # --- logins ---------------------------------------------------------------------------------------

    def today(self) -> dict[str, int]:
        """Return {outcome: number} of the logins that began today; OPEN: those still in progress."""
        found: Counter = Counter()
        # Grouped here: SQLite would group along the index of the states, and read the rows of all days.
        rows = Counter(self._attempts(self.days.begin_of(-1)).values_list("state", "reason"))
        for (state, reason), number in rows.items():
            if state in (A.SUCCEEDED, A.EXPIRED, A.CANCELLED):
                found[state] += number
            elif state == A.FAILED:
                found[DECLINED if reason == Reason.DECLINED else A.FAILED] += number
            else:
                found[OPEN] += number
        return {outcome: found[outcome] for outcome in OUTCOMES}

    def success(self) -> list[Day]:
        """Return the days, oldest first, with how many logins succeeded and how many did not."""
        counted = self._attempts(self.days.begin).filter(state__in=(A.SUCCEEDED, A.FAILED, A.EXPIRED))
        rows = counted.values_list(Quarter("created_at"), "state").annotate(number=Count("pk"))
        found: Counter = Counter()
        for quarter, state, number in rows:
            found[self.days.place_of(quarter), state == A.SUCCEEDED] += number
        return [Day(day, found[n, True], found[n, False]) for n, day in enumerate(self.days.dates)]

    def time_to_scan(self) -> tuple[list[Scan], Scan]:
        """Return the days with the seconds from a code to its login, by QR code; and the last week."""
        scanned = self._attempts(self.days.begin).filter(
            state=A.SUCCEEDED, method=Method.QR, qr_shown_at__isnull=False
        )
        rows = scanned.values_list(Quarter("created_at"), WholeSeconds("qr_shown_at", "ended_at"))
        found: dict[int, Counter] = defaultdict(Counter)
        for quarter, seconds, number in rows.annotate(number=Count("pk")):
            found[self.days.place_of(quarter)][max(0, seconds)] += number
        week = sum((found[place] for place in range(MONTH - WEEK, MONTH)), Counter())
        return [_scan(day, found[place]) for place, day in enumerate(self.days.dates)], _scan(None, week)

    # --- drops ----------------------------------------------------------------------------------------

    def _drops(self) -> QuerySet:
        return self._of_reader(Drop.objects.filter(at__gte=self.days.begin)).order_by()

    def drops_by_proxy(self) -> list[Bar]:
        """Return the proxies with drops, the most first; one that drops far more often per account stands out."""
        rows = self._drops().values_list("proxy").annotate(number=Count("pk")).order_by("-number", "proxy")
        drops, have = dict(rows), self._accounts_by_proxy()
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
        archived, merged = Q(state=AccountState.ARCHIVED), Q(merged_into__isnull=False)
        for gone in (rows.filter(archived), rows.filter(merged).exclude(archived)):
            counts -= Counter(gone.values_list("proxy", flat=True))
        own = rows.kept().filter(own_proxy__isnull=False).order_by("label_key")
        mine = Counter(own.values_list("proxy", flat=True))
        return {**(counts - mine), **({OWN: mine.total()} if mine else {})}

    def drops_by_hour(self) -> list[Bar]:
        """Return the 24 hours of the day; the one with the most drops stands out if it has far more than the others."""
        rows = self._drops().values_list(Quarter("at")).annotate(number=Count("pk"))
        found: Counter = Counter()
        for quarter, number in rows:
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
