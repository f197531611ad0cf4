"""The states of an account and of a login attempt, and every move that is allowed between them, as data."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class AccountState(models.TextChoices):
    NEW = "new", _("Never logged in")
    ONLINE = "online", _("Online")
    OFFLINE = "offline", _("Offline")


class AttemptState(models.TextChoices):
    PREPARING = "preparing", _("Asking for the code")
    WAITING = "waiting", _("Waiting for scan")
    CODE_REQUIRED = "code_required", _("Number asked for")
    PAGE_REQUIRED = "page_required", _("Check to pass")
    SUCCEEDED = "succeeded", _("Logged in")
    FAILED = "failed", _("Refused")
    EXPIRED = "expired", _("Not scanned in time")
    CANCELLED = "cancelled", _("Cancelled")


class Method(models.TextChoices):
    QR = "qr", _("QR code")
    POPUP = "popup", _("Prompt on the phone")


class Trigger(models.TextChoices):
    OPERATOR = "operator", _("Operator")
    SCHEDULE = "schedule", _("Schedule")
    BULK = "bulk", _("Bulk start")
    RECOVERY = "recovery", _("Recovery")
    API = "api", _("Program")
    OWNER = "owner", _("Phone owner")


class DropKind(models.TextChoices):
    """What kind of drop it was, by when it came."""

    ORDINARY = "ordinary", _("Dropped")
    FIRST_NIGHT = "first_night", _("First-night drop")
    AT_ONCE = "at_once", _("Dropped at once")


class FoundBy(models.TextChoices):
    """How we came to know that an account is offline."""

    SWEEP = "sweep", _("Sweep")
    NOTICE = "notice", _("The upstream's notice")
    CHECK = "check", _("Check by hand")


class NextStep(models.TextChoices):
    """What recovery does next for a drop, or what it waits for."""

    LOOK = "look", _("Recovery looks at it next")
    POPUP = "popup", _("A prompt is on the phone")
    BACK_OFF = "back_off", _("Waits before the next prompt")
    HOURS = "hours", _("Waits for the hours of the phone’s owner")
    CAP = "cap", _("Today’s prompts are used up")
    SCAN = "scan", _("To be scanned")
    NOTHING = "nothing", _("Nothing is done by itself")
    PAUSED = "paused", _("Paused: it is not wanted online")


class Because(models.TextChoices):
    """Why an account has to be scanned, or recovery has nothing left to try."""

    FIRST_NIGHT = "first_night", _("A first-night drop: a prompt does not help")
    AT_ONCE = "at_once", _("It dropped within a minute of its login: look at its line first")
    NO_PROMPTS = "no_prompts", _("Its recovery policy has no prompts")
    USED_UP = "used_up", _("Today’s prompts are used up")
    REFUSED = "refused", _("The upstream wants a scan")
    NEVER_OPEN = "never_open", _("There is no hour in which its phone may be prompted")
    ASKED = "asked", _("Put onto the list")


class NoticeKind(models.TextChoices):
    """What people can be told of."""

    OFFLINE = "offline", _("An account is offline")
    TO_SCAN = "to_scan", _("An account has to be scanned")
    BACK = "back", _("An account is back")
    INCIDENT = "incident", _("Many accounts dropped at once")
    INCIDENT_OVER = "incident_over", _("An incident is over")
    UPSTREAM = "upstream", _("The upstream does not let us in")
    PLAN = "plan", _("A plan has run")
    CHANNEL = "channel", _("A channel was switched off")


class Happened(models.TextChoices):
    """What an event row says happened. The first group is the moves of attempts and accounts."""

    ATTEMPT_STARTED = "attempt_started", _("Login started")
    ATTEMPT_MOVED = "attempt_moved", _("Login moved on")
    ACCOUNT_ONLINE = "account_online", _("Came online")
    ACCOUNT_OFFLINE = "account_offline", _("Went offline")

    WAIT_TAKEN = "wait_taken", _("A worker waits for the phone")
    WAIT_RESUMED = "wait_resumed", _("The wait was taken up again")
    LATE_SUCCESS = "late_success", _("The phone confirmed after the login had ended here")
    STALE_SUCCESS = "stale_success", _("An older login was confirmed after a newer one; the newer wId stays")
    OTHER_ACCOUNT = "other_account", _("Logged in by the code of another account")
    JOINED = "joined", _("Joined with the record that has this wcId")
    ADDED = "added", _("Account added")
    CHANGED = "changed", _("Details changed")
    TO_SCAN = "to_scan", _("To be scanned")
    FOUND_ONLINE = "found_online", _("Found online: not logged in from here")
    REASON_TOLD = "reason_told", _("The upstream said why it went offline")
    RECOVERY_ENDED = "recovery_ended", _("Recovery has nothing left to try")


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

ACCOUNT_MOVES: dict[str, frozenset[str]] = {
    AccountState.NEW: frozenset({AccountState.ONLINE}),
    AccountState.OFFLINE: frozenset({AccountState.ONLINE}),
    # Online to online is a login that replaced the wId of another.
    AccountState.ONLINE: frozenset({AccountState.ONLINE, AccountState.OFFLINE}),
}


def may_move(moves: dict[str, frozenset[str]], old: str, new: str) -> bool:
    return new in moves[old]
