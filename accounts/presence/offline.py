"""Accounts that go offline: the state change, their drops, and the reasons from WKTeam.

An account goes offline only through go_offline(). A drop is written in the same transaction as its event and
has the same time. It ends when its account is online again.
"""

import json
import logging
import random
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Case, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce

from accounts.lib import db_clock, db_errors
from accounts.lib.rows import RowLease
from accounts.metrics import families
from accounts.models import Account, Drop, LoginAttempt, Presence
from accounts.models.drop import kind_of
from accounts.models.event import gathered, record
from accounts.states import AccountState, DetectedBy, DropKind, EventType, NextStep
from accounts.upstream import configured, errors

log = logging.getLogger(__name__)

# WKTeam's docs: /offlineReason at most once in 12 hours per account.
ASKED_AGAIN_AFTER = timedelta(hours=12)
# Seconds between two calls. Our choice: WKTeam's docs advise this pause for contact details only.
PAUSE = (0.3, 1.5)
# Limit of one round of calls, since a worker of short tasks runs it.
ROUND_SECONDS = 10


def these(ids: list) -> RawSQL:
    """Return the IDs as a subquery with one parameter, whatever their number."""
    if connection.vendor == "sqlite":
        return RawSQL("SELECT value FROM json_each(%s)", [json.dumps(ids)])
    return RawSQL("SELECT unnest(%s::bigint[])", [ids])


def these_texts(texts: list[str]) -> RawSQL:
    if connection.vendor == "sqlite":
        return these(texts)
    return RawSQL("SELECT unnest(%s::text[])", [texts])


def free(rows: QuerySet) -> QuerySet:
    """Lock the rows that are not locked now and skip the others: a bulk write never waits for a small one."""
    return rows.select_for_update(of=("self",), skip_locked=True, no_key=True)


def online_since_before(moment: datetime) -> Q:
    """Return the filter for online accounts whose last login is before `moment`, when a presence check began.

    An answer requested at that moment says nothing about later logins.
    """
    older = Q(last_login_at=None) | Q(last_login_at__lt=moment)
    return Q(older, state=AccountState.ONLINE, merged_into=None)


def miss(accounts: QuerySet, at: datetime, by: str) -> int:
    """Mark online accounts as missed for the first time. Return how many.

    Until now the presence check's row told when they were last confirmed (Account.last_checked). From now on
    their own column does.
    """
    swept_at = Subquery(Presence.objects.filter(pk=Presence.ONLY).values("checked_at"))
    is_later = Q(checked_at=None) | Q(checked_at__lt=swept_at)
    return accounts.update(
        checked_at=Case(When(is_later, then=swept_at), default="checked_at"),
        absent=1,
        missed_at=at,
        missed_by=by,
    )


def go_offline(ids: list[int], before: datetime, now: datetime) -> list[int]:
    """Take accounts offline, each with its event and its drop. Return the IDs of those taken offline.

    Runs inside the caller's transaction. Skips accounts that logged in at or after `before`, and rows that
    another process locks.
    """
    wanted = Account.objects.filter(online_since_before(before), pk__in=these(ids))
    accounts = list(free(wanted).order_by("pk"))
    if not accounts:
        return []
    end_drops()
    gone = [account.pk for account in accounts]
    Account.objects.filter(pk__in=these(gone)).update(
        state=AccountState.OFFLINE,
        w_id="",
        state_since=now,
        last_offline_at=now,
        last_offline_reason="",
        absent=0,
        missed_at=None,
        missed_by="",
    )
    drops = Drop.objects.bulk_create([_drop(account, now) for account in accounts])
    transaction.on_commit(lambda: _count(drops), robust=True)
    for account in accounts:
        account.state = AccountState.OFFLINE
        record(account, EventType.ACCOUNT_OFFLINE, old=AccountState.ONLINE, new=AccountState.OFFLINE, at=now)
    return gone


def _count(drops: list[Drop]) -> None:
    for drop in drops:
        families.DROPS.labels(drop.kind, drop.detected_by).inc()


def _drop(account: Account, now: datetime) -> Drop:
    return Drop(
        account=account,
        kind=_kind(account, now),
        detected_by=account.missed_by or DetectedBy.SWEEP,
        w_id=account.w_id,
        online_since=account.last_login_at,
        at=now,
        proxy=account.proxy_in_use,
        region=account.region,
        next_step=NextStep.WAITING,
        next_at=now,
    )


