"""The wait itself: from an attempt that nobody holds to what the phone decided, written down.

Whoever runs it may die at any moment: the row and its lease say who waits, and the same wId can be asked again.
"""

import logging
import time

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from accounts import answers, clock, leases, login
from accounts.answers import Ending, LoggedIn, LoginAnswer, NotLoggedIn, UpstreamError
from accounts.attempts import GRACE
from accounts.leases import Lease
from accounts.models import Account, LoginAttempt
from accounts.states import AttemptState

log = logging.getLogger(__name__)

# A refusal this shortly before the wait's own limit is the limit, whatever words it has.
LIMIT_SECONDS = 3
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5

Heard = LoginAnswer | UpstreamError | None


def wait(attempt_id: int) -> Account | None:
    """Wait for the phone, write down what it decided, and return the account that came online.

    A no-op when somebody else waits, nobody needs to any more, or this process has no slot: messages may be
    doubled or late, and what is left lies in the database for the next worker.
    """
    lease = leases.take(attempt_id)
    return wait_under(lease) if lease is not None else None


def wait_under(lease: Lease) -> Account | None:
    """As `wait`, with the lease already taken. Of a start that was put into the queue, the code is asked for first."""
    with lease:
        attempt = lease.attempt
        if attempt.state == AttemptState.PREPARING and not login.fetch_code(attempt):
            return None
        code = attempt.verify_code
        if code:
            LoginAttempt.objects.filter(pk=attempt.pk).update(verify_code="")
        answer = _ask_until_decided(lease, code)
        if lease.lost and not isinstance(answer, LoggedIn):
            return None
        account = login.persistently(login.finish, attempt, answer, code_sent=bool(code), epoch=lease.epoch)
        lease.over = account is not None or not attempt.is_open
        return account


def _ask_until_decided(lease: Lease, code: str) -> Heard:
    """The phone's decision; an error that no repeating mends; None when the time ran out."""
    attempt, pause = lease.attempt, FIRST_PAUSE
    last: UpstreamError | None = None
    again = attempt.resumed_at is not None
    while (left := _seconds_left(attempt)) > 0 and not lease.lost:
        leases.give_back_connection()
        began = time.monotonic()
        try:
            answer = login.client().wait_for_login(attempt.w_id, code, left, lease)
        except answers.Refused as error:
            return error
        except UpstreamError as error:
            # A cut connection or a gateway's page says nothing about the phone: ask again, same wId.
            in_time = isinstance(error, answers.OutcomeUnknown) and error.text == "out of time"
            last = None if in_time else error
            log.info("attempt %s: %s while waiting (%s)", attempt.pk, type(error).__name__, error.text)
        else:
            answer = _at_the_limit(attempt, answer, time.monotonic() - began)
            if not (again and _may_be_about_us(answer)):
                return answer
            online = _if_online(attempt)
            if online is not None:
                return online
            log.info("attempt %s: asked again, the upstream says %s", attempt.pk, answer.text)
        again = True
        time.sleep(min(pause, max(0.0, _seconds_left(attempt))))
        pause = min(pause * 2, LONGEST_PAUSE)
        if not _still_wanted(lease):
            return None
    return last


def _seconds_left(attempt: LoginAttempt) -> float:
    return (attempt.deadline_at + GRACE - clock.now()).total_seconds()


def _may_be_about_us(answer: LoginAnswer) -> bool:
    """Whether a refusal may mean this second call only, and not the login.

    An upstream that still holds the call of a process that is gone may refuse another for the same wId.
    """
    return isinstance(answer, NotLoggedIn) and answer.ending is Ending.REFUSED


def _if_online(attempt: LoginAttempt) -> LoggedIn | None:
    wc_id = login.online_instances().get(attempt.w_id)
    return LoggedIn(answers.Profile(wc_id=wc_id, w_id=attempt.w_id)) if wc_id else None


def _still_wanted(lease: Lease) -> bool:
    """Whether the attempt still waits, and for us. Where the database is away, nobody says otherwise."""
    waiting = LoginAttempt.objects.filter(
        pk=lease.attempt.pk, lease_epoch=lease.epoch, state=AttemptState.WAITING
    )
    try:
        return waiting.exists()
    except (DatabaseError, InterfaceError):
        return True


def _at_the_limit(attempt: LoginAttempt, answer: LoginAnswer, seconds: float) -> LoginAnswer:
    """The upstream's words at the end of its own wait are not documented: a refusal just then means "not scanned"."""
    margin = min(LIMIT_SECONDS, settings.WK_LOGIN_WAIT_SECONDS / 10)
    at_its_end = seconds >= settings.WK_LOGIN_WAIT_SECONDS - margin
    at_our_end = attempt.seconds_left(clock.now()) <= margin
    if isinstance(answer, NotLoggedIn) and answer.ending is Ending.REFUSED and (at_its_end or at_our_end):
        return NotLoggedIn(Ending.RUN_OUT, answer.code, answer.text)
    return answer
