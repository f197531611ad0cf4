"""The tick: one query tells which of its steps have something to do."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts import tasks
from accounts.lib import db_clock
from accounts.models import (
    BulkRun,
    Channel,
    Delivery,
    Drop,
    Incident,
    Notification,
    OutboxCursor,
    Plan,
    PlanResult,
    PlanRun,
    Presence,
    ScanLink,
    ScanRun,
    ScanRunItem,
    UpstreamAccess,
)
from accounts.models.event import record
from accounts.models.plan import Outcome
from accounts.states import AccountState, EventType, NextStep, NotificationKind
from tests.support.factories import make_account, make_attempt
from tests.support.undue_steps import check_undue_steps

NOW = datetime(2026, 5, 4, 3, 2, 1, 5, tzinfo=UTC)
PAST, FUTURE = NOW - timedelta(minutes=1), NOW + timedelta(minutes=1)


def offline(**fields):
    return make_account(state=AccountState.OFFLINE, wc_id=f"wxid_{datetime.now(UTC).timestamp()}", **fields)


def drop(account, **fields) -> Drop:
    fields = {"at": NOW - timedelta(days=3), "reason_text": "kicked", "next_at": None} | fields
    return Drop.objects.create(account=account, w_id="w", **fields)


def plan_run(**fields) -> PlanRun:
    return PlanRun.objects.create(scheduled_at=PAST, **{"ended_at": PAST, "told_at": PAST, "due": 1} | fields)


def result(outcome, account=None, **fields) -> PlanResult:
    return PlanResult.objects.create(run=plan_run(), account=account or offline(), outcome=outcome, **fields)


def delivery(active: bool = True, **fields) -> Delivery:
    channel = Channel.objects.create(name="phone", active=active)
    notification = Notification.objects.create(key="x", kind=NotificationKind.PLAN, at=PAST)
    return Delivery.objects.create(channel=channel, notification=notification, **fields)


def scan_item(users, **fields):
    run = ScanRun.objects.create(person=users.create_user("operator"), **fields)
    return ScanRunItem.objects.create(run=run, account=offline(), position=1, state="ready")


def access(**fields):
    return UpstreamAccess.objects.create(base_url="http://u", **{"read_due_at": FUTURE} | fields)


def link(**fields):
    account = fields.pop("account", None) or offline()
    return ScanLink.objects.create(account=account, token_digest="0" * 64, **{"expires_at": FUTURE} | fields)


# What makes a step due, and the same a little different, which does not.
ROWS = {
    "presence": [
        (lambda _: Presence.objects.create(due_at=PAST), lambda _: Presence.objects.create(due_at=FUTURE)),
        (
            lambda _: Presence.objects.create(due_at=PAST, taken_until=PAST),
            lambda _: Presence.objects.create(due_at=PAST, taken_until=FUTURE),
        ),
    ],
    "reasons": [
        (lambda _: drop(offline(), at=PAST, reason_text=""), lambda _: drop(offline(), at=PAST)),
        (
            lambda _: drop(offline(reason_asked_at=NOW - timedelta(days=1)), at=PAST, reason_text=""),
            lambda _: drop(offline(reason_asked_at=PAST), at=PAST, reason_text=""),
        ),
    ],
    "developer_account": [
        (lambda _: access(read_due_at=PAST), lambda _: access()),
        (lambda _: access(read_due_at=None), lambda _: access()),
    ],
    "end_drops": [
        (lambda _: drop(make_account(w_id="w2")), lambda _: drop(make_account(w_id="w2"), ended_at=PAST)),
    ],
    "recovery": [
        (lambda _: drop(offline(), next_at=PAST), lambda _: drop(offline(), next_at=FUTURE)),
        (
            lambda _: drop(offline(keep_online=False)),
            lambda _: drop(offline(keep_online=False), next_step=NextStep.PAUSED),
        ),
        (lambda _: drop(offline(), next_step=NextStep.PAUSED), lambda _: drop(offline())),
        (
            lambda _: offline(keep_online=False, queued_for_scan_at=PAST),
            lambda _: offline(queued_for_scan_at=PAST),
        ),
    ],
    "plans": [
        (
            lambda _: Plan.objects.create(name="p", crontab="0 9 * * *", active=True) and plan_at(PAST),
            lambda _: Plan.objects.create(name="p", crontab="0 9 * * *", active=True) and plan_at(FUTURE),
        ),
        (lambda _: offline(relogin_at=PAST), lambda _: offline(relogin_at=FUTURE)),
        (lambda _: plan_run(ended_at=None), lambda _: plan_run()),
        (
            lambda _: result(Outcome.PROMPTED),
            lambda _: result(Outcome.PROMPTED, attempt=make_attempt(make_account())),
        ),
        (
            lambda _: result(Outcome.RECOVERY, offline(queued_for_scan_at=PAST), taken_at=PAST),
            lambda _: result(Outcome.RECOVERY, taken_at=PAST),
        ),
        (lambda _: plan_run(told_at=None), lambda _: plan_run()),
    ],
    "bulk_runs": [
        (
            lambda _: BulkRun.objects.create(action="check"),
            lambda _: BulkRun.objects.create(action="check", ended_at=PAST),
        ),
    ],
    "scan_claims": [
        (
            lambda users: scan_item(users, seen_at=NOW - timedelta(hours=1)),
            lambda users: scan_item(users, seen_at=NOW),
        ),
    ],
    "scan_links": [
        (lambda _: link(expires_at=PAST), lambda _: link()),
        (
            lambda _: link(account=offline(last_login_at=NOW), created_at=PAST),
            lambda _: link(account=offline(last_login_at=PAST), created_at=NOW),
        ),
    ],
    "notifications": [
        (
            lambda _: record(make_account(), EventType.CHANGED),
            lambda _: cursor_at(record(make_account(), EventType.CHANGED).pk),
        ),
        (lambda _: Incident.objects.create(), lambda _: Incident.objects.create(ended_at=PAST)),
        (lambda _: access(refused_at=PAST), lambda _: access()),
        (
            lambda _: Presence.objects.create(due_at=FUTURE, unknown_since=PAST),
            lambda _: Presence.objects.create(due_at=FUTURE),
        ),
        (
            lambda _: Notification.objects.create(key="unknown:", kind=NotificationKind.UPSTREAM),
            lambda _: Notification.objects.create(key="plan:", kind=NotificationKind.PLAN),
        ),
        (
            lambda _: Notification.objects.create(key="x", kind=NotificationKind.OFFLINE, closed_at=PAST),
            lambda _: Notification.objects.create(
                key="x", kind=NotificationKind.OFFLINE, closed_at=NOW - timedelta(hours=1)
            ),
        ),
        (lambda _: delivery(next_at=PAST), lambda _: delivery(next_at=FUTURE)),
        (lambda _: delivery(active=False, next_at=FUTURE), lambda _: delivery(next_at=FUTURE)),
    ],
    "end_overdue": [(lambda _: attempt(PAST), lambda _: attempt(NOW - timedelta(seconds=5)))],
}


def attempt(deadline_at: datetime):
    return make_attempt(make_account(), deadline_at=deadline_at)


def cursor_at(event: int) -> None:
    OutboxCursor.objects.create(pk=OutboxCursor.ONLY, floor=event, newest=event)


def plan_at(at: datetime) -> None:
    Plan.objects.update(next_at=at)


def test_each_step_has_its_rows_here():
    assert set(ROWS) == set(tasks.STEPS)


@pytest.mark.parametrize(
    ("step", "rows", "others"),
    [
        pytest.param(step, *pair, id=f"{step} {number}")
        for step, pairs in ROWS.items()
        for number, pair in enumerate(pairs)
    ],
)
def test_a_step_is_due_with_its_rows_only(db, django_user_model, monkeypatch, step, rows, others):
    monkeypatch.setattr(db_clock, "now", lambda: NOW)
    users = django_user_model._default_manager
    assert tasks.find_due(NOW) == set()
    with transaction.atomic():
        rows(users)
        assert step in tasks.find_due(NOW)
        transaction.set_rollback(True)
    others(users)
    # What the first run of every step makes.
    OutboxCursor.objects.get_or_create(pk=OutboxCursor.ONLY)
    Presence.objects.get_or_create(pk=Presence.ONLY, defaults={"due_at": FUTURE})
    assert step not in tasks.find_due(NOW)
    check_undue_steps(NOW)


def test_a_tick_with_nothing_to_do_asks_once(db, monkeypatch):
    monkeypatch.setattr(tasks.EveryStep, "run_at", 0.0)
    Presence.objects.create(due_at=db_clock.now() + timedelta(hours=1))
    with CaptureQueriesContext(connection) as first:
        tasks.tick()
    tasks.job_runs.write()
    with CaptureQueriesContext(connection) as second:
        tasks.tick()
    assert len(first) > len(tasks.STEPS)
    assert len(second) == 1


def test_a_process_runs_every_step_now_and_then(db, monkeypatch):
    """Before the first presence check there is no row that could be due."""
    queued = []
    monkeypatch.setattr(tasks, "put_into_queue", lambda task, *ids: queued.append(task))
    monkeypatch.setattr(tasks.EveryStep, "run_at", time.monotonic() + 30)
    tasks.tick()
    assert queued == []
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began + 31)
    tasks.tick()
    assert queued == [tasks.presence]
