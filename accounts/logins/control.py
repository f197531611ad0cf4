"""Actions on a login: submit a verification code, confirm a verification page, cancel, name the account meant, undo a merge."""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery

from accounts.lib import db_clock
from accounts.logins.success import merge_record, record_of_both
from accounts.models import Account, AccountEvent, LoginAttempt
from accounts.models.account import sort_keys
from accounts.reasons import Reason
from accounts.states import AccountState, AttemptState, EventType

# Time in which a person can undo a merge that the portal made by itself.
MERGE_UNDONE_WITHIN = timedelta(hours=24)


def submit_verification_code(attempt: LoginAttempt, code: str, *, by=None) -> bool:
    """Store the verification code that the phone shows; the next wait sends it.

    Returns True if the attempt waits again: the caller then queues that wait for a worker. Returns False if
    no code is required, or if the attempt moved meanwhile.
    """
    if attempt.state != AttemptState.CODE_REQUIRED:
        return False
    return _wait_again(attempt, by, verify_code=code)


def page_visited(attempt: LoginAttempt, *, by=None) -> bool:
    """Wait again after the verification page was passed.

    Returns True if the attempt waits again: the caller then queues that wait for a worker. Returns False if
    no page is required, or if the attempt moved meanwhile.
    """
    if attempt.state != AttemptState.PAGE_REQUIRED:
        return False
    return _wait_again(attempt, by, page_url="")


def _wait_again(attempt: LoginAttempt, by, **changes) -> bool:
    return attempt.move(
        AttemptState.WAITING,
        by=by,
        lease_owner="",
        # Fences off the previous holder: what it still writes or retries concerns the wait that ended.
        lease_epoch=attempt.lease_epoch + 1,
        queued_at=db_clock.now(),
        wait_started_at=None,
        resumed_at=None,
        **changes,
    )


def cancel(attempt: LoginAttempt, *, by=None) -> bool:
    """Cancel the attempt in the portal; return False if it has ended already.

    WKTeam has no call to cancel a login. If the phone confirms later, the account comes online and is shown
    as online.
    """
    while attempt.is_open:
        if attempt.move(AttemptState.CANCELLED, by=by, reason=Reason.CANCELLED):
            return True
        attempt.refresh_from_db()
    return False


def withdraw(attempt: LoginAttempt, *, by=None) -> bool:
    """Cancel the attempt for another one to take its place. Return False if it has succeeded: then none is needed."""
    cancel(attempt, by=by)
    return attempt.state != AttemptState.SUCCEEDED


def may_be_meant(attempt: LoginAttempt) -> bool:
    """Return whether the account that scanned instead may be the one that the attempt's record means.

    The record's wcId was never confirmed, and it is the WeChat ID of that account, or no record knew that account
    before one of this record's logins.
    """
    account, other = attempt.account, attempt.other_account
    if attempt.reason != Reason.WRONG_ACCOUNT or other is None or other.merged_into_id:
        return False
    if account.is_confirmed or account.merged_into_id:
        return False
    if account.wc_id and account.wc_id.casefold() == other.wechat_id.casefold():
        return True
    return other.events.filter(happened=EventType.ADDED, attempt__account=account).exists()


def take_as_meant(attempt: LoginAttempt, *, by=None) -> Account | None:
    """Merge the attempt's record into the account that scanned instead, which gets what it lacks from the record.

    Returns that account, or None if it may not be the one meant.
    """
    if (going_on := attempt.account.open_attempt) is not None:
        cancel(going_on, by=by)
    with transaction.atomic():
        ids = (attempt.account_id, attempt.other_account_id)
        rows = Account.objects.filter(pk__in=ids).order_by("pk").select_for_update(of=("self",), no_key=True)
        accounts = {account.pk: account for account in rows}
        attempt.account, attempt.other_account = map(accounts.get, ids)
        if not may_be_meant(attempt):
            return None
        merge_record(attempt.account, attempt.other_account, attempt, by=by)
        _fill(attempt.other_account, attempt.account)
    return attempt.other_account


def _fill(account: Account, source: Account) -> None:
    """Give the account what people typed into another record, where it has nothing of its own."""
    named_by_phone = account.label in (account.nickname, account.wc_id)
    changes = {"label": source.label} if named_by_phone else {}
    changes |= {
        name: getattr(source, name)
        for name in ("note", "place", "proxy", "own_proxy", "policy_id")
        if getattr(account, name) in ("", None)
    }
    changes |= sort_keys(changes.get("label", account.label), changes.get("place", account.place))
    if not account.has_hours:
        changes |= {name: getattr(source, name) for name in ("hours_from", "hours_until", "time_zone")}
    Account.objects.filter(pk=account.pk).update(**changes)
    account.tags.add(*source.tags.all())


def merged_by_portal(accounts: QuerySet[Account], now: datetime) -> QuerySet[Account]:
    """Return those of these accounts whose merge can be undone, with `merged_at`.

    The portal merged them when a known phone scanned their QR code. Their own rows did not change but for the merge
    and a wcId that was typed. A merge that a person asked for gave the other record what that lacked: it stays.
    """
    events = AccountEvent.objects.filter(account=OuterRef("pk"), happened=EventType.MERGED).order_by("-id")
    merged = accounts.filter(merged_into__isnull=False, state=AccountState.NEW)
    merged = merged.annotate(
        merged_at=Subquery(events.values("at")[:1]), merged_by=Subquery(events.values("actor_name")[:1])
    )
    return merged.filter(merged_at__gt=now - MERGE_UNDONE_WITHIN, merged_by="").order_by("-merged_at")


def undo_merge(account: Account, *, by=None) -> bool:
    """Make a record that the portal merged an account of its own again, without a wcId. Return whether it was merged.

    The login that merged it stays with the account whose phone scanned.
    """
    with transaction.atomic():
        rows = Account.objects.filter(pk=account.pk)
        locked = rows.select_for_update(of=("self",), no_key=True).select_related(None).first()
        if locked is None or not merged_by_portal(rows, db_clock.now()).exists():
            return False
        owner = locked.merged_into
        rows.update(merged_into=None)
        record_of_both(EventType.UNMERGED, locked, owner, by=by)
    return True
