"""The execution of bulk runs by the jobs, some accounts at a time.

What is done for accounts and their results are written in one transaction that locks the run's row: a process that
dies leaves both or neither, and the next one goes on. Only archiving has transactions of its own: the accounts are
marked as started before, and the next process archives those that are not archived yet.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from accounts.bulk import actions, runs
from accounts.bulk.eligible import NO_PROMPT_NOW, Eligible
from accounts.lib import db_clock
from accounts.models import Account, BulkItem, BulkRun, LoginAttempt, Presence, ScanRunItem
from accounts.models.operators.bulk_run import OPEN, BulkAction, BulkReason, BulkState
from accounts.models.operators.scan_run import ENDED, ScanState
from accounts.presence import sweep
from accounts.relogin import recover
from accounts.states import AccountState, AttemptState, NextStep, Trigger

log = logging.getLogger(__name__)

AT_ONCE = 100
# So many steps in a row: a run of many accounts leaves room for other jobs, and goes on 2 s later.
STEPS = 20
SETTLED_AT_ONCE = 500
PACE_AGAIN = timedelta(seconds=10)
CHECKED_WITHIN = timedelta(seconds=60)
# So long a run follows the scan run that it began.
FOLLOWED = timedelta(hours=24)


def due(_now: datetime) -> Iterator[QuerySet]:
    yield BulkRun.objects.open()


def open_runs() -> list[int]:
    return list(BulkRun.objects.open().order_by("pk").values_list("pk", flat=True))


def go_on(run_id: int) -> list[int]:
    """Do what can be done of a run now. Return the IDs of the attempts started, for the workers.

    Accounts at which an error occurs that is not the database's absence are tried alone, and fail alone.
    """
    begun: list[int] = []
    at_once = AT_ONCE
    for _step in range(STEPS):
        try:
            if not _step_of(run_id, at_once, begun):
                break
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            log.exception("bulk run %s", run_id)
            if at_once == 1:
                _give_up_one(run_id)
            at_once = 1
    return begun


def _step_of(run_id: int, at_once: int, begun: list[int]) -> bool:
    """Make one step. Return whether another one may follow at once."""
    archives = BulkRun.objects.filter(pk=run_id, action=BulkAction.ARCHIVE).exists()
    archived = _archive(run_id, at_once) if archives else []
    with transaction.atomic():
        # Another process that works on this run now is enough.
        rows = BulkRun.objects.open().select_for_update(of=("self",), skip_locked=True)
        run = rows.select_related("person", "scan_run").filter(pk=run_id).first()
        if run is None:
            return False
        now = db_clock.now()
        _settle(run, now)
        if archived:
            _settle_archived(run, archived, now)
        goes_on = _take(run, at_once, now, begun)
        if not run.items.filter(state__in=OPEN).exists():
            runs.end(run, now)
    return goes_on


def _give_up_one(run_id: int) -> None:
    item = _to_archive(run_id).first() or _waiting(run_id).first()
    if item is not None:
        _end([item], BulkState.FAILED, db_clock.now(), BulkReason.ERROR)


# --- accounts whose turn it is ----------------------------------------------------------------------------


def _waiting(run_id: int) -> QuerySet[BulkItem]:
    """Return the accounts whose turn may come, in order. Those that wait for a policy's pace come last."""
    items = BulkItem.objects.filter(run=run_id, state=BulkState.WAITING)
    return items.order_by(F("next_at").asc(nulls_first=True), "pk")


def _take(run: BulkRun, at_once: int, now: datetime, begun: list[int]) -> bool:
    items = _waiting(run.pk)
    if not actions.may(run.person, run.action):
        return _end_all(items, BulkState.LEFT_OUT, now, BulkReason.RIGHTS)
    if not actions.is_possible(run.person, run.action, run.value):
        return _end_all(items, BulkState.FAILED, now, BulkReason.VALUE_GONE)
    if run.action == BulkAction.PROMPT:
        return _prompt(run, items, now, begun)
    if run.action == BulkAction.CHECK:
        return _check(items, now)
    if run.action == BulkAction.ARCHIVE:
        return items.exists()  # the next step archives
    return _change(run, list(items[:at_once]), now)


