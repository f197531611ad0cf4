"""Workers that die, stop, wake up, are replaced, or get messages that are none: no login is lost or sent twice."""

import signal
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts import tasks
from accounts.models import Account, AccountEvent, LoginAttempt
from accounts.states import EventType
from tests.support.invariants import assert_sound
from tests.support.processes import until
from tests.support.scenarios import (
    ROUNDS,
    TWO_WORKERS,
    all_end,
    ends,
    fresh,
    held_by_another,
    holder,
    marks,
    other,
    running_stack,
    waiting,
)
from wkportal.celery import app

pytestmark = marks("postgres")
running = running_stack(*TWO_WORKERS)


@pytest.mark.parametrize("sign", [signal.SIGKILL, pytest.param(signal.SIGSEGV, marks=pytest.mark.long)])
def test_the_waits_of_a_worker_that_died_are_resumed_and_a_confirmation_in_between_counts(
    stack, operator, upstream, live, sign
):
    attempts = [waiting(operator, upstream, live.account()) for _ in range(6)]
    dead = holder(stack, attempts[0])
    lost = [attempt for attempt in attempts if holder(stack, attempt) == dead]
    stack.kill(dead, sign)
    upstream.phone("confirm", wId=attempts[0].w_id)  # while nobody waits for it

    ends(attempts[0], seconds=15 + 5)
    for attempt in lost[1:]:
        assert held_by_another(stack, attempt, dead) == other(dead)
    for attempt in attempts[1:]:
        upstream.wait(wId=attempt.w_id, step3_now=1)
        upstream.phone("confirm", wId=attempt.w_id)
    all_end(attempts)
    resumed = AccountEvent.objects.filter(happened=EventType.WAIT_RESUMED)
    assert set(resumed.values_list("attempt", flat=True)) == {attempt.pk for attempt in lost}
    assert_sound(upstream, stack)


def test_a_worker_that_is_asked_to_stop_finishes_its_waits_and_claims_no_new_ones(
    stack, operator, upstream, live
):
    old = waiting(operator, upstream, live.account())
    leaving, listeners = holder(stack, old), listening()
    stack.send(leaving, signal.SIGTERM)
    until(lambda: listening() < listeners, "it goes on asking for messages")

    new = [waiting(operator, upstream, live.account()) for _ in range(5)]
    assert {holder(stack, attempt) for attempt in new} == {other(leaving)}
    assert stack.processes[leaving].poll() is None
    upstream.phone("confirm", wId=old.w_id)
    assert stack.ended(leaving) == 0
    assert (fresh(old).state, fresh(old).lease_epoch) == ("succeeded", 1)
    for attempt in new:
        upstream.phone("confirm", wId=attempt.w_id)
    all_end(new)
    assert_sound(upstream, stack)


def listening() -> int:
    """How many workers ask Redis for messages, which they do every second."""
    with app.connection_for_read() as connection:
        clients = connection.default_channel.client.client_list()
    return sum(client["cmd"] == "brpop" and int(client["idle"]) < 3 for client in clients)


@pytest.mark.long
def test_a_worker_that_is_asked_to_stop_and_then_killed_loses_nothing(stack, operator, upstream, live):
    attempt = waiting(operator, upstream, live.account())
    leaving = holder(stack, attempt)
    stack.send(leaving, signal.SIGTERM)
    stack.kill(leaving)

    assert held_by_another(stack, attempt, leaving) == other(leaving)
    upstream.wait(wId=attempt.w_id, step3_now=1)
    upstream.phone("confirm", wId=attempt.w_id)
    ends(attempt)
    assert_sound(upstream, stack)


@pytest.mark.parametrize(
    ("tap", "state"),
    [("confirm", "succeeded"), pytest.param("cancel", "failed", marks=pytest.mark.long)],
)
def test_a_worker_that_slept_past_its_lease_leaves_the_wait_to_its_successor(
    stack, operator, upstream, live, tap, state
):
    attempt = waiting(operator, upstream, live.account())
    asleep = holder(stack, attempt)
    stack.send(asleep, signal.SIGSTOP)
    assert held_by_another(stack, attempt, asleep) == other(asleep)
    upstream.wait(wId=attempt.w_id, step3_now=2)  # the sleeper's connection is open as long as it sleeps
    stack.send(asleep, signal.SIGCONT)

    # It finds its lease gone and hangs up.
    until(lambda: upstream.logins(wId=attempt.w_id)[0]["step3_now"] == 1, "the old call goes on")
    assert holder(stack, attempt) == other(asleep)
    upstream.phone(tap, wId=attempt.w_id)
    assert ends(attempt, state).lease_epoch == 2
    assert_sound(upstream, stack, parallel=2)


