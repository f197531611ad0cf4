"""Transactional outbox: turns event rows, incidents and alarms into notifications.

Each notification gets one delivery for every channel with a matching rule. A notification's key names its
cause, so reading the same rows again adds nothing.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import transaction
from django.db.models import Exists, Max, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from accounts.lib import db_clock
from accounts.lib.rows import in_batches
from accounts.models import (
    AccountEvent,
    Channel,
    Delivery,
    Drop,
    Incident,
    Notification,
    OutboxCursor,
    Presence,
    Rule,
    UpstreamAccess,
)
from accounts.presence import incidents
from accounts.states import EventType, NotificationKind
from accounts.upstream import developer_account, token_store
from accounts.upstream.developer_account import DeveloperAccount

# IDs are not committed in order: rows are read again for as long as a transaction may take.
COMMIT = timedelta(seconds=60)
# How long after an end its notification may still be created, if a channel was notified of the start.
LATE = timedelta(minutes=10)
AT_ONCE = 500
READ = (EventType.ACCOUNT_OFFLINE, EventType.TO_SCAN, EventType.ACCOUNT_ONLINE)
KINDS = {EventType.ACCOUNT_OFFLINE: NotificationKind.OFFLINE, EventType.TO_SCAN: NotificationKind.TO_SCAN}
OF_ACCOUNT = (NotificationKind.OFFLINE, NotificationKind.TO_SCAN)
REFUSED, UNKNOWN = "refused:", "unknown:"
SEATS, ENDS = "seats:", "ends:"


class Event(NamedTuple):
    pk: int
    account: int
    team: int | None
    happened: str
    detail: str
    at: datetime


class Found(NamedTuple):
    """A notification to write, the team of its account, and the notifications whose end it reports."""

    notification: Notification
    team: int | None = None
    ends: tuple[int, ...] = ()


def due(now: datetime) -> Iterator[QuerySet]:
    """Yield rows without which `read` has nothing to do, but for warnings about the developer account."""
    floor = Coalesce(Subquery(OutboxCursor.objects.values("floor")[:1]), 0)  # none before the first read
    yield AccountEvent.objects.filter(pk__gt=floor)
    yield Incident.objects.filter(ended_at=None)
    yield UpstreamAccess.objects.filter(refused_at__isnull=False)
    yield Presence.objects.exclude(unknown_since=None)
    ended_elsewhere = (NotificationKind.INCIDENT, NotificationKind.UPSTREAM)
    yield Notification.objects.filter(kind__in=ended_elsewhere, ended_at=None)
    yield Notification.objects.filter(ended_by=None, closed_at__gt=now - LATE)


def read(now: datetime) -> None:
    """Write the notifications and deliveries of everything since the last call, in one transaction."""
    with transaction.atomic():
        reading = incidents.alone_at_a_time(now)
        incidents.gather(now)
        rules = _rules()
        events = _events(reading, now)
        found = [*_of_incidents(), *_of_upstream(now), *_of_limits(now), *_of_events(events)]
        _write(found, rules, now)
        _close_accounts(events, now)
        _close_others(now)
        _write(list(_overs(now)), rules, now)


# --- event rows ------------------------------------------------------------------------------------------


def _events(reading: OutboxCursor, now: datetime) -> list[Event]:
    """Return the event rows above the floor. Raises the floor past rows that are older than COMMIT."""
    newest = AccountEvent.objects.aggregate(newest=Max("pk"))["newest"] or 0
    if newest < reading.floor:  # the database was replaced
        reading.floor = reading.newest = newest
    rows = AccountEvent.objects.filter(pk__gt=reading.floor, pk__lte=newest, happened__in=READ)
    names = ("pk", "account_id", "account__team_id", "happened", "detail", "at")
    events = [Event(*row) for row in rows.order_by("pk").values_list(*names)]
    moves = (reading.floor, reading.newest) != (reading.newest, newest)
    if moves and (now - reading.moved_at > COMMIT or now < reading.moved_at):
        reading.floor, reading.newest, reading.moved_at = reading.newest, newest, now
        reading.save()
    return events


def _of_events(events: list[Event]) -> Iterator[Found]:
    """Yield notifications of new event rows. Skips drops in an incident, which has its own notification."""
    wanted = {f"{KINDS[event.happened]}:{event.pk}": event for event in events if event.happened in KINDS}
    for keys in in_batches(wanted, AT_ONCE):
        known = _known(keys)
        new = {key: wanted[key] for key in keys if key not in known}
        drops = _drops(list(new.values()))
        for key, event in new.items():
            drop, incident = drops.get(event.pk, (None, None))
            if incident is not None:
                continue
            yield Found(
                Notification(
                    key=key,
                    kind=KINDS[event.happened],
                    account_id=event.account,
                    drop_id=drop,
                    facts={"because": event.detail} if event.happened == EventType.TO_SCAN else {},
                    at=event.at,
                ),
                event.team,
            )


def _known(keys: Iterable[str]) -> set[str]:
    return set(Notification.objects.filter(key__in=keys).values_list("key", flat=True))


def _drops(events: list[Event]) -> dict[int, tuple[int, int | None]]:
    """Return {event ID: (drop ID, incident ID)}.

    The drop is the account's newest one that was open at the time of the event.
    """
    of_account: dict[int, list[tuple]] = {}
    if not events:
        return {}
    then = Q(ended_at=None) | Q(ended_at__gte=min(event.at for event in events))
    rows = Drop.objects.filter(then, account__in={event.account for event in events}).order_by("-id")
    names = ("account_id", "pk", "incident_id", "at", "ended_at")
    for account, *drop in rows.values_list(*names):
        of_account.setdefault(account, []).append(tuple(drop))
    found = {}
    for event in events:
        for pk, incident, at, ended_at in of_account.get(event.account, []):
            if at <= event.at and (ended_at is None or ended_at >= event.at):
                found[event.pk] = (pk, incident)
                break
    return found


# --- causes without an event row -------------------------------------------------------------------------


def _of_incidents() -> Iterator[Found]:
    announced = Notification.objects.filter(kind=NotificationKind.INCIDENT, incident=OuterRef("pk"))
    for incident in Incident.objects.filter(~Exists(announced), ended_at=None):
        yield Found(
            Notification(
                key=f"incident:{incident.pk}",
                kind=NotificationKind.INCIDENT,
                incident=incident,
                at=incident.at,
            )
        )


def _of_upstream(now: datetime) -> Iterator[Found]:
    """Yield one notification each time WKTeam refuses access, or stops giving a usable presence answer."""
    alarms = {notification.key.partition(":")[0] + ":" for notification in _open_alarms()}
    access = token_store.refused()
    if access is not None:
        if REFUSED not in alarms:
            facts = {"why": access.refused_why, "text": access.refused_text}
            yield _alarm(REFUSED, access.refused_at, facts)
        return
    presence = Presence.objects.exclude(unknown_since=None).first()
    if presence is not None and UNKNOWN not in alarms:
        yield _alarm(UNKNOWN, presence.unknown_since, {"why": presence.unknown_why, "presence": True})


def _alarm(prefix: str, at: datetime, facts: dict) -> Found:
    return Found(
        Notification(key=f"{prefix}{at.isoformat()}", kind=NotificationKind.UPSTREAM, facts=facts, at=at)
    )


def _of_limits(now: datetime) -> Iterator[Found]:
    """Yield a notification for each warning before the developer account ends, and at most one a day for full seats.

    Marks those that are over, so that they are not sent any more. Their end is no notification.
    """
    wanted = _limits(developer_account.known(), now)
    full = any(key.startswith(SEATS) for key in wanted)
    last = list(Notification.objects.filter(kind=NotificationKind.LIMITS, ended_at=None))
    over = [one.pk for one in last if not (full if one.key.startswith(SEATS) else one.key in wanted)]
    ended = Notification.objects.filter(pk__in=over)
    ended.update(ended_at=now)
    # Seats that were full too shortly to be told do not use up the day's message.
    ended.filter(key__startswith=SEATS).exclude(deliveries__in=Delivery.objects.sent()).delete()
    known = _known(wanted)
    for key, facts in wanted.items():
        goes_on = key.startswith(SEATS) and any(one.key.startswith(SEATS) for one in last)
        if key not in known and not goes_on:
            yield Found(Notification(key=key, kind=NotificationKind.LIMITS, facts=facts, at=now))


def _limits(account: DeveloperAccount | None, now: datetime) -> dict[str, dict]:
    """Return {key: facts} of what people should know now about the developer account."""
    found = {}
    if account is not None and account.warning:
        ends_at = account.ends_at.isoformat()
        found[f"{ENDS}{ends_at}:{account.warning}"] = {"ends_at": ends_at}
    if account is not None and account.is_full:
        found[f"{SEATS}{now.date()}"] = {"seats": account.seats}
    return found


def _open_alarms() -> list[Notification]:
    alarms = Notification.objects.filter(kind=NotificationKind.UPSTREAM, account=None, ended_at=None)
    return [notification for notification in alarms if not notification.facts.get("over")]


# --- ends ------------------------------------------------------------------------------------------------


def _close_accounts(events: list[Event], now: datetime) -> None:
    """End the notifications of accounts that came online."""
    online = {event.account: event.at for event in events if event.happened == EventType.ACCOUNT_ONLINE}
    for accounts in in_batches(online, AT_ONCE):
        rows = Notification.objects.filter(account__in=accounts, kind__in=OF_ACCOUNT, ended_at=None)
        over = [notification for notification in rows if notification.at <= online[notification.account_id]]
        for notification in over:
            notification.ended_at, notification.closed_at = online[notification.account_id], now
        Notification.objects.bulk_update(over, ["ended_at", "closed_at"], batch_size=AT_ONCE)


def _close_others(now: datetime) -> None:
    rows = Notification.objects.filter(
        kind=NotificationKind.INCIDENT, ended_at=None, incident__ended_at__isnull=False
    )
    over = list(rows.select_related("incident"))
    for notification in over:
        notification.ended_at = notification.incident.ended_at
    refused = token_store.refused() is not None
    unknown = Presence.objects.exclude(unknown_since=None).exists()
    for notification in _open_alarms():
        goes_on = refused or (unknown and notification.key.startswith(UNKNOWN))
        if not goes_on:
            notification.ended_at = now
            over.append(notification)
    for notification in over:
        notification.closed_at = now
    Notification.objects.bulk_update(over, ["ended_at", "closed_at"])


def _overs(now: datetime) -> Iterator[Found]:
    """Yield notifications of ends, where a channel was notified of the start."""
    sent = Delivery.objects.sent().filter(notification=OuterRef("pk"))
    closed = Notification.objects.filter(ended_by=None, closed_at__gt=now - LATE)
    groups: dict[str, list[Notification]] = {}
    for notification in closed.filter(Exists(sent)).select_related("account").order_by("pk"):
        of = (
            f"back:{notification.account_id}"
            if notification.kind in OF_ACCOUNT
            else f"over:{notification.pk}"
        )
        groups.setdefault(f"{of}:{notification.ended_at.isoformat()}", []).append(notification)
    known = {key for keys in in_batches(groups, AT_ONCE) for key in _known(keys)}
    for key, notifications in groups.items():
        if key in known:
            continue
        first = notifications[0]
        kind, facts = NotificationKind.BACK, {}
        if first.kind == NotificationKind.INCIDENT:
            kind = NotificationKind.INCIDENT_OVER
        elif first.kind == NotificationKind.UPSTREAM:
            kind, facts = (
                NotificationKind.UPSTREAM,
                {**first.facts, "over": True, "since": first.at.isoformat()},
            )
        notification = Notification(
            key=key,
            kind=kind,
            account_id=first.account_id,
            drop_id=first.drop_id,
            incident_id=first.incident_id,
            facts=facts,
            at=first.ended_at,
            ended_at=first.ended_at if facts else None,
        )
        team = first.account.team_id if first.account is not None else None
        yield Found(notification, team, tuple(one.pk for one in notifications))


# --- notifications that other modules request ------------------------------------------------------------


def plan_has_run(run_id: int, name: str, counts: dict[str, int], at: datetime | None = None) -> None:
    """Notify about a plan run, at most once per run.

    `counts`: any of due, online, to_scan, failed, left.
    """
    _notify(
        Notification(
            key=f"plan:{run_id}",
            kind=NotificationKind.PLAN,
            facts={"name": name, "counts": counts},
            at=at or db_clock.now(),
        )
    )


def channel_switched_off(channel: Channel, why: str, now: datetime) -> None:
    """Notify the other channels that this channel is disabled."""
    key = f"channel:{channel.pk}:{now.isoformat()}"
    facts = {"name": channel.name, "why": why}
    _notify(Notification(key=key, kind=NotificationKind.CHANNEL, facts=facts, at=now))


def send_to(channel: Channel, notification: Notification) -> None:
    """Send a notification to one channel now, whatever its rules."""
    notification.save()
    Delivery.objects.create(
        channel=channel, notification=notification, created_at=notification.at, next_at=notification.at
    )


def _notify(notification: Notification) -> None:
    with transaction.atomic():
        incidents.alone_at_a_time(notification.at)
        if not Notification.objects.filter(key=notification.key).exists():
            _write([Found(notification)], _rules(), notification.at)


# --- writing ---------------------------------------------------------------------------------------------


def _rules() -> list[tuple[Rule, set[int]]]:
    """Return the rules of enabled channels, each with the IDs of its teams."""
    rules = Rule.objects.filter(channel__active=True).prefetch_related("teams").order_by("pk")
    return [(rule, {team.pk for team in rule.teams.all()}) for rule in rules]


def _write(found: list[Found], rules: list[tuple[Rule, set[int]]], now: datetime) -> None:
    """Save the notifications that at least one rule matches, each with its deliveries."""
    taken = [(one, ways) for one in found if (ways := _ways(one, rules))]
    Notification.objects.bulk_create([one.notification for one, _by in taken], batch_size=AT_ONCE)
    Delivery.objects.bulk_create(
        [
            Delivery(
                channel_id=channel,
                notification=one.notification,
                rule=rule,
                created_at=now,
                next_at=due_at,
                together=bool(rule.digest_minutes),
            )
            for one, ways in taken
            for channel, (due_at, rule) in ways.items()
        ],
        batch_size=AT_ONCE,
    )
    for one, _by in taken:
        if one.ends:
            Notification.objects.filter(pk__in=one.ends).update(ended_by=one.notification)


def _ways(found: Found, rules: list[tuple[Rule, set[int]]]) -> dict[int, tuple[datetime, Rule]]:
    """Return {channel ID: (due time, rule)}.

    Of several matching rules on a channel, the one due first counts.
    """
    notification, ways = found.notification, {}
    for rule, teams in rules:
        if rule.takes(notification.kind, found.team, teams):
            due_at = rule.due_at(
                notification.at, notification.kind, over=bool(notification.facts.get("over"))
            )
            if rule.channel_id not in ways or due_at < ways[rule.channel_id][0]:
                ways[rule.channel_id] = (due_at, rule)
    return ways
