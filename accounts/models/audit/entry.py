"""The audit log: who did what to whom, from where, by what, when."""

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from accounts.models.audit.origin import Way
from accounts.states import EventType


class AppendOnly(Exception):
    """Raised for a change of an audit entry: a programming error."""


class AuditKind(models.TextChoices):
    """What was done. What it was done to is the entry's subject."""

    ADDED = "added", _("Added")
    CHANGED = "changed", _("Details changed")
    RENAMED = "renamed", _("Renamed")
    DELETED = "deleted", _("Deleted")
    # People and their sign-in.
    GROUPS = "groups", _("Role and teams changed")
    LOCKED = "locked", _("Locked")
    UNLOCKED = "unlocked", _("Unlocked")
    LOCKOUT_ENDED = "lockout_ended", _("Sign-in lockout ended")
    LINK = "password_link", _("Password link created")
    PASSWORD = "password", _("Password changed")  # noqa: S105 - no password
    SIGNED_OUT = "signed_out", _("Signed out everywhere")
    SESSION_ENDED = "session_ended", _("One browser signed out")
    FACTOR_ADDED = "factor_added", _("Second factor set up")
    FACTOR_REMOVED = "factor_removed", _("Second factor removed")
    RECOVERY_CODES = "recovery_codes", _("Recovery codes created")
    LINKED = "identity_linked", _("Linked to the sign-in provider")
    UNLINKED = "identity_unlinked", _("No longer linked to the sign-in provider")
    SYNCED = "synced", _("Role and teams set by the sign-in provider")
    # Logins.
    LOGIN_STARTED = "login_started", _("Login started")
    LOGIN_MOVED = "login_moved", _("Login continued or cancelled")
    CODE_SHOWN = "code_shown", pgettext_lazy("what somebody did", "QR code shown")
    PAGE_SHOWN = "page_shown", _("Verification page shown")
    LOGGED_OUT = "logged_out", _("Log-out at WKTeam requested")
    LINK_CREATED = "link_created", _("Scan link created")
    LINK_SENT = "link_sent", _("Scan link sent")
    LINK_OPENED = "link_opened", _("Scan link opened")
    LINK_REVOKED = "link_revoked", _("Scan link revoked")
    # Accounts.
    ADOPTED = "adopted", _("Adopted")
    MERGED = "merged", _("Merged into another record")
    UNMERGED = "unmerged", _("Merge undone")
    ARCHIVED = "archived", _("Archived")
    RESTORED = "restored", _("Restored from the archive")
    PAUSED = "paused", _("Paused")
    RESUMED = "resumed", _("Resumed")
    SILENCED = "silenced", _("Notifications silenced")
    TO_SCAN = "to_scan", _("Queued for scan")
    ASSIGNED = "assigned", _("Taken by a person")
    RELEASED = "released", _("Released")
    # Of many at once.
    BULK_STARTED = "bulk_started", _("Bulk action started")
    BULK_CANCELLED = "bulk_cancelled", _("Bulk action cancelled")
    PLAN_STARTED = "plan_started", _("Plan run started")
    RECOVERY_ASKED = "recovery_asked", _("Recovery of an incident requested")
    IMPORTED = "imported", _("Accounts imported")
    EXPORTED = "exported", _("Exported")
    TESTED = "tested", _("Test message sent")
    IGNORED = "ignored", _("Unmanaged account ignored or shown again")


K, E = AuditKind, EventType
# The kind of each event of an account that a person may cause. Every other event is the portal's own doing.
OF_EVENTS: dict[str, AuditKind] = {
    E.ATTEMPT_STARTED: K.LOGIN_STARTED, E.ATTEMPT_MOVED: K.LOGIN_MOVED, E.LOGGED_OUT: K.LOGGED_OUT,
    E.ADDED: K.ADDED, E.CHANGED: K.CHANGED, E.FOUND_ONLINE: K.ADOPTED, E.MERGED: K.MERGED, E.UNMERGED: K.UNMERGED,
    E.ARCHIVED: K.ARCHIVED, E.RESTORED: K.RESTORED, E.PAUSED: K.PAUSED, E.RESUMED: K.RESUMED, E.SILENCED: K.SILENCED,
    E.TO_SCAN: K.TO_SCAN, E.ASSIGNED: K.ASSIGNED, E.RELEASED: K.RELEASED,
    E.LINK_CREATED: K.LINK_CREATED, E.LINK_SENT: K.LINK_SENT, E.LINK_OPENED: K.LINK_OPENED, E.LINK_REVOKED: K.LINK_REVOKED,
}  # fmt: skip
OF_ACCOUNTS = "accounts.account"


class AuditEntry(models.Model):
    """One action. Rows are added, never changed, and survive what they name: they hold IDs and names, no foreign keys.

    Personal data of a deleted account is erased all the same, by `accounts.maintenance.personal_data`.
    """

    at = models.DateTimeField(_("time"), default=timezone.now)
    kind = models.CharField(_("action"), max_length=20)  # of AuditKind; another kind needs no migration
    # Nobody: what a command did for nobody in particular, and what the owner of a phone did.
    actor_id = models.BigIntegerField(null=True)
    actor_name = models.CharField(_("by"), max_length=150, blank=True, default="")
    way = models.CharField(_("by what"), max_length=10, choices=Way)
    origin = models.CharField(_("view, command or task"), max_length=80, blank=True, default="")
    address = models.GenericIPAddressField(_("address"), null=True)
    request_id = models.CharField(_("request ID"), max_length=64, blank=True, default="")
    link_id = models.BigIntegerField(_("scan link"), null=True)
    # `app.model` of what it was done to.
    subject = models.CharField(_("subject"), max_length=60, blank=True, default="")
    subject_id = models.BigIntegerField(null=True)
    subject_name = models.CharField(_("subject"), max_length=200, blank=True, default="")
    account_id = models.BigIntegerField(null=True)
    account_name = models.CharField(_("account"), max_length=100, blank=True, default="")
    team_id = models.BigIntegerField(null=True)
    team_name = models.CharField(_("team"), max_length=150, blank=True, default="")
    attempt_id = models.BigIntegerField(_("login attempt"), null=True)
    # Names of changed fields, of a role, of a channel; a filter. Never the value of a secret.
    detail = models.CharField(_("details"), max_length=1000, blank=True, default="")
    # How many: rows of an export, accounts of a bulk action. None for an export that was broken off.
    number = models.PositiveIntegerField(_("number"), null=True)
    # Of what is recorded once although it happens often.
    once = models.CharField(max_length=120, null=True, unique=True, editable=False)

    class Meta:
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit log")
        indexes = [
            models.Index("at", "id", name="audit_time"),
            models.Index("kind", "at", "id", name="audit_kind"),
            models.Index("actor_name", "at", "id", name="audit_actor"),
            models.Index("account_id", "at", "id", name="audit_account"),
            models.Index("team_id", "at", "id", name="audit_team"),
            models.Index("address", "at", "id", name="audit_address"),
            models.Index("subject", "subject_id", "at", "id", name="audit_subject"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} #{self.pk}"

    def save(self, *args, **kwargs) -> None:
        if self.pk is not None:
            raise AppendOnly("an audit entry never changes")
        super().save(*args, **kwargs)

    def delete(self, *args, **kwargs) -> None:
        raise AppendOnly("only retention deletes audit entries")
