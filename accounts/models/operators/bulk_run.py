"""Bulk runs: one action on many accounts, with the result for each account."""

from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from accounts.reasons import Reason


class BulkAction(models.TextChoices):
    LOG_IN = "log_in", _("Log in")
    PROMPT = "prompt", _("Send phone prompts")
    CHECK = "check", _("Check now")
    TAG = "tag", _("Add tags")
    UNTAG = "untag", _("Remove tags")
    TEAM = "team", _("Change team")
    PROXY = "proxy", _("Change proxy")
    PLACE = "place", _("Change place")
    POLICY = "policy", _("Change recovery policy")
    PAUSE = "pause", _("Pause")
    RESUME = "resume", _("Resume")
    ARCHIVE = "archive", _("Archive")
    DUE = "due", _("Schedule re-login")


class BulkState(models.TextChoices):
    WAITING = "waiting", _("Not started")
    STARTED = "started", _("In progress")
    DONE = "done", _("Done")
    FAILED = "failed", pgettext_lazy("result of a bulk action", "Failed")
    LEFT_OUT = "left_out", _("Left out")
    CANCELLED = "cancelled", _("Cancelled")


class BulkReason(models.TextChoices):
    """Why an account was left out or failed, if no login attempt says it. The codes are none of `Reason`."""

    UNCHANGED = "unchanged", _("Nothing to change")
    ONLINE = "online", _("Already online")
    LOG_OUT_FIRST = "log_out_first", _("Online: log it out first")
    BUSY = "busy", _("Login already in progress")
    PAUSED = "paused", _("Paused")
    NEVER = "never", _("Never logged in: scan required")
    FIRST_NIGHT = "first_night", _("First-day drop: phone prompts don’t work")
    CAP = "cap", _("24-hour prompt limit reached")
    HOURS = "hours", _("Outside prompt hours")
    SEATS = "seats", _("No free seat at WKTeam")
    USES_OWN_PROXY = "uses_own_proxy", _("Uses its own proxy")
    GONE = "gone", _("Archived, merged or no longer in your teams")
    RIGHTS = "rights", _("You may no longer do this")
    VALUE_GONE = "value_gone", _("The chosen team, proxy or policy no longer exists")
    NOT_CHECKED = "not_checked", _("No answer from WKTeam")
    NOT_REACHED = "not_reached", _("Not scanned")
    ERROR = "error", _("Unexpected error; the log has the details")


OPEN = (BulkState.WAITING, BulkState.STARTED)
_WORDS = {**dict(Reason.choices), **dict(BulkReason.choices)}


class BulkRunQuerySet(models.QuerySet):
    def open(self) -> Self:
        return self.filter(ended_at=None)


class BulkRun(models.Model):
    # Whose rights apply, also while the run goes on.
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("operator"),
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
    )
    person_name = models.CharField(_("by"), max_length=150, editable=False)
    action = models.CharField(_("action"), max_length=10, choices=BulkAction)
    # What the action writes, by name: `tags`, `team`, `proxy`, `place`, `policy`, `reason`, `at`.
    value = models.JSONField(default=dict)
    scan_run = models.ForeignKey(
        "accounts.ScanRun", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(_("started"), default=timezone.now)
    cancelled_at = models.DateTimeField(_("cancelled"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)

    objects = BulkRunQuerySet.as_manager()

    class Meta:
        verbose_name = _("bulk run")
        verbose_name_plural = _("bulk runs")
        indexes = [
            models.Index(fields=["person", "-id"], name="bulk_run_of_person"),
            models.Index("id", name="bulk_run_open", condition=Q(ended_at=None)),
            models.Index("ended_at", name="bulk_run_ended"),
        ]

    def __str__(self) -> str:
        return f"{self.get_action_display()} #{self.pk}"

    @property
    def is_open(self) -> bool:
        return self.ended_at is None


class BulkItem(models.Model):
    """One account of a bulk run and its result."""

    run = models.ForeignKey(BulkRun, on_delete=models.CASCADE, related_name="items", db_index=False)
    account = models.ForeignKey(
        "accounts.Account", verbose_name=_("account"), on_delete=models.CASCADE, related_name="+"
    )
    state = models.CharField(_("result"), max_length=10, choices=BulkState, default=BulkState.WAITING)
    reason = models.CharField(_("reason"), max_length=20, blank=True, default="")  # of Reason or BulkReason
    attempt = models.ForeignKey(
        "accounts.LoginAttempt", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    # Not before this time: the pace of its policy allows no prompt yet.
    next_at = models.DateTimeField(null=True, blank=True, editable=False)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)

    class Meta:
        verbose_name = _("account of a bulk run")
        verbose_name_plural = _("accounts of a bulk run")
        constraints = [
            models.UniqueConstraint(fields=["run", "account"], name="account_once_in_bulk_run"),
            models.CheckConstraint(
                condition=Q(state__in=OPEN, ended_at__isnull=True)
                | (~Q(state__in=OPEN) & Q(ended_at__isnull=False)),
                name="bulk_item_ended_when_final",
            ),
        ]
        indexes = [models.Index("run", "state", "id", name="bulk_item_of_run")]

    def __str__(self) -> str:
        return f"{self.get_state_display()} #{self.pk}"

    @property
    def words(self) -> str:
        """Return why it failed or was left out, as people read it."""
        return str(_WORDS.get(self.reason, ""))
