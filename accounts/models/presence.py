"""WKTeam's answers about who is online: the state of the presence check, and the unmanaged accounts."""

from datetime import datetime

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Presence(models.Model):
    """The state of the presence check (one row).

    The process that claims the row when it is due makes the check.
    """

    ONLY = 1

    due_at = models.DateTimeField(default=timezone.now)
    taken_until = models.DateTimeField(null=True, blank=True)
    asked_at = models.DateTimeField(_("requested"), null=True, blank=True)
    answered_at = models.DateTimeField(_("responded at"), null=True, blank=True)
    # When the last answered check began. It confirms every online account that it did not miss (Account.last_checked).
    checked_at = models.DateTimeField(null=True, blank=True)
    # Until then one process has the requests for the reasons of drops to itself.
    reasons_until = models.DateTimeField(null=True, blank=True)
    # Since when WKTeam has given no usable answer; empty while it does.
    unknown_since = models.DateTimeField(_("unknown since"), null=True, blank=True)
    unknown_why = models.CharField(_("reason"), max_length=20, blank=True, default="")
    online = models.PositiveIntegerField(_("accounts online"), default=0)

    class Meta:
        verbose_name = _("presence check")
        verbose_name_plural = _("presence check")

    def __str__(self) -> str:
        return f"asked {self.asked_at}"

    @classmethod
    def set_due_by(cls, at: datetime) -> None:
        """Make the next check due at `at`, unless it is due earlier. Does nothing if there is no row yet."""
        cls.objects.filter(pk=cls.ONLY, due_at__gt=at).update(due_at=at)


class UnmanagedAccount(models.Model):
    """An account that is online under the developer account and has no record here."""

    wc_id = models.CharField("wcId", max_length=100, unique=True)
    w_id = models.CharField("wId", max_length=100, blank=True, default="")
    found_at = models.DateTimeField(_("detected"), default=timezone.now)
    ignored = models.BooleanField(_("ignored"), default=False)

    class Meta:
        db_table = "accounts_discovered"
        ordering = ["-found_at", "-id"]
        verbose_name = _("unmanaged account")
        verbose_name_plural = _("unmanaged accounts")

    def __str__(self) -> str:
        return self.wc_id
