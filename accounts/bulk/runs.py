"""Bulk runs: look at what one would do, start it, cancel it, and the accounts for which it may be done again."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Count, QuerySet

from accounts import permissions
from accounts.bulk.eligible import Eligible, minutes_at_pace
from accounts.lib import db_clock
from accounts.lib.rows import in_batches
from accounts.models import Account, BulkItem, BulkRun
from accounts.models.audit import log as audit
from accounts.models.audit.entry import AuditKind
from accounts.models.operators.bulk_run import BulkAction, BulkReason, BulkState
from accounts.models.operators.scan_run import ScanSource
from accounts.scanning import queue

MOST = 5000
LOOKED_AT_ONCE, ROWS = 500, 500
# These reasons stay: to try again would leave out the same accounts.
_LASTING = (BulkReason.UNCHANGED, BulkReason.ONLINE, BulkReason.GONE, BulkReason.RIGHTS)


class TooMany(Exception):
    """More accounts than one run takes."""


def most(action: str) -> int:
    return queue.MOST if action == BulkAction.LOG_IN else MOST


def visible_to(user, ids: Iterable[int]) -> QuerySet[Account]:
    return Account.objects.visible_to(user).kept().filter(pk__in=ids)


# --- what it would do -------------------------------------------------------------------------------------


@dataclass
class DryRun:
    """What an action would do now: `ready` accounts in the order of their turn, and those left out by reason.

    `until`: when the last phone prompt is sent, at the pace of the policies. None for other actions.
    """

    ready: list[Account] = field(default_factory=list)
    left_out: dict[str, list[Account]] = field(default_factory=dict)
    until: datetime | None = None

    @property
    def reasons(self) -> list[tuple[str, list[Account]]]:
        """Return the reasons as people read them, each with its accounts: the most accounts first."""
        found = sorted(self.left_out.items(), key=lambda item: -len(item[1]))
        return [(str(BulkReason(reason).label), accounts) for reason, accounts in found]


def look(action: str, value: dict, accounts: QuerySet[Account]) -> DryRun:
    """Return what the action would do to these accounts. Raises TooMany. Writes nothing.

    `accounts`: those that the person sees, without merged and archived ones.
    """
    now, found, beyond = db_clock.now(), DryRun(), most(action) + 1
    chosen = queue.in_order(accounts.defer("search_text", "note")[:beyond], beyond)
    if len(chosen) == beyond:
        raise TooMany
    for some in in_batches(chosen, LOOKED_AT_ONCE):
        eligible = Eligible(action, value, some, now)
        for account in some:
            if why := eligible.why_not(account):
                found.left_out.setdefault(why, []).append(account)
            else:
                found.ready.append(account)
    if action == BulkAction.PROMPT and found.ready:
        found.until = now + timedelta(minutes=minutes_at_pace(found.ready))
    return found


# --- a run ------------------------------------------------------------------------------------------------


def start(person, action: str, value: dict, accounts: QuerySet[Account]) -> BulkRun:
    """Record a run with these accounts, in the order of their turn. The jobs execute it. Raises TooMany.

    Accounts that the action leaves out are part of it, with the reason. A login of many begins a scan run.
    """
    found, now = look(action, value, accounts), db_clock.now()
    left = [(account, why) for why, those in found.left_out.items() for account in those]
    with transaction.atomic():
        run = BulkRun.objects.create(
            person=person, person_name=person.get_username(), action=action, value=value, created_at=now
        )
        items = [BulkItem(run=run, account=account) for account in found.ready]
        items += [
            BulkItem(run=run, account=account, state=BulkState.LEFT_OUT, reason=why, ended_at=now)
            for account, why in left
        ]
        BulkItem.objects.bulk_create(items, ROWS)
        audit.record(
            AuditKind.BULK_STARTED,
            about=run,
            name=f"#{run.pk}",
            by=person,
            detail=_said(run),
            number=len(found.ready),
        )
        if not found.ready:
            end(run, now)
        elif action == BulkAction.LOG_IN:
            _scan(run, found.ready, now)
    return run


def _said(run: BulkRun) -> str:
    """Return the action and what it writes, for the audit log."""
    values = [
        str(value) for each in run.value.values() for value in (each if isinstance(each, list) else [each])
    ]
    said = ", ".join(value for value in values if value not in ("", "None"))
    return f"{run.action}: {said}" if said else run.action


def _scan(run: BulkRun, accounts: list[Account], now: datetime) -> None:
    mine = Account.objects.filter(pk__in=[account.pk for account in accounts])
    run.scan_run = queue.start_run(run.person, ScanSource.SELECTION, mine)
    run.save(update_fields=["scan_run"])
    run.items.filter(state=BulkState.WAITING).update(state=BulkState.STARTED, started_at=now)


def end(run: BulkRun, now: datetime) -> None:
    BulkRun.objects.filter(pk=run.pk, ended_at=None).update(ended_at=now)
    run.ended_at = run.ended_at or now


def cancel(run: BulkRun) -> bool:
    """Start nothing more of the run; return whether there was something to cancel.

    What has begun goes on, and its result is recorded: prompts that are on phones, QR codes that may be scanned until
    their deadline, accounts that are being archived, a check.
    """
    now = db_clock.now()
    with transaction.atomic():
        locked = BulkRun.objects.open().select_for_update(of=("self",)).filter(pk=run.pk).first()
        if locked is None:
            return False
        scans = locked.scan_run is not None and locked.scan_run.ended_at is None
        waiting = locked.items.filter(state=BulkState.WAITING)
        if not waiting.update(state=BulkState.CANCELLED, ended_at=now) and not scans:
            return False
        BulkRun.objects.filter(pk=run.pk).update(cancelled_at=now)
        audit.record(AuditKind.BULK_CANCELLED, about=locked, name=f"#{run.pk}", detail=_said(locked))
        if scans:
            queue.end_run(locked.scan_run)
        if not locked.items.filter(state=BulkState.STARTED).exists():
            end(run, now)
    return True


def counts(run: BulkRun) -> dict[str, int]:
    """Return {result: number of accounts}, without those of which there is none."""
    found = run.items.order_by().values_list("state").annotate(number=Count("pk"))
    return Counter(dict(found))


def unsuccessful(run: BulkRun) -> list[int]:
    """Return the IDs of the accounts for which the run may be done again."""
    items = run.items.exclude(state__in=(BulkState.WAITING, BulkState.STARTED, BulkState.DONE))
    return list(items.exclude(reason__in=_LASTING).values_list("account", flat=True))


def visible_runs(user) -> QuerySet[BulkRun]:
    """Return the runs that a person sees: their own; every run for who sees every account."""
    return BulkRun.objects.all() if permissions.sees_all(user) else BulkRun.objects.filter(person=user)
