"""The end of attempts at their deadline.

An attempt whose account is online by then has succeeded. Every other attempt times out or fails.
"""

import logging
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import QuerySet

from accounts.lib import db_clock
from accounts.lib.rows import DueCheck
from accounts.logins import failure as logins_failure
from accounts.logins.failure import words
from accounts.logins.success import complete_login
from accounts.models import Account, LoginAttempt
from accounts.models.login_attempt import CLOSED_AFTER, SWEPT_AFTER
from accounts.reasons import Reason
from accounts.states import AttemptState, Method
from accounts.upstream import configured, responses
from accounts.upstream.errors import UpstreamError
from accounts.upstream.responses import Ending, LoggedIn

log = logging.getLogger(__name__)

ALL_SECONDS = 30
# For transactions that were still open when attempts were read.
MARGIN = timedelta(seconds=30)
LATELY = timedelta(minutes=5)


def reconcile(
    attempt: LoginAttempt, error: UpstreamError | None = None, epoch: int | None = None
) -> Account | None:
    """Check who is online, then end an attempt that got no answer before its deadline.

    `error`: the last error of its wait, None if the time ran out. `epoch`: the caller's lease epoch; None
    skips the lease check. Returns the account that came online. Returns None if the attempt ended without a
    login, had ended before, has another lease epoch, or was deleted with its account. Asks WKTeam who is
    online (`/queryLoginWx`).
    """
    current = LoginAttempt.objects.light().select_related("account").filter(pk=attempt.pk).first()
    if current is None or not current.is_open or (epoch is not None and current.lease_epoch != epoch):
        return None
    found = configured.online_instances()
    return _end_attempt(current, found, error)


def found_online(online: dict[str, str], attempt: LoginAttempt) -> LoggedIn | None:
    """Return the attempt's login if `online` ({wId: wcId}) shows it, else None.

    A QR code login shows by the attempt's own wId. A sent phone prompt shows by the account's wcId with a wId
    other than the one that the account had when the attempt began, unless the wcId was typed and never
    confirmed: that account may have logged in elsewhere.
    """
    w_id = attempt.w_id
    if attempt.method == Method.POPUP and attempt.sent_at is not None:
        account = attempt.account
        theirs = [w for w, wc_id in online.items() if w and account.is_confirmed and wc_id == account.wc_id]
        w_id = next((w for w in theirs if w != attempt.old_w_id), "")
    wc_id = online.get(w_id) if w_id else None
    return LoggedIn(responses.Profile(wc_id=wc_id, w_id=w_id)) if wc_id else None


def _end_attempt(
    attempt: LoginAttempt, online: dict[str, str], error: UpstreamError | None = None
) -> Account | None:
    found = found_online(online, attempt)
    if found is not None:
        return complete_login(attempt, found)
    state, reason = _ending(attempt, error)
    attempt.move(state, reason=reason, **(words(error) if error else {}))
    return None


def _ending(attempt: LoginAttempt, error: UpstreamError | None) -> tuple[str, str]:
    """Return the final state and the reason of an attempt past its deadline."""
    if attempt.is_queued or attempt.is_unclaimed:
        return AttemptState.EXPIRED, Reason.NO_WORKER
    if attempt.is_requesting:
        return AttemptState.FAILED, Reason.INTERRUPTED
    if error is not None or attempt.state != AttemptState.WAITING:
        return AttemptState.EXPIRED, Reason.NO_ANSWER
    return logins_failure.ending(attempt.method, Ending.RUN_OUT)


def expire_on_read(account: Account) -> None:
    """End the account's overdue attempt, without asking WKTeam who is online.

    The last resort when no worker and no periodic task runs: code that reads the account calls it first.
    """
    now = db_clock.now()
    for attempt in account.attempts.past(CLOSED_AFTER, now).light():
        _end_attempt(attempt, {})


class _Reach:
    """How far back `end_overdue` reads: every attempt with an earlier deadline has ended.

    While an old snapshot of PostgreSQL is held, as by a dump, the index of attempts in progress keeps an entry
    of each attempt that has ended since. Reading all of them every two seconds would cost more with each login.
    """

    since: datetime | None = None
    all_at = 0.0  # of our monotonic clock: when all are read again


def due(now: datetime) -> Iterator[QuerySet]:
    """Yield the attempts that have become overdue lately, for the cause that `_Reach` names."""
    yield LoginAttempt.objects.past(SWEPT_AFTER, now).filter(deadline_at__gte=now - LATELY)


_overdue = DueCheck({"overdue": due})


def end_overdue() -> int:
    """End overdue attempts regardless of their leases; return how many were overdue, at most 500 per call.

    Asks WKTeam once who is online if any attempt is overdue. Without a usable answer, all of them end as
    not online. Reads all attempts every ALL_SECONDS, otherwise those that have become overdue since.
    """
    now = db_clock.now()
    rows = LoginAttempt.objects.past(SWEPT_AFTER, now)
    if _Reach.since is not None and time.monotonic() < _Reach.all_at:
        if _Reach.since >= now - LATELY and not _overdue(now):
            return 0
        rows = rows.filter(deadline_at__gte=_Reach.since)
    else:
        _Reach.all_at = time.monotonic() + ALL_SECONDS
    overdue = list(rows.light().select_related("account")[:500])
    ended = 0
    online = configured.online_instances() if overdue else {}
    for attempt in overdue:
        try:
            _end_attempt(attempt, online)
            ended += 1
        except Exception:  # one row that fails must not block the others
            log.exception("attempt %s could not be ended", attempt.pk)
    if ended == len(overdue) < 500:
        _Reach.since = now - SWEPT_AFTER - MARGIN
    return len(overdue)
