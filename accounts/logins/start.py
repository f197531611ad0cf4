"""The start of a login attempt and its QR code. No outside call is made inside a transaction."""

import logging
import time
from datetime import timedelta

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts.lib import db_clock, db_errors, images
from accounts.logins import control, expire
from accounts.logins.failure import why, words
from accounts.logins.success import next_seq
from accounts.models import Account, LoginAttempt
from accounts.models.event import record
from accounts.proxies import NO_PROXY, OWN, OwnProxy
from accounts.reasons import Reason
from accounts.states import AccountState, AttemptState, EventType, Method, Trigger
from accounts.upstream import configured, errors, pictures
from accounts.upstream.errors import UpstreamError

log = logging.getLogger(__name__)

# Seconds to repeat the request for a QR code's picture, with growing pauses.
PICTURE_SECONDS = 6
FIRST_PAUSE, LONGEST_PAUSE = 0.3, 2
# Seconds to retry saving an answer while the database is unreachable: a person may be waiting for the page.
PERSON_WAITS = 20
# A queued login times out if no worker has a free slot for it within this time.
QUEUED_FOR = timedelta(minutes=30)
# Shorter for a prompt: sent much later, it could reach the phone outside its prompt hours.
PROMPT_QUEUED_FOR = timedelta(minutes=5)


def start_login(
    account: Account,
    *,
    by=None,
    trigger: str = Trigger.OPERATOR,
    proxy: int | None = None,
    queued: bool = False,
    method: str = Method.QR,
    device_type: str = "",
) -> tuple[LoginAttempt, bool]:
    """Start a login attempt, or return the one in progress (at most one per account).

    `proxy`: proxy code, None for the account's, NO_PROXY for none. An account with an own proxy always uses that.
    `queued`: leave the request to a waits worker with a free slot, so that no QR code expires in a queue.
    `device_type`: sent as deviceType ("ipad", "mac"), "" for the setting. Returns (attempt, created). Raises
    ValueError for a phone prompt without `queued` or without a wcId, IntegrityError after three lost races. Ends an
    overdue attempt of the account first.
    """
    if method == Method.POPUP and not (queued and account.wc_id):
        raise ValueError("a prompt is for a worker, and for an account whose wcId is known")
    how = {"method": method, "trigger": trigger, "device_type": device_type}
    if method == Method.QR:
        own = proxy is None or account.has_own_proxy
        how["proxy"] = account.proxy_in_use if own else None if proxy == NO_PROXY else proxy
    else:  # a prompt has no proxy; re-read the wId because `account` may be stale
        how["old_w_id"] = Account.objects.values_list("w_id", flat=True).get(pk=account.pk)
    expire.expire_on_read(account)
    tries = 3
    while True:
        try:
            return _new_attempt(account, by, queued, how), True
        except IntegrityError:
            found = LoginAttempt.objects.open().filter(account=account).first()
            if found:
                return found, False
            tries -= 1  # the attempt in progress ended just now: a new one may be created
            if not tries:
                raise


def scan_instead(prompt: LoginAttempt, *, by, queued: bool = False) -> tuple[LoginAttempt, bool]:
    """Withdraw a phone prompt and start a login by QR code in its place. Returns (attempt, created).

    A prompt that was confirmed meanwhile is not replaced: its account has what the QR code would give it.
    """
    account = prompt.account
    online = Account.objects.filter(pk=account.pk, state=AccountState.ONLINE)
    if not control.cancel(prompt, by=by) and online.exists():
        return account.open_attempt or prompt, False
    return start_login(account, by=by, queued=queued)


def _new_attempt(account: Account, by, queued: bool, how: dict[str, object]) -> LoginAttempt:
    now = db_clock.now()
    with transaction.atomic():
        attempt = LoginAttempt.objects.create(
            account=account,
            asked_by=by,
            asked_by_name=by.get_username() if by else "",
            seq=next_seq(account),
            created_at=now,
            queued_at=now if queued else None,
            deadline_at=now + (_time_in_queue(how["method"]) if queued else _time_for_code()),
            **how,
        )
        record(account, EventType.ATTEMPT_STARTED, attempt=attempt, new=attempt.state, by=by, at=now)
    return attempt


def _time_in_queue(method: object) -> timedelta:
    return PROMPT_QUEUED_FOR if method == Method.POPUP else QUEUED_FOR


