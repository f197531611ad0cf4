"""Scheduled re-logins of single accounts, and plan runs. Nothing here calls WKTeam.

A scheduled time is a unique row: the process that inserts it runs it, all others find it. After downtime only
the latest missed run is started. The accounts of a run wait as plan results. Each is claimed in the same
transaction as what is started for it, at the pace of the run.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet

from accounts.lib import db_clock
from accounts.lib.rows import in_batches
from accounts.models import Account, LoginAttempt, Plan, PlanResult, PlanRun
from accounts.models.audit import log as audit
from accounts.models.audit.entry import AuditKind
from accounts.models.event import gathered, record
from accounts.models.plan import LEFT_OVER, PASSED_OVER, Outcome
from accounts.notifications import dispatch
from accounts.relogin import plan_choice, plan_entries
from accounts.states import EventType

log = logging.getLogger(__name__)

TAKEN_AT_ONCE = 20
FOUND_AT_ONCE = 500
ROWS = 500
DUE_A_MINUTE = 60
MINUTE = timedelta(minutes=1)
# How long to wait for open results after a run has claimed all its accounts, before people are notified.
NOTIFY_AFTER = timedelta(minutes=15)


def due(now: datetime) -> Iterator[QuerySet]:
    """Yield the rows that `tick` works on."""
    yield Plan.objects.due(now)
    yield _accounts_due(now)
    yield PlanRun.objects.filter(ended_at=None)
    yield from plan_entries.unsettled(now)
    yield _not_notified(now)


def tick() -> list[int]:
    """Run everything that is due. Idempotent, and safe to run concurrently.

    Returns the IDs of the attempts started. Each waits in its row for a worker.
    """
    now = db_clock.now()
    _each(_run_scheduled, Plan.objects.due(now).order_by("next_at"), now)
    _take_due(now)
    begun: list[int] = []
    _each(lambda run, now: begun.extend(_go_on(run, now)), PlanRun.objects.filter(ended_at=None), now)
    plan_entries.settle(now)
    _each(_notify, _not_notified(now), now)
    return begun


def _each(step: Callable, rows: Iterable, now: datetime) -> None:
    for row in list(rows):
        try:
            step(row, now)
        except Exception:  # a row that fails must not block the others
            log.exception("%r", row)


# --- scheduled times -----------------------------------------------------------------------------------


def _run_scheduled(plan: Plan, now: datetime) -> PlanRun | None:
    missed = plan.latest(plan.next_at, now)
    seen = Plan.objects.filter(pk=plan.pk, active=True, next_at=plan.next_at)
    with transaction.atomic():
        if not seen.update(next_at=plan.next_after(now)):
            return None
        return run(plan, missed) if missed else None


def run_now(plan: Plan, by) -> PlanRun | None:
    """Start a run outside the schedule, because a person asks for it."""
    with transaction.atomic():
        made = run(plan, db_clock.now(), by=by)
        if made is not None:
            audit.record(AuditKind.PLAN_STARTED, about=plan, by=by, number=made.due)
    return made


def run(plan: Plan, scheduled_at: datetime, by=None) -> PlanRun | None:
    """Start the run of a scheduled time. Return None if it was started before, or if the plan is gone.

    Locks the plan, so that runs start one after the other. While the plan's previous run is in progress, the new
    one is recorded as skipped.
    """
    now = db_clock.now()
    try:
        with transaction.atomic():
            if not Plan.objects.select_for_update(no_key=True).filter(pk=plan.pk).exists():
                return None
            made = PlanRun.objects.create(
                plan=plan,
                plan_name=plan.name,
                method=plan.method,
                scheduled_at=scheduled_at,
                began_at=now,
                asked_by=by,
                asked_by_name=by.get_username() if by else "",
            )
            if PlanRun.objects.filter(plan=plan, ended_at=None).exclude(pk=made.pk).exists():
                made.skipped, made.ended_at, made.told_at = True, now, now
                made.save(update_fields=["skipped", "ended_at", "told_at"])
            else:
                _choose(made, plan, now)
    except IntegrityError:
        return None
    return made


def _choose(made: PlanRun, plan: Plan, now: datetime) -> None:
    choice = plan_choice.choose(plan, now)
    entries = []
    for some in in_batches(choice.taken, ROWS):
        due = _make_due_by(made, some, now)
        entries += [PlanResult(run=made, account_id=pk, due_at=due.get(pk)) for pk in some]
    entries += [
        PlanResult(run=made, account_id=pk, outcome=Outcome.LEFT, ended_at=now) for pk in choice.later
    ]
    PlanResult.objects.bulk_create(entries, batch_size=ROWS)
    made.due, made.left_out = choice.due, choice.left_out
    made.save(update_fields=["due", "left_out"])


def _make_due_by(made: PlanRun, ids: Sequence[int], now: datetime) -> dict[int, datetime]:
    """Return {account ID: due time} that this run answers. Locks the accounts.

    An account without a due time gets the run's scheduled time. Due times in the future, and those that
    another result already answers, are left out.
    """
    rows = Account.objects.filter(pk__in=ids).order_by("pk").select_for_update(of=("self",), no_key=True)
    times = dict(rows.values_list("pk", "relogin_at"))
    answered = set(
        PlanResult.objects.filter(account__in=ids, due_at__isnull=False).values_list("account", "due_at")
    )
    unset = [pk for pk, at in times.items() if at is None]
    Account.objects.filter(pk__in=unset).update(relogin_at=made.scheduled_at)
    due = {pk: at or made.scheduled_at for pk, at in times.items() if at is None or at <= now}
    return {pk: at for pk, at in due.items() if (pk, at) not in answered}


# --- accounts with their own due time ------------------------------------------------------------------


def make_due(accounts: QuerySet, at: datetime | None, by) -> int:
    """Set or clear (None) the scheduled re-login of these accounts. Return their number."""
    with transaction.atomic(), gathered():
        rows = list(accounts.order_by("pk").select_for_update(of=("self",), no_key=True))
        for some in in_batches(rows, ROWS):
            Account.objects.filter(pk__in=[account.pk for account in some]).update(relogin_at=at)
        for account in rows:
            record(account, EventType.CHANGED, detail="relogin_at", by=by)
    return len(rows)


def _accounts_due(now: datetime) -> QuerySet[Account]:
    answered = PlanResult.objects.filter(account=OuterRef("pk"), due_at=OuterRef("relogin_at"))
    logging_in = LoginAttempt.objects.open().filter(account=OuterRef("pk"))
    return Account.objects.kept().filter(
        ~Exists(answered),
        ~Exists(logging_in),
        relogin_at__lte=now,
        keep_online=True,
        queued_for_scan_at=None,
    )


def _take_due(now: datetime) -> None:
    """Add the accounts that are due to the one open run without a plan, at most once for each due time."""
    due = _accounts_due(now).order_by("relogin_at", "pk").values_list("pk", "relogin_at")
    found = list(due[:FOUND_AT_ONCE])
    if not found:
        return
    with transaction.atomic():
        made, _ = PlanRun.objects.select_for_update().get_or_create(
            plan=None,
            plan_name="",
            ended_at=None,
            defaults={"scheduled_at": now, "began_at": now, "told_at": now},
        )
        entries = [PlanResult(run=made, account_id=pk, due_at=at) for pk, at in found]
        PlanResult.objects.bulk_create(entries, ignore_conflicts=True)
        if taken := made.entries.count():
            PlanRun.objects.filter(pk=made.pk).update(due=taken)
        else:
            made.delete()  # another process handled them all and ended its run


# --- the accounts of a run, one by one -----------------------------------------------------------------


def _go_on(run: PlanRun, now: datetime) -> list[int]:
    """Claim as many accounts of a run as its pace allows now. Return the IDs of the attempts started."""
    begun = []
    for _ in range(TAKEN_AT_ONCE):
        with transaction.atomic():
            rows = PlanRun.objects.filter(pk=run.pk, ended_at=None)
            # Another process may work on this run now: that is enough.
            locked = rows.select_for_update(of=("self",), skip_locked=True).first()
            if locked is None or not (entry := _next(locked, now)):
                break
            attempt_id = plan_entries.take(entry, locked, now)
        if attempt_id is plan_entries.NO_SLOT:
            break
        if attempt_id is not None:
            begun.append(attempt_id)
    return begun


def _next(run: PlanRun, now: datetime) -> PlanResult | None:
    """Return the next account of the run, None if its pace allows none now. Ends the run if none is left."""
    waiting = run.entries.filter(outcome=Outcome.WAITING)
    if run.plan_name and not _goes_on(run):
        # Clear the due time that the run set: no run will answer it.
        mine = Account.objects.filter(pk__in=waiting.values("account"), relogin_at=run.scheduled_at)
        mine.update(relogin_at=None)
        waiting.update(outcome=Outcome.LEFT, ended_at=now)
    if not waiting.exists():
        PlanRun.objects.filter(pk=run.pk).update(ended_at=now)
        return None
    acted = run.entries.filter(taken_at__gt=now - MINUTE).exclude(outcome__in=PASSED_OVER)
    if acted.count() >= (run.plan.most_a_minute if run.plan else DUE_A_MINUTE):
        return None
    ready = waiting.filter(Q(next_at=None) | Q(next_at__lte=now))
    # Those that wait for their prompt hours come last: they must not hold up the others.
    ready = ready.order_by(F("next_at").asc(nulls_first=True), "pk")
    return ready.select_related("account__policy").first()


def _goes_on(run: PlanRun) -> bool:
    """Return whether the run continues: its plan exists, and is enabled or a person started the run."""
    return run.plan is not None and (run.plan.active or run.asked_by_name != "")


# --- after a run ---------------------------------------------------------------------------------------


def outcomes(run: PlanRun) -> dict[str, int]:
    """Return {result: number of accounts}."""
    found = run.entries.order_by().values_list("outcome").annotate(number=Count("pk"))
    return dict(found)


def _not_notified(now: datetime) -> QuerySet:
    unsettled = PlanResult.objects.filter(run=OuterRef("pk"), ended_at=None)
    return PlanRun.objects.filter(
        ~Exists(unsettled) | Q(ended_at__lte=now - NOTIFY_AFTER), ended_at__isnull=False, told_at=None
    )


def _notify(run: PlanRun, now: datetime) -> None:
    with transaction.atomic():
        if not PlanRun.objects.filter(pk=run.pk, told_at=None).update(told_at=now):
            return
        if not run.due:
            return
        numbers = Counter(outcomes(run))
        counts = {
            "due": run.due,
            "online": numbers[Outcome.ONLINE],
            "to_scan": numbers[Outcome.TO_SCAN] + numbers[Outcome.LISTED],
            "left": sum(numbers[outcome] for outcome in LEFT_OVER),
        }
        dispatch.plan_has_run(run.pk, run.plan_name, counts, at=now)
