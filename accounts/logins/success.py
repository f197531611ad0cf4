"""Saving of a login that succeeded at WKTeam, whichever account scanned and however late the answer comes.

The phone decides which account logged in. One transaction writes the attempt, the account and the events.
"The record" is the attempt's account; "the owner" is the account with the wcId in WKTeam's answer.

    scanned wcId         record with that wcId     attempt                 function
    -------------------  ------------------------  ----------------------  --------------------------------
    any                  any                       succeeded with the wId  none: saved before
    any                  any                       deleted                 none: an unmanaged account
    any                  has the wId already       ended                   _known: saved before
    any                  any, and the attempt has  ended                   _known: saved before
                         a late success event
    the record's own     the record                waiting, unchanged      _save_fast: succeeded
    the record's own     the record                in progress             _expected: succeeded
    the record's own     the record                ended                   _expected: late success
    record has no wcId   none                      in progress             _expected: succeeded
    record has no wcId   none                      ended                   _expected: late success
    record has no wcId   the owner                 in progress             _merged: succeeded, for the owner
    record has no wcId   the owner                 ended                   _merged: late success
    record has typed     as if it had no wcId: a never confirmed wcId that is the WeChat ID of who scanned
    not the record's     the owner, or a new one   in progress             _other: failed, wrong account
    not the record's     the owner, or a new one   ended                   _other: late success

The first row that matches applies. An owner that was merged stands for the record that it was merged into.
An owner of another team whose wcId was typed and never confirmed is none: its wcId is cleared.
If one login of a batch does not qualify for `_save_fast`, all of them go through `_save`. Every function
brings the account that scanned online, unless a newer login of it was saved before.

The fencing token keeps an older login from overwriting the wId of a newer one. `Account.login_seq` counts
the account's logins, an attempt's `seq` is its number, and `Account.bound_seq` is the number of the login
whose wId the account has. A wId is written only where bound_seq < seq. Example:

1. Attempt A starts (login_seq 4, A.seq 4) and is cancelled while its QR code is still on a screen.
2. Attempt B starts (login_seq 5, B.seq 5) and succeeds: the account has B's wId and bound_seq 5.
3. A's success is known only now. The UPDATE requires bound_seq < 4 and matches no row: B's wId stays.
4. `_doubt` records "stale success" and makes a presence check due: only WKTeam knows which wId is online.

The attempt's seq counts the logins of its own account. If another account scanned, the owner takes a new
number, and `_is_stale` compares times instead.
"""

import time
from dataclasses import dataclass
from datetime import datetime

from django.db import IntegrityError, OperationalError, transaction
from django.db.models import F, OuterRef, Subquery

from accounts.lib import db_clock, db_errors
from accounts.lib.group_commit import GroupCommit
from accounts.models import Account, LoginAttempt, Presence
from accounts.models.event import gathered, record
from accounts.models.login_attempt import move_together
from accounts.reasons import Reason
from accounts.states import AccountState, AttemptState, EventType
from accounts.upstream.responses import PROFILE_FIELDS, LoggedIn, Profile

# Seconds before each try while another transaction holds the row.
PAUSES = (0, 0.05, 0.1)


class _FallBack(Exception):
    """One login of the batch does not qualify for the fast path: all are saved one by one."""


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
        """Whether the expected account scanned while the attempt waited: the fast path applies."""
        return self.attempt.state == AttemptState.WAITING and self.account.wc_id == self.wc_id

    @property
    def moves_like(self) -> tuple[str, ...]:
        """The values that its attempt's move writes: attempts with equal values move in one UPDATE."""
        return ("" if self.w_id == self.attempt.w_id else self.w_id, *self.words.values())

    @property
    def fields(self) -> dict[str, object]:
        """The expected account's new values: the profile, and the listed proxy that the attempt used, if any."""
        proxy = self.attempt.listed_proxy
        used = {} if proxy is None else {"proxy": proxy}
        return _profile(self.answer.profile) | used

    @property
    def words(self) -> dict[str, str]:
        return {"upstream_code": self.answer.code, "upstream_text": self.answer.text}


def complete_login(attempt: LoginAttempt, answer: LoggedIn) -> Account | None:
    """Save the login and return the account that is online now, or None if it was saved before; idempotent.

    A success after the attempt ended here (cancelled, timed out) still counts. Concurrent calls share one
    transaction: the save may run in the thread and the transaction of another caller. Call it outside a
    transaction. Raises Interrupted if that caller was killed; the login may have been saved. Raises the
    database error if another transaction holds the row for longer than PAUSES.
    """
    return _together((attempt, answer))