def _kind(account: Account, now: datetime) -> DropKind:
    """Return the kind of drop, by the time the account was first missed.

    An account that no presence check has confirmed since its login may have dropped one check interval
    earlier. The time is then moved back by that interval, unless a WKTeam callback reported the drop.
    """
    login_at, missed_at = account.last_login_at, account.missed_at or now
    unseen = login_at is not None and (account.checked_at is None or account.checked_at <= login_at)
    if unseen and account.missed_by != DetectedBy.CALLBACK:
        a_sweep = timedelta(seconds=min(settings.WK_PRESENCE_SECONDS, 90) * 1.1)
        missed_at = max(login_at, missed_at - a_sweep)
    return kind_of(account.first_login_at, login_at, missed_at)


def drops_to_end(_now: datetime) -> Iterator[QuerySet]:
    """Yield the open drops of accounts that are online again."""
    yield Drop.objects.open().filter(account__state=AccountState.ONLINE)


def end_drops() -> int:
    """End the drops of accounts that are online again. Return how many. One query, idempotent."""
    account = Account.objects.filter(pk=OuterRef("account_id"))
    w_id = Account.objects.filter(pk=OuterRef(OuterRef("account_id"))).values("w_id")[:1]
    by = LoginAttempt.objects.filter(w_id=Subquery(w_id)).order_by("-id").values("method")[:1]
    (back,) = drops_to_end(db_clock.now())
    with transaction.atomic():
        return Drop.objects.filter(pk__in=free(back).values("pk")).update(
            ended_at=Coalesce(Subquery(account.values("last_login_at")[:1]), db_clock.now()),
            ended_by=Coalesce(Subquery(by), Value("")),
            next_at=None,
        )


# --- reasons -------------------------------------------------------------------------------------------


def _without_reason(now: datetime) -> QuerySet:
    """Return the drops to ask WKTeam about: without a reason, and each account at most once in 12 hours."""
    asked = Q(account__reason_asked_at=None) | Q(account__reason_asked_at__lt=now - ASKED_AGAIN_AFTER)
    recent = Drop.objects.open().filter(at__gt=now - ASKED_AGAIN_AFTER, reason_text="")
    return recent.filter(asked, account__state=AccountState.OFFLINE, account__merged_into=None)


def drops_without_reason(now: datetime) -> Iterator[QuerySet]:
    yield _without_reason(now)


def reasons_are_due() -> bool:
    return _without_reason(db_clock.now()).exists()


def ask_reasons() -> int:
    """Ask WKTeam why accounts went offline, one call after another with pauses.

    Return the number of accounts asked about.

    One process at a time, for about ROUND_SECONDS. The next round continues with the rest.
    """
    length = timedelta(seconds=ROUND_SECONDS + 3 * settings.WK_TIMEOUT_SECONDS)
    lease = RowLease.claim(Presence.objects, Presence.ONLY, "reasons_until", length)
    if lease is None:
        return 0
    with lease:
        return _ask_for_a_while(db_clock.now())


def _ask_for_a_while(now: datetime) -> int:
    asked, ends = 0, time.monotonic() + ROUND_SECONDS
    drops = list(_without_reason(now).select_related("account").order_by("id")[:20])
    for drop in drops:
        if asked:
            db_errors.release_connection()
            time.sleep(random.uniform(*PAUSE))  # noqa: S311 - no secret
            if time.monotonic() > ends:
                break
        if not _ask_reason(drop):
            break
        asked += 1
    return asked


def _ask_reason(drop: Drop) -> bool:
    """Ask for the reason of one drop.

    Return False if WKTeam is unreachable or refuses access, so that the round stops.
    """
    before, now = drop.account.reason_asked_at, db_clock.now()
    account = Account.objects.filter(pk=drop.account_id, state=AccountState.OFFLINE)
    if not account.filter(reason_asked_at=before).update(reason_asked_at=now):
        return True
    db_errors.release_connection()
    try:
        text = configured.client().offline_reason(drop.account.wc_id)
    except errors.UpstreamError as error:
        log.warning("no reason of the upstream for account %s: %s", drop.account_id, type(error).__name__)
        unsent = isinstance(error, errors.Unreachable | errors.SignInRefused)
        if unsent:
            account.filter(reason_asked_at=now).update(reason_asked_at=before)
        return not unsent
    if text:
        _write_reason(drop, text)
    return True


def _write_reason(drop: Drop, text: str) -> None:
    with transaction.atomic(), gathered():
        Drop.objects.filter(pk=drop.pk).update(reason_text=text)
        account = Account.objects.filter(pk=drop.account_id)
        # Do not overwrite what is known of a later drop.
        if account.filter(last_offline_at=drop.at).update(last_offline_reason=text):
            record(account.get(), EventType.REASON_TOLD, detail=text)
