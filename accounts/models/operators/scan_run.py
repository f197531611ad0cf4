"""Runs of the scan station: a person works through a queue of accounts, one QR code after another.

A claimed item has its account to itself: no other run shows that account meanwhile. Claims end with the item, when
the run is paused for a time, or when nobody has looked at the run for UNATTENDED_AFTER.
"""

from datetime import datetime, timedelta
from typing import Self

from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.reasons import Reason

# A page looks at its run every 15 s at the latest.
UNATTENDED_AFTER = timedelta(seconds=60)


class ScanSource(models.TextChoices):
    SCAN_QUEUE = "scan_queue", _("Scan queue")
    NEW = "new", _("Never logged in")
    FAILED_LOGIN = "failed_login", _("Last login failed")
    FILTER = "filter", _("Filtered accounts")
    SELECTION = "selection", _("Selected accounts")
    AGAIN = "again", _("Again for the failed")


class ScanState(models.TextChoices):
    QUEUED = "queued", _("Queued")
    READY = "ready", _("QR code ready")
    SHOWN = "shown", _("Shown")
    DONE = "done", _("Online")
    FAILED = "failed", _("Failed")
    SKIPPED = "skipped", _("Skipped")


CLAIMED = (ScanState.READY, ScanState.SHOWN)
ENDED = (ScanState.DONE, ScanState.FAILED, ScanState.SKIPPED)


class ScanRunQuerySet(models.QuerySet):
    def open(self) -> Self:
        return self.filter(ended_at=None)


class ScanRun(models.Model):
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("operator"), on_delete=models.CASCADE, related_name="+"
    )
    source = models.CharField(_("source"), max_length=15, choices=ScanSource)
    automatic_next = models.BooleanField(_("automatic next"), default=True)
    # Without automatic next: somebody asked for the next account.
    next_wanted = models.BooleanField(default=True, editable=False)
    paused_at = models.DateTimeField(_("paused"), null=True, blank=True)
    # Why the portal paused it: a failure that every other account would share.
    pause_reason = models.CharField(max_length=20, choices=Reason, blank=True, default="")
    created_at = models.DateTimeField(_("started"), default=timezone.now)
    seen_at = models.DateTimeField(_("last looked at"), default=timezone.now)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)

    objects = ScanRunQuerySet.as_manager()

    class Meta:
        verbose_name = _("scan run")
        verbose_name_plural = _("scan runs")
        indexes = [
            models.Index(fields=["person", "-id"], name="scan_run_of_person"),
            models.Index("ended_at", name="scan_run_ended"),
        ]

    def __str__(self) -> str:
        return f"{self.get_source_display()} #{self.pk}"


class ScanRunItemQuerySet(models.QuerySet):
    def claimed(self) -> Self:
        return self.filter(state__in=CLAIMED)

    def ended(self) -> Self:
        return self.filter(state__in=ENDED)

    def with_attempt(self) -> Self:
        """Each with its account and its attempt, without the image of the QR code."""
        light = self.select_related("account", "attempt")
        return light.defer("attempt__qr_png", "attempt__qr_text")

    def unattended(self, now: datetime) -> Self:
        """Return the claimed items of runs at which nobody looks."""
        return self.claimed().filter(run__seen_at__lt=now - UNATTENDED_AFTER)


class ScanRunItem(models.Model):
    run = models.ForeignKey(ScanRun, on_delete=models.CASCADE, related_name="items", db_index=False)
    account = models.ForeignKey(
        "accounts.Account", verbose_name=_("account"), on_delete=models.CASCADE, related_name="+"
    )
    position = models.PositiveIntegerField(_("position"))
    state = models.CharField(_("state"), max_length=10, choices=ScanState, default=ScanState.QUEUED)
    # The place of the screen that shows it: 0 of the station, one for each tile of the wall.
    slot = models.PositiveSmallIntegerField(default=0, editable=False)
    reason = models.CharField(_("reason"), max_length=20, choices=Reason, blank=True, default="")
    attempt = models.ForeignKey(
        "accounts.LoginAttempt", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    renewals = models.PositiveSmallIntegerField(_("renewals"), default=0)
    # How often its QR code was requested before it was shown.
    fetched_ahead = models.PositiveSmallIntegerField(default=0, editable=False)
    skips = models.PositiveSmallIntegerField(default=0, editable=False)
    shown_at = models.DateTimeField(_("shown"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)

    objects = ScanRunItemQuerySet.as_manager()

    class Meta:
        verbose_name = _("account of a scan run")
        verbose_name_plural = _("accounts of a scan run")
        constraints = [
            models.UniqueConstraint(fields=["run", "account"], name="account_once_in_scan_run"),
            models.UniqueConstraint(
                fields=["account"], condition=Q(state__in=CLAIMED), name="account_at_one_station"
            ),
            models.UniqueConstraint(
                fields=["run", "state", "slot"], condition=Q(state__in=CLAIMED), name="one_item_in_slot"
            ),
            models.CheckConstraint(
                condition=Q(state__in=ENDED, ended_at__isnull=False)
                | (~Q(state__in=ENDED) & Q(ended_at__isnull=True)),
                name="scan_item_ended_when_final",
            ),
        ]
        indexes = [models.Index("run", "state", "position", name="scan_item_of_run")]

    def __str__(self) -> str:
        return f"{self.position} of run {self.run_id}"

    @property
    def seconds(self) -> float | None:
        """Return how long its login took from the moment at which it was shown."""
        return (self.ended_at - self.shown_at).total_seconds() if self.ended_at and self.shown_at else None

    @property
    def outcome(self) -> str:
        """Return why it has ended, or its state."""
        return self.get_reason_display() if self.reason else self.get_state_display()

    @property
    def is_ended(self) -> bool:
        return self.state in ENDED

    def move(self, to: str, **changes) -> bool:
        """Move to state `to`, if the row still has the state seen here.

        Returns False if it moved meanwhile, or if another run has claimed the account or the slot is taken.
        """
        rows = ScanRunItem.objects.filter(pk=self.pk, state=self.state)
        try:
            with transaction.atomic():
                moved = rows.update(state=to, **changes)
        except IntegrityError:
            return False
        if moved:
            for name, value in {"state": to, **changes}.items():
                setattr(self, name, value)
        return bool(moved)
