"""Phone prompts (`/secondLogin`): send once per attempt, then look who is online until the deadline."""

import logging
import time
from datetime import timedelta

from django.conf import settings

from accounts.lib import db_clock, db_errors
from accounts.logins import expire, failure, finish, leases
from accounts.logins.finish import Decision
from accounts.logins.leases import Lease
from accounts.models import Account, LoginAttempt
from accounts.reasons import Reason
from accounts.states import AttemptState, Trigger
from accounts.upstream import configured, errors
from accounts.upstream.errors import UpstreamError
from accounts.upstream.responses import SCAN_WANTED, Ending, LoggedIn, LoginAnswer, NotLoggedIn

log = logging.getLogger(__name__)


def mark_prompt_sent(attempt: LoginAttempt, epoch: int) -> bool:
    """Note that the prompt is sent, before it is: whoever finds the row later must not send it again.

    True: send it now. What was begun by itself is not sent any more once its account is not wanted online.
    """
    wanted = Account.objects.filter(pk=attempt.account_id, keep_online=True)
    if attempt.trigger in (Trigger.RECOVERY, Trigger.SCHEDULE) and not wanted.exists():
        attempt.move(AttemptState.CANCELLED, epoch=epoch, reason=Reason.CANCELLED)
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


# Whom the upstream does not even ask, it refuses within these seconds.
REFUSED_AT_ONCE = 10
# How often those who are online are looked at for a prompt that cannot be listened to.
LOOK_SECONDS = 3


def run_prompt(lease: Lease) -> Account | None:
    """Open the prompt on the phone, once for the attempt, whoever dies: later holders only look who is online."""
    attempt = lease.attempt
    if attempt.state != AttemptState.PREPARING:
        return finish.save_decision(lease, _look_until_online(lease))
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
    return finish.save_decision(lease, _look_until_online(lease, last))


def _prompt_decision(attempt: LoginAttempt, answer: LoginAnswer, seconds: float) -> LoginAnswer | None:
    """None: a login without its wId, which those who are online have. What a prompt cannot pass is a refusal.

    How long the upstream itself waits for the tap is not documented, nor what it says then: a refusal that took a
    while, and does not ask for a scan, means that nobody tapped.
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


def _look_until_online(lease: Lease, last: UpstreamError | None = None) -> Decision:
    """The prompt may be on the phone although nobody hears its answer: whether it was tapped shows in who is online."""
    attempt = lease.attempt
    while (left := leases.seconds_left(attempt)) > 0 and not lease.lost:
        db_errors.release_connection()
        found = expire.found_online(configured.online_instances(), attempt)
        if found is not None:
            return found
        time.sleep(min(LOOK_SECONDS, left))
        if not leases.still_waiting(lease):
            return None
    return last
