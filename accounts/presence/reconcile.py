"""Reconciliation of the records with WKTeam's list of online accounts.

| WKTeam lists | Record | Result |
|---|---|---|
| the same wId, or no wId | online | confirmed online |
| another wId | online | logged in elsewhere, or a late login of ours |
| a wId | offline | logged in elsewhere, or a late login of ours |
| a wId | never logged in | a late login of ours, or an unmanaged account: a wcId that was typed proves nothing |
| a wId | archived | a late login of ours, or an unmanaged account: adopting it restores the record |
| the same wId, without a wcId | online | confirmed online |
| nothing | online | missed; offline when this is the second sign |
| nothing, and an entry that names no record | online | unknown, unless `/isOnline` denies its wId |
| an unknown wcId | none | unmanaged account |

Merged records, and records whose state is more recent than the answer, are skipped.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from django.db import IntegrityError, OperationalError, transaction
from django.db.models import Case, F, Q, Value, When

from accounts.lib import db_clock, db_errors
from accounts.lib.rows import in_batches
from accounts.logins import expire
from accounts.logins.success import complete_login, next_seq, renumber_open_attempts
from accounts.models import Account, LoginAttempt, Presence, UnmanagedAccount
from accounts.models.account import online_since
from accounts.models.event import gathered, record
from accounts.presence import offline as presence_offline
from accounts.presence.offline import free, online_since_before, these, these_texts
from accounts.reasons import Reason
from accounts.states import AccountState, AttemptState, EventType, Method
from accounts.upstream import configured
from accounts.upstream.errors import UpstreamError
from accounts.upstream.presence_responses import Online
from accounts.upstream.responses import LoggedIn, Profile

log = logging.getLogger(__name__)

ASKED_AT_ONCE = 20
WRITTEN_AT_ONCE = 300


class _Superseded(Exception):
    """Another check has answered since this one began: what it found counts."""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """Result of one presence check, as account IDs and counts.

    `unknown_why`: a code of `reasons`; if set, nothing was changed.
    """

    unknown_why: str = ""
    online: int = 0  # accounts that WKTeam listed
    verified: int = 0
    absent: tuple[int, ...] = ()  # missed for the first time
    offline: tuple[int, ...] = ()
    back: tuple[int, ...] = ()  # online by a login whose end this portal did not see
    unmanaged: int = 0

    @property
    def known(self) -> bool:
        return not self.unknown_why


class _Known(NamedTuple):
    """An account as stored, with only the columns that a presence check of all accounts needs."""

    pk: int
    wc_id: str
    w_id: str
    state: str
    state_since: datetime
    last_login_at: datetime | None
    absent: int
    bound_seq: int
    merged_into: int | None

    @property
    def is_online(self) -> bool:
        return self.state == AccountState.ONLINE


@dataclass(eq=False)
class Reconciler:
    """One presence answer of WKTeam, and what it means for each account."""

    began: datetime
    entries: list[Online]
    detected_by: str
    present: list[_Known] = field(default_factory=list)
    missing: list[_Known] = field(default_factory=list)
    # Listed, but with another state or wId than stored; with the listed wIds.
    changed: list[tuple[_Known, list[str]]] = field(default_factory=list)
    back: list[int] = field(default_factory=list)
    unknown: dict[str, list[str]] = field(default_factory=dict)
    unsure: bool = False  # an entry that names no record may be one of the accounts that are not listed
    absent: list[int] = field(default_factory=list)
    offline: list[int] = field(default_factory=list)
    verified: int = 0
    unmanaged: int = 0
    answered_at: datetime | None = None

    def settled(self) -> SweepResult:
        self.compare()
        if self.changed or self.unknown:
            self.take_over()
        with suppress(_Superseded):
            self.write()
        return SweepResult(
            "",
            len(self.listed),
            self.verified,
            tuple(self.absent),
            tuple(self.offline),
            tuple(self.back),
            self.unmanaged,
        )

    @contextmanager
    def batch(self) -> Iterator[Presence]:
        """Run the block in one transaction, with the presence check's row, which is locked and saved at its end.

        Raises _Superseded if another check answered after this one began: two overlapping checks do not count
        as two checks in a row, and the later one knows better.
        """
        with transaction.atomic(), gathered():
            row = Presence.objects.select_for_update().get(pk=Presence.ONLY)
            if row.answered_at not in (None, self.answered_at) and row.answered_at > self.began:
                raise _Superseded
            row.answered_at = self.answered_at = self.answered_at or db_clock.now()
            yield row
            row.save()

    @cached_property
    def listed(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for entry in self.entries:
            if entry.wc_id:
                found.setdefault(entry.wc_id, []).append(entry.w_id)
        return found

    def compare(self) -> None:
        rows = Account.objects.exclude(wc_id=None).values_list(*_Known._fields)
        known = [_Known._make(row) for row in rows]
        nameless = [entry.w_id for entry in self.entries if not entry.wc_id]
        w_ids_alone, found_alone = set(filter(None, nameless)), set()
        for row in known:
            w_ids = self.listed.get(row.wc_id)
            if w_ids is None and row.w_id in w_ids_alone:
                w_ids = [row.w_id]
                found_alone.add(row.w_id)
            if row.merged_into or self.is_newer(row):
                continue
            if row.is_online and w_ids is None:
                self.missing.append(row)
            elif row.is_online and (row.w_id in w_ids or not any(w_ids)):
                self.present.append(row)
            elif w_ids and any(w_ids):
                self.changed.append((row, [w_id for w_id in w_ids if w_id]))
        if len(nameless) > len(found_alone):
            log.warning("%s entries of the list name no record", len(nameless) - len(found_alone))
            self.doubt_missing()
        names = {row.wc_id for row in known}
        self.unknown = {wc_id: w_ids for wc_id, w_ids in self.listed.items() if wc_id not in names}

    def doubt_missing(self) -> None:
        """Keep those as missing whose wId `/isOnline` denies: an entry that names no record may be any of them.

        Asks about at most ASKED_AT_ONCE; the others, and those without a clear answer, are unknown.
        """
        missing, self.missing = self.missing, []
        db_errors.release_connection()
        for row in missing[:ASKED_AT_ONCE]:
            try:
                if configured.client().is_online(row.w_id) is False:
                    self.missing.append(row)
            except UpstreamError as error:
                log.warning("/isOnline: %s", type(error).__name__)
                break
        self.unsure = len(self.missing) < len(missing)

    def is_newer(self, row: _Known) -> bool:
        """Return whether the stored state is more recent than this answer."""
        at = row.last_login_at if row.is_online else row.state_since
        return at is not None and at >= self.began

    def take_over(self) -> None:
        """Record logins that ended without us: late ones of our own attempts, and those made elsewhere."""
        by_w_id = self.attempts()
        prompted, elsewhere, unconfirmed = self.prompted(), {}, {}
        for row, w_ids in self.changed:
            found = [by_w_id[w_id] for w_id in w_ids if w_id in by_w_id]
            ours = next((attempt for attempt in found if _may_be_late(attempt, row)), None)
            older = found and row.is_online and not row.absent and found[-1].account_id == row.pk
            answer = _success(w_ids, row.wc_id, ours or prompted.get(row.pk))
            if answer is not None:
                self.record(ours or prompted[row.pk], answer)
            elif older:
                # A newer login of ours replaced this wId: WKTeam's list may be outdated.
                self.missing.append(row)
            elif row.state in (AccountState.NEW, AccountState.ARCHIVED):
                unconfirmed[row.wc_id] = w_ids
            else:
                elsewhere[row.pk] = w_ids[-1]
        for wc_id, w_ids in list(self.unknown.items()):
            ours = next((by_w_id[w_id] for w_id in w_ids if w_id in by_w_id), None)
            recorded = ours is None or ours.state == AttemptState.SUCCEEDED
            if not recorded and self.record(ours, LoggedIn(Profile(wc_id=wc_id, w_id=ours.w_id))):
                del self.unknown[wc_id]
        self.unknown |= unconfirmed
        for some in in_batches(elsewhere.items(), WRITTEN_AT_ONCE):
            self.back += _bind_elsewhere(dict(some), self.began)

    def attempts(self) -> dict[str, LoginAttempt]:
        """Return {wId: attempt} of our attempts whose wId is listed unexpectedly."""
        w_ids = [w_id for _row, w_ids in self.changed for w_id in w_ids]
        w_ids += [w_id for w_ids in self.unknown.values() for w_id in w_ids if w_id]
        rows = LoginAttempt.objects.filter(w_id__in=these_texts(w_ids)).light().order_by("id")
        return {attempt.w_id: attempt for attempt in rows.select_related("account")}

    def prompted(self) -> dict[int, LoginAttempt]:
        """Return {account ID: attempt} of prompts on phones.

        The wId of a prompt is unknown until it is confirmed.
        """
        ids = [row.pk for row, _w_ids in self.changed]
        rows = LoginAttempt.objects.open().light().filter(account__in=these(ids), method=Method.POPUP)
        return {
            attempt.account_id: attempt
            for attempt in rows.exclude(sent_at=None).filter(sent_at__lt=self.began).select_related("account")
        }

    def record(self, attempt: LoginAttempt, answer: LoggedIn) -> bool:
        try:
            account = complete_login(attempt, answer)
        except (IntegrityError, OperationalError):
            log.exception("the login of attempt %s was not written", attempt.pk)
            return False
        if account is not None:
            self.back.append(account.pk)
        return True

    def write(self) -> None:
        """Save the answer in batches: the server ends a transaction that thousands of drops keep idle.

        What a batch wrote stays written if a later one fails. Only the last one confirms the other accounts.
        """
        presence_offline.end_drops()
        every_mark = True
        for ids in in_batches((row.pk for row in self.missing if not row.absent), WRITTEN_AT_ONCE):
            with self.batch():
                every_mark &= self.write_missed(ids)
            self.absent += ids
        for ids in in_batches((row.pk for row in self.missing if row.absent), WRITTEN_AT_ONCE):
            with self.batch():
                gone = presence_offline.go_offline(ids, self.began, db_clock.now())
            self.offline += gone
        with self.batch() as row:
            self.unmanaged = self.save_unmanaged(db_clock.now())
            row.unknown_since, row.unknown_why, row.online = None, "", len(self.listed)
            # Confirms every online account that is not marked as missed.
            row.checked_at = self.began if every_mark and not self.unsure else row.checked_at
        self.verified = self.write_found_again()

    def write_found_again(self) -> int:
        """Clear what speaks against accounts that are listed again. Return how many listed accounts are verified."""
        missed = [row.pk for row in self.present if row.absent]
        # A callback that came after this check began is not settled by its answer.
        settled = Q(missed_at=None) | Q(missed_at__lt=self.began)
        rows, found = Account.objects.filter(online_since_before(self.began), settled), 0
        for ids in in_batches(missed, WRITTEN_AT_ONCE):
            with self.batch():
                locked = free(rows.filter(pk__in=these(ids)))
                found += Account.objects.filter(pk__in=locked.values("pk")).update(
                    absent=0, missed_at=None, missed_by=""
                )
        return len(self.present) - len(missed) + found

    def write_missed(self, ids: list[int]) -> bool:
        """Mark accounts as missed for the first time. Return False if another process locks one of them."""
        rows = Account.objects.filter(online_since_before(self.began), absent=0, pk__in=these(ids))
        presence_offline.miss(
            Account.objects.filter(pk__in=free(rows).values("pk")), self.began, self.detected_by
        )
        return not rows.exists()

    def save_unmanaged(self, now: datetime) -> int:
        """Save the unmanaged accounts and return their number.

        Deletes those no longer listed, except ignored ones.
        """
        before = {row.wc_id: row for row in UnmanagedAccount.objects.all()}
        gone = [row.pk for row in before.values() if row.wc_id not in self.unknown and not row.ignored]
        if gone:
            UnmanagedAccount.objects.filter(pk__in=these(gone)).delete()
        rows = [
            UnmanagedAccount(wc_id=wc_id, w_id=w_ids[-1], found_at=now)
            for wc_id, w_ids in self.unknown.items()
            if wc_id not in before or before[wc_id].w_id != w_ids[-1]
        ]
        if rows:
            UnmanagedAccount.objects.bulk_create(
                rows,
                batch_size=WRITTEN_AT_ONCE,
                update_conflicts=True,
                unique_fields=["wc_id"],
                update_fields=["w_id"],
            )
        return len(self.unknown)


def _success(w_ids: list[str], wc_id: str, attempt: LoginAttempt | None) -> LoggedIn | None:
    """Return the success of the attempt if one of these wIds of its account proves it."""
    return attempt and expire.found_online(dict.fromkeys(w_ids, wc_id), attempt)


def _may_be_late(attempt: LoginAttempt, row: _Known) -> bool:
    """Return whether this login may be new.

    It is not new if its success was recorded before, or if a newer login of the account was.
    """
    if attempt.account_id == row.pk:
        return attempt.state != AttemptState.SUCCEEDED and attempt.seq > row.bound_seq
    if attempt.is_open:
        return True
    recorded = attempt.state == AttemptState.SUCCEEDED or attempt.reason == Reason.WRONG_ACCOUNT
    later = row.last_login_at is None or attempt.created_at > row.last_login_at
    return later and not recorded and attempt.account.merged_into_id is None


def _bind_elsewhere(w_ids: dict[int, str], before: datetime) -> list[int]:
    """Give accounts the wIds of logins made elsewhere. Return the IDs of the accounts changed.

    Skips accounts that logged in at or after `before`, and rows that another process locks.
    """
    with transaction.atomic(), gathered():
        unchanged = Q(last_login_at=None) | Q(last_login_at__lt=before)
        rows = Account.objects.filter(unchanged, pk__in=these(list(w_ids)), merged_into=None)
        accounts = list(free(rows).order_by("pk"))
        _go_online(accounts, w_ids, db_clock.now())
        trying = LoginAttempt.objects.open().filter(account__in=accounts)
        if ids := list(trying.values_list("account", flat=True)):
            renumber_open_attempts(ids)
    return [account.pk for account in accounts]


def _go_online(accounts: list[Account], w_ids: dict[int, str], now: datetime) -> None:
    """Write wIds, each as the newest login of its account. The rows are locked: no other login is written meanwhile."""
    seq = F("login_seq") + 1
    w_id = Case(*(When(pk=account.pk, then=Value(w_ids[account.pk])) for account in accounts))
    Account.objects.filter(pk__in=these([account.pk for account in accounts])).update(
        w_id=w_id, login_seq=seq, bound_seq=seq, **online_since(now)
    )
    for account in accounts:
        old, account.state = account.state, AccountState.ONLINE
        record(account, EventType.ACCOUNT_ONLINE, old=old, new=account.state, at=now)
        record(account, EventType.FOUND_ONLINE, at=now)


def adopt(found: UnmanagedAccount, *, by=None, team=None, label: str = "") -> Account:
    """Create the record of an unmanaged account, online with its wId, and return it.

    If a record with that wcId exists, return that record, and give it the wId unless it is online: that
    confirms one that never logged in. A merged record is replaced by the record it was merged into.
    """
    now = db_clock.now()
    with transaction.atomic(), gathered():
        account, new = Account.objects.get_or_create(
            wc_id=found.wc_id,
            defaults={"label": (label or found.wc_id)[:100], "team": team, "state_since": now},
        )
        account = account.merged_into or account
        if new:
            record(account, EventType.ADDED, by=by, at=now)
        first = not account.is_confirmed
        if account.state != AccountState.ONLINE and found.w_id:
            account.go_online(next_seq(account), found.w_id, now, None, {"w_id": ""})
            record(account, EventType.FOUND_ONLINE, by=by, at=now)
        if first:
            # The time of the very first login is unknown.
            Account.objects.filter(pk=account.pk).update(first_login_at=None)
            account.first_login_at = None
        UnmanagedAccount.objects.filter(wc_id=found.wc_id).delete()
    return account
