"""What the upstream said about who is online: when it was asked last, and whom it named that nobody here knows."""

from datetime import datetime

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Presence(models.Model):
    """The state of the sweep that asks who is online; one row. It is asked by whoever takes the row when it is due."""

    ONLY = 1

    due_at = models.DateTimeField(default=timezone.now)
    taken_until = models.DateTimeField(null=True, blank=True)
    asked_at = models.DateTimeField(_("requested"), null=True, blank=True)
    answered_at = models.DateTimeField(_("responded at"), null=True, blank=True)
    # Whoever asks for the reasons of drops has them to itself until then.
    reasons_until = models.DateTimeField(null=True, blank=True)
    # Since when there has been no usable answer; empty while there is one.
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
        """The next look is due at this moment, if it was not due before; nothing where no row is there yet."""
        cls.objects.filter(pk=cls.ONLY, due_at__gt=at).update(due_at=at)


class UnmanagedAccount(models.Model):
    """An account that is online under our developer account and has no record here."""

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
