"""How a login that succeeded upstream is written down, whoever scanned and however late it is known.

The phone decides who logged in. One transaction writes the attempt, the account, and the events.
"""

import time
from dataclasses import dataclass
from datetime import datetime

from django.db import IntegrityError, OperationalError, transaction
from django.db.models import F

from accounts.lib import db_clock, db_errors
from accounts.lib.group_commit import GroupCommit
from accounts.models import Account, LoginAttempt, Presence
from accounts.models.event import gathered, record
from accounts.models.login_attempt import move_together
from accounts.reasons import Reason
from accounts.states import AttemptState, EventType
from accounts.upstream.responses import LoggedIn, Profile

# Before a row is looked at again that somebody holds.
PAUSES = (0.05, 0.1, 0.2)


class _FallBack(Exception):
    """One of these logins is not as foreseen: each is looked at by itself."""


@dataclass(slots=True, eq=False)
class _Login:
    attempt: LoginAttempt
    answer: LoggedIn
    now: datetime

    @property
    def account(self) -> Account:
        return self.attempt.account

    @property
    def wc_id(self) -> str:
        return self.answer.profile.wc_id

    @property
    def w_id(self) -> str:
        return self.answer.profile.w_id or self.attempt.w_id

    @property
    def is_foreseen(self) -> bool:
        return self.attempt.state == AttemptState.WAITING and self.account.wc_id == self.wc_id

    @property
    def moves_like(self) -> tuple[str, ...]:
        """What the move of its attempt has to be told: those alike move together."""
        return ("" if self.w_id == self.attempt.w_id else self.w_id, *self.words.values())

    @property
    def words(self) -> dict[str, str]:
        return {"upstream_code": self.answer.code, "upstream_text": self.answer.text}


def complete_login(attempt: LoginAttempt, answer: LoggedIn) -> Account | None:
    """Write the login down and return the account that is online now; None when it was written before.

    Safe to repeat. A success that comes after the attempt ended here (cancelled, out of time) still counts.
    Those that come at the same moment share a transaction.
    """
    return _together((attempt, answer))


def _save_all(logins: list[tuple[LoginAttempt, LoggedIn]]) -> list[Account | None | Exception]:
    now = db_clock.now()
    asked = [_Login(attempt, answer, now) for attempt, answer in logins]
    foreseen = [login for login in asked if login.is_foreseen]
    try:
        with transaction.atomic(), gathered():
            _save_fast(foreseen)
    except (IntegrityError, _FallBack):
        foreseen = []
    except OperationalError as error:
        if not db_errors.is_held(error):
            raise
        foreseen = []  # somebody holds one of these rows: the others need not wait for that one
    return [
        login.account if login in foreseen else _save_alone(login.attempt.pk, login.answer) for login in asked
    ]


_together = GroupCommit(_save_all)


def _save_fast(logins: list[_Login]) -> None:
    """Write what nearly every login is: the account that was expected, nothing changed since its wait began.

    Nothing is read and nothing locked beforehand: each UPDATE names what it relies on. Raises _Apart where it was
    otherwise with one of them.
    """
    alike: dict[tuple[str, ...], list[_Login]] = {}
    for login in logins:
        alike.setdefault(login.moves_like, []).append(login)
    for group in alike.values():
        words, new_id = group[0].words, {}
        if group[0].w_id != group[0].attempt.w_id:
            new_id = {"w_id": group[0].w_id}
        attempts = [login.attempt for login in group]
        if not move_together(
            attempts, AttemptState.SUCCEEDED, now=group[0].now, reason="", **new_id, **words
        ):
            raise _FallBack
    for login in logins:
        attempt, account = login.attempt, login.account
        fields = {"proxy": attempt.proxy if attempt.proxy is not None else account.proxy}
        fields |= _profile(login.answer.profile)
        changed = {name: value for name, value in fields.items() if getattr(account, name) != value}
        relied_on = {"state": account.state, "wc_id": login.wc_id, "merged_into": None}
        if not account.go_online(attempt.seq, login.w_id, login.now, attempt, relied_on, **changed):
            raise _FallBack


def _save_alone(attempt_id: int, answer: LoggedIn) -> Account | None | Exception:
    error: Exception | None = None
    for pause in PAUSES:
        try:
            with transaction.atomic(), gathered():
                return _save(attempt_id, answer, db_clock.now())
        except IntegrityError as found:
            # Another first login wrote the same wcId in between; looked at again, this one joins it.
            error = found
        except Exception as found:
            if not db_errors.is_held(found):
                return found
            error = found  # by a click, for some milliseconds; or by what hangs, and then others come first
            time.sleep(pause)
    return error


def _save(attempt_id: int, answer: LoggedIn, now: datetime) -> Account | None:
    # Both locked: a cancel that commits in between would turn this into a success without its event.
    rows = LoginAttempt.objects.light().select_related("account__avatar").defer("account__avatar__png")
    attempt = rows.select_for_update(of=("self", "account"), no_key=True, nowait=True).get(pk=attempt_id)
    login, account = _Login(attempt, answer, now), attempt.account
    # A prompt that counted as tapped, because its account was online by another login, may be tapped yet.
    succeeded = attempt.state == AttemptState.SUCCEEDED and attempt.w_id == login.w_id
    if succeeded or _known(login):
        return None
    if account.wc_id == login.wc_id:
        return _expected(login)
    owner = Account.objects.filter(wc_id=login.wc_id).select_related("merged_into").first()
    owner = owner.merged_into if owner and owner.merged_into else owner
    if account.wc_id is None:
        return _merged(login, owner) if owner and owner.pk != account.pk else _expected(login)
    return _other(login, owner)


