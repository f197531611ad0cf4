"""From what happened to messages: notifications are written, and the deliveries that are due are sent.

tick() and send() may run anywhere, any number of times at once. One process at a time sends on a channel: it takes the
channel's turn, and goes on while it holds it. Whether something still has to be told is decided right before it is
sent, and nothing is sent in a transaction.

A message arrives at least once: that it is being sent is written before, that it was sent after. Who is killed in
between sends it again; it ends with the same number then, so that people see that it is the same one.
"""

import logging
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import DatabaseError, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from accounts.lib import db_clock
from accounts.lib.db_errors import release_connection
from accounts.models import Account, Channel, Delivery, Drop, Notification
from accounts.models.notification import URGENT, DeliveryState
from accounts.notifications import messages, outbox, transports
from accounts.states import AccountState, NotificationKind

log = logging.getLogger(__name__)
dice = random.Random()  # noqa: S311  (not for secrets)

TURN = timedelta(seconds=60)  # longer than one message may take
PAUSE_MINUTES, LONGEST_MINUTES = 1, 240
TRIES = 12  # over about a day
REFUSALS = 3  # in a row, minutes apart: a channel that says no so often is switched off
MANY = 5  # more than so many at once are told in one message
MESSAGES_AT_ONCE = 20
SENDERS = 2  # services that let us wait must not hold up the other short tasks
ROWS_AT_ONCE = 500
SWITCHED_OFF = "the channel was switched off"
SWITCHED_ON = {"switched_off_at": None, "switched_off_why": "", "failures": 0, "refusals": 0, "next_at": None}


def tick() -> list[int]:
    """Read what happened, gather incidents, write notifications and deliveries. The ids of channels to send on now."""
    now = db_clock.now()
    outbox.read(now)
    Delivery.objects.unsent().filter(channel__active=False).update(
        state=DeliveryState.GIVEN_UP, error=SWITCHED_OFF, next_at=None
    )
    busy = Channel.objects.filter(sending_until__gt=now).count()
    ready = _ready(now).order_by("failures", "pk").values_list("pk", flat=True)
    return list(ready[: max(0, SENDERS - busy)])


plan_has_run = outbox.plan_has_run
forget_old = outbox.forget_old


def _ready(now: datetime) -> QuerySet:
    due = Delivery.objects.due(now).filter(channel=OuterRef("pk"))
    free = Q(sending_until=None) | Q(sending_until__lt=now)
    return Channel.objects.active().filter(free, Q(next_at=None) | Q(next_at__lte=now), Exists(due))


def send_due() -> int:
    """Send what is due on all channels, one after the other. How many messages went out."""
    return sum(send(pk) for pk in list(_ready(db_clock.now()).values_list("pk", flat=True)))


def send(channel_id: int) -> int:
    """Send what is due on one channel. Does nothing while another process does. How many messages went out."""
    turn = Turn.take(channel_id)
    if turn is None:
        return 0
    sent = 0
    try:
        while sent < MESSAGES_AT_ONCE:
            batch, message = turn.next()
            if not batch:
                break
            release_connection()
            answer = transports.deliver(turn.channel.url, *message)
            if not _write(turn.channel, batch, answer):
                break
            sent += 1
    finally:
        turn.end()
    return sent


def send_test(channel: Channel) -> transports.Answer:
    """Send a test message now, and say what became of it. Also on a channel that is switched off."""
    release_connection()
    answer = transports.deliver(channel.url, *messages.test_message(channel))
    log.info("a test message on channel %s: %s", channel.pk, "sent" if answer.ok else answer.words)
    if answer.ok:
        Channel.objects.filter(pk=channel.pk).update(failures=0, refusals=0, next_at=None)
    return answer


# --- whose turn it is, and what is sent next -------------------------------------------------------------


@dataclass
class Turn:
    """One process's turn on a channel, until a time that it moves on with every message."""

    channel: Channel
    until: datetime

    @classmethod
    def take(cls, channel_id: int) -> "Turn | None":
        now = db_clock.now()
        until = now + TURN
        free = Q(sending_until=None) | Q(sending_until__lt=now)
        rows = _ready(now).filter(free, pk=channel_id).update(sending_until=until)
        return cls(Channel.objects.get(pk=channel_id), until) if rows else None

    def next(self) -> tuple[list[Delivery], tuple[str, str]]:
        """The deliveries of the next message, and its title and text; nothing where nothing is left or the turn is lost."""
        now = db_clock.now()
        with transaction.atomic():
            mine = Channel.objects.active().filter(pk=self.channel.pk, sending_until=self.until)
            if not mine.update(sending_until=now + TURN):
                return [], ("", "")
            self.until = now + TURN
            batch = _choose(_still_needed(_due(self.channel, now), self.channel, now))
            # In the same transaction: what is told is what was decided by.
            return _written(batch, self.channel, now) if batch else ([], ("", ""))

    def end(self) -> None:
        Channel.objects.filter(pk=self.channel.pk, sending_until=self.until).update(sending_until=None)


