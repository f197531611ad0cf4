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
    API = "api", _("Program")
    OWNER = "owner", _("Phone owner")


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