def _save_all(logins: list[tuple[LoginAttempt, LoggedIn]]) -> list[Account | None | Exception]:
    """Save a batch: the expected logins in one transaction if possible, the others one by one."""
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
        foreseen = []  # another transaction holds one of the rows: the other logins need not wait for it
    return [
        login.account if login in foreseen else _save_alone(login.attempt.pk, login.answer) for login in asked
    ]


# Group commit: `_save_all` may run in the thread and the transaction of another caller.
_together = GroupCommit(_save_all)


def _save_fast(logins: list[_Login]) -> None:
    """Save the common case: the expected account scanned, and its row is unchanged since the wait began.

    Reads and locks nothing beforehand: each UPDATE names the values it relies on. Raises _FallBack if one
    login's values have changed; the caller's transaction then rolls back.
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
        changed = {name: value for name, value in login.fields.items() if getattr(account, name) != value}
        relied_on = {"state": account.state, "wc_id": login.wc_id, "merged_into": None}
        if not account.go_online(attempt.seq, login.w_id, login.now, attempt, relied_on, **changed):
            raise _FallBack


def _save_alone(attempt_id: int, answer: LoggedIn) -> Account | None | Exception:
    """Save one login in its own transaction; return its error, so that the batch's other logins are saved."""
    error: Exception | None = None
    for pause in PAUSES:
        time.sleep(pause)
        try:
            with transaction.atomic(), gathered():
                return _save(attempt_id, answer, db_clock.now())
        except IntegrityError as found:
            # A concurrent first login wrote the same wcId; the retry merges this one into it.
            error = found
        except Exception as found:
            if not db_errors.is_held(found):
                return found
            error = found  # a click holds the row for milliseconds; a hung transaction must not block others
    return error


def _save(attempt_id: int, answer: LoggedIn, now: datetime) -> Account | None:
    # Locks both rows: a concurrent cancel would otherwise turn this into a success without its event.
    rows = LoginAttempt.objects.light().select_related("account__avatar").defer("account__avatar__png")
    rows = rows.select_for_update(of=("self", "account"), no_key=True, nowait=True)
    attempt = rows.filter(pk=attempt_id).first()
    if attempt is None:
        Presence.set_due_by(now)  # deleted with its account: the check finds who is online without a record
        return None
    login, account = _Login(attempt, answer, now), attempt.account
    # A prompt that counted as confirmed because another login brought its account online may still be
    # confirmed.
    succeeded = attempt.state == AttemptState.SUCCEEDED and attempt.w_id == login.w_id
    if succeeded or _known(login):
        return None
    if account.wc_id == login.wc_id:
        return _expected(login)
    owner = Account.objects.filter(wc_id=login.wc_id).select_related("merged_into").first()
    owner = owner.merged_into if owner and owner.merged_into else owner
    if owner and _only_claims(login, owner):
        owner = None
    if account.wc_id is None or _has_typed_wechat_id(login):
        return _merged(login, owner) if owner and owner.pk != account.pk else _expected(login)
    return _other(login, owner)


def _has_typed_wechat_id(login: _Login) -> bool:
    """Return whether somebody typed the WeChat ID of the account that scanned in place of its wcId."""
    account, wechat_id = login.account, login.answer.profile.wechat_id
    return not account.is_confirmed and account.wc_id.casefold() == wechat_id.casefold()


def _only_claims(login: _Login, owner: Account) -> bool:
    """Clear the owner's wcId if another team typed it and no login confirmed it. Return whether it did.

    Otherwise typing the wcId of an account would take it as soon as its own team logs it in. Records without
    a team are made by people who may adopt any account.
    """
    if owner.is_confirmed or owner.team_id in (None, login.account.team_id):
        return False
    if not Account.objects.filter(pk=owner.pk, state=AccountState.NEW).update(wc_id=None):
        return False
    record(owner, EventType.CHANGED, detail="wc_id", at=login.now)
    return True


def _known(login: _Login) -> bool:
    """Return whether a late success was saved before.

    Either the account still has the same wId, or the attempt has a late success event from before a newer
    login.
    """
    if login.attempt.is_open:
        return False
    account = Account.objects.filter(wc_id=login.wc_id)
    recorded = login.attempt.events.filter(happened=EventType.LATE_SUCCESS)
    return account.filter(w_id=login.w_id).exists() or (recorded.exists() and account.exists())


def _expected(login: _Login) -> Account:
    """Save a login by the expected account, or the first login of a record whose wcId is new."""
    attempt, account = login.attempt, login.account
    if attempt.is_open:
        attempt.move(AttemptState.SUCCEEDED, now=login.now, w_id=login.w_id, reason="", **login.words)
    else:
        record(account, EventType.LATE_SUCCESS, attempt=attempt, detail=login.answer.text, at=login.now)
    # A record with its own wcId stands for itself, also if it was merged into another before.
    fields = {"wc_id": login.wc_id, "merged_into": None, **login.fields}
    if not account.go_online(attempt.seq, login.w_id, login.now, attempt, **fields):
        _doubt(account, login)
    return account


