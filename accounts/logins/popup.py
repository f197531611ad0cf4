"""Phone prompts (`/secondLogin`): sent at most once per attempt, then checked by who is online."""

import logging
import time
from datetime import timedelta

from django.conf import settings
from django.db import transaction

from accounts.lib import db_clock, db_errors
from accounts.logins import expire, failure, finish, leases
from accounts.logins.finish import Decision
from accounts.logins.leases import Lease
from accounts.models import Account, LoginAttempt
from accounts.reasons import Reason
from accounts.states import AccountState, AttemptState, Trigger
from accounts.upstream import configured, developer_account, errors
from accounts.upstream.errors import UpstreamError
from accounts.upstream.responses import SCAN_WANTED, Ending, LoggedIn, LoginAnswer, NotLoggedIn

log = logging.getLogger(__name__)


def mark_prompt_sent(attempt: LoginAttempt, epoch: int) -> bool:
    """Save that the prompt is sent, before it is sent: no later holder of the attempt sends it again.

    Returns True if the caller must send it now. An attempt that recovery or a schedule started is cancelled
    instead if keep online is off by now, and one without a free seat for its account fails. The attempt's deadline
    starts here.
    """
    wanted = Account.objects.filter(pk=attempt.account_id, keep_online=True)
    if attempt.trigger in (Trigger.RECOVERY, Trigger.SCHEDULE) and not wanted.exists():
        attempt.move(AttemptState.CANCELLED, epoch=epoch, reason=Reason.CANCELLED)
        return False
    with transaction.atomic():
        if not _has_seat(attempt):
            attempt.move(AttemptState.FAILED, epoch=epoch, reason=Reason.NO_SEAT)
            return False
        now = db_clock.now()
        return attempt.move(
            AttemptState.WAITING,
            epoch=epoch,
            now=now,
            sent_at=now,
            queued_at=now,
            wait_started_at=now,
            deadline_at=now + timedelta(seconds=settings.WK_LOGIN_WAIT_SECONDS),
        )


def _has_seat(attempt: LoginAttempt) -> bool:
    """Return whether the account has a seat, because it is online, or may take one. An unknown number limits nothing."""
    if Account.objects.filter(pk=attempt.account_id, state=AccountState.ONLINE).exists():
        return True
    free = developer_account.free_seats_beside(attempt)
    return free is None or free > 0


# A refusal within these seconds comes from WKTeam without a prompt on the phone.
REFUSED_AT_ONCE = 10
# Pause between presence queries for a prompt whose answer is lost.
POLL_SECONDS = 3


def run_prompt(lease: Lease) -> Account | None:
    """Send the prompt, at most once per attempt, wait for its answer and save the decision.

    After a crash, later holders of the attempt only check who is online. Returns the account that came
    online.
    """
    attempt = lease.attempt
    if attempt.state != AttemptState.PREPARING:
        return finish.save_decision(lease, _poll_until_online(lease))
    if not mark_prompt_sent(attempt, lease.epoch):
        return None
    db_errors.release_connection()
    began, last = time.monotonic(), None
    try:
        heard = configured.client().second_login(attempt.account.wc_id, leases.seconds_left(attempt), lease)
    except (errors.Refused, errors.Unreachable) as error:
        return finish.save_decision(lease, error)
    except UpstreamError as error:
        last = None if errors.ran_out_of_time(error) else error
        log.info("attempt %s: %s to a prompt (%s)", attempt.pk, type(error).__name__, error.text)
    else:
        answer = _prompt_decision(attempt, heard, time.monotonic() - began)
        if answer is not None:
            return finish.save_decision(lease, answer)
    return finish.save_decision(lease, _poll_until_online(lease, last))


def _prompt_decision(attempt: LoginAttempt, answer: LoginAnswer, seconds: float) -> LoginAnswer | None:
    """Return what an answer to the prompt means, or None for a login without its wId.

    The list of online accounts then has the wId. `seconds`: how long the call took. A verification code or
    page counts as a refusal: a prompt cannot pass it. WKTeam's docs do not say how long `/secondLogin`
    waits for the phone, nor what it answers then. So a refusal later than REFUSED_AT_ONCE that does not ask
    for a scan means "not confirmed in time". The limit is a tenth of WK_LOGIN_WAIT_SECONDS if that is
    shorter.
    """
    if isinstance(answer, LoggedIn):
        return answer if answer.profile.w_id else None
    if not isinstance(answer, NotLoggedIn):
        return NotLoggedIn(Ending.REFUSED, answer.code, answer.text)
    answer = failure.at_the_limit(attempt, answer, seconds)
    refused = answer.ending is Ending.REFUSED and not SCAN_WANTED.search(answer.text)
    if refused and seconds > min(REFUSED_AT_ONCE, settings.WK_LOGIN_WAIT_SECONDS / 10):
        return NotLoggedIn(Ending.RUN_OUT, answer.code, answer.text)
    return answer


def _poll_until_online(lease: Lease, last: UpstreamError | None = None) -> Decision:
    """Check who is online every POLL_SECONDS, until the account is, the deadline passes or the lease is lost.

    The prompt may be on the phone although its answer is lost: a confirmed one shows as a new wId. Returns
    the login, `last` at the deadline, or None if the attempt stopped waiting under this lease.
    """
    attempt = lease.attempt
    while (left := leases.seconds_left(attempt)) > 0 and not lease.lost:
        db_errors.release_connection()
        found = expire.found_online(configured.online_instances(), attempt)
        if found is not None:
            return found
        time.sleep(min(POLL_SECONDS, left))
        if not leases.still_waiting(lease):
            return None
    return last
