"""Notifications: the channels that receive messages, the rules that choose them, and the deliveries.

A notification is one thing that people may be notified of. A delivery is that notification on its way to one
channel. The address of a channel is a secret: it is written once, and only the process that sends reads it.
"""

from datetime import UTC, datetime, timedelta
from typing import Self
from urllib.parse import urlsplit

from django.contrib.auth.models import Group
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from accounts.lib.encrypted_fields import EncryptedTextField
from accounts.lib.time_windows import TimeWindow
from accounts.states import NotificationKind

DEBOUNCE_SECONDS = 180
# Kinds that concern no single account: a rule for teams includes them too.
OF_ALL = frozenset({
    *(NotificationKind.INCIDENT, NotificationKind.INCIDENT_OVER),
    *(NotificationKind.UPSTREAM, NotificationKind.LIMITS, NotificationKind.PLAN, NotificationKind.CHANNEL),
})  # fmt: skip
# Kinds that are not sent if they end within the notification delay. The others are sent immediately.
DEBOUNCED = frozenset({
    *(NotificationKind.OFFLINE, NotificationKind.TO_SCAN, NotificationKind.INCIDENT),
    *(NotificationKind.UPSTREAM, NotificationKind.LIMITS),
})  # fmt: skip
# A rule for drops, or for their ends, includes many at once too: together they are one incident.
WITH: dict[str, frozenset[str]] = {
    NotificationKind.INCIDENT: frozenset({NotificationKind.OFFLINE, NotificationKind.TO_SCAN}),
    NotificationKind.INCIDENT_OVER: frozenset({NotificationKind.BACK}),
}
URGENT = frozenset({NotificationKind.INCIDENT, NotificationKind.INCIDENT_OVER, NotificationKind.UPSTREAM})
# Services with addresses that name the company's own host. It says more than the service and is no secret.
WITH_HOST = frozenset({
    *("json", "jsons", "form", "forms", "gotify", "gotifys", "ntfys", "matrix", "matrixs", "mmost", "mmosts"),
    *("rocket", "rockets", "bark", "barks", "mailto", "mailtos", "synology", "synologys", "zulip"),
})  # fmt: skip


def masked(url: str) -> str:
    """Return the part of an address that may be shown: the service, and the company's own host if any."""
    kind = kind_of(url)
    try:
        host = urlsplit(url).hostname if kind in WITH_HOST else ""
    except ValueError:
        host = ""
    return f"{kind}://{host}/…" if host else f"{kind}://…"


def kind_of(url: str) -> str:
    """Return the service of an address: the part before "://"."""
    return url.partition("://")[0].strip().lower()[:30]


class DeliveryState(models.TextChoices):
    PENDING = "pending", _("Pending")
    FAILED = "failed", _("Failed, will retry")
    SENT = "sent", _("Sent")
    GIVEN_UP = "given_up", _("Gave up")
    UNNEEDED = "unneeded", _("No longer needed")


# Why an address cannot be used, by the code that sending stores.
UNUSABLE: dict[str, Promise] = {
    "service": _("Messages to this service are not supported."),
    "parameter": _("The address contains a parameter that is not allowed."),
    "read": _("The address doesn’t match the service’s format."),
    "key": _("It can’t be decrypted: a key is missing in FIELD_KEYS."),
    "secret": _("This service has no secret. Only robots of DingTalk, Feishu and Lark have one."),
    "private": _("It is in a private network. To allow that, set WK_PRIVATE_TARGETS=1."),
}
UNSENT = (DeliveryState.PENDING, DeliveryState.FAILED)


class Language(models.TextChoices):
    CHINESE = "zh-hans", "简体中文"
    ENGLISH = "en", "English"


class ChannelQuerySet(models.QuerySet):
    def active(self) -> Self:
        return self.filter(active=True)

    def broken(self) -> Self:
        """Return the channels disabled because of their service's answer: an admin must check them."""
        return self.filter(active=False).exclude(switched_off_at=None).defer("url")

    def troubled(self) -> Self:
        """Return the broken ones, and those that failed at the last try."""
        return self.filter(Q(active=False, switched_off_at__isnull=False) | Q(active=True, failures__gt=0))


