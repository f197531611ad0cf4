"""The states of accounts and login attempts, the allowed moves between them, and other closed lists."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class AccountState(models.TextChoices):
    NEW = "new", _("Never logged in")
    ONLINE = "online", _("Online")
    OFFLINE = "offline", _("Offline")
    ARCHIVED = "archived", _("Archived")


class AttemptState(models.TextChoices):
    PREPARING = "preparing", _("Preparing")
    WAITING = "waiting", _("Waiting for scan")
    CODE_REQUIRED = "code_required", _("Code required")
    PAGE_REQUIRED = "page_required", _("Needs verification")
    SUCCEEDED = "succeeded", _("Logged in")
    FAILED = "failed", _("Failed")
    EXPIRED = "expired", _("Timed out")
    CANCELLED = "cancelled", _("Cancelled")


class Method(models.TextChoices):
    QR = "qr", _("QR code")
    POPUP = "popup", _("Phone prompt")


class Trigger(models.TextChoices):
    OPERATOR = "operator", _("Operator")
    SCHEDULE = "schedule", _("Schedule")
    BULK = "bulk", _("Bulk login")
    RECOVERY = "recovery", _("Recovery")
    API = "api", _("API")
    LINK = "link", _("Scan link")


class DropKind(models.TextChoices):
    """The kind of a drop, by its time after the login."""

    ORDINARY = "ordinary", _("Dropped")
    FIRST_NIGHT = "first_night", _("First-day drop")
    AT_ONCE = "at_once", _("Immediate drop")


class DetectedBy(models.TextChoices):
    """How the portal detected that an account is offline."""

    SWEEP = "sweep", _("Automatic check")
    CALLBACK = "notice", _("WKTeam callback")
    CHECK = "check", _("Manual check")


class NextStep(models.TextChoices):
    """The next step of recovery for a drop, or what recovery waits for."""

    WAITING = "look", _("Waiting for recovery")
    POPUP = "popup", _("Phone prompt sent")
    BACK_OFF = "back_off", _("Waiting for the next prompt")
    HOURS = "hours", _("Waiting for prompt hours")
    CAP = "cap", _("24-hour prompt limit reached")
    SEATS = "seats", _("Waiting for a free seat at WKTeam")
    SCAN = "scan", _("Queued for scan")
    NOTHING = "nothing", _("No automatic recovery")
    PAUSED = "paused", _("Paused: keep online is off")


class ScanReason(models.TextChoices):
    """Why an account is queued for scan, or why recovery has no step left."""

    FIRST_NIGHT = "first_night", _("First-day drop: phone prompts don’t work")
    AT_ONCE = "at_once", _("Dropped within a minute of login: check its proxy first")
    NO_PROMPTS = "no_prompts", _("Its recovery policy doesn’t use phone prompts")
    USED_UP = "used_up", _("24-hour prompt limit reached")
    REFUSED = "refused", _("WKTeam requires a scan")
    NEVER_OPEN = "never_open", _("Account and policy share no prompt hours")
    ASKED = "asked", _("Added to the scan queue")


class NotificationKind(models.TextChoices):
    """What people can be notified about."""

    OFFLINE = "offline", _("Account offline")
    TO_SCAN = "to_scan", _("Account queued for scan")
    BACK = "back", _("Account back online")
    INCIDENT = "incident", _("Incident started")
    INCIDENT_OVER = "incident_over", _("Incident ended")
    UPSTREAM = "upstream", _("WKTeam access denied")
    LIMITS = "limits", _("Developer account: seats and end")
    PLAN = "plan", _("Plan finished")
    CHANNEL = "channel", _("Channel disabled")
    SCAN_LINK = "scan_link", _("Scan link for a phone’s owner")


# Kinds that rules choose. A scan link goes to the channel that a person names.
RULE_KINDS = [(kind.value, kind.label) for kind in NotificationKind if kind != NotificationKind.SCAN_LINK]


class EventType(models.TextChoices):
    """The type of an event. The first group is the moves of attempts and accounts."""

    ATTEMPT_STARTED = "attempt_started", _("Login started")
    ATTEMPT_MOVED = "attempt_moved", _("Login state changed")
    ACCOUNT_ONLINE = "account_online", _("Came online")
    ACCOUNT_OFFLINE = "account_offline", _("Went offline")

    WAIT_TAKEN = "wait_taken", _("Waiting for the phone")
    WAIT_RESUMED = "wait_resumed", _("Wait resumed")
    LATE_SUCCESS = "late_success", _("Phone confirmed after the login ended")
    STALE_SUCCESS = "stale_success", _("Older login confirmed late; newer wId kept")
    OTHER_ACCOUNT = "other_account", _("Logged in with another account’s QR code")
    MERGED = "joined", _("Merged into the record with this wcId")
    UNMERGED = "unmerged", _("Merge undone")
    ADDED = "added", _("Account added")
    CHANGED = "changed", _("Details changed")
    TO_SCAN = "to_scan", _("Queued for scan")
    FOUND_ONLINE = "found_online", _("Detected online; logged in outside the portal")
    LOGGED_OUT = "logged_out", _("Log-out at WKTeam requested; paused")
    LISTED_BUT_OFFLINE = "listed_but_offline", _("WKTeam lists it as online, but /isOnline says no")
    ONLINE_BUT_UNLISTED = "online_but_unlisted", _("WKTeam doesn’t list it as online, but /isOnline says yes")
    REASON_TOLD = "reason_told", _("WKTeam reported why it went offline")
    RECOVERY_ENDED = "recovery_ended", _("Recovery failed; manual action needed")
    ASSIGNED = "assigned", _("Taken by a person")
    RELEASED = "released", _("Released")
    PAUSED = "paused", _("Paused")
    RESUMED = "resumed", _("Resumed")
    SILENCED = "silenced", _("Notifications silenced")
    ARCHIVED = "archived", _("Archived")
    RESTORED = "restored", _("Restored from the archive")
    LINK_CREATED = "link_created", _("Scan link created")
    LINK_SENT = "link_sent", _("Scan link sent")
    LINK_OPENED = "link_opened", _("Scan link opened")
    LINK_DONE = "link_done", _("Scan link done: the account logged in")
    LINK_EXPIRED = "link_expired", _("Scan link expired")
    LINK_REVOKED = "link_revoked", _("Scan link revoked")


# The states of accounts that lists and jobs work with.
LISTED_STATES = [(state.value, state.label) for state in AccountState if state != AccountState.ARCHIVED]

A = AttemptState
OPEN_STATES = (A.PREPARING, A.WAITING, A.CODE_REQUIRED, A.PAGE_REQUIRED)
FINAL_STATES = (A.SUCCEEDED, A.FAILED, A.EXPIRED, A.CANCELLED)

ATTEMPT_MOVES: dict[str, frozenset[str]] = {
    A.PREPARING: frozenset({A.WAITING, A.FAILED, A.EXPIRED, A.CANCELLED}),
    A.WAITING: frozenset({A.CODE_REQUIRED, A.PAGE_REQUIRED, *FINAL_STATES}),
    A.CODE_REQUIRED: frozenset({A.WAITING, A.PAGE_REQUIRED, *FINAL_STATES}),
    A.PAGE_REQUIRED: frozenset({A.WAITING, A.CODE_REQUIRED, *FINAL_STATES}),
    **{state: frozenset() for state in FINAL_STATES},
}
