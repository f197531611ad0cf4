"""What people do while a login waits: submit a verification code, pass a verification page, cancel."""

from accounts.lib import db_clock
from accounts.models import LoginAttempt
from accounts.reasons import Reason
from accounts.states import AttemptState


def submit_verification_code(attempt: LoginAttempt, code: str, *, by=None) -> bool:
    """Send the number that the phone shows with the next wait. True: that wait has to be taken up."""
    if attempt.state != AttemptState.CODE_REQUIRED:
        return False
    return _wait_again(attempt, by, verify_code=code)


def page_visited(attempt: LoginAttempt, *, by=None) -> bool:
    """The check was passed: wait again. True: that wait has to be taken up."""
    if attempt.state != AttemptState.PAGE_REQUIRED:
        return False
    return _wait_again(attempt, by, page_url="")


def _wait_again(attempt: LoginAttempt, by, **changes) -> bool:
    return attempt.move(
        AttemptState.WAITING,
        by=by,
        lease_owner="",
        # Whoever waited before is out: what he still has to write, perhaps once more, is about the wait that ended.
        lease_epoch=attempt.lease_epoch + 1,
        queued_at=db_clock.now(),
        wait_started_at=None,
        resumed_at=None,
        **changes,
    )


def cancel(attempt: LoginAttempt, *, by=None) -> bool:
    """End the attempt at once. The upstream has no such call: who confirms after all is online, and is shown so."""
    while attempt.is_open:
        if attempt.move(AttemptState.CANCELLED, by=by, reason=Reason.CANCELLED):
            return True
        attempt.refresh_from_db()
    return False