class Channel(models.Model):
    """A destination for messages: one address of one service."""

    name = models.CharField(_("name"), max_length=60, unique=True)
    url = EncryptedTextField(_("address"), editable=False)
    # The part of the address that may be shown.
    shown = models.CharField(_("address"), max_length=200, blank=True, default="", editable=False)
    language = models.CharField(
        _("language"),
        max_length=10,
        choices=Language,
        default=Language.CHINESE,
        help_text=_("Language of the messages."),
    )
    active = models.BooleanField(_("enabled"), default=True)
    switched_off_at = models.DateTimeField(_("disabled at"), null=True, blank=True, editable=False)
    switched_off_why = models.CharField(_("reason"), max_length=300, blank=True, default="", editable=False)

    # At most one process sends on a channel at a time: its lease, the failures in a row, and the next try.
    sending_until = models.DateTimeField(null=True, blank=True, editable=False)
    failures = models.PositiveSmallIntegerField(default=0, editable=False)
    refusals = models.PositiveSmallIntegerField(default=0, editable=False)
    next_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ChannelQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        verbose_name = _("channel")
        verbose_name_plural = _("channels")

    def __str__(self) -> str:
        return self.name

    def save(self, *args, **kwargs) -> None:
        self.shown = masked(self.url) if self.url else self.shown
        super().save(*args, **kwargs)

    @property
    def kind(self) -> str:
        """Return the service: the part of the address before "://"."""
        return kind_of(self.shown)

    @property
    def why_off(self) -> Promise | str:
        return UNUSABLE.get(self.switched_off_why, self.switched_off_why)


class Rule(TimeWindow):
    """What a channel is notified of. The hours are its quiet hours; without hours it is never quiet."""

    channel = models.ForeignKey(
        Channel, verbose_name=_("channel"), on_delete=models.CASCADE, related_name="rules"
    )
    kinds = models.JSONField(_("notify about"), default=list)
    teams = models.ManyToManyField(
        Group,
        verbose_name=_("teams"),
        blank=True,
        related_name="+",
        help_text=_("Only notify about accounts of these teams. Select none for all accounts."),
    )
    debounce_seconds = models.PositiveIntegerField(
        _("notification delay (seconds)"),
        default=DEBOUNCE_SECONDS,
        validators=[MaxValueValidator(24 * 3600)],
        help_text=_("Nothing is sent if the problem is over by then."),
    )
    digest_minutes = models.PositiveSmallIntegerField(
        _("digest interval (minutes)"),
        default=0,
        validators=[MaxValueValidator(24 * 60)],
        help_text=_(
            "Notifications within this interval are combined into one message. 0 sends each one separately."
        ),
    )
    hours_from = models.TimeField(
        _("quiet hours start"),
        null=True,
        blank=True,
        help_text=_("Notifications during quiet hours are held back and sent as one message at the end."),
    )
    hours_until = models.TimeField(_("quiet hours end"), null=True, blank=True)
    incidents_at_once = models.BooleanField(
        _("send incidents during quiet hours"),
        default=True,
        help_text=_("Incidents and denied WKTeam access are sent immediately at any hour."),
    )

    class Meta:
        ordering = ["channel", "id"]
        verbose_name = _("rule")
        verbose_name_plural = _("rules")

    def __str__(self) -> str:
        titles = dict(NotificationKind.choices)
        return ", ".join(str(titles[kind]) for kind in self.kinds if kind in titles) or "–"

    def quiet_until(self, now: datetime) -> datetime | None:
        """Return when the current quiet hours end, or None outside quiet hours."""
        if not self.has_hours or not self.is_within(now):
            return None
        loud = Rule(hours_from=self.hours_until, hours_until=self.hours_from, time_zone=self.time_zone)
        return loud.next_within(now)

    def takes(self, kind: str, team: int | None, teams: set[int]) -> bool:
        """Return whether the rule covers this kind for an account of this team.

        `teams`: the rule's own teams.
        """
        kinds = {kind, *WITH.get(kind, ())}
        return not kinds.isdisjoint(self.kinds) and (kind in OF_ALL or not teams or team in teams)

    def due_at(self, at: datetime, kind: str, over: bool = False) -> datetime:
        """Return when to notify of what began at `at`, if it is not over by then, or of its end (`over`).

        Ends and kinds outside DEBOUNCED have no delay. The digest interval does not apply to URGENT kinds. Digests
        are due by the clock of the rule's time zone: with an interval of a day at its midnight.
        """
        due = at + timedelta(seconds=self.debounce_seconds if kind in DEBOUNCED and not over else 0)
        if not self.digest_minutes or kind in URGENT:
            return due
        local = due.astimezone(self.zone)
        wall = local.replace(tzinfo=None)
        wall += (datetime.min - wall) % timedelta(minutes=self.digest_minutes)
        return wall.replace(tzinfo=self.zone, fold=local.fold).astimezone(UTC)


