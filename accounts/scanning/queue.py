"""The queue of a scan run: which accounts belong to it, in the order in which their phones stand."""

from collections.abc import Iterable
from heapq import nsmallest

from django.db import transaction
from django.db.models import Max, QuerySet

from accounts.attention import groups
from accounts.lib import db_clock
from accounts.models import Account, ScanRun, ScanRunItem
from accounts.models.operators.scan_run import ScanSource, ScanState
from accounts.states import AccountState

MOST = 1000
ITEMS_AT_ONCE = 200
SORTED_BY = ("pk", "label_key", "place_key")


def source_accounts(user, source: str) -> QuerySet[Account]:
    """Return the accounts of a source that is a rule, not a list of accounts."""
    accounts = Account.objects.visible_to(user).kept()
    if source == ScanSource.SCAN_QUEUE:
        return accounts.to_scan()
    if source == ScanSource.NEW:
        return accounts.filter(state=AccountState.NEW)
    return groups.needing(accounts, groups.Need.FAILED)


def in_order(accounts: Iterable, most: int) -> list:
    """Return the first accounts, or rows of SORTED_BY, by place in natural order, then by label.

    Accounts without a place come last.
    """
    return nsmallest(most, accounts, key=lambda a: (not a.place_key, a.place_key, a.label_key, a.pk))


def start_run(user, source: str, accounts: QuerySet[Account]) -> ScanRun | None:
    """Start a run with the first MOST of the accounts, or return None if there are none.

    The user's earlier runs end: a person works through one queue at a time.
    """
    chosen = in_order(accounts.values_list(*SORTED_BY, named=True), MOST)
    if not chosen:
        return None
    now = db_clock.now()
    with transaction.atomic():
        for earlier in ScanRun.objects.open().filter(person=user):
            end_run(earlier)
        run = ScanRun.objects.create(person=user, source=source, created_at=now, seen_at=now)
        _append(run, chosen, 0)
    return run


def add(run: ScanRun, accounts: QuerySet[Account]) -> int:
    """Add the accounts that the run does not have yet at its end; return how many."""
    last = run.items.aggregate(last=Max("position"))["last"] or 0
    new = accounts.exclude(pk__in=run.items.values("account")).values_list(*SORTED_BY, named=True)
    chosen = in_order(new, max(0, MOST - last))
    _append(run, chosen, last)
    return len(chosen)


def _append(run: ScanRun, accounts: list, last: int) -> None:
    items = [
        ScanRunItem(run=run, account_id=account.pk, position=position)
        for position, account in enumerate(accounts, start=last + 1)
    ]
    ScanRunItem.objects.bulk_create(items, ITEMS_AT_ONCE, ignore_conflicts=True)


def failed_of(run: ScanRun) -> QuerySet[Account]:
    """Return the accounts of a run that did not come online."""
    ended = run.items.filter(state__in=(ScanState.FAILED, ScanState.SKIPPED))
    return Account.objects.visible_to(run.person).kept().filter(pk__in=ended.values("account"))


def end_run(run: ScanRun) -> None:
    """End the run; what it has claimed is free again. Its QR codes stay valid until their deadline."""
    now = db_clock.now()
    run.items.claimed().update(state=ScanState.QUEUED)
    ScanRun.objects.filter(pk=run.pk, ended_at=None).update(ended_at=now)
    run.ended_at = run.ended_at or now
