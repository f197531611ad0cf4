"""One step of a login each: begin, fetch the code, submit a number, cancel, finish, reconcile, sweep.

Every step begins and ends with a committed row, and no outside call is made inside a transaction. Nothing
here puts work into a queue: who calls a step does.
"""

import copy
import logging
import time
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts import answers, clock, failures, leases, pictures, trouble
from accounts.answers import CodeAsked, Ending, LoggedIn, LoginAnswer, NotLoggedIn, PageAsked, UpstreamError
from accounts.attempts import CLOSED_AFTER, SWEPT_AFTER, LoginAttempt
from accounts.failures import why, words
from accounts.history import record
from accounts.models import Account
from accounts.outcome import next_seq, record_login
from accounts.reasons import Reason
from accounts.states import AttemptState, Happened, Method, Trigger
from accounts.together import CutOff, Together
from accounts.tokens import KeptTokens
from accounts.upstream import Client

log = logging.getLogger(__name__)

CODES_ALLOWED = 3
RECONCILE_SECONDS = 4
# How long an answer is kept for a database that is away: by a worker, and while a person looks at a page.
ANSWER_KEPT, PERSON_WAITS = 600, 20
# How long a start may lie in the queue until a worker has a slot for it.
QUEUED_FOR = timedelta(minutes=30)
# A prompt that is sent much later than it was decided on meets a phone in other hours.
PROMPT_QUEUED_FOR = timedelta(minutes=5)


def client() -> Client:
    """The upstream as the settings name it; one for the process, because it knows the Authorization."""
    return _client(
        settings.WK_BASE_URL,
        settings.WK_ACCOUNT,
        settings.WK_PASSWORD,
        settings.WK_AUTHORIZATION,
        seconds=settings.WK_TIMEOUT_SECONDS,
        login_type=settings.WK_LOGIN_TYPE,
        device_type=settings.WK_DEVICE_TYPE,
    )


@lru_cache(maxsize=8)
def _client(base_url: str, account: str, password: str, authorization: str, **options) -> Client:
    return Client(base_url, account, password, KeptTokens(base_url, account, authorization), **options)


def client_for(attempt: LoginAttempt) -> Client:
    """The same, as the device that this attempt asks for."""
    own = attempt.device_type
    return replace(client(), device_type=own) if own else client()


def begin(
    account: Account,
    *,
    by=None,
    trigger: str = Trigger.OPERATOR,
    proxy: int | None = None,
    queued: bool = False,
    method: str = Method.QR,
    device_type: str = "",
) -> tuple[LoginAttempt, bool]:
    """The account's open attempt, and whether it was begun just now.

    A double click, a second operator or a schedule gets the attempt that is open already. A `queued` one is for
    a worker: it asks for the code once it has a slot for the wait, so that no code ages in a queue. A prompt
    (`Method.POPUP`) always is, and needs an account whose wcId is known: ValueError otherwise. `device_type` is what
    the code is asked for as ("mac"); "" as the settings say.
    """
    if method == Method.POPUP and not (queued and account.wc_id):
        raise ValueError("a prompt is for a worker, and for an account whose wcId is known")
    how = {"method": method, "trigger": trigger, "device_type": device_type}
    if method == Method.QR:
        how["proxy"] = proxy if proxy is not None else account.proxy
    else:  # which names no line; `account` may have been read a while ago
        how["old_w_id"] = Account.objects.values_list("w_id", flat=True).get(pk=account.pk)
    close_read(account)
    tries = 3
    while True:
        try:
            return _new_attempt(account, by, queued, how), True
        except IntegrityError:
            found = LoginAttempt.objects.open().filter(account=account).first()
            if found:
                return found, False
            tries -= 1  # the open one ended just now, so that there is room for a new one
            if not tries:
                raise


def _new_attempt(account: Account, by, queued: bool, how: dict[str, object]) -> LoginAttempt:
    now = clock.now()
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
        record(account, Happened.ATTEMPT_STARTED, attempt=attempt, new=attempt.state, by=by, at=now)
    return attempt


def _time_in_queue(method: object) -> timedelta:
    return PROMPT_QUEUED_FOR if method == Method.POPUP else QUEUED_FOR


def _time_for_code() -> timedelta:
    """A new sign-in, the code, its picture; each may take its whole time."""
    return timedelta(seconds=3 * settings.WK_TIMEOUT_SECONDS + 5)