def _known(login: _Login) -> bool:
    """A late success that was written before: the same instance is what an account already has, or was told of before
    a newer one.
    """
    if login.attempt.is_open:
        return False
    account = Account.objects.filter(wc_id=login.wc_id)
    told = login.attempt.events.filter(happened=EventType.LATE_SUCCESS)
    return account.filter(w_id=login.w_id).exists() or (told.exists() and account.exists())


def _expected(login: _Login) -> Account:
    attempt, account = login.attempt, login.account
    if attempt.is_open:
        attempt.move(AttemptState.SUCCEEDED, now=login.now, w_id=login.w_id, reason="", **login.words)
    else:
        record(account, EventType.LATE_SUCCESS, attempt=attempt, detail=login.answer.text, at=login.now)
    # A record with a wcId of its own stands for itself, also when it was joined with another before.
    fields = {"wc_id": login.wc_id, "merged_into": None, **_profile(login.answer.profile)}
    if attempt.proxy is not None:
        fields["proxy"] = attempt.proxy
    if not account.go_online(attempt.seq, login.w_id, login.now, attempt, **fields):
        _doubt(account, login)
    return account


def _doubt(account: Account, login: _Login) -> None:
    """A newer login stays; which of them really is, the upstream knows, and is asked soon."""
    record(account, EventType.STALE_SUCCESS, attempt=login.attempt, at=login.now)
    Presence.set_due_by(login.now)


def _merged(login: _Login, owner: Account) -> Account:
    """A first login of an account that is known under another record: that record gets it, and this one ends."""
    attempt, placeholder = login.attempt, login.account
    stale, seq = _is_stale(login, owner), next_seq(owner)
    if attempt.is_open:
        attempt.move(
            AttemptState.SUCCEEDED,
            now=login.now,
            w_id=login.w_id,
            account=owner,
            seq=seq,
            reason="",
            **login.words,
        )
    else:
        record(placeholder, EventType.LATE_SUCCESS, attempt=attempt, detail=login.answer.text, at=login.now)
    Account.objects.filter(pk=placeholder.pk).update(merged_into=owner)
    for side, other in ((placeholder, owner), (owner, placeholder)):
        record(side, EventType.JOINED, attempt=attempt, detail=_name_for(side, other), at=login.now)
    return _bind(login, owner, seq, stale)


def _other(login: _Login, owner: Account | None) -> Account:
    """Another account scanned than the one expected: that one is online now, this one stays as it was."""
    attempt, profile = login.attempt, login.answer.profile
    stale = owner is not None and _is_stale(login, owner)
    if owner is None:
        label = profile.nickname or profile.wc_id
        owner = Account.objects.create(
            label=label,
            wc_id=profile.wc_id,
            team_id=login.account.team_id,
            proxy=attempt.proxy,
            state_since=login.now,
        )
        record(owner, EventType.ADDED, attempt=attempt, at=login.now)
    name = f"{profile.nickname} ({profile.wc_id})".strip()
    if attempt.is_open:
        attempt.move(
            AttemptState.FAILED, now=login.now, reason=Reason.WRONG_ACCOUNT,
            other_account=owner, other_name=name, **login.words,
        )  # fmt: skip
    else:
        record(login.account, EventType.LATE_SUCCESS, attempt=attempt, detail=name, at=login.now)
    detail = _name_for(owner, login.account)
    record(owner, EventType.OTHER_ACCOUNT, attempt=attempt, detail=detail, at=login.now)
    return _bind(login, owner, next_seq(owner), stale)


def _is_stale(login: _Login, owner: Account) -> bool:
    """Whether another account's answer may be older than that account's own last login.

    Only an answer that was heard as it came is surely the newest; one that is repeated to a second listener, or
    told after the attempt had ended, is not, if its owner has logged in since the code was shown.
    """
    attempt = login.attempt
    heard_live = attempt.is_open and not attempt.resumed
    since = attempt.qr_shown_at or attempt.created_at
    return not heard_live and owner.last_login_at is not None and owner.last_login_at > since


def _bind(login: _Login, owner: Account, seq: int, stale: bool) -> Account:
    """Give the wId to the account that another account's code logged in."""
    if stale or not owner.go_online(
        seq, login.w_id, login.now, login.attempt, **_profile(login.answer.profile)
    ):
        _doubt(owner, login)
    # A login of its own that is open now will be the newer one when it succeeds.
    LoginAttempt.objects.open().filter(account=owner).update(seq=next_seq(owner))
    return owner


def _name_for(reader: Account, other: Account) -> str:
    """A label is for its own team only."""
    return other.display_name if reader.team_id == other.team_id else ""


def next_seq(account: Account) -> int:
    """The next number of this account's logins, taken inside the caller's transaction."""
    Account.objects.filter(pk=account.pk).update(login_seq=F("login_seq") + 1)
    account.login_seq = Account.objects.values_list("login_seq", flat=True).get(pk=account.pk)
    return account.login_seq


def _profile(profile: Profile) -> dict[str, object]:
    """What the upstream told about the account; what it left out stays as it was known."""
    told = {
        "nickname": profile.nickname,
        "wechat_number": profile.wechat_number,
        "avatar_url": profile.avatar_url,
        "sex": profile.sex,
        "region": profile.region,
        "signature": profile.signature,
        "mobile": profile.mobile,
    }
    return {name: value for name, value in told.items() if value not in ("", None)}
