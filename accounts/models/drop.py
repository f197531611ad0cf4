"""Drops (one row for each time an account went offline) and incidents (many drops at once).

A drop is open until the account is back.
A drop holds what recovery does about it, so that the record explains every offline account.
"""

from datetime import datetime, timedelta
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.lib.lists.keyset_pagination import for_each
from accounts.models.account_queries import of_accounts
from accounts.models.operators.assignable import Assignable
from accounts.states import DetectedBy, DropKind, Method, NextStep

# WKTeam's rules: an account drops once within a day of its first login. An immediate drop concerns the proxy.
FIRST_NIGHT = timedelta(hours=24)
AT_ONCE = timedelta(seconds=60)


class IncidentQuerySet(models.QuerySet):
    def of(self, accounts: QuerySet) -> Self:
        """Return the incidents in which one of these accounts dropped."""
        return self.filter(for_each(Drop.objects.of(accounts).filter(incident=OuterRef("pk"))))


class Incident(Assignable):
    """Drops that occurred together and have something in common: one notification covers all of them."""

    at = models.DateTimeField(_("started"), default=timezone.now)
    # What the drops have in common: "proxy" and its code, "region" and its name, or empty (only the time).
    shares = models.CharField(_("in common:"), max_length=10, blank=True, default="")
    shared = models.CharField(_("shared value"), max_length=101, blank=True, default="")
    last_drop_at = models.DateTimeField(_("latest drop"), default=timezone.now)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)

    objects = IncidentQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = _("incident")
        verbose_name_plural = _("incidents")
        indexes = [models.Index("id", name="incident_open", condition=Q(ended_at=None))]

    def __str__(self) -> str:
        return f"#{self.pk}"


class IncidentNoteKind(models.TextChoices):
    NOTE = "note", _("Note")
    TAKEN = "taken", _("Taken by a person")
    RELEASED = "released", _("Released")


class IncidentNote(models.Model):
    """What a person wrote about an incident, or that a person took or released it. Rows are added, never changed.

    Everybody who may see the incident reads it.
    """

    incident = models.ForeignKey(
        Incident, verbose_name=_("incident"), on_delete=models.CASCADE, related_name="notes"
    )
    kind = models.CharField(max_length=10, choices=IncidentNoteKind, default=IncidentNoteKind.NOTE)
    text = models.CharField(_("note"), max_length=500, blank=True, default="")
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
    )
    author_name = models.CharField(max_length=150, blank=True, default="")
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} #{self.pk}"


class DropQuerySet(models.QuerySet):
    def open(self) -> Self:
        return self.filter(ended_at=None)

    def of(self, accounts: QuerySet) -> Self:
        """Return the drops of these accounts.

        Compares drop by drop: an incident has few drops, while a team may have most accounts.
        """
        return of_accounts(self, accounts)


class Drop(models.Model):
    account = models.ForeignKey(
        "accounts.Account",
        verbose_name=_("account"),
        on_delete=models.CASCADE,
        related_name="drops",
        db_index=False,
    )
    incident = models.ForeignKey(
        Incident,
        verbose_name=_("incident"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="drops",
    )
    kind = models.CharField(_("type"), max_length=15, choices=DropKind, default=DropKind.ORDINARY)
    detected_by = models.CharField(
        _("detected by"),
        max_length=10,
        choices=DetectedBy,
        default=DetectedBy.SWEEP,
        db_column="found_by",
    )
    w_id = models.CharField("wId", max_length=100)
    online_since = models.DateTimeField(_("online since"), null=True, blank=True)
    at = models.DateTimeField(_("detected"), default=timezone.now)
    # Values at the time of the drop, which the drops of an incident may have in common.
    proxy = models.PositiveSmallIntegerField(_("proxy"), null=True, blank=True)
    region = models.CharField(_("region"), max_length=101, blank=True, default="")
    # From /offlineReason, unchanged.
    reason_text = models.CharField(_("WKTeam message"), max_length=300, blank=True, default="")

    next_step = models.CharField(_("recovery"), max_length=10, choices=NextStep, default=NextStep.WAITING)
    # When recovery checks it again; empty if no automatic step is left.
    next_at = models.DateTimeField(_("next step at"), null=True, blank=True, default=timezone.now)
    # Who asked for recovery now, until a step is decided: no pause applies then.
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
        editable=False,
    )
    prompts_sent = models.PositiveSmallIntegerField(_("prompts"), default=0, db_column="popups")

    ended_at = models.DateTimeField(_("recovered"), null=True, blank=True)
    # Method of the login of ours that recovered the account; empty if it came back otherwise.
    ended_by = models.CharField(_("recovered by"), max_length=10, choices=Method, blank=True, default="")

    objects = DropQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = _("drop")
        verbose_name_plural = _("drops")
        constraints = [
            models.UniqueConstraint(fields=["account"], condition=Q(ended_at=None), name="one_open_drop"),
        ]
        indexes = [
            models.Index(fields=["account", "-id"], name="drop_of_account"),
            models.Index("at", "id", name="drop_time"),
            models.Index("kind", "at", "id", name="drop_kind"),
            models.Index("next_at", "id", name="drop_due", condition=Q(ended_at=None)),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} #{self.pk}"


def kind_of(first_login_at: datetime | None, last_login_at: datetime | None, at: datetime) -> DropKind:
    """Return the kind of a drop at `at`, by the account's first and last login (None if unknown)."""
    if last_login_at is not None and at - last_login_at <= AT_ONCE:
        return DropKind.AT_ONCE
    if first_login_at is not None and first_login_at == last_login_at and at - first_login_at <= FIRST_NIGHT:
        return DropKind.FIRST_NIGHT
    return DropKind.ORDINARY