class Notification(models.Model):
    """One thing that people may be notified of, at most once: `key` identifies the thing."""

    key = models.CharField(max_length=100, unique=True)
    kind = models.CharField(_("type"), max_length=15, choices=NotificationKind)
    account = models.ForeignKey(
        "accounts.Account",
        verbose_name=_("account"),
        null=True,
        on_delete=models.CASCADE,
        related_name="+",
        db_index=False,
    )
    drop = models.ForeignKey(
        "accounts.Drop", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    incident = models.ForeignKey(
        "accounts.Incident", null=True, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    # Facts for the text that no other row holds.
    facts = models.JSONField(default=dict)
    at = models.DateTimeField(_("time"), default=timezone.now)
    # When it was over, when we recorded that, and the notification that reports it.
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    ended_by = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="ends")

    class Meta:
        db_table = "accounts_notice"
        verbose_name = _("notification")
        verbose_name_plural = _("notifications")
        indexes = [
            models.Index("account", "id", name="notice_open", condition=Q(ended_at=None)),
            models.Index(
                "closed_at", name="notice_closed", condition=Q(ended_by=None, closed_at__isnull=False)
            ),
            models.Index("at", name="notice_time"),
            models.Index("incident", "id", name="notice_of_incident", condition=Q(incident__isnull=False)),
            models.Index("drop", name="notice_of_drop", condition=Q(drop__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} #{self.pk}"


class DeliveryQuerySet(models.QuerySet):
    def unsent(self) -> Self:
        return self.filter(state__in=UNSENT)

    def due(self, now: datetime) -> Self:
        return self.unsent().filter(next_at__lte=now)

    def sent(self) -> Self:
        """Return the deliveries whose message the service accepted, or may have accepted."""
        return self.filter(Q(state=DeliveryState.SENT) | Q(may_have_arrived=True))


class Delivery(models.Model):
    """A notification on its way to a channel. Deliveries that were sent as one message share `message`."""

    channel = models.ForeignKey(
        Channel,
        verbose_name=_("channel"),
        on_delete=models.CASCADE,
        related_name="deliveries",
        db_index=False,
    )
    notification = models.ForeignKey(
        Notification,
        verbose_name=_("notification"),
        on_delete=models.CASCADE,
        related_name="deliveries",
        db_column="notice_id",
    )
    rule = models.ForeignKey(Rule, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    state = models.CharField(_("state"), max_length=10, choices=DeliveryState, default=DeliveryState.PENDING)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    next_at = models.DateTimeField(_("next retry"), null=True, blank=True)
    tries = models.PositiveSmallIntegerField(_("tries"), default=0)
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)
    # Sent with others in one message: in a digest, or after quiet hours.
    together = models.BooleanField(default=False)
    message = models.PositiveBigIntegerField(_("message"), null=True, blank=True)
    # Set before each try, cleared if the service refuses: a message without an answer may have arrived.
    may_have_arrived = models.BooleanField(default=False)
    error = models.CharField(_("last error"), max_length=300, blank=True, default="")

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        constraints = [
            models.UniqueConstraint(fields=["channel", "notification"], name="told_once_on_a_channel")
        ]
        indexes = [
            models.Index("next_at", "id", name="delivery_due", condition=Q(state__in=UNSENT)),
            models.Index(fields=["state", "-id"], name="delivery_state"),
            models.Index("created_at", "id", name="delivery_time"),
        ]

    def __str__(self) -> str:
        return f"#{self.pk}"


class OutboxCursor(models.Model):
    """How far the event rows were read (one row). The process that holds its lock reads."""

    ONLY = 1

    # Rows up to `floor` are settled. IDs are not committed in order, so `floor` follows `newest` with a
    # delay.
    floor = models.PositiveBigIntegerField(default=0)
    newest = models.PositiveBigIntegerField(default=0)
    moved_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "accounts_reading"

    def __str__(self) -> str:
        return f"read up to {self.floor}"
