"""What the person at a scan station does: skip, go back, pause, scan again, ask the phone instead."""

from accounts.logins import control, start
from accounts.models import ScanRunItem
from accounts.models.operators.scan_run import CLAIMED, ScanState
from accounts.reasons import Reason
from accounts.scanning import claims
from accounts.scanning.advance import Advance
from accounts.states import Method

FROM_THE_START = {"reason": "", "renewals": 0, "fetched_ahead": 0}


def skip(step: Advance, item: ScanRunItem) -> None:
    """Move the item to the end of the queue; its QR code stays valid. A second skip ends it, and so does the last one.

    An item whose QR code another account scanned has failed.
    """
    attempt = item.attempt
    step.set_run(next_wanted=True)
    if attempt is not None and attempt.reason == Reason.WRONG_ACCOUNT:
        item.move(ScanState.FAILED, reason=attempt.reason, ended_at=step.now)
    elif item.skips or not step.run.items.filter(state__in=(ScanState.QUEUED, ScanState.READY)).exists():
        item.move(ScanState.SKIPPED, ended_at=step.now)
    elif claims.put_back(item, last=True):
        ScanRunItem.objects.filter(pk=item.pk).update(skips=item.skips + 1)


def back(step: Advance, current: ScanRunItem | None) -> None:
    """Show the account that was shown before, unless it is online."""
    before = step.run.items.filter(shown_at__isnull=False).exclude(state__in=(ScanState.DONE, *CLAIMED))
    item = before.with_attempt().order_by("-shown_at").first()
    if item is not None:
        show(step, item, current)


def show(step: Advance, item: ScanRunItem, current: ScanRunItem | None) -> bool:
    """Show this item now; the current one waits in its place of the queue."""
    if item.state == ScanState.DONE:
        return False
    if current is not None:
        claims.put_back(current)
    item.run = step.run
    if not item.move(ScanState.SHOWN, slot=0, shown_at=step.now, ended_at=None, **FROM_THE_START):
        return False
    step.make_fresh(item)
    return True


def take_over(step: Advance, item: ScanRunItem, current: ScanRunItem | None) -> bool:
    """Show an item that another person has at the moment."""
    claims.take_over(step.run, item)
    return show(step, item, current)


def scan_again(step: Advance, item: ScanRunItem) -> None:
    """Show a new QR code; a phone prompt under way is withdrawn first."""
    ScanRunItem.objects.filter(pk=item.pk).update(renewals=0)
    if item.attempt is None or control.withdraw(item.attempt, by=step.run.person):
        step.request(item)


def send_prompt(step: Advance, item: ScanRunItem) -> None:
    """Ask on the phone instead: the QR code is withdrawn first. For accounts that have logged in before."""
    if not item.account.wc_id:
        return
    if item.attempt is not None and not control.withdraw(item.attempt, by=step.run.person):
        return
    attempt, created = start.start_login(item.account, by=step.run.person, method=Method.POPUP, queued=True)
    ScanRunItem.objects.filter(pk=item.pk).update(attempt=attempt)
    if created:
        step.started.append(attempt.pk)


def join(step: Advance, item: ScanRunItem) -> bool:
    """Merge the item's record into the account that scanned; return whether it may be the one meant."""
    joined = control.take_as_meant(item.attempt, by=step.run.person) is not None
    if joined:
        item.move(ScanState.DONE, ended_at=step.now)
    return joined


def requeue_failed(step: Advance) -> int:
    """Put the failed and skipped accounts of a run that goes on at its end; return how many."""
    failed = step.run.items.filter(state__in=(ScanState.FAILED, ScanState.SKIPPED)).order_by("position")
    return sum(claims.put_back(item, last=True, ended_at=None, **FROM_THE_START) for item in failed)


def resume(step: Advance) -> None:
    step.set_run(paused_at=None, pause_reason="")
    for item in step.run.items.filter(state=ScanState.SHOWN).with_attempt():
        if item.attempt is not None and item.attempt.ended_at and item.attempt.reason != Reason.WRONG_ACCOUNT:
            claims.forget_attempt(item)
