"""Each fact: what makes it a warning or a fault, what it says, and what it costs with a long history."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.lib import pubsub
from accounts.models import (
    Channel,
    Delivery,
    Drop,
    JobRun,
    LoginAttempt,
    Notification,
    Presence,
    UpstreamAccess,
    WaitsWorker,
)
from accounts.reasons import Reason
from accounts.states import AttemptState, DetectedBy, NotificationKind
from accounts.status import exposition, facts
from accounts.status.facts import JOBS, Fact, State
from tests.support.factories import make_attempt

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


@pytest.fixture
def broker(monkeypatch):
    """What Redis answers; the real one belongs to all tests."""

    def answers(beat_age: float | None = 1.0, **queues: int):
        found = pubsub.Broker({"jobs": 0, "waits": 0} | queues, beat_age)
        monkeypatch.setattr(pubsub, "broker", lambda *names: found)

    answers()
    return answers


@pytest.fixture
def well(people, broker):
    """A portal in which everything works."""
    now = timezone.now()
    WaitsWorker.objects.create(name="host:1", alive_until=now + 9 * SECOND, slots=10)
    JobRun.objects.bulk_create([JobRun(name=name, ran_at=now) for name in JOBS])
    Presence.objects.create(pk=Presence.ONLY, asked_at=now, answered_at=now, checked_at=now, online=3)
    UpstreamAccess.objects.create(
        base_url=settings.WK_BASE_URL,
        account=settings.WK_ACCOUNT,
        read_at=now,
        seats=10,
        ends_at=now + 99 * 24 * HOUR,
    )
    return people


def fact(name: str) -> Fact:
    return next(found for found in facts.collect() if found.name == name)


def test_all_is_ok_where_everything_works(well):
    assert {found.name: found.state for found in facts.collect() if found.state} == {}
    assert [found.name for found in facts.collect()] == [made.__name__ for made in facts.FACTS]


def no_worker(well, broker):
    WaitsWorker.objects.update(alive_until=timezone.now() - SECOND)


def no_slot(well, broker):
    WaitsWorker.objects.update(name="full", slots=2)
    for _n in range(2):
        make_attempt(well.account(), lease_owner="full")


def slots_unknown(well, broker):
    WaitsWorker.objects.update(slots=0)


def queued(well, broker, ago: int = 40):
    since = timezone.now() - ago * SECOND
    make_attempt(well.account(), AttemptState.PREPARING, queued_at=since, deadline_at=since + HOUR)


def queued_a_moment(well, broker):
    queued(well, broker, 5)


def queued_without_slot(well, broker):
    no_slot(well, broker)
    queued(well, broker)


def overdue(well, broker):
    make_attempt(well.account(), deadline_at=timezone.now() - 21 * SECOND)


def not_yet_overdue(well, broker):
    make_attempt(well.account(), deadline_at=timezone.now() - 15 * SECOND)


def beat_is_late(well, broker):
    broker(beat_age=31)


def beat_never_ran(well, broker):
    broker(beat_age=None)


def messages(well, broker):
    broker(jobs=20)


def full_queue(well, broker):
    broker(waits=100)


def jobs_are_late(well, broker):
    JobRun.objects.exclude(name="delete_old_rows").update(ran_at=timezone.now() - 90 * SECOND)


def a_step_never_ran(well, broker):
    JobRun.objects.filter(name="plans").delete()


def a_step_fails(well, broker):
    JobRun.objects.filter(name="recovery").update(error="KeyError", failed_at=timezone.now())


def nothing_deleted_yet(well, broker):
    JobRun.objects.filter(name="delete_old_rows").delete()


def nothing_deleted_for_long(well, broker):
    JobRun.objects.filter(name="delete_old_rows").update(ran_at=timezone.now() - 3 * HOUR)


def refused(well, broker):
    UpstreamAccess.objects.update(refused_at=timezone.now(), refused_why=Reason.SIGN_IN_REFUSED)


def silent(well, broker, ago: int = 5):
    Presence.objects.update(unknown_since=timezone.now() - ago * SECOND, unknown_why=Reason.UNREACHABLE)


def silent_for_long(well, broker):
    silent(well, broker, 200)


def nobody_asks(well, broker):
    Presence.objects.update(answered_at=timezone.now() - HOUR)


def never_asked(well, broker):
    Presence.objects.all().delete()


def failures(well, broker, reason=Reason.LINE_DOWN):
    for _n in range(5):
        make_attempt(well.account(), AttemptState.FAILED, reason=reason)


def declined(well, broker):
    failures(well, broker, Reason.DECLINED)


def old_failures(well, broker):
    failures(well, broker)
    LoginAttempt.objects.update(created_at=timezone.now() - 2 * HOUR)


def few_days_left(well, broker):
    UpstreamAccess.objects.update(ends_at=timezone.now() + 3 * 24 * HOUR + HOUR)


def ended(well, broker):
    UpstreamAccess.objects.update(ends_at=timezone.now() - SECOND)


def no_seat(well, broker):
    UpstreamAccess.objects.update(seats=1)
    well.account(w_id="w")


def drops(well, broker, by=DetectedBy.SWEEP):
    account, when = well.account(), timezone.now()
    Drop.objects.bulk_create(
        [Drop(account=account, w_id="w", at=when, ended_at=when, detected_by=by) for _n in range(200)]
    )


def drops_with_callbacks(well, broker):
    drops(well, broker, DetectedBy.CALLBACK)


def disabled(well, broker):
    Channel.objects.create(name="Night shift", active=False, switched_off_at=timezone.now())


def by_a_person(well, broker):
    Channel.objects.create(name="Night shift", active=False)


def late_delivery(well, broker, ago: int = 11):
    due = timezone.now() - ago * 60 * SECOND
    Delivery.objects.create(
        channel=Channel.objects.create(name="Night shift"),
        notification=Notification.objects.create(key="k", kind=NotificationKind.PLAN),
        next_at=due,
    )


def delivery(well, broker):
    late_delivery(well, broker, 1)


W, F, OK = State.WARNING, State.FAULT, State.OK


@pytest.mark.parametrize(
    ("break_it", "name", "state", "says"),
    [
        (no_worker, "workers", F, "0 running · 0 slots free"),
        (no_slot, "workers", W, "1 running · 0 slots free"),
        (slots_unknown, "workers", OK, "1 running · 2 slots free"),
        (queued, "queue", F, "1 · 40 s"),
        (queued_a_moment, "queue", OK, "1 · 5 s"),
        (queued_without_slot, "queue", W, "1 · 40 s"),
        (overdue, "overdue", F, "1"),
        (not_yet_overdue, "overdue", OK, "0"),
        (beat_is_late, "beat", F, "31 s ago"),
        (beat_never_ran, "beat", F, "never"),
        (messages, "broker", W, "jobs 20 · waits 0"),
        (full_queue, "broker", F, "jobs 0 · waits 100"),
        (jobs_are_late, "jobs", F, "1 min ago"),
        (a_step_never_ran, "jobs", F, "plans"),
        (a_step_fails, "jobs", F, "recovery"),
        (nothing_deleted_yet, "jobs", OK, "all have run"),
        (nothing_deleted_for_long, "jobs", F, "deletion of old rows"),
        (refused, "upstream", F, "refused"),
        (silent, "presence", W, "unknown · Can’t reach WKTeam"),
        (silent_for_long, "presence", F, "unknown · Can’t reach WKTeam"),
        (nobody_asks, "presence", F, "known · 1 h ago"),
        (never_asked, "presence", W, "unknown"),
        (failures, "errors", W, "Proxy unavailable 5"),
        (declined, "errors", OK, "none"),
        (old_failures, "errors", OK, "none"),
        (few_days_left, "developer_account", W, "0 of 10 seats · 3 days left"),
        (ended, "developer_account", F, "0 of 10 seats · 0 days left"),
        (no_seat, "developer_account", W, "1 of 1 seats · 98 days left"),
        (drops, "callbacks", W, "none received"),
        (drops_with_callbacks, "callbacks", OK, "just now"),
        (disabled, "channels", W, "disabled: Night shift"),
        (by_a_person, "channels", OK, "OK"),
        (late_delivery, "channels", W, "1 message late"),
        (delivery, "channels", OK, "OK"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_one_fact_says_what_is_wrong(well, broker, settings, break_it, name, state, says):
    settings.WAIT_SLOTS = 2
    break_it(well, broker)
    found = fact(name)
    assert (found.state, found.value) == (state, says)


def test_without_redis_the_broker_is_at_fault_and_beat_is_not_accused(well, monkeypatch):
    monkeypatch.setattr(pubsub, "broker", lambda *queues: None)
    assert (fact("broker").state, fact("beat").state) == (State.FAULT, State.WARNING)


def test_redis_tells_the_queues_and_when_beat_sent_something(transactional_db):
    client = pubsub._client()
    client.delete("some-queue", pubsub.BEAT_KEY)
    client.lpush("some-queue", "1", "2")
    assert pubsub.broker("some-queue") == pubsub.Broker({"some-queue": 2}, None)
    client.set(pubsub.BEAT_KEY, 1, px=1000 * (pubsub.BEAT_KEPT - 40))
    assert 40 <= pubsub.broker("some-queue").beat_age < 100
    client.delete("some-queue", pubsub.BEAT_KEY)


def test_missing_migrations_are_a_fault(well, monkeypatch):
    monkeypatch.setattr(facts.readiness._Known, "migrated", False)
    assert fact("database").state == State.OK
    monkeypatch.setattr(facts.readiness._Known, "migrated", False)
    monkeypatch.setattr(facts.readiness, "_is_migrated", lambda: False)
    assert (fact("database").state, fact("database").value) == (State.FAULT, "migrations are missing")


def test_a_number_has_a_metric_of_its_name(well, broker):
    late_delivery(well, broker)
    drops_with_callbacks(well, broker)
    numbers = {name for found in facts.collect() for name in found.numbers}
    assert numbers == set(exposition.GAUGES)


def test_all_facts_take_few_queries_whatever_there_is(well, broker):
    with CaptureQueriesContext(connection) as before:
        facts.collect()
    drops(well, broker)
    for _n in range(20):
        make_attempt(well.account(), lease_owner="host:1")
    with CaptureQueriesContext(connection) as queries:
        facts.collect()
    assert len(queries) == len(before) <= 20


def test_a_silent_database_leaves_metrics_what_the_process_counts(well, monkeypatch):
    def broken():
        raise RuntimeError("broken")

    monkeypatch.setattr(facts, "collect", broken)
    found = {family.name: family.samples for family in exposition.StatusCollector().collect()}
    assert found["wkportal_database_up"][0].value == 0
    assert [(sample.labels, sample.value) for sample in found["wkportal_status"]] == [
        ({"fact": "database"}, 2)
    ]
