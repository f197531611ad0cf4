"""Dispatch: tick() writes notifications and deliveries, send() sends the deliveries that are due.

tick() and send() are safe to run concurrently and any number of times. One process at a time sends on a
channel: it claims the channel's lease and renews it with every message. Whether a delivery is still needed is
decided right before it is sent. Nothing is sent inside a transaction.

A message arrives at least once: the attempt is saved before sending, the success after it. A process killed
in between causes a retry with the same message number, so that people can recognize the repetition.
"""

import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import DatabaseError, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from accounts.lib import db_clock
from accounts.lib.db_errors import release_connection
from accounts.lib.rows import RowLease, unleased
from accounts.metrics import families
from accounts.models import Account, Channel, Delivery, Drop, Notification, ScanLink
from accounts.models.notification import URGENT, DeliveryState
from accounts.notifications import messages, outbox, transports
from accounts.states import AccountState, NotificationKind

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)  # longer than one message may take
PAUSE_MINUTES, LONGEST_MINUTES = 1, 240
TRIES = 12  # over about a day
REFUSALS = 3  # consecutive refusals, minutes apart, that disable a channel
MANY = 5  # more deliveries than this at once share one message
MESSAGES_AT_ONCE = 20
SILENCE_CHECKED_EVERY = timedelta(minutes=5)
SENDERS = 2  # slow services must not block the other short tasks
ROWS_AT_ONCE = 500
SWITCHED_OFF = "the channel was switched off"
SWITCHED_ON = {"switched_off_at": None, "switched_off_why": "", "failures": 0, "refusals": 0, "next_at": None}


def due(now: datetime) -> Iterator[QuerySet]:
    """Yield rows without which `tick` has nothing to do, but for warnings about the developer account."""
    yield from outbox.due(now)
    yield Delivery.objects.unsent().filter(Q(channel__active=False) | Q(next_at__lte=now))


def tick() -> list[int]:
    """Write notifications and deliveries for new events, incidents and alarms.

    Return the IDs of channels to send on now.

    Deliveries of disabled channels are given up. At most SENDERS channels send at a time: those with the
    fewest failures come first.
    """
    now = db_clock.now()
    outbox.read(now)
    Delivery.objects.unsent().filter(channel__active=False).update(
        state=DeliveryState.GIVEN_UP, error=SWITCHED_OFF, next_at=None
    )
    busy = Channel.objects.filter(sending_until__gt=now).count()
    ready = _ready(now).filter(unleased("sending_until", now)).order_by("failures", "pk")
    return list(ready.values_list("pk", flat=True)[: max(0, SENDERS - busy)])


plan_has_run = outbox.plan_has_run


def _ready(now: datetime) -> QuerySet:
    due = Delivery.objects.due(now).filter(channel=OuterRef("pk"))
    rested = Q(next_at=None) | Q(next_at__lte=now)
    return Channel.objects.active().filter(rested, Exists(due))


def send(channel_id: int) -> int:
    """Send what is due on one channel, at most MESSAGES_AT_ONCE messages. Return the number of messages sent.

    Does nothing while another process holds the channel's lease.
    """
    lease = claim(channel_id)
    if lease is None:
        return 0
    sent = 0
    with lease:
        channel = Channel.objects.get(pk=channel_id)
        while sent < MESSAGES_AT_ONCE:
            batch, message = next_message(channel, lease)
            if not batch:
                break
            release_connection()
            answer = transports.deliver(channel.url, *message)
            if not _write(channel, batch, answer):
                break
            sent += 1
    return sent


def send_test(channel: Channel) -> transports.Answer:
    """Send a test message now and return the service's answer. Works on a disabled channel too.

    Success resets the channel's failure counts and its backoff.
    """
    release_connection()
    answer = transports.deliver(channel.url, *messages.test_message(channel))
    log.info("a test message on channel %s: %s", channel.pk, "sent" if answer.ok else answer.words)
    if answer.ok:
        Channel.objects.filter(pk=channel.pk).update(failures=0, refusals=0, next_at=None)
    return answer


# --- the channel's lease, and what is sent next ----------------------------------------------------------


def claim(channel_id: int) -> RowLease | None:
    """Claim a channel that has something to send; None if it has nothing, or if another process holds it."""
    return RowLease.claim(_ready(db_clock.now()), channel_id, "sending_until", LEASE)


def next_message(channel: Channel, lease: RowLease) -> tuple[list[Delivery], tuple[str, str]]:
    """Renew the lease and return the deliveries of the next message with its title and text.

    Empty if nothing is left, the channel is disabled, or the lease is lost.
    """
    now = db_clock.now()
    with transaction.atomic():
        if not lease.renew(active=True):
            return [], ("", "")
        batch = _choose(_still_needed(_due(channel, now), channel, now))
        # In the same transaction, so that the text shows the state that the decision used.
        return _written(batch, channel, now) if batch else ([], ("", ""))


