"""The wait itself: from an attempt that nobody holds to what the phone decided, written down.

Whoever runs it may die at any moment: the row and its lease say who waits, and the same wId can be asked again.
"""

import logging
import threading
import time

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from accounts import answers, clock, leases, login
from accounts.answers import SCAN_WANTED, Ending, LoggedIn, LoginAnswer, NotLoggedIn, UpstreamError
from accounts.attempts import GRACE
from accounts.leases import Lease
from accounts.models import Account, LoginAttempt
from accounts.states import AttemptState, Method

log = logging.getLogger(__name__)

# A refusal this shortly before the wait's own limit is the limit, whatever words it has.
LIMIT_SECONDS = 3
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5
# Whom the upstream does not even ask, it refuses within these seconds.
REFUSED_AT_ONCE = 10
# How often those who are online are looked at for a prompt that cannot be listened to.
LOOK_SECONDS = 3
# Of hundreds of starts at the same instant an upstream would answer the last ones too late, and none is asked for twice.
CODES_AT_ONCE = 20

_codes = threading.BoundedSemaphore(CODES_AT_ONCE)

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
        if attempt.method == Method.POPUP:
            return _prompt(lease)
        if attempt.state == AttemptState.PREPARING:
            with _codes:
                if lease.lost or not login.fetch_code(attempt):
                    return None
        code = attempt.verify_code
        if code:
            LoginAttempt.objects.filter(pk=attempt.pk).update(verify_code="")
        return _written(lease, _ask_until_decided(lease, code), bool(code))


def _written(lease: Lease, answer: Heard, code_sent: bool = False) -> Account | None:
    attempt = lease.attempt
    if lease.lost and not isinstance(answer, LoggedIn):
        return None
    account = login.persistently(login.finish, attempt, answer, code_sent=code_sent, epoch=lease.epoch)
    lease.over = account is not None or not attempt.is_open
    return account


def _prompt(lease: Lease) -> Account | None:
    """Open the prompt on the phone, once for the attempt, whoever dies: later holders only look who is online."""
    attempt = lease.attempt
    if attempt.state != AttemptState.PREPARING:
        return _written(lease, _look_until_online(lease))
    if not login.send_prompt(attempt, lease.epoch):
        return None
    leases.give_back_connection()
    began, last = time.monotonic(), None
    try:
        heard = login.client().second_login(attempt.account.wc_id, _seconds_left(attempt), lease)
    except (answers.Refused, answers.Unreachable) as error:
        return _written(lease, error)
    except UpstreamError as error:
        last = None if _ran_out(error) else error
        log.info("attempt %s: %s to a prompt (%s)", attempt.pk, type(error).__name__, error.text)
    else:
        answer = _of_a_prompt(attempt, heard, time.monotonic() - began)
        if answer is not None:
            return _written(lease, answer)
    return _written(lease, _look_until_online(lease, last))


def _of_a_prompt(attempt: LoginAttempt, answer: LoginAnswer, seconds: float) -> LoginAnswer | None:
    """None: a login without its wId, which those who are online have. What a prompt cannot pass is a refusal.

    How long the upstream itself waits for the tap is not documented, nor what it says then: a refusal that took a
    while, and does not ask for a scan, means that nobody tapped.
    """
    if isinstance(answer, LoggedIn):
        return answer if answer.profile.w_id else None
    if not isinstance(answer, NotLoggedIn):
        return NotLoggedIn(Ending.REFUSED, answer.code, answer.text)
    answer = _at_the_limit(attempt, answer, seconds)
    refused = answer.ending is Ending.REFUSED and not SCAN_WANTED.search(answer.text)
    if refused and seconds > min(REFUSED_AT_ONCE, settings.WK_LOGIN_WAIT_SECONDS / 10):
        return NotLoggedIn(Ending.RUN_OUT, answer.code, answer.text)
    return answer


def _look_until_online(lease: Lease, last: UpstreamError | None = None) -> Heard:
    """The prompt may be on the phone although nobody hears its answer: whether it was tapped shows in who is online."""
    attempt = lease.attempt
    while (left := _seconds_left(attempt)) > 0 and not lease.lost:
        leases.give_back_connection()
        found = login.found_in(login.online_instances(), attempt)
        if found is not None:
            return found
        time.sleep(min(LOOK_SECONDS, left))
        if not _still_wanted(lease):
            return None
    return last


def _ran_out(error: UpstreamError) -> bool:
    return isinstance(error, answers.OutcomeUnknown) and error.text == "out of time"


def _ask_until_decided(lease: Lease, code: str) -> Heard:
    """The phone's decision; an error that no repeating mends; None when the time ran out."""
    attempt, pause = lease.attempt, FIRST_PAUSE
    last: UpstreamError | None = None
    again = attempt.resumed_at is not None
    while (left := _seconds_left(attempt)) > 0 and not lease.lost:
        leases.give_back_connection()
        began = time.monotonic()
        try:
            answer = login.client_for(attempt).wait_for_login(attempt.w_id, code, left, lease)
        except answers.Refused as error:
            return error
        except UpstreamError as error:
            # A cut connection or a gateway's page says nothing about the phone: ask again, same wId.
            last = None if _ran_out(error) else error
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
