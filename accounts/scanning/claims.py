"""Claims of a scan run on accounts: a claimed account is shown by no other run."""

from datetime import datetime

from django.db.models import Exists, Max

from accounts.lib import db_clock
from accounts.logins import control
from accounts.models import Account, LoginAttempt, ScanRun, ScanRunItem
from accounts.models.operators.scan_run import CLAIMED, ScanState
from accounts.states import AttemptState, Method, Trigger

# So many items are tried when other runs claim them at the same moment.
TRIED_AT_ONCE = 30


def claim_next(run: ScanRun, to: str, slot: int, **changes) -> ScanRunItem | None:
    """Claim the first queued item whose account no other run has, and return it; None if there is none.

    Accounts that the person may not see any more are left in the queue. A code is fetched ahead for the first one or
    none: where another request of the run has just claimed that, a later account would be shown before its turn.
    """
    held = ScanRunItem.objects.claimed().exclude(run=run).values("account")
    seen = Account.objects.visible_to(run.person).kept()
    waiting = run.items.filter(state=ScanState.QUEUED, account__in=seen.values("pk")).exclude(
        account__in=held
    )
    tried = TRIED_AT_ONCE
    if to == ScanState.READY:
        waiting, tried = waiting.filter(~Exists(run.items.filter(state=ScanState.READY))), 1
    for item in waiting.with_attempt().order_by("position")[:tried]:
        if item.move(to, slot=slot, **changes) or _was_ready_by_now(item, to, slot, changes):
            return item
    return None


def _was_ready_by_now(item: ScanRunItem, to: str, slot: int, changes: dict[str, object]) -> bool:
    """Show an item whose QR code another request of the same run began to fetch at this moment."""
    item.refresh_from_db(fields=["state", "attempt"])
    return item.state == ScanState.READY and to == ScanState.SHOWN and item.move(to, slot=slot, **changes)


def take_over(run: ScanRun, item: ScanRunItem) -> bool:
    """Take the item's account from another run that has claimed it. Return whether one had."""
    others = ScanRunItem.objects.claimed().filter(account=item.account_id).exclude(run=run)
    return bool(others.update(state=ScanState.QUEUED))


def put_back(item: ScanRunItem, *, last: bool = False, **changes) -> bool:
    """Give up the claim: the item waits in its place of the queue again, or at the end of it."""
    if last:
        changes["position"] = (item.run.items.aggregate(last=Max("position"))["last"] or 0) + 1
    return item.move(ScanState.QUEUED, **changes)


def withdraw(item: ScanRunItem) -> None:
    """Cancel the QR code of the item that its run has requested, if nobody has scanned it as far as is known."""
    attempt = item.attempt
    if attempt is not None and is_own(item, attempt) and attempt.state in _UNSCANNED:
        control.cancel(attempt, by=item.run.person)
        forget_attempt(item)


_UNSCANNED = (AttemptState.PREPARING, AttemptState.WAITING)


def is_own(item: ScanRunItem, attempt: LoginAttempt) -> bool:
    """Return whether the run's person requested this QR code, and not recovery or somebody else."""
    return (
        attempt.method == Method.QR
        and attempt.trigger == Trigger.OPERATOR
        and attempt.asked_by_id == item.run.person_id
    )


def forget_attempt(item: ScanRunItem) -> None:
    ScanRunItem.objects.filter(pk=item.pk, attempt=item.attempt_id).update(attempt=None)
    item.attempt = None


def release_unattended(now: datetime | None = None) -> int:
    """Release the claims of runs at which nobody looks; QR codes that nobody has seen are cancelled.

    Returns how many claims ended. A page that is opened later continues the run.
    """
    now = now or db_clock.now()
    left = list(ScanRunItem.objects.unattended(now).with_attempt().select_related("run__person")[:500])
    released = 0
    for item in left:
        was_ready = item.state == ScanState.READY
        # The run may have been opened again just now.
        mine = ScanRunItem.objects.unattended(now).filter(pk=item.pk, state__in=CLAIMED)
        if ScanRunItem.objects.filter(pk__in=mine.values("pk")).update(state=ScanState.QUEUED):
            released += 1
            if was_ready:
                withdraw(item)
    return released
