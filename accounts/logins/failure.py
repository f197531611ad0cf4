"""How upstream errors and refusals map to the final state and the reason of an attempt."""

import logging

from django.conf import settings

from accounts.lib import db_clock
from accounts.models import LoginAttempt
from accounts.reasons import Reason
from accounts.states import AttemptState, Method
from accounts.upstream import errors, responses
from accounts.upstream.errors import UpstreamError
from accounts.upstream.responses import Ending, LoginAnswer, NotLoggedIn

log = logging.getLogger(__name__)

WHY: tuple[tuple[type[UpstreamError], str], ...] = (
    (errors.DeveloperFrozen, Reason.DEVELOPER_FROZEN),
    (errors.DeveloperExpired, Reason.DEVELOPER_EXPIRED),
    (errors.SignInRefused, Reason.SIGN_IN_REFUSED),
    (errors.LineDown, Reason.LINE_DOWN),
    (errors.Refused, Reason.REFUSED),
    (errors.CertificateRefused, Reason.CERTIFICATE),
    (errors.Unreachable, Reason.UNREACHABLE),
    (errors.OutcomeUnknown, Reason.OUTCOME_UNKNOWN),
    (errors.PictureAddress, Reason.QR_ADDRESS),
    (errors.PictureHost, Reason.QR_HOST),
    (errors.PictureUnavailable, Reason.QR_HOST_DOWN),
    (errors.BadAnswer, Reason.BAD_ANSWER),
    (errors.Busy, Reason.REFUSED),
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
    """Return the final state and the reason for an ending, by the attempt's method."""
    return (PROMPT_ENDINGS if method == Method.POPUP else ENDINGS)[said]


def why(error: UpstreamError) -> str:
    return next(reason for kind, reason in WHY if isinstance(error, kind))


def words(error: UpstreamError) -> dict[str, str]:
    """Return the attempt's fields for the WKTeam response code and message.

    Both are empty unless WKTeam refused, or its QR code's picture was not to be had: the text says then which
    part was wrong. Our own description of any other unusable answer goes into the log only.
    """
    if not isinstance(error, errors.Refused):
        log.warning("no usable answer of the upstream: %s (%s)", type(error).__name__, error.text)
        of_picture = errors.PictureAddress | errors.PictureHost | errors.PictureUnavailable
        text = responses.clean(error.text) if isinstance(error, of_picture) else ""
        return {"upstream_code": "", "upstream_text": text}
    return {"upstream_code": error.code, "upstream_text": error.text}


# Seconds before the end of a wait in which any refusal counts as the time limit, whatever its text.
LIMIT_SECONDS = 3


def at_the_limit(attempt: LoginAttempt, answer: LoginAnswer, seconds: float) -> LoginAnswer:
    """Return a refusal at the end of the wait as "ran out of time", and any other answer unchanged.

    `seconds`: how long the call took. The end is WKTeam's own time limit or the attempt's deadline. WKTeam's
    docs do not say which message ends a wait, so a refusal within the margin means "not scanned".
    """
    margin = min(LIMIT_SECONDS, settings.WK_LOGIN_WAIT_SECONDS / 10)
    at_its_end = seconds >= settings.WK_LOGIN_WAIT_SECONDS - margin
    at_our_end = attempt.seconds_left(db_clock.now()) <= margin
    if isinstance(answer, NotLoggedIn) and answer.ending is Ending.REFUSED and (at_its_end or at_our_end):
        return NotLoggedIn(Ending.RUN_OUT, answer.code, answer.text)
    return answer
