"""Many drops at once are one incident: gathered by what they share, and told once.

A first-night drop is expected, and in no incident.
"""

from collections import Counter
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from accounts.lib import db_clock
from accounts.lib.chunks import in_batches
from accounts.models import AccountEvent, Drop, Incident, OutboxCursor
from accounts.states import DropKind

MANY = 10
WINDOW = timedelta(minutes=10)
# That many of the drops share a line, or a region: it is what the incident is about.
MOST = 0.8
WRITTEN_AT_ONCE = 500


def alone_at_a_time(now: datetime) -> OutboxCursor:
    """Until the end of the transaction nobody else gathers incidents or reads event rows.

    OutboxCursor begins with what happened in the last hour.
    """
    if not OutboxCursor.objects.filter(pk=OutboxCursor.ONLY).exists():
        older = AccountEvent.objects.filter(at__lte=now - timedelta(hours=1)).order_by("-at", "-id")
        floor = older.values_list("pk", flat=True).first() or 0
        begun = {"floor": floor, "newest": floor, "moved_at": now}
        OutboxCursor.objects.get_or_create(pk=OutboxCursor.ONLY, defaults=begun)
    return OutboxCursor.objects.select_for_update().get(pk=OutboxCursor.ONLY)


def gather(now: datetime | None = None) -> list[Incident]:
    """Put open drops that came together into incidents, and end incidents whose drops are over.

    Safe to repeat. The incidents that began, and those that ended.
    """
    now = now or db_clock.now()
    with transaction.atomic():
        alone_at_a_time(now)
        return [*_ended(now), *_begun(now)]


def wanted() -> Q:
    """Of drops: those of accounts that somebody wants online."""
    return Q(account__keep_online=True, account__merged_into=None)


def _ended(now: datetime) -> list[Incident]:
    """First, so that what drops after everybody was back is another incident."""
    left = Drop.objects.open().filter(wanted(), incident=OuterRef("pk"))
    over = list(Incident.objects.filter(~Exists(left), ended_at=None))
    for incident in over:
        incident.ended_at = now
    Incident.objects.bulk_update(over, ["ended_at"])
    return over


def _begun(now: datetime) -> list[Incident]:
    fresh = Drop.objects.open().filter(wanted(), incident=None, at__gt=now - WINDOW)
    # Who writes a drop just now, to recover it or to end it, is not waited for: it is one of them a moment later.
    free = fresh.exclude(kind=DropKind.FIRST_NIGHT).select_for_update(
        of=("self",), skip_locked=True, no_key=True
    )
    drops = list(free.only("at", "proxy", "region", "incident").order_by("at", "id"))
    drops = _without_those_that_join(drops, now)
    begun = []
    while len(drops) >= MANY:
        shares, shared = _what_most_share(drops)
        those = [drop for drop in drops if not shares or _value(drop, shares) == shared]
        incident = Incident.objects.create(
            at=those[0].at, last_drop_at=those[-1].at, shares=shares, shared=shared
        )
        _put(those, incident)
        begun.append(incident)
        drops = [drop for drop in drops if drop.incident_id is None]
    return begun


def _without_those_that_join(drops: list[Drop], now: datetime) -> list[Drop]:
    """A drop soon after those of an open incident is one of them, if it shares what they share."""
    if not drops:
        return []
    for incident in Incident.objects.filter(ended_at=None, last_drop_at__gt=now - 2 * WINDOW).order_by("pk"):
        those = []
        for drop in drops:
            is_one = not incident.shares or _value(drop, incident.shares) == incident.shared
            if drop.incident_id is None and is_one and drop.at <= incident.last_drop_at + WINDOW:
                those.append(drop)
                incident.last_drop_at = max(incident.last_drop_at, drop.at)
        if those:
            incident.save(update_fields=["last_drop_at"])
            _put(those, incident)
    return [drop for drop in drops if drop.incident_id is None]


def _put(drops: list[Drop], incident: Incident) -> None:
    for drop in drops:
        drop.incident = incident
    for ids in in_batches([drop.pk for drop in drops], WRITTEN_AT_ONCE):
        Drop.objects.filter(pk__in=ids).update(incident=incident)


def _value(drop: Drop, shares: str) -> str:
    if shares == "proxy":
        return "" if drop.proxy is None else str(drop.proxy)
    return drop.region


def _what_most_share(drops: list[Drop]) -> tuple[str, str]:
    """("proxy", its code), ("region", its name), or ("", "") where it is only the time."""
    for shares in ("proxy", "region"):
        values = Counter(value for drop in drops if (value := _value(drop, shares)))
        if values:
            value, number = values.most_common(1)[0]
            if number >= MANY and number >= MOST * len(drops):
                return shares, value
    return "", ""
