"""Login attempts: their table, their queries, and `move`, the only way in which their state changes.

A state moves by compare-and-set, in one transaction with its event row. The event is published after the
commit. Losing the race is a normal outcome: `move` returns False, and the caller reads the row again.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.lib import db_clock
from accounts.lib.encrypted_fields import EncryptedPngField, EncryptedTextField
from accounts.metrics import families
from accounts.models.event import ForbiddenMove, record
from accounts.proxies import listed, proxy_name
from accounts.reasons import Reason
from accounts.states import (
    ATTEMPT_MOVES,
    FINAL_STATES,
    OPEN_STATES,
    AttemptState,
    EventType,
    Method,
    Trigger,
)

# After its deadline an attempt has GRACE for an answer in transit. The periodic task ends it after
# SWEPT_AFTER. If that task does not run, the next read of the attempt ends it after CLOSED_AFTER.
GRACE = timedelta(seconds=6)
SWEPT_AFTER = timedelta(seconds=12)
CLOSED_AFTER = timedelta(seconds=16)
# A task message usually brings a wait to a worker within milliseconds. After this time workers search for it.
MESSAGE_HEAD_START = timedelta(seconds=2)

# Phases of an attempt in progress, as in docs/architecture.md: the conditions for rows. LoginAttempt has a
# property for each phase. Whether the worker that leased an attempt lives stands in its row: see `claimable`.
QUEUED = Q(state=AttemptState.PREPARING, sent_at=None, queued_at__isnull=False)
NEEDS_WORKER = Q(state=AttemptState.WAITING) | QUEUED
LEASED = Q(lease_owner__gt="")


class LoginAttemptQuerySet(models.QuerySet):
    def open(self) -> Self:
        """Return the attempts in progress.

        The condition has no parameters, so that SQLite can match it with its partial indexes.
        """
        return self.filter(ended_at=None)

    def light(self) -> Self:
        """Defer the image and the text of the QR code."""
        return self.defer("qr_png", "qr_text")

    def last_of(self, account: models.Expression, login_seq: models.Expression) -> Self:
        """Return the ID of an account's login in progress, or else of its last one, if there is one.

        No login has a later number. For an equal one PostgreSQL would expect few among many, and sort an account's
        logins, of which there may be thousands, where the index has them from the newest on.
        """
        newest = self.filter(Q(ended_at=None) | Q(seq__gte=login_seq), account=account).order_by("-id")
        return newest.values("pk")[:1]

    def past(self, deadline_plus: timedelta, now: datetime) -> Self:
        return self.open().filter(deadline_at__lt=now - deadline_plus)

    def claimable(self, now: datetime) -> Self:
        """Return those that need a worker and are not held, up to GRACE after their deadline.

        Held: leased by a worker that lives. A started wait that is not held is orphaned.
        """
        living = WaitsWorker.objects.filter(name=models.OuterRef("lease_owner"), alive_until__gt=now)
        return self.open().filter(~models.Exists(living), NEEDS_WORKER, deadline_at__gt=now - GRACE)

    def unattended(self, now: datetime) -> Self:
        """Return those of `claimable` that no task message brought to a worker."""
        old = Q(queued_at=None) | Q(queued_at__lt=now - MESSAGE_HEAD_START)
        return self.claimable(now).filter(old | LEASED)


class WaitsWorker(models.Model):
    """A process that waits for phones and keeps renewing `alive_until`.

    Its leases are void after that time.
    """

    name = models.CharField(max_length=100, primary_key=True)
    alive_until = models.DateTimeField()
    # Its WAIT_SLOTS. 0: a version registered it that did not say.
    slots = models.PositiveIntegerField(default=0, db_default=0)

    class Meta:
        verbose_name = _("waits worker")
        verbose_name_plural = _("waits workers")

    def __str__(self) -> str:
        return self.name


class LoginAttempt(models.Model):
    account = models.ForeignKey(
        "accounts.Account",
        verbose_name=_("account"),
        on_delete=models.CASCADE,
        related_name="attempts",
        db_index=False,
    )
    method = models.CharField(_("method"), max_length=10, choices=Method, default=Method.QR)
    trigger = models.CharField(_("trigger"), max_length=10, choices=Trigger, default=Trigger.OPERATOR)
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("operator"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
    )
    asked_by_name = models.CharField(max_length=150, blank=True, default="", editable=False)
    proxy = models.PositiveSmallIntegerField(_("proxy"), null=True, blank=True)
    # Sent as deviceType ("mac"); empty: the setting.
    device_type = models.CharField(_("device type"), max_length=10, blank=True, default="", db_default="")
    seq = models.PositiveIntegerField(editable=False)

    state = models.CharField(_("state"), max_length=15, choices=AttemptState, default=AttemptState.PREPARING)
    reason = models.CharField(_("reason"), max_length=20, choices=Reason, blank=True, default="")
    upstream_code = models.CharField(_("WKTeam response code"), max_length=20, blank=True, default="")
    upstream_text = models.CharField(_("WKTeam message"), max_length=300, blank=True, default="")
    # The account that scanned, if it is not the expected one. Also as text, for readers who may not see its
    # record.
    other_account = models.ForeignKey(
        "accounts.Account",
        verbose_name=_("scanned by"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    other_name = models.CharField(max_length=210, blank=True, default="", editable=False)

    w_id = models.CharField("wId", max_length=100, blank=True, default="")
    # The account's wId when this attempt started. A prompt without a wait has succeeded when the account is
    # online with a different wId.
    old_w_id = models.CharField(max_length=100, blank=True, default="", db_default="", editable=False)
    # Capabilities: anyone who has them can log in. The move that ends the attempt clears them.
    qr_text = EncryptedTextField(blank=True, default="", editable=False)
    qr_png = EncryptedPngField(null=True, editable=False)
    page_url = EncryptedTextField(blank=True, default="", editable=False)
    verify_code = EncryptedTextField(blank=True, default="", editable=False)
    codes_tried = models.PositiveSmallIntegerField(default=0, editable=False)

    created_at = models.DateTimeField(_("requested"), default=timezone.now)
    sent_at = models.DateTimeField(_("QR code requested"), null=True, blank=True)
    qr_shown_at = models.DateTimeField(_("QR code shown"), null=True, blank=True)
    # Start of the current wait. After a verification code or a passed verification page, another begins.
    wait_started_at = models.DateTimeField(_("wait started"), null=True, blank=True)
    resumed_at = models.DateTimeField(_("wait resumed"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    deadline_at = models.DateTimeField(_("deadline"))

    lease_owner = models.CharField(max_length=100, blank=True, default="", editable=False)
    lease_epoch = models.PositiveIntegerField(default=0, editable=False)
    queued_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = LoginAttemptQuerySet.as_manager()

    class Meta:
        verbose_name = _("login attempt")
        verbose_name_plural = _("login attempts")
        constraints = [
            models.UniqueConstraint(
                fields=["account"], condition=Q(ended_at__isnull=True), name="one_open_attempt"
            ),
            models.CheckConstraint(condition=Q(state__in=AttemptState.values), name="attempt_state_is_known"),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True, state__in=OPEN_STATES)
                | Q(ended_at__isnull=False, state__in=FINAL_STATES),
                name="ended_when_final",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=FINAL_STATES)
                | Q(qr_png=None, qr_text="", page_url="", verify_code=""),
                name="no_capability_left",
            ),
        ]
        indexes = [
            models.Index(fields=["account", "-id"], name="attempt_of_account"),
            # History for admins: by time, under each filter.
            models.Index("created_at", "id", name="attempt_time"),
            models.Index("state", "created_at", "id", name="attempt_state"),
            models.Index("reason", "created_at", "id", name="attempt_reason"),
            models.Index("trigger", "created_at", "id", name="attempt_trigger"),
            models.Index("method", "created_at", "id", name="attempt_method"),
            models.Index("proxy", "created_at", "id", name="attempt_line"),
            models.Index("asked_by", "created_at", "id", name="attempt_asked_by"),
            models.Index("w_id", name="attempt_w_id"),
            models.Index("deadline_at", condition=Q(ended_at__isnull=True), name="attempt_open_deadline"),
        ]

    def __str__(self) -> str:
        return f"{self.get_state_display()} #{self.pk}"

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_STATES

    @property
    def proxy_name(self) -> str:
        return proxy_name(self.proxy)

    @property
    def listed_proxy(self) -> int | None:
        return listed(self.proxy)

    @property
    def is_queued(self) -> bool:
        """QUEUED: it waits for a worker with a free slot, which then sends the request."""
        return self.state == AttemptState.PREPARING and self.sent_at is None and self.queued_at is not None

    @property
    def is_requesting(self) -> bool:
        """The QR code is requested, now or next."""
        return self.state == AttemptState.PREPARING and not self.is_queued

    @property
    def is_unclaimed(self) -> bool:
        """The wait has no worker yet."""
        return self.state == AttemptState.WAITING and self.wait_started_at is None

    @property
    def is_started(self) -> bool:
        """The wait is held or orphaned. The next worker that claims it resumes it."""
        return self.state == AttemptState.WAITING and self.wait_started_at is not None

    @property
    def needs_worker(self) -> bool:
        """NEEDS_WORKER: it needs one that holds it."""
        return self.state == AttemptState.WAITING or self.is_queued

    @property
    def is_leased(self) -> bool:
        """LEASED: a worker claimed it, and holds it if it lives."""
        return self.lease_owner != ""

    @property
    def resumed(self) -> bool:
        """A worker continued the wait of another one."""
        return self.resumed_at is not None

    def seconds_left(self, now: datetime) -> float:
        return max(0.0, (self.deadline_at - now).total_seconds())

    def move(
        self, to: str, *, by=None, epoch: int | None = None, now: datetime | None = None, **changes
    ) -> bool:
        """Move to state `to`, if the row still has the state seen here (and the lease still has `epoch`).

        `by`: the user, None for the portal. `changes`: further columns. Returns whether it moved. A move into
        a final state clears everything that could still be used to log in, and the lease. Raises
        ForbiddenMove.
        """
        mine = {"lease_epoch": epoch} if epoch is not None else {}
        return move_together([self], to, by=by, now=now, only_if=mine, **changes)


def move_together(
    attempts: list[LoginAttempt],
    to: str,
    *,
    by=None,
    now: datetime | None = None,
    only_if: dict[str, object] | None = None,
    **changes,
) -> bool:
    """Move attempts that share one state to state `to`, with one UPDATE. `move` calls this.

    `only_if`: further conditions on the rows. Returns False if not all of them still have the state seen here
    and match `only_if`. With more than one attempt, the caller must then roll back its transaction. Raises
    ForbiddenMove.
    """
    now = now or db_clock.now()
    old = attempts[0].state
    if to not in ATTEMPT_MOVES[old]:
        raise ForbiddenMove(f"{old} to {to}")
    if to in FINAL_STATES:
        gone = {"qr_text": "", "qr_png": None, "page_url": "", "verify_code": ""}
        changes = {**changes, **gone, "ended_at": now, "lease_owner": ""}
    rows = LoginAttempt.objects.filter(
        pk__in=[attempt.pk for attempt in attempts], state=old, **(only_if or {})
    )
    with transaction.atomic(savepoint=False):
        if rows.update(state=to, **changes) != len(attempts):
            return False
        for attempt in attempts:
            for name, value in {"state": to, **changes}.items():
                setattr(attempt, name, value)
            record(
                attempt.account, EventType.ATTEMPT_MOVED, attempt=attempt, old=old, new=to, by=by, at=now,
                reason=attempt.reason if to in FINAL_STATES else "", detail=changes.get("upstream_text", ""),
            )  # fmt: skip
        if to in FINAL_STATES:
            ended = [_Ended.of(attempt, to) for attempt in attempts]
            transaction.on_commit(lambda: [one.count() for one in ended], robust=True)
    return True


@dataclass(frozen=True, slots=True)
class _Ended:
    """What is counted of an attempt that ended, once that is committed."""

    outcome: str
    method: str
    trigger: str
    reason: str
    scan_seconds: float | None

    @classmethod
    def of(cls, attempt: LoginAttempt, outcome: str) -> Self:
        shown = attempt.qr_shown_at if attempt.method == Method.QR else None
        scanned = outcome == AttemptState.SUCCEEDED and shown is not None
        seconds = max(0.0, (attempt.ended_at - shown).total_seconds()) if scanned else None
        return cls(outcome, attempt.method, attempt.trigger, attempt.reason, seconds)

    def count(self) -> None:
        families.LOGINS.labels(self.outcome, self.method, self.trigger).inc()
        if self.outcome in (AttemptState.FAILED, AttemptState.EXPIRED):
            families.LOGIN_FAILURES.labels(self.reason).inc()
        if self.scan_seconds is not None:
            families.SCAN_SECONDS.observe(self.scan_seconds)