def test_what_a_sleeping_worker_heard_is_not_written_over_the_end_by_its_successor(
    stack, operator, upstream, live
):
    attempt = waiting(operator, upstream, live.account())
    asleep = holder(stack, attempt)
    stack.send(asleep, signal.SIGSTOP)
    held_by_another(stack, attempt, asleep)
    upstream.wait(wId=attempt.w_id, step3_now=2)
    upstream.phone(
        "cancel", wId=attempt.w_id
    )  # both calls are answered, one of them to a process that sleeps
    ended = ends(attempt, "failed")
    stack.send(asleep, signal.SIGCONT)

    second = waiting(operator, upstream, fresh(attempt.account))
    upstream.phone("confirm", wId=second.w_id)
    ends(second)
    assert (fresh(attempt).state, fresh(attempt).ended_at) == ("failed", ended.ended_at)
    assert_sound(upstream, stack, parallel=2)


def test_without_any_worker_a_login_ends_when_a_page_shows_it_and_the_next_one_is_possible(
    stack, operator, upstream, live
):
    for name in ("beat", "jobs", "waits-1", "waits-2"):
        stack.kill(name)
    account = live.account()
    attempt = operator.log_in(account)
    assert attempt.state == "waiting"
    assert operator.log_in(account) == attempt
    over = timezone.now() - timedelta(seconds=17)
    LoginAttempt.objects.filter(pk=attempt.pk).update(deadline_at=over)

    assert operator.get(f"/attempts/{attempt.pk}/").ok
    assert (fresh(attempt).state, fresh(attempt).reason) == ("expired", "no_worker")
    again = operator.log_in(account)
    stack.start("waits-1")
    upstream.wait(wId=again.w_id, step3_now=1)
    upstream.phone("confirm", wId=again.w_id)
    ends(again)
    assert_sound(upstream, stack)


@pytest.mark.long
def test_the_workers_come_back_after_longer_than_a_lease_and_resume_every_wait(
    stack, operator, upstream, live
):
    attempts = [waiting(operator, upstream, live.account()) for _ in range(4)]
    for name in ("waits-1", "waits-2"):
        stack.kill(name)
    queued = operator.log_in(live.account())
    until(lambda: not any(holder(stack, attempt) for attempt in attempts), "leases do not run out")
    upstream.phone("confirm", wId=attempts[0].w_id)
    stack.complete()

    for attempt in [*attempts[1:], queued]:
        upstream.wait(wId=attempt.w_id, step3_now=1)
        upstream.phone("confirm", wId=attempt.w_id)
    all_end([*attempts, queued])
    assert_sound(upstream, stack)


@pytest.mark.long
def test_without_beat_and_jobs_the_waits_workers_find_what_no_message_brings(stack, operator, upstream, live):
    stack.kill("beat")
    stack.kill("jobs")
    attempt = waiting(operator, upstream, live.account())
    dead = holder(stack, attempt)
    stack.kill(dead)

    assert held_by_another(stack, attempt, dead) == other(dead)
    upstream.wait(wId=attempt.w_id, step3_now=1)
    upstream.phone("confirm", wId=attempt.w_id)
    ends(attempt)
    assert_sound(upstream, stack)


def test_messages_that_are_doubled_late_or_early_do_nothing(stack, operator, upstream, live):
    attempts = [waiting(operator, upstream, live.account()) for _ in range(3)]
    numbers = [attempt.pk for attempt in attempts]
    for number in [*reversed(numbers), *numbers] * 5:
        tasks.wait_for_phone.delay(number)
    worked_off(running=3)
    assert upstream.calls("/getIPadLoginInfo") == 3
    for attempt in attempts:
        upstream.phone("confirm", wId=attempt.w_id)
    all_end(attempts)

    for number in [*reversed(numbers), *numbers] * 5:
        tasks.wait_for_phone.delay(number)
    for _ in range(5):
        tasks.end_overdue.delay()
    worked_off(running=0)
    assert upstream.calls("/getIPadLoginInfo") == 3
    assert {fresh(attempt).lease_epoch for attempt in attempts} == {1}
    assert_sound(upstream, stack)