def _doubt(account: Account, login: _Login) -> None:
    """Record a stale login, keep the newer one, and make a presence check due to learn which is online."""
    record(account, EventType.STALE_SUCCESS, attempt=login.attempt, at=login.now)
    Presence.set_due_by(login.now)


def _merged(login: _Login, owner: Account) -> Account:
    """Save a first login whose wcId the owner has: merge the record into the owner, which gets the login."""
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
    merge_record(placeholder, owner, attempt, at=login.now)
    return _bring_online(login, owner, seq, stale)


def merge_record(
    placeholder: Account, owner: Account, attempt: LoginAttempt, *, at: datetime | None = None, by=None
) -> None:
    """Merge a record into the owner of its wcId, whose logins and wId it had not. Call it inside a transaction."""
    # A wcId that was typed and never confirmed is free again.
    Account.objects.filter(pk=placeholder.pk).update(merged_into=owner, wc_id=None)
    record_of_both(EventType.MERGED, placeholder, owner, attempt=attempt, by=by, at=at)


def _other(login: _Login, owner: Account | None) -> Account:
    """Save a login by another account than the expected one: it comes online, the record stays unchanged.

    An owner without a record is created in the record's team.
    """
    attempt, profile = login.attempt, login.answer.profile
    stale = owner is not None and _is_stale(login, owner)
    if owner is None:
        label = profile.nickname or profile.wc_id
        owner = Account.objects.create(
            label=label,
            wc_id=profile.wc_id,
            team_id=login.account.team_id,
            proxy=attempt.listed_proxy,
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
    detail = name_for(owner, login.account)
    record(owner, EventType.OTHER_ACCOUNT, attempt=attempt, detail=detail, at=login.now)
    return _bring_online(login, owner, next_seq(owner), stale)


def _is_stale(login: _Login, owner: Account) -> bool:
    """Return whether the answer may be older than the owner's last login.

    While the attempt is in progress, an answer to a wait that was never resumed is the newest. An answer to
    a resumed wait, or after the attempt's end, may repeat an older login. It is stale if the owner has
    logged in since the QR code was shown.
    """
    attempt = login.attempt
    heard_live = attempt.is_open and not attempt.resumed
    since = attempt.qr_shown_at or attempt.created_at
    return not heard_live and owner.last_login_at is not None and owner.last_login_at > since


def _bring_online(login: _Login, owner: Account, seq: int, stale: bool) -> Account:
    """Bring the owner online with a login that another record's attempt made, unless that login is stale."""
    if stale or not owner.go_online(
        seq, login.w_id, login.now, login.attempt, **_profile(login.answer.profile)
    ):
        _doubt(owner, login)
    renumber_open_attempts([owner.pk])
    return owner


def renumber_open_attempts(account_ids: list[int]) -> None:
    """Give their attempts in progress the next number: an attempt that succeeds is the newer login.

    Call it inside a transaction.
    """
    Account.objects.filter(pk__in=account_ids).update(login_seq=F("login_seq") + 1)
    seq = Account.objects.filter(pk=OuterRef("account")).values("login_seq")
    LoginAttempt.objects.open().filter(account__in=account_ids).update(seq=Subquery(seq))


def record_of_both(happened: str, placeholder: Account, owner: Account, *, by=None, **fields) -> None:
    """Record the event for both records. The other team learns neither the label nor the name of the acting person."""
    sees_owner = by is not None and Account.objects.visible_to(by).filter(pk=owner.pk).exists()
    record(placeholder, happened, detail=name_for(placeholder, owner), by=by, **fields)
    record(owner, happened, detail=name_for(owner, placeholder), by=by if sees_owner else None, **fields)


def name_for(reader: Account, other: Account) -> str:
    """Return the other record's name for an event of `reader`, "" if their teams differ.

    A label is for its own team only.
    """
    return other.display_name if reader.team_id == other.team_id else ""


def next_seq(account: Account) -> int:
    """Increment and return the account's `login_seq`. Call it inside a transaction."""
    Account.objects.filter(pk=account.pk).update(login_seq=F("login_seq") + 1)
    account.login_seq = Account.objects.values_list("login_seq", flat=True).get(pk=account.pk)
    return account.login_seq


def _profile(profile: Profile) -> dict[str, object]:
    """Return the account fields that WKTeam filled in; the account keeps its values for the others."""
    return {name: value for name in PROFILE_FIELDS if (value := getattr(profile, name)) not in ("", None)}
