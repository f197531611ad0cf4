"""Full disks: the database's, and the one that the logs lie on. What can go on does, and all of it does once there is room."""

import secrets
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import Account, LoginAttempt
from tests.support import environment
from tests.support.disks import small_disk
from tests.support.factories import People, forget_everything, make_attempt
from tests.support.invariants import assert_sound
from tests.support.processes import until
from tests.support.scenarios import all_end, ends, marks, waiting
from tests.support.services import Postgres, migrated_sqlite, using_database
from tests.support.stack import Operator, Stack

pytestmark = marks("postgres")
NAMES = ("web", "waits", "jobs", "beat")


@pytest.fixture(scope="module")
def data():
    """The disk that the database lies on."""
    megabytes = 120 if environment.DATABASE == "postgres" else 8
    with small_disk(environment.FOLDER / "data-disk", megabytes) as disk:
        yield disk


@pytest.fixture(scope="module")
def logs():
    """The disk with the logs."""
    with small_disk(environment.FOLDER / "logs-disk", 8) as disk:
        yield disk


@contextmanager
def database_on(disk):
    """Addresses of a database on this disk: for the product, and for the test."""
    if environment.DATABASE == "sqlite":
        migrated_sqlite(disk.folder / "small.sqlite3")
        yield (f"sqlite:///{disk.folder}/small.sqlite3",) * 2
        return
    with Postgres(disk.folder / "pg") as server:
        server.make_database("small")
        yield server.url("small"), server.direct_url("small")


@pytest.fixture(scope="module")
def running(data, logs, django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), database_on(data) as (url, own_url), using_database(own_url):
        stack = Stack(*NAMES, DATABASE_URL=url)
        stack.folder = logs.folder
        with stack:
            yield stack


@pytest.fixture
def people(running):
    forget_everything()
    return People()


@pytest.fixture
def stack(running, data, logs):
    yield running
    data.free()
    logs.free()
    connection.close()
    running.complete()


@pytest.fixture
def operator(people, upstream, stack):
    return Operator(stack, people.operator)


def confirm(upstream, attempts: list[LoginAttempt]) -> None:
    for attempt in attempts:
        upstream.phone("confirm", wId=attempt.w_id)
    upstream.wait(path="/getIPadLoginInfo", in_flight=0)


def test_the_disk_of_the_database_is_full(stack, operator, upstream, people, data):
    # More of them than have room in the last page of every table.
    attempts = [waiting(operator, upstream, people.account()) for _ in range(40)]
    data.fill()
    added = poll_count(lambda number: adds(operator, people, number))
    confirm(upstream, attempts)
    until(lambda: "the database is unreachable (" in stack.log, "every answer had room")
    assert operator.get("/accounts/").ok  # reading goes on
    assert LoginAttempt.objects.open().exists()

    data.free()
    all_end(attempts)
    assert Account.objects.count() == len(attempts) + added
    again = adds(operator, people, added)  # what was refused then is taken now
    assert again, "there is room"
    after = waiting(operator, upstream, people.account())
    confirm(upstream, [after])
    ends(after)
    assert_sound(upstream, stack)


def poll_count(taken) -> int:
    """How often it was taken before it was refused for the first time."""
    return next(number for number in range(500) if not taken(number))


def adds(operator, people, number: int) -> bool:
    """Somebody adds an account with a long note: whether there was room for it."""
    typed = {
        "label": f"Added {number}",
        "note": secrets.token_hex(1000),
        "team": people.east.pk,
        "proxy": "none",
    }
    answer = operator.post("/accounts/new/", wc_id=f"wxid_added_{number}", **typed)
    assert answer.status_code in (302, 503), (answer.status_code, answer.text[:300])
    assert answer.status_code == 302 or answer.headers["X-Away"] == "database"
    return answer.status_code == 302


def test_the_disk_of_the_logs_is_full(stack, operator, upstream, people, logs):
    before = waiting(operator, upstream, people.account())
    logs.fill(*logs.folder.glob("*.log"))
    size = len(stack.log)
    attempts = [waiting(operator, upstream, people.account()) for _ in range(3)]
    late = make_attempt(people.account(), "preparing", deadline_at=timezone.now() - timedelta(seconds=30))
    confirm(upstream, [before, *attempts])
    all_end([before, *attempts])
    ends(late, "failed")  # ending overdue attempts continues too
    assert len(stack.log) == size, "there was room in the logs"
    assert [process.poll() for process in stack.processes.values()] == [None] * len(NAMES)

    logs.free()
    until(lambda: len(stack.log) > size, "nobody writes his log again")
    late.delete()
    assert_sound(upstream, stack)