def worked_off(running: int) -> None:
    """The queues are empty, and of what was taken from them only so many waits still run."""

    def done() -> bool:
        with app.connection_for_read() as connection:
            left = sum(connection.default_channel.client.llen(queue) for queue in ("waits", "jobs"))
        active = [
            task for tasks in (app.control.inspect(timeout=1).active() or {}).values() for task in tasks
        ]
        return not left and len(active) == running

    until(done, "messages are left")


def test_messages_that_are_none_stop_no_worker(stack, operator, upstream, live):
    for arguments in ((), (0,), (2**40,), ("x",), (None,), (1, 2, 3), ({"a": 1},)):
        app.send_task("accounts.tasks.wait_for_phone", arguments, queue="waits")
    for queue in ("waits", "jobs"):
        app.send_task("accounts.tasks.unheard_of", (1,), queue=queue)
    attempt = waiting(operator, upstream, live.account())
    upstream.phone("confirm", wId=attempt.w_id)
    ends(attempt)
    assert [process.poll() for process in stack.processes.values()] == [None] * 5
    assert_sound(upstream, stack)


def test_a_wait_that_is_killed_inside_its_worker_gives_its_lease_back(stack, operator, upstream, live):
    """As a hard time limit or a revoked task does it: an exception that is no Exception, in the middle of the call."""
    for name in ("waits-1", "waits-2"):
        stack.kill(name)
    account = live.account()
    attempt = operator.log_in(account)
    drop_messages("waits")
    stack.start("waits-1")
    stack.wait_ready("waits-1")
    task = tasks.wait_for_phone.delay(attempt.pk)
    upstream.wait(wId=attempt.w_id, step3_now=1)
    calls = upstream.calls("/getIPadLoginInfo")
    app.control.revoke(task.id, terminate=True)

    until(lambda: upstream.calls("/getIPadLoginInfo") > calls, "the wait was not resumed")
    upstream.wait(wId=attempt.w_id, step3_now=1)
    upstream.phone("confirm", wId=attempt.w_id)
    assert ends(attempt).lease_epoch > 1
    assert_sound(upstream, stack)


def drop_messages(queue: str) -> None:
    with app.connection_for_write() as connection:
        connection.default_channel.client.delete(queue)


def test_two_beats_start_nothing_twice(stack, operator, upstream, live):
    stack.start("beat-2")
    try:
        attempts = [waiting(operator, upstream, live.account()) for _ in range(4)]
        late = LoginAttempt.objects.create(
            account=live.account(),
            seq=1,
            state="preparing",
            deadline_at=timezone.now() - timedelta(seconds=30),
        )
        until(lambda: fresh(late).state == "failed", "nobody swept")
        for attempt in attempts:
            upstream.phone("confirm", wId=attempt.w_id)
        all_end(attempts)
    finally:
        stack.stop("beat-2")
    assert AccountEvent.objects.filter(attempt=late, to_state="failed").count() == 1
    AccountEvent.objects.filter(attempt=late).delete()
    late.delete()
    assert_sound(upstream, stack)


@pytest.mark.long
def test_workers_are_replaced_one_after_the_other_under_load(stack, operator, upstream, live):
    accounts = [live.account() for _ in range(8 * ROUNDS)]
    for start in range(0, len(accounts), 8):
        attempts = [waiting(operator, upstream, account) for account in accounts[start : start + 8]]
        for name in ("waits-1", "waits-2"):
            stack.stop(name, grace=0.5)
            stack.start(name)
            stack.wait_ready(name)
        for attempt in attempts:
            upstream.wait(wId=attempt.w_id, step3_now=1)
            upstream.phone("confirm", wId=attempt.w_id)
        all_end(attempts)
    assert_sound(upstream, stack)
    assert Account.objects.filter(state="online").count() == len(accounts)