def fetch_code(attempt: LoginAttempt) -> bool:
    """Ask the upstream for the QR code and show it; once for an attempt, whoever calls. True: now wait for it."""
    now = clock.now()
    sent = LoginAttempt.objects.filter(pk=attempt.pk, state=AttemptState.PREPARING, sent_at=None)
    if not sent.update(sent_at=now, deadline_at=now + _time_for_code()):
        return False
    wc_id, proxy = attempt.account.wc_id or "", attempt.proxy
    leases.give_back_connection()
    try:
        code = client_for(attempt).fetch_code(wc_id, proxy)
        text, png = pictures.read_code(client().fetch_picture(code.picture_url, settings.WK_QR_HOSTS))
    except UpstreamError as error:
        failure = {"reason": why(error), **words(error)}
    except PermissionError as error:
        failure = {"reason": Reason.QR_HOST, "upstream_text": answers.clean(str(error))}
    except pictures.NoPicture:
        failure = {"reason": Reason.QR_PICTURE}
    else:
        return persistently(_show_code, attempt, code.w_id, text, png, seconds=PERSON_WAITS)
    persistently(LoginAttempt.move, attempt, AttemptState.FAILED, seconds=PERSON_WAITS, **failure)
    return False


def _show_code(attempt: LoginAttempt, w_id: str, text: str, png: bytes) -> bool:
    now = clock.now()
    return attempt.move(
        AttemptState.WAITING,
        now=now,
        w_id=w_id,
        qr_text=text,
        qr_png=png,
        qr_shown_at=now,
        queued_at=now,
        # Whoever fetched it for the queue holds the lease already, and waits right on.
        wait_started_at=now if attempt.lease_owner else None,
        deadline_at=now + timedelta(seconds=settings.WK_LOGIN_WAIT_SECONDS),
    )


def send_prompt(attempt: LoginAttempt, epoch: int) -> bool:
    """Note that the prompt is sent, before it is: whoever finds the row later must not send it again.

    True: send it now. What was begun by itself is not sent any more once its account is not wanted online.
    """
    wanted = Account.objects.filter(pk=attempt.account_id, keep_online=True)
    if attempt.trigger in (Trigger.RECOVERY, Trigger.SCHEDULE) and not wanted.exists():
        attempt.move(AttemptState.CANCELLED, epoch=epoch, reason=Reason.CANCELLED)
        return False
    now = clock.now()
    return attempt.move(
        AttemptState.WAITING,
        epoch=epoch,
        now=now,
        sent_at=now,
        queued_at=now,
        wait_started_at=now,
        deadline_at=now + timedelta(seconds=settings.WK_LOGIN_WAIT_SECONDS),
    )


def persistently(step, attempt: LoginAttempt, *args, seconds: float = ANSWER_KEPT, **kwargs):
    """Run a step whose result must not be lost although the database may be away for a while."""
    until = time.monotonic() + seconds
    pause = 0.2
    while True:
        # A copy: what a step changes on it must not outlive the rollback of that step.
        trial = copy.copy(attempt)
        try:
            result = step(trial, *args, **kwargs)
        except (*trouble.DATABASE_ERRORS, CutOff) as error:
            away = isinstance(error, CutOff) or trouble.is_away(error)
            if not away or time.monotonic() > until:
                raise
            told = "attempt %s: the database is away (%s); trying again"
            log.warning(told, attempt.pk, type(error).__name__)
            leases.give_back_connection()
            time.sleep(pause)
            pause = min(pause * 2, 3)
        else:
            attempt.__dict__.update(trial.__dict__)
            return result


def finish(
    attempt: LoginAttempt,
    answer: LoginAnswer | UpstreamError | None,
    *,
    code_sent: bool = False,
    epoch: int | None = None,
) -> Account | None:
    """Write down what the phone decided. Anything but a success counts only for whoever holds the lease."""
    if isinstance(answer, LoggedIn):
        return record_login(attempt, answer)
    if isinstance(answer, CodeAsked):
        _ask_for_number(attempt, answer, code_sent, epoch)
    elif isinstance(answer, PageAsked):
        attempt.move(
            AttemptState.PAGE_REQUIRED, epoch=epoch, page_url=answer.url,
            upstream_code=answer.code, upstream_text=answer.text,
        )  # fmt: skip
    elif isinstance(answer, NotLoggedIn):
        state, reason = failures.ending(attempt.method, answer.ending)
        attempt.move(state, epoch=epoch, reason=reason, upstream_code=answer.code, upstream_text=answer.text)
    elif isinstance(answer, answers.Refused) or _was_never_sent(attempt, answer):
        attempt.move(AttemptState.FAILED, epoch=epoch, reason=why(answer), **words(answer))
    else:
        return reconcile(attempt, answer, epoch)
    return None


def _was_never_sent(attempt: LoginAttempt, answer: UpstreamError | None) -> bool:
    """A prompt that did not leave is on no phone."""
    return attempt.method == Method.POPUP and isinstance(answer, answers.Unreachable)


def _ask_for_number(attempt: LoginAttempt, answer: CodeAsked, code_sent: bool, epoch: int | None) -> None:
    words = {"upstream_code": answer.code, "upstream_text": answer.text}
    tried = attempt.codes_tried + 1 if code_sent else attempt.codes_tried
    if tried >= CODES_ALLOWED:
        attempt.move(AttemptState.FAILED, epoch=epoch, reason=Reason.CODE_WRONG, codes_tried=tried, **words)
    else:
        attempt.move(AttemptState.CODE_REQUIRED, epoch=epoch, codes_tried=tried, **words)


