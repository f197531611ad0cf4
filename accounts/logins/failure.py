"""Why an attempt brought no login: what the upstream's errors and answers mean for it."""

import logging

from django.conf import settings

from accounts.lib import db_clock
from accounts.models import LoginAttempt
from accounts.reasons import Reason
from accounts.states import AttemptState, Method
from accounts.upstream import errors
from accounts.upstream.errors import UpstreamError
from accounts.upstream.responses import Ending, LoginAnswer, NotLoggedIn

log = logging.getLogger(__name__)

WHY: tuple[tuple[type[UpstreamError], str], ...] = (
    (errors.DeveloperFrozen, Reason.DEVELOPER_FROZEN),
    (errors.DeveloperExpired, Reason.DEVELOPER_EXPIRED),
    (errors.SignInRefused, Reason.SIGN_IN_REFUSED),
    (errors.LineDown, Reason.LINE_DOWN),
    (errors.Refused, Reason.REFUSED),
    (errors.Unreachable, Reason.UNREACHABLE),
    (errors.OutcomeUnknown, Reason.OUTCOME_UNKNOWN),
    (errors.BadAnswer, Reason.BAD_ANSWER),
)
ENDINGS: dict[Ending, tuple[str, str]] = {
    Ending.RUN_OUT: (AttemptState.EXPIRED, Reason.NOT_SCANNED),
    Ending.DECLINED: (AttemptState.FAILED, Reason.DECLINED),
    Ending.NEW_DEVICE_CHECK: (AttemptState.FAILED, Reason.NEW_DEVICE_CHECK),
    Ending.REFUSED: (AttemptState.FAILED, Reason.REFUSED),
}
PROMPT_ENDINGS = ENDINGS | {
    Ending.RUN_OUT: (AttemptState.EXPIRED, Reason.NOT_TAPPED),
    Ending.DECLINED: (AttemptState.FAILED, Reason.PROMPT_DECLINED),
    Ending.REFUSED: (AttemptState.FAILED, Reason.PROMPT_REFUSED),
}


def ending(method: str, said: Ending) -> tuple[str, str]:
    """The state that an attempt of this method ends in, and its reason."""
    return (PROMPT_ENDINGS if method == Method.POPUP else ENDINGS)[said]


def why(error: UpstreamError) -> str:
    return next(reason for kind, reason in WHY if isinstance(error, kind))


def words(error: UpstreamError) -> dict[str, str]:
    """What the upstream itself said. What we say about an answer that is none goes into the log."""
    if not isinstance(error, errors.Refused):
        log.warning("no usable answer of the upstream: %s (%s)", type(error).__name__, error.text)
        return {"upstream_code": "", "upstream_text": ""}
    return {"upstream_code": error.code, "upstream_text": error.text}


# A refusal this shortly before the wait's own limit is the limit, whatever words it has.
LIMIT_SECONDS = 3


def at_the_limit(attempt: LoginAttempt, answer: LoginAnswer, seconds: float) -> LoginAnswer:
    """The upstream's words at the end of its own wait are not documented: a refusal just then means "not scanned"."""
    margin = min(LIMIT_SECONDS, settings.WK_LOGIN_WAIT_SECONDS / 10)
    at_its_end = seconds >= settings.WK_LOGIN_WAIT_SECONDS - margin
    at_our_end = attempt.seconds_left(db_clock.now()) <= margin
    if isinstance(answer, NotLoggedIn) and answer.ending is Ending.REFUSED and (at_its_end or at_our_end):
        return NotLoggedIn(Ending.RUN_OUT, answer.code, answer.text)
    return answer
