"""Who is online: one call for all accounts, and everything that follows from its answer.

Whoever takes the row `Presence` when it is due asks; everybody else goes by what is found. An account is offline
when two looks in a row have not named it, or one look after a notice of the upstream. An upstream that does not
answer, or answers what cannot be, leaves every account as it is: who is online is unknown then.
"""

import logging
import random
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Coalesce

from accounts.lib import db_clock, db_errors
from accounts.logins import failure
from accounts.models import Account, Presence
from accounts.presence.reconcile import Reconciler, SweepResult
from accounts.states import AccountState, DetectedBy
from accounts.upstream import configured
from accounts.upstream.errors import BadAnswer, UpstreamError
from accounts.upstream.presence_responses import Online

log = logging.getLogger(__name__)

# Notices of a thousand drops do not make a thousand sweeps.
SOONEST = timedelta(seconds=1)
LOOKS_IN_A_ROW = 3

jitter = random.Random()  # noqa: S311 - a pause is no secret


def seen() -> Presence | None:
    """When the upstream was asked last, and whether it answered; None before the first time."""
    return Presence.objects.filter(pk=Presence.ONLY).first()


# --- when ----------------------------------------------------------------------------------------------


def is_due() -> bool:
    row, now = seen(), db_clock.now()
    return row is None or (row.due_at <= now and (row.taken_until is None or row.taken_until <= now))


def check_soon() -> None:
    """The next look is due now: whoever sweeps next does so at once."""
    row, now = seen(), db_clock.now()
    if row is not None:
        Presence.set_due_by(max(now, row.asked_at + SOONEST) if row.asked_at else now)


def check_if_due() -> SweepResult | None:
    """Look, if it is due and nobody else does; None when there was nothing to do."""
    found = None
    for _ in range(LOOKS_IN_A_ROW):  # a notice may have come while the upstream was asked
        until = _claim(db_clock.now())
        if until is None:
            break
        try:
            found = check()
        finally:
            Presence.objects.filter(pk=Presence.ONLY, taken_until=until).update(taken_until=None)
    return found


def _claim(now: datetime) -> datetime | None:
    """The row, until that moment; None when it is not due, or somebody else has it."""
    until = now + timedelta(seconds=3 * settings.WK_TIMEOUT_SECONDS + 10)
    next_at = now + timedelta(seconds=settings.WK_PRESENCE_SECONDS * jitter.uniform(0.9, 1.1))
    due = Presence.objects.filter(Q(taken_until=None) | Q(taken_until__lte=now), due_at__lte=now)
    taken = {"due_at": next_at, "taken_until": until}
    if due.filter(pk=Presence.ONLY).update(**taken):
        return until
    made = Presence.objects.get_or_create(pk=Presence.ONLY, defaults=taken)[1]
    return until if made else None


# --- looks ---------------------------------------------------------------------------------------------


def check(detected_by: str = DetectedBy.SWEEP) -> SweepResult:
    """Ask who is online, due or not, and write down what follows. Not within a transaction.

    `detected_by` stands in the drops that are found: DetectedBy.CHECK where somebody asks by hand.
    """
    began = db_clock.now()
    Presence.objects.update_or_create(pk=Presence.ONLY, defaults={"asked_at": began})
    db_errors.release_connection()
    try:
        listed = _listed()
    except UpstreamError as error:
        why = failure.why(error)
        log.warning("who is online is not known: %s (%s)", why, error.text)
        since = Coalesce("unknown_since", began)
        Presence.objects.filter(pk=Presence.ONLY).update(unknown_since=since, unknown_why=why)
        return SweepResult(unknown_why=why)
    return Reconciler(began, listed, detected_by).settled()


def _listed() -> list[Online]:
    """Raises BadAnswer where nobody is listed, and an account that we take to be online is, by `/isOnline`."""
    listed = configured.client().online()
    if not listed:
        w_id = Account.objects.filter(state=AccountState.ONLINE).values_list("w_id", flat=True).first()
        db_errors.release_connection()
        if w_id and configured.client().is_online(w_id):
            raise BadAnswer("a list without anybody, while somebody is online")
    return listed


def callback_received(w_id: str, wc_id: str = "") -> bool:
    """The upstream says that this instance is offline. It counts only where it is the account's current one, and as
    one of two signs: the other is the look that it asks for. False: it says nothing about an account that is online.
    """
    current = Account.objects.filter(state=AccountState.ONLINE, w_id=w_id, merged_into=None)
    if wc_id:
        current = current.filter(wc_id=wc_id)
    missed = {"absent": 1, "missed_at": db_clock.now(), "missed_by": DetectedBy.NOTICE}
    if not (current.filter(absent=0).update(**missed) or current.exists()):
        return False
    check_soon()
    return True
