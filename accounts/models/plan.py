"""Plans: which accounts are logged in again and when, as admins set it, and the record of each run.

The plan's row is authoritative: `next_at` is its next scheduled time. Each scheduled time is a run with its
own row.
"""

from datetime import datetime
from typing import Self
from zoneinfo import ZoneInfo

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.lib import cron, db_clock
from accounts.lib.time_windows import known_zone, zone_named
from accounts.states import LISTED_STATES, AccountState

WEEKDAYS = (
    ("1", _("Monday")),
    ("2", _("Tuesday")),
    ("3", _("Wednesday")),
    ("4", _("Thursday")),
    ("5", _("Friday")),
    ("6", _("Saturday")),
    ("7", _("Sunday")),
)


class PlanMethod(models.TextChoices):
    LADDER = "ladder", _("Phone prompt, then scan queue")
    POPUP = "popup", _("Phone prompt only")
    SCAN = "scan", _("Scan queue")


class Outcome(models.TextChoices):
    """The result for one account in a plan run."""

    WAITING = "waiting", _("Not started")
    PROMPTED = "prompted", _("Phone prompt sent")
    RECOVERY = "recovery", _("Handed over to recovery")
    ONLINE = "online", _("Logged in")
    TO_SCAN = "to_scan", _("Queued for scan")
    DECLINED = "declined", _("Phone prompt failed")
    BUSY = "busy", _("Login already in progress")
    LISTED = "listed", _("Already in the scan queue")
    CHANGED = "changed", _("No longer due")
    NO_PROMPT = "no_prompt", _("Never logged in: scan required")
    CAP = "cap", _("24-hour prompt limit reached")
    HOURS = "hours", _("Outside prompt hours")
    SEATS = "seats", _("No free seat at WKTeam")
    LEFT = "left", _("Deferred to the next run")


class LeftOut(models.TextChoices):
    """Why an account that has the tags and the team of a plan is not among those of a run."""

    ARCHIVED = "archived", _("Archived")
    STATE = "state", _("In another state")
    PAUSED = "paused", _("Not kept online")
    NOT_DUE = "not_due", _("Not due")


# These took no step that a person or WKTeam notices: they do not count toward the accounts per minute.
PASSED_OVER = (
    Outcome.BUSY, Outcome.LISTED, Outcome.CHANGED, Outcome.NO_PROMPT, Outcome.CAP, Outcome.HOURS,
    Outcome.SEATS, Outcome.LEFT,
)  # fmt: skip
LEFT_OVER = (
    Outcome.WAITING, Outcome.DECLINED, Outcome.BUSY, Outcome.NO_PROMPT, Outcome.CAP, Outcome.HOURS,
    Outcome.SEATS, Outcome.LEFT,
)  # fmt: skip


class PlanQuerySet(models.QuerySet):
    def due(self, now: datetime) -> Self:
        return self.filter(active=True, next_at__lte=now)


