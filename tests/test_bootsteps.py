"""The rescuer: what it claims is waited for, or released, whatever fails beside it."""

from datetime import timedelta

import pytest
from celery.concurrency.thread import TaskPool
from django.utils import timezone

from accounts import bootsteps
from accounts.logins import leases
from tests.support.factories import fresh, make_account, make_attempt
from tests.support.processes import DEADLINE


@pytest.fixture
def found(transactional_db):
    long_ago = timezone.now() - timedelta(seconds=60)
    for _ in range(3):
        make_attempt(make_account(), queued_at=long_ago)
    return bootsteps.OrphanRescuer(None).poll()


def test_a_lease_whose_wait_does_not_start_is_released(found):
    pool = TaskPool(2)
    pool.stop()
    assert len(found) == 3
    bootsteps.start_waits(pool.apply_async, found)
    assert {fresh(lease.attempt).lease_owner for lease in found} == {""}
    assert leases._holder.held == {}


def test_a_wait_that_cannot_start_keeps_no_other_from_starting(found):
    pool, tried, started = TaskPool(2), [], []

    def apply_async(step, args, **options):
        tried.append(args[0])
        if len(tried) == 1:
            raise RuntimeError("no room")
        started.append(pool.apply_async(lambda lease: lease.__exit__(), args, **options))

    bootsteps.start_waits(apply_async, found)
    for wait in started:  # the end of a pool of threads cancels what has not begun
        wait.get(DEADLINE)
    pool.stop()
    assert tried == found
    assert leases._holder.held == {}