def _due(channel: Channel, now: datetime) -> list[Delivery]:
    mine = Delivery.objects.due(now).filter(channel=channel)
    # Mark what is certainly over in one UPDATE: after an incident that may be thousands of rows.
    plainly = Q(notification__ended_at__isnull=False) | Q(notification__drop__incident__isnull=False)
    over = mine.filter(plainly, notification__kind__in=outbox.OF_ACCOUNT).order_by()
    Delivery.objects.filter(pk__in=over.values("pk")).update(state=DeliveryState.UNNEEDED, next_at=None)
    rows = mine.order_by("next_at", "id")
    parts = ("notification__account", "notification__drop", "notification__incident", "rule")
    return list(rows.select_related(*parts).prefetch_related("rule__teams")[:ROWS_AT_ONCE])


def _still_needed(due: list[Delivery], channel: Channel, now: datetime) -> list[Delivery]:
    """Return the deliveries that must be sent now.

    Those that are over are marked unneeded. Those in quiet hours are deferred until the quiet hours end, and those of
    a silenced account until the silence ends.
    """
    sent, needed, over = Sent.by(channel, due), [], []
    kept: dict[datetime, list[int]] = {}
    for delivery in due:
        if not sent.needs(delivery):
            over.append(delivery.pk)
        elif until := _silenced_until(delivery, now) or _quiet_until(delivery, now):
            kept.setdefault(until, []).append(delivery.pk)
        else:
            needed.append(delivery)
    Delivery.objects.filter(pk__in=over).update(state=DeliveryState.UNNEEDED, next_at=None)
    for until, ids in kept.items():
        Delivery.objects.filter(pk__in=ids).update(next_at=until, together=True)
    return needed


def _silenced_until(delivery: Delivery, now: datetime) -> datetime | None:
    """Return when to decide again about a notification of a silenced account: soon, as the silence may be lifted."""
    account = delivery.notification.account
    by_person = delivery.notification.kind == NotificationKind.SCAN_LINK
    until = account.silenced_until if account and not by_person else None
    return min(until, now + SILENCE_CHECKED_EVERY) if until and until > now else None


def _quiet_until(delivery: Delivery, now: datetime) -> datetime | None:
    rule = delivery.rule
    if rule is None or (rule.incidents_at_once and delivery.notification.kind in URGENT):
        return None
    return rule.quiet_until(now)


def _choose(needed: list[Delivery]) -> list[Delivery]:
    """Return the first delivery that is sent separately.

    Returns all if more than MANY are separate, or if only deferred and digest deliveries are left: they share
    one message.
    """
    for delivery in needed:
        if delivery.notification.kind == NotificationKind.SCAN_LINK:  # a digest has no room for its link
            return [delivery]
    alone = [delivery for delivery in needed if not delivery.together]
    if len(alone) > MANY:
        return needed
    return alone[:1] or needed


def _written(
    batch: list[Delivery], channel: Channel, now: datetime
) -> tuple[list[Delivery], tuple[str, str]]:
    """Return the batch with its title and text.

    A batch whose text cannot be rendered is given up, so that it does not block the others.
    """
    try:
        message = messages.message(batch, channel)
    except DatabaseError:
        raise
    except Exception:
        ids = [delivery.pk for delivery in batch]
        log.exception("deliveries %s cannot be put into words", ids)
        Delivery.objects.filter(pk__in=ids).update(
            state=DeliveryState.GIVEN_UP, error="no words for it", next_at=None
        )
        return [], ("", "")
    _mark(batch, now)
    return batch, message


def _mark(batch: list[Delivery], now: datetime) -> None:
    """Save the attempt before sending.

    If the process is killed while it sends, the retry follows after the backoff.
    """
    tries = max(delivery.tries for delivery in batch) + 1
    Delivery.objects.filter(pk__in=[delivery.pk for delivery in batch]).update(
        tries=tries,
        message=min(delivery.pk for delivery in batch),
        may_have_arrived=True,
        next_at=now + pause(tries),
    )


def pause(tries: int) -> timedelta:
    """Return the backoff before the next retry: 1, 2, 4 … minutes, at most 4 hours, with ±20 % jitter."""
    minutes = min(PAUSE_MINUTES * 2 ** (tries - 1), LONGEST_MINUTES)
    return timedelta(minutes=minutes * random.uniform(0.8, 1.2))  # noqa: S311 - no secret


# --- whether a delivery is still needed ------------------------------------------------------------------