class Plan(models.Model):
    name = models.CharField(_("name"), max_length=60, unique=True)
    active = models.BooleanField(_("enabled"), default=True)

    tags = models.ManyToManyField(
        "accounts.Tag",
        verbose_name=_("tags"),
        blank=True,
        related_name="plans",
        help_text=_("Accounts with any of these tags. Select none for all accounts."),
    )
    team = models.ForeignKey(
        Group,
        verbose_name=_("team"),
        null=True,
        blank=True,
        # Without its team a plan would apply to the accounts of all teams.
        on_delete=models.CASCADE,
        related_name="plans",
        help_text=_("Leave empty for all teams."),
    )
    state = models.CharField(
        _("state"),
        max_length=10,
        choices=LISTED_STATES,
        blank=True,
        default=AccountState.OFFLINE,
        help_text=_("Leave empty for any state. Accounts that are online also get a new wId."),
    )
    only_due = models.BooleanField(
        _("due accounts only"),
        default=False,
        help_text=_(
            "Accounts whose scheduled re-login time has passed and that haven’t been logged in since."
        ),
    )

    crontab = models.CharField(
        _("cron expression"),
        max_length=200,
        blank=True,
        default="",
        help_text=_(
            "Minute, hour, day of month, month, day of week. “30 9 * * 1-5” means 9:30, Monday to Friday; "
            "“0 9 L * *” means 9:00 on the last day of the month. If you set both kinds of days, both must match."
        ),
    )
    weekdays = models.CharField(_("days of the week"), max_length=13, blank=True, default="")
    at = models.TimeField(
        _("time of day"),
        null=True,
        blank=True,
        help_text=_(
            "Use instead of a cron expression. If daylight saving time skips this time, the run "
            "starts right after the gap."
        ),
    )
    time_zone = models.CharField(
        _("time zone"),
        max_length=60,
        blank=True,
        default="",
        validators=[known_zone],
        help_text=_("For example Asia/Shanghai. Leave empty to use the site’s time zone."),
    )

    method = models.CharField(_("method"), max_length=10, choices=PlanMethod, default=PlanMethod.LADDER)
    most_a_run = models.PositiveIntegerField(
        _("max accounts per run"),
        default=100,
        validators=[MinValueValidator(1), MaxValueValidator(20_000)],
        help_text=_(
            "Accounts that haven’t been logged in for longest come first. The rest wait for the next run."
        ),
    )
    most_a_minute = models.PositiveSmallIntegerField(
        _("max accounts per minute"),
        default=10,
        validators=[MinValueValidator(1), MaxValueValidator(600)],
        help_text=_("The limits and prompt hours of each account’s recovery policy also apply."),
    )
    next_at = models.DateTimeField(_("next run"), null=True, blank=True, editable=False)

    objects = PlanQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        verbose_name = _("plan")
        verbose_name_plural = _("plans")
        indexes = [models.Index("next_at", name="plan_next", condition=Q(active=True))]

    def __str__(self) -> str:
        return self.name

    def save(self, *args, **kwargs) -> None:
        """Save the plan and set `next_at`: None if disabled, the next time from now if the schedule changed.

        Scheduled times that were missed before the change are not made up for.
        """
        with transaction.atomic():
            before = Plan.objects.filter(pk=self.pk).first() if self.pk else None
            if not self.active:
                self.next_at = None
            elif before is None or before.next_at is None or _when(before) != _when(self):
                self.next_at = self.next_after(db_clock.now())
            else:
                self.next_at = before.next_at
            super().save(*args, **kwargs)

    @property
    def zone(self) -> ZoneInfo:
        return zone_named(self.time_zone)

    @property
    def expression(self) -> str:
        """Return the plan's times as a cron expression, also if they were entered as weekdays and a time."""
        if self.crontab:
            return " ".join(self.crontab.split())
        days = ",".join(sorted(str(int(day) % 7) for day in self.weekdays.split(",") if day))
        return f"{self.at.minute} {self.at.hour} * * {days}"

    def next_after(self, after: datetime) -> datetime | None:
        return cron.next_after(self.expression, self.zone, after)

    def latest(self, since: datetime, until: datetime) -> datetime | None:
        """Return the last scheduled time from `since` to `until`, both included, or None."""
        return cron.latest(self.expression, self.zone, since, until)

    def clean(self) -> None:
        by_weekday = bool(self.weekdays) or self.at is not None
        if self.crontab.strip() and by_weekday:
            raise ValidationError(
                _("Enter either a cron expression or days of the week with a time, not both.")
            )
        if not self.crontab.strip() and not (self.weekdays and self.at is not None):
            raise ValidationError(_("Enter when to run: days of the week and a time, or a cron expression."))
        try:
            cron.check(self.expression)
        except ValidationError as error:
            raise ValidationError({"crontab": error}) from None


def _when(plan: Plan) -> tuple:
    return plan.active, plan.expression, plan.zone.key