def _sorted_out(run: BulkRun, items: list[BulkItem], now: datetime) -> list[BulkItem]:
    """End the items that the action leaves out by now. Return the others, each with its account.

    The accounts are locked, but for prompts: `start_prompt` locks the policies before it locks the account.
    """
    rows = runs.visible_to(run.person, [item.account_id for item in items]).order_by("pk")
    if run.action != BulkAction.PROMPT:
        rows = rows.select_for_update(of=("self",), no_key=True)
    accounts = {account.pk: account for account in rows}
    eligible = Eligible(run.action, run.value, list(accounts.values()), now)
    left: dict[str, list[BulkItem]] = {}
    for item in items:
        account = accounts.get(item.account_id)
        why = eligible.why_not(account) if account else BulkReason.GONE
        left.setdefault(why, []).append(item)
        item.account = account
    mine = left.pop("", [])
    for why, those in left.items():
        _end(those, BulkState.LEFT_OUT, now, why)
    return mine


def _change(run: BulkRun, items: list[BulkItem], now: datetime) -> bool:
    if not items:
        return False
    mine = _sorted_out(run, items, now)
    changed = Account.objects.filter(pk__in=[item.account_id for item in mine])
    actions.write(run.action, run.value, changed, run.person)
    _end(mine, BulkState.DONE, now)
    return True


def _to_archive(run_id: int) -> QuerySet[BulkItem]:
    """Return the accounts that an archive run has to archive: those that were started before come first."""
    open_items = BulkItem.objects.filter(run=run_id, run__action=BulkAction.ARCHIVE, state__in=OPEN)
    return open_items.order_by("state", "pk")  # "started", then "waiting"


def _archive(run_id: int, at_once: int) -> list[BulkItem]:
    """Archive the next accounts. Return their items, which `_settle_archived` ends.

    Not in the transaction that locks the run: their logins are cancelled before the accounts are locked. The items
    are started before, so that a person who cancels the run now cancels none of them.
    """
    with transaction.atomic():
        rows = BulkRun.objects.open().select_for_update(of=("self",)).select_related("person")
        run = rows.filter(pk=run_id).first()
        if run is None:
            return []
        items = list(_to_archive(run_id)[:at_once])
        if not actions.may(run.person, run.action):
            return [item for item in items if item.state == BulkState.STARTED]
        new = [item.pk for item in items if item.state == BulkState.WAITING]
        BulkItem.objects.filter(pk__in=new).update(state=BulkState.STARTED, started_at=db_clock.now())
    accounts = runs.visible_to(run.person, [item.account_id for item in items])
    actions.write(run.action, run.value, accounts, run.person)
    return items


def _settle_archived(run: BulkRun, items: list[BulkItem], now: datetime) -> None:
    ids = [item.account_id for item in items]
    archived = Account.objects.filter(pk__in=ids, state=AccountState.ARCHIVED)
    done = set(archived.values_list("pk", flat=True))
    _end([item for item in items if item.account_id in done], BulkState.DONE, now)
    rest = _sorted_out(run, [item for item in items if item.account_id not in done], now)
    if actions.may(run.person, run.action):
        _end(rest, BulkState.FAILED, now, BulkReason.BUSY)
    else:
        _end(rest, BulkState.LEFT_OUT, now, BulkReason.RIGHTS)


def _check(items: QuerySet[BulkItem], now: datetime) -> bool:
    started = BulkItem.objects.filter(pk__in=items.order_by().values("pk"))
    if started.update(state=BulkState.STARTED, started_at=now):
        sweep.check_soon()
    return False


def _prompt(run: BulkRun, items: QuerySet[BulkItem], now: datetime, begun: list[int]) -> bool:
    """Send the next prompt that the pace of its policy allows."""
    item = items.filter(Q(next_at=None) | Q(next_at__lte=now)).first()
    if item is None:
        return False
    if not _sorted_out(run, [item], now):
        return True
    account = item.account
    attempt, step = recover.start_prompt(account, trigger=Trigger.BULK, by=run.person)
    if attempt is not None:
        begun.append(attempt.pk)
        changes = {"state": BulkState.STARTED, "attempt": attempt, "started_at": now}
        BulkItem.objects.filter(pk=item.pk).update(**changes)
    elif step == NextStep.BACK_OFF:
        alike = items.filter(account__policy=account.policy_id)
        BulkItem.objects.filter(pk__in=alike.order_by().values("pk")).update(next_at=now + PACE_AGAIN)
    elif step != NextStep.WAITING:
        _end([item], BulkState.LEFT_OUT, now, NO_PROMPT_NOW.get(step, BulkReason.BUSY))
    return step != NextStep.WAITING  # no worker has a free slot


