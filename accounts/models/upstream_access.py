"""The stored Authorization."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from accounts.lib.encrypted_fields import EncryptedTextField


class UpstreamAccess(models.Model):
    """The Authorization for one developer account at one address, and whether the upstream takes it."""

    base_url = models.CharField(_("address"), max_length=300)
    account = models.CharField(_("developer account"), max_length=150, blank=True, default="")
    authorization = EncryptedTextField(blank=True, default="")
    renewed_at = models.DateTimeField(_("authorized at"), null=True, blank=True)
    renewing_until = models.DateTimeField(null=True, blank=True)
    refused_at = models.DateTimeField(_("refused at"), null=True, blank=True)
    refused_why = models.CharField(_("reason"), max_length=20, blank=True, default="")
    refused_text = models.CharField(_("WKTeam message"), max_length=300, blank=True, default="")
    # What the last sign-in answered about the developer account, as far as it did, and when. When to check next
    # whether that must be read again; empty: now.
    seats = models.PositiveIntegerField(_("seats"), null=True, blank=True)
    ends_at = models.DateTimeField(_("ends"), null=True, blank=True)
    read_at = models.DateTimeField(_("read at"), null=True, blank=True)
    read_due_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("WKTeam connection")
        verbose_name_plural = _("WKTeam connection")
        constraints = [models.UniqueConstraint(fields=["base_url", "account"], name="one_access_per_account")]

    def __str__(self) -> str:
        return f"{self.account} at {self.base_url}"