class PlanRun(models.Model):
    """One scheduled time of a plan. Without a plan: accounts whose own scheduled re-login was due."""

    plan = models.ForeignKey(
        Plan,
        verbose_name=_("plan"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="runs",
        db_index=False,
    )
    plan_name = models.CharField(_("plan"), max_length=60, blank=True, default="")
    method = models.CharField(_("method"), max_length=10, choices=PlanMethod, default=PlanMethod.LADDER)
    # Processes of an earlier version use this column name.
    scheduled_at = models.DateTimeField(_("scheduled"), db_column="slot_at")
    began_at = models.DateTimeField(_("started"), default=timezone.now)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    # The person who pressed "Run now"; empty: the scheduled time came.
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("operator"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
    )
    asked_by_name = models.CharField(_("by"), max_length=150, blank=True, default="")
    due = models.PositiveIntegerField(_("due accounts"), default=0)
    # Numbers by LeftOut. None: the run is of no plan, or a version made it that did not count them.
    left_out = models.JSONField(null=True, editable=False)
    # When people were notified of the run.
    told_at = models.DateTimeField(null=True, blank=True, editable=False)
    # The previous run was still in progress: this one processed no account.
    skipped = models.BooleanField(_("skipped"), default=False)

    class Meta:
        ordering = ["-id"]
        verbose_name = _("plan run")
        verbose_name_plural = _("plan runs")
        constraints = [
            models.UniqueConstraint(fields=["plan", "scheduled_at"], name="one_run_per_slot"),
            # On a column with the same value in all these rows, so at most one can be open.
            models.UniqueConstraint(
                fields=["skipped"],
                condition=Q(plan_name="", ended_at=None),
                name="one_open_run_of_the_due",
            ),
        ]
        indexes = [
            models.Index("began_at", "id", name="run_time"),
            models.Index("id", name="run_open", condition=Q(ended_at=None)),
            models.Index("ended_at", name="run_untold", condition=Q(told_at=None)),
        ]

    def __str__(self) -> str:
        return f"{self.plan_name or _('Due accounts')} #{self.pk}"

    @property
    def is_open(self) -> bool:
        return self.ended_at is None


class PlanResult(models.Model):
    """One account of a plan run and its result."""

    run = models.ForeignKey(
        PlanRun, verbose_name=_("plan run"), on_delete=models.CASCADE, related_name="entries", db_index=False
    )
    account = models.ForeignKey(
        "accounts.Account", verbose_name=_("account"), on_delete=models.CASCADE, related_name="plan_entries"
    )
    # The due time of the account that this row answers: each is answered at most once.
    due_at = models.DateTimeField(_("due at"), null=True, blank=True)
    outcome = models.CharField(_("result"), max_length=10, choices=Outcome, default=Outcome.WAITING)
    attempt = models.ForeignKey(
        "accounts.LoginAttempt",
        verbose_name=_("login attempt"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    # Not before this time: the account waits for its prompt hours.
    next_at = models.DateTimeField(_("next step at"), null=True, blank=True)
    taken_at = models.DateTimeField(_("processed"), null=True, blank=True)
    ended_at = models.DateTimeField(_("finished"), null=True, blank=True)

    class Meta:
        db_table = "accounts_planentry"
        ordering = ["id"]
        verbose_name = _("plan result")
        verbose_name_plural = _("plan results")
        constraints = [
            models.UniqueConstraint(fields=["run", "account"], name="an_account_once_a_run"),
            models.UniqueConstraint(
                fields=["account", "due_at"], condition=Q(due_at__isnull=False), name="a_due_time_once"
            ),
        ]
        indexes = [
            models.Index("run", "outcome", "id", name="entry_of_run"),
            models.Index("id", name="entry_unsettled", condition=Q(ended_at=None)),
        ]

    def __str__(self) -> str:
        return f"{self.get_outcome_display()} #{self.pk}"