@dataclass
class Sent:
    """What the channel was already notified about, as far as it decides which due deliveries are needed."""

    ends: set[int] = field(default_factory=set)  # notifications of an end whose start was sent
    scans: set[int] = field(default_factory=set)  # drops whose scan notification was sent or will be sent
    scanned: set[int] = field(default_factory=set)  # of these, drops whose scan notification was sent

    @classmethod
    def by(cls, channel: Channel, due: list[Delivery]) -> "Sent":
        mine = Delivery.objects.filter(channel=channel)
        sent = mine.filter(pk__in=mine.sent())
        ids = [delivery.notification_id for delivery in due]
        drops = [delivery.notification.drop_id for delivery in due if delivery.notification.drop_id]
        of_scans = Q(notification__kind=NotificationKind.TO_SCAN, notification__drop__in=drops)
        others = sent.exclude(notification__in=ids)
        return cls(
            set(sent.filter(notification__ended_by__in=ids).values_list("notification__ended_by", flat=True)),
            set(
                mine.filter(of_scans)
                .exclude(state=DeliveryState.UNNEEDED)
                .values_list("notification__drop", flat=True)
            ),
            set(others.filter(of_scans).values_list("notification__drop", flat=True)),
        )

    def needs(self, delivery: Delivery) -> bool:
        notification = delivery.notification
        match notification.kind:
            case NotificationKind.OFFLINE:
                return _is_down(notification) and notification.drop_id not in self.scans
            case NotificationKind.TO_SCAN:
                to_scan = notification.account.queued_for_scan_at is not None
                return to_scan and _is_open(notification) and notification.drop_id not in self.scanned
            case NotificationKind.BACK:
                return notification.pk in self.ends and notification.account.state == AccountState.ONLINE
            case NotificationKind.INCIDENT:
                drops = Drop.objects.filter(incident=notification.incident_id)
                return notification.ended_at is None and messages.of_rule(drops, delivery.rule).exists()
            case NotificationKind.INCIDENT_OVER:
                return notification.pk in self.ends
            case NotificationKind.SCAN_LINK:
                return ScanLink.objects.active().filter(pk=notification.facts["link"]).exists()
            case NotificationKind.LIMITS:
                return notification.ended_at is None
            case NotificationKind.UPSTREAM:
                return (
                    notification.pk in self.ends
                    if notification.facts.get("over")
                    else notification.ended_at is None
                )
        return True


def _is_down(notification: Notification) -> bool:
    return _is_open(notification) and notification.account.state == AccountState.OFFLINE


def _is_open(notification: Notification) -> bool:
    """Return whether the problem lasts, for an account that is kept online and not part of an incident."""
    account: Account = notification.account
    if notification.ended_at is not None or account.merged_into_id or not account.keep_online:
        return False
    return notification.drop is None or (
        notification.drop.ended_at is None and notification.drop.incident_id is None
    )


# --- the result ------------------------------------------------------------------------------------------


def _write(channel: Channel, batch: list[Delivery], answer: transports.Answer) -> bool:
    """Save the service's answer. Return whether the channel may send the next message."""
    now = db_clock.now()
    with transaction.atomic():
        rows = Delivery.objects.unsent().filter(pk__in=[delivery.pk for delivery in batch])
        if answer.ok:
            _count(
                DeliveryState.SENT, rows.update(state=DeliveryState.SENT, sent_at=now, next_at=None, error="")
            )
            Channel.objects.filter(pk=channel.pk).update(failures=0, refusals=0, next_at=None)
            return True
        if not answer.unknown:
            before = [delivery.pk for delivery in batch if not delivery.may_have_arrived]
            rows.filter(pk__in=before).update(may_have_arrived=False)
        _count(DeliveryState.FAILED, rows.update(state=DeliveryState.FAILED, error=answer.words))
        spent = rows.filter(tries__gte=TRIES)
        _count(DeliveryState.GIVEN_UP, spent.update(state=DeliveryState.GIVEN_UP, next_at=None))
        _count_failure(channel, answer, now)
    return False


def _count(result: str, deliveries: int) -> None:
    transaction.on_commit(lambda: families.DELIVERIES.labels(result).inc(deliveries), robust=True)


def _count_failure(channel: Channel, answer: transports.Answer, now: datetime) -> None:
    row = Channel.objects.filter(pk=channel.pk)
    row.update(failures=F("failures") + 1, refusals=F("refusals") + 1 if answer.refused else 0)
    channel.refresh_from_db(fields=["failures", "refusals", "active"])
    if answer.unusable or channel.refusals >= REFUSALS:
        _switch_off(channel, answer.words, now)
        return
    row.update(next_at=now + pause(channel.failures))
    log.warning("channel %s: a message was not sent (%s); it is tried again", channel.pk, answer.words)


def _switch_off(channel: Channel, why: str, now: datetime) -> None:
    off = {"active": False, "switched_off_at": now, "switched_off_why": why, "next_at": None}
    if not Channel.objects.active().filter(pk=channel.pk).update(**off):
        return
    Delivery.objects.unsent().filter(channel=channel).update(
        state=DeliveryState.GIVEN_UP, error=SWITCHED_OFF, next_at=None
    )
    outbox.channel_switched_off(channel, why, now)
    log.error("channel %s was switched off: %s", channel.pk, why)


def switch_on(channel: Channel) -> None:
    """Clear the failures of a channel that is saved as enabled. Does not save it."""
    for column, value in SWITCHED_ON.items():
        setattr(channel, column, value)
