"""Saving of what the phone decided."""

from accounts.lib import db_errors
from accounts.logins import expire
from accounts.logins import failure as logins_failure
from accounts.logins.failure import why, words
from accounts.logins.leases import Lease
from accounts.logins.success import complete_login
from accounts.models import Account, LoginAttempt
from accounts.reasons import Reason
from accounts.states import AttemptState, Method
from accounts.upstream import errors
from accounts.upstream.errors import UpstreamError
from accounts.upstream.responses import (
    CodeAsked,
    LoggedIn,
    LoginAnswer,
    NotLoggedIn,
    PageAsked,
)

CODES_ALLOWED = 3


def finish_login(
    attempt: LoginAttempt,
    answer: LoginAnswer | UpstreamError | None,
    *,
    code_sent: bool = False,
    epoch: int | None = None,
) -> Account | None:
    """Save what the phone decided and return the account that came online, if any.

    `answer`: an answer of WKTeam, the last error, or None if the time ran out. `code_sent`: the wait sent a
    verification code. `epoch`: the caller's lease epoch; None skips the lease check. A success is saved
    regardless of the lease; everything else only if the attempt still has `epoch`. None, and an error that
    says nothing about the phone, is reconciled with who is online.
    """
    if isinstance(answer, LoggedIn):
        return complete_login(attempt, answer)
    if isinstance(answer, CodeAsked):
        _ask_for_verification_code(attempt, answer, code_sent, epoch)
    elif isinstance(answer, PageAsked):
        attempt.move(
            AttemptState.PAGE_REQUIRED, epoch=epoch, page_url=answer.url,
            upstream_code=answer.code, upstream_text=answer.text,
        )  # fmt: skip
    elif isinstance(answer, NotLoggedIn):
        state, reason = logins_failure.ending(attempt.method, answer.ending)
        attempt.move(state, epoch=epoch, reason=reason, upstream_code=answer.code, upstream_text=answer.text)
    elif isinstance(answer, errors.Refused) or _was_never_sent(attempt, answer):
        attempt.move(AttemptState.FAILED, epoch=epoch, reason=why(answer), **words(answer))
    else:
        return expire.reconcile(attempt, answer, epoch)
    return None


def _was_never_sent(attempt: LoginAttempt, answer: UpstreamError | None) -> bool:
    """Return whether the prompt was never sent: then no phone shows it, and nothing needs reconciling."""
    return attempt.method == Method.POPUP and isinstance(answer, errors.Unreachable)


def _ask_for_verification_code(
    attempt: LoginAttempt, answer: CodeAsked, code_sent: bool, epoch: int | None
) -> None:
    words = {"upstream_code": answer.code, "upstream_text": answer.text}
    tried = attempt.codes_tried + 1 if code_sent else attempt.codes_tried
    if tried >= CODES_ALLOWED:
        attempt.move(AttemptState.FAILED, epoch=epoch, reason=Reason.CODE_WRONG, codes_tried=tried, **words)
    else:
        attempt.move(AttemptState.CODE_REQUIRED, epoch=epoch, codes_tried=tried, **words)


Decision = LoginAnswer | UpstreamError | None


def save_decision(lease: Lease, answer: Decision, code_sent: bool = False) -> Account | None:
    """Save the decision under the lease, with retries while the database is unreachable.

    Returns the account that came online, if any. A lost lease saves nothing but a success. Sets
    `lease.over` if the attempt has ended.
    """
    attempt = lease.attempt
    if lease.lost and not isinstance(answer, LoggedIn):
        return None
    account = db_errors.retry_until_saved(
        finish_login, attempt, answer, code_sent=code_sent, epoch=lease.epoch
    )
    lease.over = account is not None or not attempt.is_open
    return account
