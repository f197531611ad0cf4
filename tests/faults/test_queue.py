"""Far more logins than slots, put into the queue at once: no code ages there, every one of them gets its turn."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from django.db import connection, transaction

from accounts import tasks
from accounts.logins import start
from accounts.models import Account, LoginAttempt
from accounts.states import AttemptState, Trigger
from tests.support.invariants import assert_sound
from tests.support.processes import until
from tests.support.scenarios import ROUNDS, marks
from tests.support.stack import Operator, Stack

pytestmark = [*marks("postgres"), pytest.mark.long]
LOGINS = int(os.environ.get("FAULT_QUEUE", "10000" if ROUNDS > 1 else "150"))
SLOTS = 20 if LOGINS < 1000 else 250  # of each of the two workers
WORKERS = ("waits-1", "waits-2")


@pytest.fixture
def stack(django_db_setup, django_db_blocker):
    env = {"WAIT_SLOTS": str(SLOTS), "WK_TIMEOUT_SECONDS": "15"}
    with (
        django_db_blocker.unblock(),
        Stack("web", "jobs", "beat", LOG_LEVEL="INFO", **env) as stack,
    ):
        yield stack


def memory(stack: Stack) -> int:
    """Of both workers, in MiB."""
    return sum(psutil.Process(stack.processes[name].pid).memory_info().rss for name in WORKERS) >> 20


def put_into_queue(accounts: list[Account], by) -> None:
    """As the admin's action does it for the rows that were chosen."""
    try:
        for account in accounts:
            attempt, begun = start.start_login(account, by=by, trigger=Trigger.BULK, queued=True)
            assert begun
            tasks.put_into_queue(tasks.wait_for_phone, attempt.pk)
    finally:
        connection.close()


@pytest.mark.timeout(3000)
def test_a_long_queue_is_worked_off(stack, live, upstream):
    upstream.settings(auto_confirm=1.5, auto_jitter=0.5)
    with transaction.atomic():
        accounts = [live.account(label=f"Account {number}") for number in range(LOGINS)]
    operator = Operator(stack, live.operator)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put_into_queue, [accounts[n::4] for n in range(4)], [live.operator] * 4))
    for name in WORKERS:
        stack.start(name)
    succeeded = LoginAttempt.objects.filter(state=AttemptState.SUCCEEDED)
    until(lambda: succeeded.count() >= LOGINS // 4, "the queue does not get shorter", seconds=600)
    quarter = memory(stack)
    assert operator.get("/accounts/").ok
    assert operator.get(f"/accounts/{accounts[-1].pk}/").ok
    until(lambda: not LoginAttempt.objects.open().exists(), "the queue is not worked off", seconds=1500)

    ended = Counter(LoginAttempt.objects.values_list("state", "reason"))
    assert ended == {(AttemptState.SUCCEEDED, ""): LOGINS}
    assert set(LoginAttempt.objects.values_list("lease_epoch", flat=True)) == {1}
    most = upstream.state(brief=True)["most_in_flight"]["/getIPadLoginInfo"]
    assert most <= 2 * SLOTS
    assert memory(stack) - quarter < 50
    assert_sound(upstream, stack)