def _time_for_code() -> timedelta:
    """Return the time limit for a QR code: sign-in, `/iPadLogin` and picture, plus 5 s."""
    return timedelta(seconds=3 * settings.WK_TIMEOUT_SECONDS + PICTURE_SECONDS + 5)


def fetch_qr_code(attempt: LoginAttempt) -> bool:
    """Request the QR code from WKTeam and save it; at most once per attempt, whichever process calls.

    Returns True if the attempt now waits for the scan. Returns False if the request was made before, or if
    it failed; a failure ends the attempt. Retries saving for PERSON_WAITS seconds while the database is
    unreachable.
    """
    now = db_clock.now()
    proxy, own = _proxy_of(attempt)
    sent = LoginAttempt.objects.filter(pk=attempt.pk, state=AttemptState.PREPARING, sent_at=None)
    if not sent.update(sent_at=now, deadline_at=now + _time_for_code(), proxy=attempt.proxy):
        return False
    attempt.sent_at = now
    if attempt.proxy == OWN and own is None:
        attempt.move(AttemptState.FAILED, reason=Reason.OWN_PROXY)
        return False
    db_errors.rest()
    try:
        code = configured.client_for(attempt).fetch_qr_code(attempt.account.wc_id or "", proxy, own)
        db_errors.retry_until_saved(_keep_w_id, attempt, code.w_id, seconds=PERSON_WAITS)
        db_errors.rest()
        text, png = _read_picture(code.picture_url)
    except UpstreamError as error:
        failure = {"reason": why(error), **words(error)}
    except images.NoPicture as error:
        log.warning("attempt %s: the picture of its QR code is %s", attempt.pk, error)
        failure = {"reason": Reason.QR_PICTURE, "upstream_text": str(error)}
    else:
        return db_errors.retry_until_saved(_show_code, attempt, code.w_id, text, png, seconds=PERSON_WAITS)
    db_errors.retry_until_saved(
        LoginAttempt.move, attempt, AttemptState.FAILED, seconds=PERSON_WAITS, **failure
    )
    return False


def _proxy_of(attempt: LoginAttempt) -> tuple[int | None, OwnProxy | None]:
    """Return the proxy code and the own proxy to send.

    The account may have got an own proxy, or lost it, while its login was queued: `attempt.proxy` follows.
    """
    account = Account.objects.filter(pk=attempt.account_id)
    of_account, stored = account.values_list("proxy", "own_proxy").first() or (None, None)
    if stored is None:
        attempt.proxy = of_account if attempt.proxy == OWN else attempt.proxy
        return attempt.proxy, None
    attempt.proxy = OWN
    return of_account, OwnProxy.of(stored)


def _keep_w_id(attempt: LoginAttempt, w_id: str) -> None:
    """Save the wId at once: WKTeam has the login instance from now on, whatever happens to its picture."""
    LoginAttempt.objects.filter(pk=attempt.pk, ended_at=None).update(w_id=w_id)
    attempt.w_id = w_id


def _read_picture(address: str) -> tuple[str, bytes]:
    """Return the text and the PNG of the QR code. Its GET has no effect: it is repeated for PICTURE_SECONDS.

    Raises NoPicture with what the bytes seem to be, or the error of the last request.
    """
    ends, pause = time.monotonic() + PICTURE_SECONDS, FIRST_PAUSE
    while True:
        content = b""
        try:
            content = configured.client().fetch_picture(address, settings.WK_QR_HOSTS)
            return images.read_code(content)
        except (errors.PictureUnavailable, images.NoPicture) as error:
            log.info("the picture of a QR code: %s", error)
            if pictures.inline(address) or time.monotonic() + pause > ends:
                if isinstance(error, images.NoPicture):
                    raise images.NoPicture(pictures.described(content)) from None
                raise
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _show_code(attempt: LoginAttempt, w_id: str, text: str, png: bytes) -> bool:
    now = db_clock.now()
    return attempt.move(
        AttemptState.WAITING,
        now=now,
        w_id=w_id,
        qr_text=text,
        qr_png=png,
        qr_shown_at=now,
        queued_at=now,
        # The worker that fetched a queued QR code holds the lease already and starts waiting at once.
        wait_started_at=now if attempt.is_leased else None,
        deadline_at=now + timedelta(seconds=settings.WK_LOGIN_WAIT_SECONDS),
    )
