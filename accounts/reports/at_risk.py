"""Accounts that may drop soon, by plain rules. Each has the first rule that applies to it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, F, Q, QuerySet

from accounts.models import Account, Drop
from accounts.models.drop import FIRST_NIGHT
from accounts.states import AccountState

MONTH = timedelta(days=30)
OFTEN = 3
# Finished sessions of the whole company that count, and how few say nothing.
SESSIONS, FEWEST, SHARE = 1_000, 20, 0.95
FIRST_DAY, OFTEN_DROPPED, LONG = "first_day", "often", "long"


@dataclass(frozen=True, slots=True)
class Risk:
    """`rule`: one of the three names above. `number`: drops, or days online."""

    account: Account
    rule: str
    number: int = 0


def at_risk(accounts: QuerySet[Account], now: datetime, most: int) -> tuple[list[Risk], int]:
    """Return the first `most` accounts at risk among those that are online and kept online, and how many there are."""
    watched = accounts.kept().filter(state=AccountState.ONLINE, keep_online=True).order_by()
    is_first_day, drops = Q(first_login_at__gt=now - FIRST_NIGHT), _often(now)
    first_day = watched.filter(is_first_day)
    often = watched.exclude(is_first_day).filter(pk__in=drops.values("account"))
    found = [(pk, FIRST_DAY, 0) for pk in first_day.order_by("first_login_at").values_list("pk", flat=True)]
    numbers, ids = dict(drops), list(often.values_list("pk", flat=True))
    found += [(pk, OFTEN_DROPPED, numbers[pk]) for pk in sorted(ids, key=lambda pk: (-numbers[pk], pk))]
    total, longest = len(found), longest_sessions()
    if longest is not None:
        long = watched.filter(state_since__lt=now - longest).exclude(is_first_day)
        long = long.exclude(pk__in=drops.values("account"))
        total += long.count()
        first = long.order_by("state_since", "pk").values_list("pk", "state_since")[:most]
        found += [(pk, LONG, (now - since).days) for pk, since in first]
    rows = Account.objects.defer("note", "search_text").in_bulk([pk for pk, _rule, _number in found[:most]])
    return [Risk(rows[pk], rule, number) for pk, rule, number in found[:most] if pk in rows], total


def _often(now: datetime) -> QuerySet:
    """Return (account, drops) of the accounts that dropped often."""
    recent = Drop.objects.filter(at__gt=now - MONTH).order_by().values_list("account")
    return recent.annotate(number=Count("pk")).filter(number__gte=OFTEN)


def longest_sessions() -> timedelta | None:
    """Return how long 95 % of the last finished sessions lasted at most; None after too few."""
    ended = Drop.objects.filter(online_since__isnull=False, online_since__lte=F("at")).order_by("-id")
    lengths = sorted(at - since for at, since in ended.values_list("at", "online_since")[:SESSIONS])
    return lengths[int(SHARE * len(lengths))] if len(lengths) >= FEWEST else None
