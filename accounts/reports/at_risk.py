"""Accounts that may drop soon, by plain rules. Each has the first rule that applies to it."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import compress

from django.db.models import F, Q, QuerySet

from accounts.lib.lists.keyset_pagination import WithoutIndex, count_up_to
from accounts.models import Account, Drop
from accounts.models.drop import FIRST_NIGHT
from accounts.presence.offline import these
from accounts.reports.buckets import WholeSeconds, quarter_of
from accounts.reports.history import History
from accounts.states import AccountState

MONTH = timedelta(days=30)
OFTEN, COUNTED = 3, 1000
# Finished sessions of the whole company that count, and how few say nothing.
SESSIONS, FEWEST, SHARE = 1_000, 20, 0.95
FIRST_DAY, OFTEN_DROPPED, LONG = "first_day", "often", "long"


@dataclass(frozen=True, slots=True)
class Risk:
    """`rule`: one of the three names above. `number`: drops, or days online."""

    account: Account
    rule: str
    number: int = 0


def at_risk(accounts: QuerySet[Account], history: History, most: int) -> tuple[list[Risk], int]:
    """Return the first `most` accounts at risk among those that are online and kept online, and how many there are.

    Those that are online for long are counted up to COUNTED + 1.
    """
    now = history.now
    watched = accounts.kept().filter(state=AccountState.ONLINE, keep_online=True).order_by()
    is_first_day, longest = Q(first_login_at__gt=now - FIRST_NIGHT), longest_sessions()
    # The same accounts, for conditions that few of them meet: SQLite would read all that are online.
    tested = accounts.kept().alias(its_state=WithoutIndex("state"))
    tested = tested.filter(its_state=AccountState.ONLINE, keep_online=True).order_by()
    first_day = tested.filter(is_first_day).order_by("first_login_at").values_list("pk", flat=True)
    found = [(pk, FIRST_DAY, 0) for pk in first_day]
    often, drops = _often(tested.exclude(is_first_day), history)
    found += [(pk, OFTEN_DROPPED, drops[pk]) for pk in sorted(often, key=lambda pk: (-drops[pk], pk))]
    total = len(found)
    if longest is not None:
        long = watched.filter(state_since__lt=now - longest).exclude(is_first_day)
        also_often = sum(since < now - longest for since in often.values())
        total += count_up_to(long, COUNTED + also_often) - also_often
        first = long.order_by("state_since", "pk").values_list("pk", "state_since")[: most + also_often]
        found += [(pk, LONG, (now - since).days) for pk, since in first if pk not in often]
    rows = Account.objects.defer("note", "search_text").in_bulk([pk for pk, _rule, _number in found[:most]])
    return [Risk(rows[pk], rule, number) for pk, rule, number in found[:most] if pk in rows], total


def _often(watched: QuerySet[Account], history: History) -> tuple[dict[int, datetime], dict[int, int]]:
    """Return since when those of the accounts are online that dropped often, and the drops of each account that did."""
    accounts, quarters, _proxies = history.drops
    begin = quarter_of(history.now - MONTH)
    recent = Counter(compress(accounts, map(begin.__le__, quarters)))
    drops = {account: number for account, number in recent.items() if number >= OFTEN}
    since = dict(watched.filter(pk__in=these(list(drops))).values_list("pk", "state_since"))
    return since, drops


def longest_sessions() -> timedelta | None:
    """Return how long 95 % of the last finished sessions lasted at most; None after too few."""
    ended = Drop.objects.filter(online_since__isnull=False, online_since__lte=F("at")).order_by("-id")
    lengths = sorted(ended.values_list(WholeSeconds("online_since", "at"), flat=True)[:SESSIONS])
    return timedelta(seconds=lengths[int(SHARE * len(lengths))]) if len(lengths) >= FEWEST else None