def reconcile(
    attempt: LoginAttempt, error: UpstreamError | None = None, epoch: int | None = None
) -> Account | None:
    """Our time is up without an answer: ask who is online before the attempt is called expired."""
    current = LoginAttempt.objects.light().select_related("account").get(pk=attempt.pk)
    if not current.is_open or (epoch is not None and current.lease_epoch != epoch):
        return None
    found = online_instances()
    return _end_overdue(current, found, error)


def online_instances() -> dict[str, str]:
    """{wId: wcId} of everybody online, {} when the upstream does not say. One call for all who ask at a time."""
    return _online(None)


def _ask_who_is_online(askers: list) -> list[dict[str, str]]:
    leases.give_back_connection()
    found = {}
    try:
        found = {entry.w_id: entry.wc_id for entry in client().online(RECONCILE_SECONDS)}
    except UpstreamError as error:
        log.warning("who is online is not known: %s", type(error).__name__)
    return [found] * len(askers)


_online = Together(_ask_who_is_online, most=10_000)


def found_in(online: dict[str, str], attempt: LoginAttempt) -> LoggedIn | None:
    """Its success, if those who are online show it: by its wId; of a prompt by the account's, if it is a new one."""
    w_id = attempt.w_id
    if attempt.method == Method.POPUP and attempt.sent_at is not None:
        theirs = [w for w, wc_id in online.items() if wc_id == attempt.account.wc_id and w]
        w_id = next((w for w in theirs if w != attempt.old_w_id), "")
    wc_id = online.get(w_id) if w_id else None
    return LoggedIn(answers.Profile(wc_id=wc_id, w_id=w_id)) if wc_id else None


def _end_overdue(
    attempt: LoginAttempt, online: dict[str, str], error: UpstreamError | None = None
) -> Account | None:
    found = found_in(online, attempt)
    if found is not None:
        return record_login(attempt, found)
    state, reason = _end(attempt, error)
    attempt.move(state, reason=reason, **(words(error) if error else {}))
    return None


def _end(attempt: LoginAttempt, error: UpstreamError | None) -> tuple[str, str]:
    """How an attempt ends whose time is up."""
    if attempt.state == AttemptState.PREPARING and attempt.sent_at is None and attempt.queued_at:
        return AttemptState.EXPIRED, Reason.NO_WORKER
    if attempt.state == AttemptState.PREPARING:
        return AttemptState.FAILED, Reason.INTERRUPTED
    if attempt.wait_started_at is None:
        return AttemptState.EXPIRED, Reason.NO_WORKER
    if error is not None or attempt.state != AttemptState.WAITING:
        return AttemptState.EXPIRED, Reason.NO_ANSWER
    return failures.ending(attempt.method, Ending.RUN_OUT)


def submit_code(attempt: LoginAttempt, code: str, *, by=None) -> bool:
    """Send the number that the phone shows with the next wait. True: that wait has to be taken up."""
    if attempt.state != AttemptState.CODE_REQUIRED:
        return False
    return _wait_again(attempt, by, verify_code=code)


def page_visited(attempt: LoginAttempt, *, by=None) -> bool:
    """The check was passed: wait again. True: that wait has to be taken up."""
    if attempt.state != AttemptState.PAGE_REQUIRED:
        return False
    return _wait_again(attempt, by, page_url="")


def _wait_again(attempt: LoginAttempt, by, **changes) -> bool:
    return attempt.move(
        AttemptState.WAITING,
        by=by,
        lease_owner="",
        # Whoever waited before is out: what he still has to write, perhaps once more, is about the wait that ended.
        lease_epoch=attempt.lease_epoch + 1,
        queued_at=clock.now(),
        wait_started_at=None,
        resumed_at=None,
        **changes,
    )


def cancel(attempt: LoginAttempt, *, by=None) -> bool:
    """End the attempt at once. The upstream has no such call: who confirms after all is online, and is shown so."""
    while attempt.is_open:
        if attempt.move(AttemptState.CANCELLED, by=by, reason=Reason.CANCELLED):
            return True
        attempt.refresh_from_db()
    return False


def close_read(account: Account) -> None:
    """End the account's overdue attempt, if it has one: whoever reads is the last resort when all else is dead."""
    now = clock.now()
    for attempt in account.attempts.past(CLOSED_AFTER, now).light():
        _end_overdue(attempt, {})


def sweep() -> int:
    """End what is overdue, whoever was to wait for it; returns how many there were."""
    now = clock.now()
    overdue = list(LoginAttempt.objects.past(SWEPT_AFTER, now).light().select_related("account")[:500])
    if overdue:
        online = online_instances()
        for attempt in overdue:
            try:
                _end_overdue(attempt, online)
            except Exception:  # one row that cannot be ended must not keep the others from their end
                log.exception("attempt %s could not be ended", attempt.pk)
    return len(overdue)
