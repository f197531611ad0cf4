"""Links for the owners of phones: anyone who has one can log in one account, without a sign-in here."""

from datetime import datetime
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.lib.encrypted_fields import EncryptedTextField
from accounts.states import AccountState


class LinkState(models.TextChoices):
    CREATED = "created", _("Created")
    SENT = "sent", _("Sent")
    OPENED = "opened", _("Opened")
    SCANNED = "scanned", _("Scanned")
    DONE = "done", _("Logged in")
    EXPIRED = "expired", _("Expired")
    REVOKED = "revoked", _("Revoked")


# A link only moves forward, and not back to "sent" when it is sent again.
ORDER = (LinkState.CREATED, LinkState.SENT, LinkState.OPENED, LinkState.SCANNED)


class ScanLinkQuerySet(models.QuerySet):
    def active(self) -> Self:
        return self.filter(ended_at=None)

    def over(self, now: datetime) -> Self:
        """Those of `active` that have to end: they ran out, or their account needs no login any more."""
        back = Q(account__last_login_at__gt=F("created_at"))
        gone = Q(account__state=AccountState.ARCHIVED) | Q(account__merged_into__isnull=False)
        return self.active().filter(Q(expires_at__lte=now) | back | gone)


class ScanLink(models.Model):
    account = models.ForeignKey(
        "accounts.Account",
        verbose_name=_("account"),
        on_delete=models.CASCADE,
        related_name="scan_links",
        db_index=False,
    )
    # The token is in the link only. Its SHA-256 finds the row; the token itself is kept until the link ends, so that
    # the link can be copied again.
    token_digest = models.CharField(max_length=64, unique=True, editable=False)
    token = EncryptedTextField(blank=True, default="", editable=False)
    state = models.CharField(_("state"), max_length=10, choices=LinkState, default=LinkState.CREATED)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("created by"),
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    created_by_name = models.CharField(max_length=150, blank=True, default="", editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    expires_at = models.DateTimeField(_("valid until"))
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)
    opened_at = models.DateTimeField(_("opened"), null=True, blank=True)
    scanned_at = models.DateTimeField(_("scanned"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    # The login that its page asked for last.
    attempt = models.ForeignKey(
        "accounts.LoginAttempt", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    codes = models.PositiveSmallIntegerField(default=0, editable=False)
    prompts = models.PositiveSmallIntegerField(default=0, editable=False)
    # QR codes in a row that nobody asked for: an expired one is replaced while somebody looks.
    renewals = models.PositiveSmallIntegerField(default=0, editable=False)

    objects = ScanLinkQuerySet.as_manager()

    class Meta:
        verbose_name = _("scan link")
        verbose_name_plural = _("scan links")
        constraints = [
            models.UniqueConstraint(
                fields=["account"], condition=Q(ended_at__isnull=True), name="one_active_link"
            ),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True) | Q(token=""), name="no_token_after_the_end"
            ),
        ]
        indexes = [
            models.Index(fields=["account", "-id"], name="link_of_account"),
            # For the database's check when an old attempt is deleted.
            models.Index("attempt", name="link_of_attempt", condition=Q(attempt__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.get_state_display()} #{self.pk}"

    @property
    def is_active(self) -> bool:
        return self.ended_at is None


class ScanLinkOpening(models.Model):
    """Somebody opened the page of a link."""

    link = models.ForeignKey(ScanLink, on_delete=models.CASCADE, related_name="openings", db_index=False)
    at = models.DateTimeField(_("time"), default=timezone.now)
    address = models.GenericIPAddressField(_("address"), null=True)

    class Meta:
        verbose_name = _("opening of a scan link")
        verbose_name_plural = _("openings of scan links")
        indexes = [models.Index(fields=["link", "-at"], name="opening_of_link")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.address}"
