"""Claims of a scan run on accounts: a claimed account is shown by no other run."""

from collections.abc import Iterator
from datetime import datetime

from django.db.models import Exists, Max, QuerySet

from accounts.lib import db_clock
from accounts.logins import control
from accounts.models import Account, LoginAttempt, ScanRun, ScanRunItem
from accounts.models.operators.scan_run import CLAIMED, ScanState
from accounts.states import AttemptState, Method, Trigger

# So many items are tried when other runs claim them at the same moment.
TRIED_AT_ONCE = 30


def show_next(run: ScanRun, slot: int, **changes) -> ScanRunItem | None:
    """Show the next item whose account no other run has, and return it; None if there is none, or the slot is taken.

    The item whose QR code is ready comes first. It is looked for together with the queued ones: another request of the
    run may be fetching the code of the first of them ahead at this moment.
    """
    # "ready" sorts behind "queued".
    for item in _waiting(run, ScanState.READY, ScanState.QUEUED).order_by("-state", "position")[
        :TRIED_AT_ONCE
    ]:
        if item.move(ScanState.SHOWN, slot=slot, **changes):
            return item
        if run.items.filter(state=ScanState.SHOWN, slot=slot).exists():
            return None
        if _moved_meanwhile(item, slot, changes):
            return item
    return None


def claim_ahead(run: ScanRun, most: int) -> ScanRunItem | None:
    """Claim the item that is shown next, for its QR code to be fetched ahead, and return it.

    None if the run has one ready, if another request has just claimed it, or if its code was fetched ahead `most`
    times. It is that item or none: a later account would be shown before its turn, and one that is claimed only for a
    moment would make another page show a later one.
    """
    none_ready = ~Exists(run.items.filter(state=ScanState.READY))
    item = _waiting(run, ScanState.QUEUED).filter(none_ready).order_by("position").first()
    if item is None or item.fetched_ahead >= most or not item.move(ScanState.READY, slot=0):
        return None
    return item


def _waiting(run: ScanRun, *states: str) -> QuerySet[ScanRunItem]:
    """Return the items in these states whose account no other run has, without those the person may not see."""
    held = ScanRunItem.objects.claimed().exclude(run=run).values("account")
    seen = Account.objects.visible_to(run.person).kept()
    waiting = run.items.filter(state__in=states, account__in=seen.values("pk"))
    return waiting.exclude(account__in=held).with_attempt()


def _moved_meanwhile(item: ScanRunItem, slot: int, changes: dict[str, object]) -> bool:
    """Show an item that another request of the run has made ready, or put back, at this moment."""
    seen = item.state
    item.refresh_from_db(fields=["state", "attempt"])
    return (
        item.state != seen
        and item.state in (ScanState.QUEUED, ScanState.READY)
        and item.move(ScanState.SHOWN, slot=slot, **changes)
    )


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


def due(now: datetime) -> Iterator[QuerySet]:
    yield ScanRunItem.objects.unattended(now)


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
