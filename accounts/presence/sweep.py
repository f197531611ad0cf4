"""Presence check: one WKTeam call for all accounts.

A process claims the row `Presence` when the check is due; the others use its result. An account goes offline
when two checks in a row do not list it, or one check after a WKTeam callback. If WKTeam gives no answer or an
impossible one, every account keeps its state and presence is unknown.
"""

import logging
import random
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Coalesce

from accounts.lib import db_clock, db_errors
from accounts.lib.rows import RowLease, unleased
from accounts.logins import failure
from accounts.models import Account, Presence
from accounts.models.event import record
from accounts.presence import offline
from accounts.presence.reconcile import Reconciler, SweepResult
from accounts.reasons import Reason
from accounts.states import AccountState, DetectedBy, EventType
from accounts.upstream import configured
from accounts.upstream.errors import BadAnswer, UpstreamError
from accounts.upstream.presence_responses import Online

log = logging.getLogger(__name__)

# A thousand callbacks must not cause a thousand checks.
SOONEST = timedelta(seconds=1)
CHECKS_IN_A_ROW = 3


def seen() -> Presence | None:
    """Return when WKTeam was last asked and whether it answered; None before the first check."""
    return Presence.objects.filter(pk=Presence.ONLY).first()


# --- when ----------------------------------------------------------------------------------------------


def is_due() -> bool:
    row, now = seen(), db_clock.now()
    return row is None or (row.due_at <= now and (row.taken_until is None or row.taken_until <= now))


def due(now: datetime) -> Iterator[QuerySet]:
    """Yield the row of a check that is due. There is none before the first check."""
    yield Presence.objects.filter(unleased("taken_until", now), due_at__lte=now)


def check_soon() -> None:
    """Make the next check due now, at least SOONEST after the last one."""
    row, now = seen(), db_clock.now()
    if row is not None:
        Presence.set_due_by(max(now, row.asked_at + SOONEST) if row.asked_at else now)


def check_if_due() -> SweepResult | None:
    """Run the check if it is due and no other process does. Return None if there was nothing to do."""
    found = None
    for _ in range(CHECKS_IN_A_ROW):  # a callback may have arrived during the check
        lease = _claim()
        if lease is None:
            break
        with lease:
            found = check()
    return found


def _claim() -> RowLease | None:
    """Claim the check, which makes the next one due; None if it is not due or another process has it."""
    now = db_clock.now()
    Presence.objects.get_or_create(pk=Presence.ONLY, defaults={"due_at": now})
    jitter = random.uniform(0.9, 1.1)  # noqa: S311 - no secret
    next_at = now + timedelta(seconds=settings.WK_PRESENCE_SECONDS * jitter)
    length = timedelta(seconds=3 * settings.WK_TIMEOUT_SECONDS + 10)
    due = Presence.objects.filter(due_at__lte=now)
    return RowLease.claim(due, Presence.ONLY, "taken_until", length, due_at=next_at)


# --- checks --------------------------------------------------------------------------------------------


def check(detected_by: str = DetectedBy.SWEEP) -> SweepResult:
    """Ask WKTeam who is online, due or not, and save what follows. Must not run within a transaction.

    `detected_by`: stored in the drops found; DetectedBy.CHECK for a manual check. A check that fails makes
    presence unknown, and what it saved before stays saved.
    """
    began = db_clock.now()
    Presence.objects.update_or_create(pk=Presence.ONLY, defaults={"asked_at": began})
    db_errors.release_connection()
    try:
        return Reconciler(began, _listed(), detected_by).settled()
    except UpstreamError as error:
        why = failure.why(error)
        log.warning("who is online is not known: %s (%s)", why, error.text)
        _save_unknown(began, why)
        return SweepResult(unknown_why=why)
    except Exception:
        _save_unknown(began, Reason.NOT_SAVED)
        raise


def _save_unknown(began: datetime, why: str) -> None:
    since = Coalesce("unknown_since", began)
    Presence.objects.filter(pk=Presence.ONLY).update(unknown_since=since, unknown_why=why)


def _listed() -> list[Online]:
    """Return WKTeam's list of online accounts.

    Raises BadAnswer if the list is empty although `/isOnline` confirms an account that is online here.
    """
    listed = configured.client().online()
    if not listed:
        w_id = Account.objects.filter(state=AccountState.ONLINE).values_list("w_id", flat=True).first()
        db_errors.release_connection()
        if w_id and configured.client().is_online(w_id):
            raise BadAnswer("a list without anybody, while somebody is online")
    return listed


def check_account(account_id: int) -> bool | None:
    """Check presence if that is due, then ask `/isOnline` about one account that is online here.

    Returns its answer, None if there is none. Records an event if it contradicts the list: WKTeam's docs don't
    say which of them is right, so the account keeps its state.
    """
    check_if_due()
    account = Account.objects.filter(pk=account_id, state=AccountState.ONLINE, merged_into=None).first()
    if account is None:
        return None
    db_errors.release_connection()
    try:
        online = configured.client().is_online(account.w_id)
    except UpstreamError as error:
        log.warning("/isOnline about account %s: %s", account_id, type(error).__name__)
        return None
    row = seen()
    if online is not None and online == bool(account.absent) and row and row.unknown_since is None:
        happened = EventType.ONLINE_BUT_UNLISTED if online else EventType.LISTED_BUT_OFFLINE
        with transaction.atomic():
            record(account, happened)
    return online


def callback_received(w_id: str, wc_id: str = "") -> bool:
    """Handle WKTeam's callback that this wId is offline, or this wcId if it names no wId.

    Returns False if that does not concern an online account. The callback counts only for the account's
    current wId, and as one of two signs. The other is the presence check, which becomes due at once.
    """
    current = Account.objects.filter(state=AccountState.ONLINE, merged_into=None)
    if not w_id and not wc_id:
        return False
    if w_id:
        current = current.filter(w_id=w_id)
    if wc_id:
        current = current.filter(wc_id=wc_id)
    if not (offline.miss(current.filter(absent=0), db_clock.now(), DetectedBy.CALLBACK) or current.exists()):
        return False
    check_soon()
    return True