# --- what came of it --------------------------------------------------------------------------------------


def _settle(run: BulkRun, now: datetime) -> None:
    """Write the results of the accounts that wait for a phone or for WKTeam."""
    started = run.items.filter(state=BulkState.STARTED)
    if settle := _SETTLES.get(run.action):
        settle(run, started, now)


def _settle_prompts(_run: BulkRun, started: QuerySet[BulkItem], now: datetime) -> None:
    answered = started.filter(Q(attempt=None) | Q(attempt__ended_at__isnull=False))
    light = answered.select_related("account", "attempt").defer("attempt__qr_png", "attempt__qr_text")
    for item in light.order_by("pk")[:SETTLED_AT_ONCE]:
        account, attempt = item.account, item.attempt
        logged_in = account.last_login_at is not None and account.last_login_at >= item.started_at
        if logged_in or (attempt and attempt.state == AttemptState.SUCCEEDED):
            _end([item], BulkState.DONE, now)
        else:
            _end([item], BulkState.FAILED, now, attempt.reason if attempt else "")


def _settle_check(run: BulkRun, started: QuerySet[BulkItem], now: datetime) -> None:
    """End the items when a check that began after them was answered, or after CHECKED_WITHIN without an answer."""
    first = started.order_by("pk").first()
    presence = Presence.objects.filter(pk=Presence.ONLY).first()
    if first is None:
        return
    if presence and presence.checked_at and presence.checked_at >= first.started_at:
        seen = runs.visible_to(run.person, started.values("account"))
        _end_all(started.exclude(account__in=seen), BulkState.LEFT_OUT, now, BulkReason.GONE)
        _end_all(started, BulkState.DONE, now)
    elif now > first.started_at + CHECKED_WITHIN:
        _end_all(started, BulkState.FAILED, now, BulkReason.NOT_CHECKED)


def _settle_scans(run: BulkRun, started: QuerySet[BulkItem], now: datetime) -> None:
    """Take over what became of the accounts in the scan run; what is left of it when it ends was not scanned."""
    items = {item.account_id: item for item in started}
    ended = ScanRunItem.objects.filter(run=run.scan_run_id, state__in=ENDED, account__in=items)
    for scan in ended:
        done = scan.state == ScanState.DONE
        state = BulkState.DONE if done else BulkState.FAILED
        _end([items[scan.account_id]], state, now, "" if done else scan.reason or BulkReason.NOT_REACHED)
    over = run.scan_run is None or run.scan_run.ended_at is not None
    if not over and now <= run.created_at + FOLLOWED:
        return
    scanned = ScanRunItem.objects.filter(run=run.scan_run_id, attempt__state=AttemptState.SUCCEEDED)
    online = Q(account__in=scanned.values("account")) | Q(account__last_login_at__gte=run.created_at)
    _end_all(started.filter(online), BulkState.DONE, now)
    # Its QR code may still be scanned: what becomes of that is the result.
    scannable = LoginAttempt.objects.open().filter(account=OuterRef("account"))
    left = started.exclude(Exists(scannable))
    if run.cancelled_at:
        _end_all(left, BulkState.CANCELLED, now)
    else:
        _end_all(left, BulkState.FAILED, now, BulkReason.NOT_REACHED)


_SETTLES: dict[str, Callable] = {
    BulkAction.PROMPT: _settle_prompts,
    BulkAction.CHECK: _settle_check,
    BulkAction.LOG_IN: _settle_scans,
}


def _end(items: list[BulkItem], state: str, now: datetime, reason: str = "") -> None:
    _end_all(BulkItem.objects.filter(pk__in=[item.pk for item in items], state__in=OPEN), state, now, reason)


def _end_all(items: QuerySet[BulkItem], state: str, now: datetime, reason: str = "") -> bool:
    """End all of the items. Return False: nothing follows."""
    rows = BulkItem.objects.filter(pk__in=items.order_by().values("pk"))
    rows.update(state=state, reason=reason, ended_at=now)
    return False
