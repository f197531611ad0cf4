"""One account in a plan run: what is started for it, and the result."""

from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Q, QuerySet

from accounts.models import Account, Drop, LoginAttempt, PlanResult, PlanRun
from accounts.models.plan import Outcome, PlanMethod
from accounts.models.recovery_policy import policy_for
from accounts.relogin import recover
from accounts.relogin.plan_choice import skipped
from accounts.states import AccountState, AttemptState, NextStep, Trigger

# No worker slot is free: the caller takes no further account now.
NO_SLOT: Final = object()
AGAIN = timedelta(seconds=10)
HOURS_AGAIN = timedelta(minutes=5)
# How long a run follows an account that it handed to recovery.
FOLLOWED = timedelta(hours=24)
SETTLED_AT_ONCE = 500
NOT_PROMPTED = {
    NextStep.CAP: Outcome.CAP,
    NextStep.HOURS: Outcome.HOURS,
    NextStep.SEATS: Outcome.SEATS,
}


def take(entry: PlanResult, run: PlanRun, now: datetime) -> int | object | None:
    """Start what the run does for the account, in the caller's transaction.

    Returns the ID of the attempt started, None if there is none, `NO_SLOT` if no worker slot is free.
    """
    account = entry.account
    if outcome := _why_not(entry, run, account):
        return _write(entry, outcome, now, ended=True)
    ladder = run.method == PlanMethod.LADDER
    drop = Drop.objects.open().filter(account=account).first() if ladder else None
    if drop is not None and account.state == AccountState.OFFLINE:
        recover.recover_now([drop], by=run.asked_by)
        return _write(entry, Outcome.RECOVERY, now)
    if run.method == PlanMethod.SCAN or (ladder and not _can_be_prompted(account)):
        return _to_scan(entry, now)
    return _prompt(entry, run, now)


def _why_not(entry: PlanResult, run: PlanRun, account: Account) -> str:
    """Return the result for an account that the run skips, "" if it does not skip it.

    The account may have changed since it was chosen.
    """
    wanted = run.plan.state if run.plan else ""
    is_due = bool(run.plan_name) or account.relogin_at == entry.due_at
    if account.merged_into_id or not account.keep_online or not is_due:
        return Outcome.CHANGED
    if wanted and account.state != wanted:
        return Outcome.CHANGED
    return skipped(account, run.method, LoginAttempt.objects.open().filter(account=account).exists())


def _can_be_prompted(account: Account) -> bool:
    return bool(account.wc_id) and account.state != AccountState.NEW and policy_for(account).popup


def _prompt(entry: PlanResult, run: PlanRun, now: datetime) -> int | object | None:
    attempt, step = recover.start_prompt(entry.account, trigger=Trigger.SCHEDULE, by=run.asked_by)
    if attempt is not None:
        _write(entry, Outcome.PROMPTED, now, attempt=attempt)
        return attempt.pk
    if step == NextStep.WAITING:
        return NO_SLOT
    if step == NextStep.BACK_OFF:
        return _later(entry, now + AGAIN)
    if step in (NextStep.HOURS, NextStep.SEATS) and not run.plan_name:
        return _later(entry, now + HOURS_AGAIN)
    if step == NextStep.CAP and run.method == PlanMethod.LADDER:
        return _to_scan(entry, now)
    return _write(entry, NOT_PROMPTED.get(step, Outcome.CHANGED), now, ended=True)


def _later(entry: PlanResult, at: datetime) -> None:
    PlanResult.objects.filter(pk=entry.pk).update(next_at=at)


def _to_scan(entry: PlanResult, now: datetime) -> None:
    recover.queue_for_scan(entry.account, at=now)
    _write(entry, Outcome.TO_SCAN, now, ended=True)


def _write(entry: PlanResult, outcome: str, now: datetime, ended: bool = False, **changes) -> None:
    changes |= {"outcome": outcome, "ended_at": now if ended else None}
    if entry.outcome == Outcome.WAITING:
        changes["taken_at"] = now
    PlanResult.objects.filter(pk=entry.pk, outcome=entry.outcome).update(**changes)


def unsettled(now: datetime) -> tuple[QuerySet, QuerySet]:
    """Return the results whose prompt has ended, and those handed to recovery that did what it could."""
    open_ones = PlanResult.objects.filter(ended_at=None)
    answered = Q(attempt=None) | Q(attempt__ended_at__isnull=False)
    back = Q(account__state=AccountState.ONLINE) | Q(account__queued_for_scan_at__isnull=False)
    followed = open_ones.filter(outcome=Outcome.RECOVERY)
    return (
        open_ones.filter(answered, outcome=Outcome.PROMPTED),
        followed.filter(back | Q(taken_at__lte=now - FOLLOWED)),
    )


def settle(now: datetime) -> None:
    """Save the results of prompts that ended and of accounts that were handed to recovery."""
    prompted, followed = (
        rows.select_related("account", "attempt", "run").order_by("pk") for rows in unsettled(now)
    )
    for entry in prompted[:SETTLED_AT_ONCE]:
        with transaction.atomic():
            _settle_prompt(entry, now)
    for entry in followed[:SETTLED_AT_ONCE]:
        _write(entry, _what_recovery_did(entry.account), now, ended=True)


def _settle_prompt(entry: PlanResult, now: datetime) -> None:
    attempt, account = entry.attempt, entry.account
    logged_in = account.last_login_at is not None and account.last_login_at >= entry.taken_at
    if logged_in or (attempt is not None and attempt.state == AttemptState.SUCCEEDED):
        _write(entry, Outcome.ONLINE, now, ended=True)
    elif entry.run.method == PlanMethod.LADDER and account.keep_online:
        _to_scan(entry, now)
    else:
        _write(entry, Outcome.DECLINED, now, ended=True)


def _what_recovery_did(account: Account) -> str:
    if account.state == AccountState.ONLINE:
        return Outcome.ONLINE
    return Outcome.TO_SCAN if account.queued_for_scan_at else Outcome.RECOVERY
