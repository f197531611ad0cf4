"""Why an attempt brought no login: what the upstream's errors and answers mean for it."""

import logging

from accounts import answers
from accounts.answers import Ending, UpstreamError
from accounts.reasons import Reason
from accounts.states import AttemptState, Method

log = logging.getLogger(__name__)

WHY: tuple[tuple[type[UpstreamError], str], ...] = (
    (answers.DeveloperFrozen, Reason.DEVELOPER_FROZEN),
    (answers.DeveloperExpired, Reason.DEVELOPER_EXPIRED),
    (answers.SignInRefused, Reason.SIGN_IN_REFUSED),
    (answers.LineDown, Reason.LINE_DOWN),
    (answers.Refused, Reason.REFUSED),
    (answers.Unreachable, Reason.UNREACHABLE),
    (answers.OutcomeUnknown, Reason.OUTCOME_UNKNOWN),
    (answers.BadAnswer, Reason.BAD_ANSWER),
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
    if not isinstance(error, answers.Refused):
        log.warning("no usable answer of the upstream: %s (%s)", type(error).__name__, error.text)
        return {"upstream_code": "", "upstream_text": ""}
    return {"upstream_code": error.code, "upstream_text": error.text}
