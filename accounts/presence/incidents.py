"""Incidents: many drops at once, grouped by what they share and notified as one.

A first-day drop is expected and never belongs to an incident.
"""

from collections import Counter
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from accounts.lib import db_clock
from accounts.lib.rows import in_batches
from accounts.models import AccountEvent, Drop, Incident, OutboxCursor
from accounts.proxies import listed
from accounts.states import DropKind

MANY = 10
WINDOW = timedelta(minutes=10)
# If this share of the drops has the same proxy or region, the incident is attributed to it.
MOST = 0.8
WRITTEN_AT_ONCE = 500


def alone_at_a_time(now: datetime) -> OutboxCursor:
    """Lock the cursor: until the transaction ends no other process gathers incidents or reads event rows.

    Creates the cursor on first use. It then starts with the events of the last hour.
    """
    if not OutboxCursor.objects.filter(pk=OutboxCursor.ONLY).exists():
        older = AccountEvent.objects.filter(at__lte=now - timedelta(hours=1)).order_by("-at", "-id")
        floor = older.values_list("pk", flat=True).first() or 0
        begun = {"floor": floor, "newest": floor, "moved_at": now}
        OutboxCursor.objects.get_or_create(pk=OutboxCursor.ONLY, defaults=begun)
    return OutboxCursor.objects.select_for_update().get(pk=OutboxCursor.ONLY)


def gather(now: datetime | None = None) -> list[Incident]:
    """Group open drops that came together into incidents, and end incidents whose drops are over.

    Idempotent. Returns the incidents that ended and those that began.
    """
    now = now or db_clock.now()
    with transaction.atomic():
        alone_at_a_time(now)
        return [*_ended(now), *_begun(now)]


def wanted() -> Q:
    """Return the filter for drops of accounts that are kept online and not merged."""
    return Q(account__keep_online=True, account__merged_into=None)


def _ended(now: datetime) -> list[Incident]:
    """End incidents without an open drop. Runs first, so that a later drop starts a new incident."""
    left = Drop.objects.open().filter(wanted(), incident=OuterRef("pk"))
    over = list(Incident.objects.filter(~Exists(left), ended_at=None))
    for incident in over:
        incident.ended_at = now
    Incident.objects.bulk_update(over, ["ended_at"])
    return over


def _begun(now: datetime) -> list[Incident]:
    fresh = Drop.objects.open().filter(wanted(), incident=None, at__gt=now - WINDOW)
    # Skip drops that another process writes now, to recover or end them: the next call includes them.
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
    """Add drops to the open incidents that they belong to, and return the others.

    A drop belongs to an open incident if it follows that incident's last drop within WINDOW and shares what
    its drops share.
    """
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
        return "" if listed(drop.proxy) is None else str(drop.proxy)  # own proxies may all differ
    return drop.region


def _what_most_share(drops: list[Drop]) -> tuple[str, str]:
    """Return ("proxy", code), ("region", name), or ("", "") if the drops have only the time in common."""
    for shares in ("proxy", "region"):
        values = Counter(value for drop in drops if (value := _value(drop, shares)))
        if values:
            value, number = values.most_common(1)[0]
            if number >= MANY and number >= MOST * len(drops):
                return shares, value
    return "", ""
