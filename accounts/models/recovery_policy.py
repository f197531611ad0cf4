"""Recovery policies, set by admins: which steps recovery takes, how often, how fast and in which hours."""

from collections.abc import Iterable
from datetime import timedelta

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.lib.time_windows import TimeWindow, is_half

LONGEST_PAUSE = timedelta(hours=12)


# Name of the policy that the first migration creates. Shown in the reader's language until it is renamed.
AS_INSTALLED = "Default"


class RecoveryPolicy(TimeWindow):
    """When and how often recovery may act.

    The hours are the prompt hours: outside them no phone is prompted.
    """

    name = models.CharField(_("name"), max_length=60, unique=True)
    is_default = models.BooleanField(_("default (for accounts without their own policy)"), default=False)
    popup = models.BooleanField(
        _("send a phone prompt first"),
        default=True,
        help_text=_(
            "The owner confirms on the phone; no scan needed. Not used after a first-day drop, where "
            "it can’t work."
        ),
    )
    prompts_a_day = models.PositiveSmallIntegerField(
        _("max prompts per account in 24 hours"),
        default=3,
        validators=[MaxValueValidator(20)],
        db_column="popups_a_day",
    )
    prompts_a_minute = models.PositiveSmallIntegerField(
        _("max prompts per minute for all accounts"),
        db_column="popups_a_minute",
        default=10,
        validators=[MinValueValidator(1), MaxValueValidator(600)],
    )
    pause_minutes = models.PositiveSmallIntegerField(
        _("minutes before the second prompt"),
        default=5,
        help_text=_("Doubles after each further prompt, plus a small random delay."),
        validators=[MinValueValidator(1), MaxValueValidator(720)],
    )
    scan = models.BooleanField(
        _("then add to scan queue"), default=True, help_text=_("Adds the account to the scan queue.")
    )

    class Meta:
        ordering = ["name"]
        verbose_name = _("recovery policy")
        verbose_name_plural = _("recovery policies")
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"], condition=Q(is_default=True), name="one_default_policy"
            )
        ]

    def __str__(self) -> str:
        return gettext("Default") if self.name == AS_INSTALLED else self.name

    def clean(self) -> None:
        if is_half(self.hours_from, self.hours_until):
            raise ValidationError({"hours_until": _("Enter both the start and the end, or neither.")})

    def pause_after(self, prompts: int) -> timedelta:
        """Return the minimum wait after `prompts` prompts of a drop, from the end of the last one.

        At most 12 hours.
        """
        doubled = timedelta(minutes=self.pause_minutes) * 2 ** min(max(prompts, 1) - 1, 10)
        return min(doubled, LONGEST_PAUSE)


def default_policy(policies: Iterable[RecoveryPolicy] | None = None) -> RecoveryPolicy:
    """Return the policy for accounts without their own. `policies`: all of them, None to read it.

    If there is none, returns an unsaved one with the columns' defaults.
    """
    if policies is None:
        policies = RecoveryPolicy.objects.filter(is_default=True)
    return next((policy for policy in policies if policy.is_default), None) or RecoveryPolicy()


class Policies:
    """All policies. `rows`: their query, which may lock them."""

    def __init__(self, rows: models.QuerySet | None = None):
        self.all = {policy.pk: policy for policy in (RecoveryPolicy.objects.all() if rows is None else rows)}
        self.default = default_policy(self.all.values())

    def of(self, account) -> RecoveryPolicy:
        return self.all.get(account.policy_id, self.default)


def policy_for(account) -> RecoveryPolicy:
    return account.policy or default_policy()