def _due(channel: Channel, now: datetime) -> list[Delivery]:
    mine = Delivery.objects.due(now).filter(channel=channel)
    # What is plainly over is written off at once: after an incident that may be thousands.
    plainly = Q(notification__ended_at__isnull=False) | Q(notification__drop__incident__isnull=False)
    over = mine.filter(plainly, notification__kind__in=outbox.OF_ACCOUNT).order_by()
    Delivery.objects.filter(pk__in=over.values("pk")).update(state=DeliveryState.UNNEEDED, next_at=None)
    rows = mine.order_by("next_at", "id")
    parts = ("notification__account", "notification__drop", "notification__incident", "rule")
    return list(rows.select_related(*parts).prefetch_related("rule__teams")[:ROWS_AT_ONCE])


def _still_needed(due: list[Delivery], channel: Channel, now: datetime) -> list[Delivery]:
    """Those that have to be told now. What is over is written off, what comes in quiet hours is kept until their end."""
    told, needed, over = Told.by(channel, due), [], []
    kept: dict[datetime, list[int]] = {}
    for delivery in due:
        if not told.needs(delivery):
            over.append(delivery.pk)
        elif until := _quiet_until(delivery, now):
            kept.setdefault(until, []).append(delivery.pk)
        else:
            needed.append(delivery)
    Delivery.objects.filter(pk__in=over).update(state=DeliveryState.UNNEEDED, next_at=None)
    for until, ids in kept.items():
        Delivery.objects.filter(pk__in=ids).update(next_at=until, together=True)
    return needed


def _quiet_until(delivery: Delivery, now: datetime) -> datetime | None:
    rule = delivery.rule
    if rule is None or (rule.incidents_at_once and delivery.notification.kind in URGENT):
        return None
    return rule.quiet_until(now)


def _choose(needed: list[Delivery]) -> list[Delivery]:
    """Each by itself, unless there are many; what was kept or belongs to a digest goes together."""
    alone = [delivery for delivery in needed if not delivery.together]
    if len(alone) > MANY:
        return needed
    return alone[:1] or needed


def _written(
    batch: list[Delivery], channel: Channel, now: datetime
) -> tuple[list[Delivery], tuple[str, str]]:
    """The batch with its title and text. What cannot be put into words must not keep the rest from being told."""
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
    """Before it is sent: who is killed while sending tries again after the pause."""
    tries = max(delivery.tries for delivery in batch) + 1
    Delivery.objects.filter(pk__in=[delivery.pk for delivery in batch]).update(
        tries=tries,
        message=min(delivery.pk for delivery in batch),
        may_have_arrived=True,
        next_at=now + pause(tries),
    )


def pause(tries: int) -> timedelta:
    """Before the next try: 1, 2, 4… minutes up to four hours, with some chance."""
    minutes = min(PAUSE_MINUTES * 2 ** (tries - 1), LONGEST_MINUTES)
    return timedelta(minutes=minutes * dice.uniform(0.8, 1.2))


# --- whether it still has to be told ---------------------------------------------------------------------


@dataclass
class Told:
    """What a channel was told already, as far as it decides about what is due."""

    ends: set[int] = field(
        default_factory=set
    )  # notifications that something is over, of whose beginning it was told
    scans: set[int] = field(
        default_factory=set
    )  # drops that it was told, or will be told, have to be scanned
    scanned: set[int] = field(default_factory=set)  # of these, drops that it was told of

    @classmethod
    def by(cls, channel: Channel, due: list[Delivery]) -> "Told":
        mine = Delivery.objects.filter(channel=channel)
        told = mine.filter(pk__in=mine.told())
        ids = [delivery.notification_id for delivery in due]
        drops = [delivery.notification.drop_id for delivery in due if delivery.notification.drop_id]
        of_scans = Q(notification__kind=NotificationKind.TO_SCAN, notification__drop__in=drops)
        others = told.exclude(notification__in=ids)
        return cls(
            set(told.filter(notification__ended_by__in=ids).values_list("notification__ended_by", flat=True)),
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
    """Not over, of an account that somebody wants online, and not told with an incident."""
    account: Account = notification.account
    if notification.ended_at is not None or account.merged_into_id or not account.keep_online:
        return False
    return notification.drop is None or (
        notification.drop.ended_at is None and notification.drop.incident_id is None
    )


# --- what became of it -----------------------------------------------------------------------------------


def _write(channel: Channel, batch: list[Delivery], answer: transports.Answer) -> bool:
    """Write down what the service said. Whether the channel may go on."""
    now = db_clock.now()
    with transaction.atomic():
        rows = Delivery.objects.unsent().filter(pk__in=[delivery.pk for delivery in batch])
        if answer.ok:
            rows.update(state=DeliveryState.SENT, sent_at=now, next_at=None, error="")
            Channel.objects.filter(pk=channel.pk).update(failures=0, refusals=0, next_at=None)
            return True
        if not answer.unknown:
            before = [delivery.pk for delivery in batch if not delivery.may_have_arrived]
            rows.filter(pk__in=before).update(may_have_arrived=False)
        rows.update(state=DeliveryState.FAILED, error=answer.words)
        rows.filter(tries__gte=TRIES).update(state=DeliveryState.GIVEN_UP, next_at=None)
        _count_failure(channel, answer, now)
    return False


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
    """Of a channel that is saved as active: what was said against it is forgotten."""
    for column, value in SWITCHED_ON.items():
        setattr(channel, column, value)
