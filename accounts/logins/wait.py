"""The wait: the blocking `/getIPadLoginInfo` call of one attempt, until the phone decides.

A worker may die at any moment. The row and its lease say which process waits, and the call may be repeated
for the same wId.
"""

import logging
import threading
import time

from accounts.lib import db_errors
from accounts.logins import failure, finish, leases, popup, start
from accounts.logins.finish import Decision
from accounts.logins.leases import Lease
from accounts.metrics import log_context
from accounts.models import Account, LoginAttempt
from accounts.states import AttemptState, Method
from accounts.upstream import configured, errors, responses
from accounts.upstream.errors import UpstreamError
from accounts.upstream.responses import Ending, LoggedIn, LoginAnswer, NotLoggedIn

log = logging.getLogger(__name__)
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5
# Limits concurrent `/iPadLogin` calls per process. Of hundreds at once WKTeam would answer the last ones too
# late, and no QR code is requested twice.
CODES_AT_ONCE = 20

_qr_codes = threading.BoundedSemaphore(CODES_AT_ONCE)


def wait_for_phone(attempt_id: int) -> Account | None:
    """Claim the attempt, wait for the phone, save its decision and return the account that came online.

    A no-op if another worker waits, if the attempt waits no more, or if this process has no free slot:
    messages may be duplicate or late, and what is left stays in the database for the next worker.
    """
    lease = leases.take(attempt_id)
    return wait_with_lease(lease) if lease is not None else None


def wait_with_lease(lease: Lease) -> Account | None:
    """Wait for the phone under a lease, save its decision and return the account that came online.

    For a queued login it fetches the QR code first. A phone prompt is sent or checked instead. Releases the
    lease at the end.
    """
    attempt = lease.attempt
    with log_context.bound(account=attempt.account_id, attempt=attempt.pk), lease:
        if attempt.method == Method.POPUP:
            return popup.run_prompt(lease)
        if attempt.state == AttemptState.PREPARING:
            with _qr_codes:
                if lease.lost or not start.fetch_qr_code(attempt):
                    return None
        code = attempt.verify_code
        if code:
            # Cleared before it is sent: a code goes to WKTeam once. Only under this lease: a later wait has
            # a code of its own.
            held = LoginAttempt.objects.filter(pk=attempt.pk, lease_epoch=lease.epoch)
            if not held.update(verify_code=""):
                return None
        return finish.save_decision(lease, _ask_until_decided(lease, code), bool(code))


def _ask_until_decided(lease: Lease, code: str) -> Decision:
    """Repeat the wait until the phone decides, the deadline passes or the lease is lost.

    `code`: the verification code, "" for none. Returns WKTeam's answer, or an error: a refusal of the call at
    once, another error if it was the last one at the deadline. A refused sign-in, or a WKTeam that is busy,
    says nothing about the phone either. Returns None if the time ran out or the attempt stopped waiting under
    this lease. Backs off from FIRST_PAUSE to LONGEST_PAUSE seconds between calls.
    """
    attempt, pause = lease.attempt, FIRST_PAUSE
    last: UpstreamError | None = None
    again = attempt.resumed
    while (left := leases.seconds_left(attempt)) > 0 and not lease.lost:
        db_errors.release_connection()
        began = time.monotonic()
        try:
            answer = configured.client_for(attempt).wait_for_login(attempt.w_id, code, left, lease)
        except UpstreamError as error:
            if isinstance(error, errors.Refused) and not isinstance(error, errors.SignInRefused):
                return error
            # A broken connection or a gateway's error page says nothing about the phone: retry with the
            # same wId.
            last = None if errors.ran_out_of_time(error) else error
            log.info("attempt %s: %s while waiting (%s)", attempt.pk, type(error).__name__, error.text)
        else:
            answer = failure.at_the_limit(attempt, answer, time.monotonic() - began)
            busy = _may_be_about_us(answer) and responses.BUSY.search(answer.text)
            if not (busy or (again and _may_be_about_us(answer))):
                return answer
            last = errors.Busy(answer.text, answer.code) if busy else last
            online = _if_online(attempt)
            if online is not None:
                return online
            log.info("attempt %s: asked again, the upstream says %s", attempt.pk, answer.text)
        again = True
        time.sleep(min(pause, max(0.0, leases.seconds_left(attempt))))
        pause = min(pause * 2, LONGEST_PAUSE)
        if not leases.still_waiting(lease):
            return None
    return (isinstance(last, errors.SignInRefused) and _if_online(attempt)) or last


def _may_be_about_us(answer: LoginAnswer) -> bool:
    """Return whether the answer is a refusal that may concern only the repeated call, not the login.

    While WKTeam still holds the call of a dead process, it may refuse another one for the same wId.
    """
    return isinstance(answer, NotLoggedIn) and answer.ending is Ending.REFUSED


def _if_online(attempt: LoginAttempt) -> LoggedIn | None:
    wc_id = configured.online_instances().get(attempt.w_id)
    return LoggedIn(responses.Profile(wc_id=wc_id, w_id=attempt.w_id)) if wc_id else None
