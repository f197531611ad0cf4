"""Actions on a login in progress: submit a verification code, confirm a verification page, cancel."""

from accounts.lib import db_clock
from accounts.models import LoginAttempt
from accounts.reasons import Reason
from accounts.states import AttemptState


def submit_verification_code(attempt: LoginAttempt, code: str, *, by=None) -> bool:
    """Store the verification code that the phone shows; the next wait sends it.

    Returns True if the attempt waits again: the caller then queues that wait for a worker. Returns False if
    no code is required, or if the attempt moved meanwhile.
    """
    if attempt.state != AttemptState.CODE_REQUIRED:
        return False
    return _wait_again(attempt, by, verify_code=code)


def page_visited(attempt: LoginAttempt, *, by=None) -> bool:
    """Wait again after the verification page was passed.

    Returns True if the attempt waits again: the caller then queues that wait for a worker. Returns False if
    no page is required, or if the attempt moved meanwhile.
    """
    if attempt.state != AttemptState.PAGE_REQUIRED:
        return False
    return _wait_again(attempt, by, page_url="")


def _wait_again(attempt: LoginAttempt, by, **changes) -> bool:
    return attempt.move(
        AttemptState.WAITING,
        by=by,
        lease_owner="",
        # Fences off the previous holder: what it still writes or retries concerns the wait that ended.
        lease_epoch=attempt.lease_epoch + 1,
        queued_at=db_clock.now(),
        wait_started_at=None,
        resumed_at=None,
        **changes,
    )


def cancel(attempt: LoginAttempt, *, by=None) -> bool:
    """Cancel the attempt in the portal; return False if it has ended already.

    WKTeam has no call to cancel a login. If the phone confirms later, the account comes online and is shown
    as online.
    """
    while attempt.is_open:
        if attempt.move(AttemptState.CANCELLED, by=by, reason=Reason.CANCELLED):
            return True
        attempt.refresh_from_db()
    return False
