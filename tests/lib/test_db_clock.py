"""The one clock of all hosts, where it is read from a server: by hosts whose own clocks are wrong, and by busy ones."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta

import psycopg
import pytest
import time_machine
from django.db import OperationalError, connection, connections
from django.utils import timezone

from accounts.lib import db_clock
from accounts.lib.db_clock import (
    now as the_clocks_now,  # as it was before a fixture put this process's own in its place
)
from tests.support import environment
from tests.support.processes import DEADLINE, until
from tests.support.stopped_clock import StoppedClock
from tests.support.threads import in_thread

# A busy machine may take so long to ask the database what time it is.
NEAR = timedelta(seconds=30)
WRONG = timedelta(minutes=10)
on_a_server = pytest.mark.database("postgres")


@pytest.fixture
def read(transactional_db, monkeypatch):
    """A process that has just started."""
    fresh = db_clock._Clock()
    monkeypatch.setattr(db_clock, "_clock", fresh)
    return fresh


@pytest.fixture
def stopped(monkeypatch):
    clock = StoppedClock()
    monkeypatch.setattr(db_clock, "time", clock)
    return clock


def of_the_database() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


@contextmanager
def host_is_wrong(by: timedelta):
    with time_machine.travel(timezone.now() + by, tick=True):
        yield


@pytest.mark.database("sqlite")  # it is on the same host
def test_where_the_database_is_on_the_same_host_its_clock_is_the_hosts(read):
    with host_is_wrong(WRONG):
        assert abs(the_clocks_now() - timezone.now()) < NEAR
    assert read.known is None


@on_a_server
@pytest.mark.parametrize("by", [WRONG, -WRONG])
def test_a_host_whose_clock_is_wrong_uses_the_databases_and_says_so_once(read, by, caplog):
    with host_is_wrong(by), caplog.at_level(logging.WARNING, "accounts.lib.db_clock"):
        for _time in range(3):
            assert abs(the_clocks_now() - of_the_database()) < NEAR
            read.read_next = 0
    assert [record.name for record in caplog.records] == ["accounts.lib.db_clock"]


@on_a_server
def test_a_host_whose_clock_is_right_says_nothing(read, caplog):
    with caplog.at_level(logging.WARNING, "accounts.lib.db_clock"):
        assert abs(the_clocks_now() - timezone.now()) < NEAR
    assert caplog.records == []


@on_a_server
def test_a_host_whose_clock_is_set_meanwhile_goes_on_as_before(read):
    moments = [the_clocks_now()]
    for by in (WRONG, -WRONG, timedelta(0)):
        with host_is_wrong(by):
            moments += [the_clocks_now() for _time in range(20)]
    assert moments == sorted(moments)
    assert moments[-1] - moments[0] < WRONG


@on_a_server
def test_the_database_is_asked_once_a_minute(read, stopped, django_assert_num_queries):
    with django_assert_num_queries(1):
        for _time in range(60):
            the_clocks_now()
            stopped.advance(1)
    with django_assert_num_queries(1):
        the_clocks_now()


@on_a_server
def test_while_the_database_is_unreachable_the_last_reading_holds(read):
    with host_is_wrong(WRONG):
        the_clocks_now()
        close_from_outside()
        read.read_next = 0
        moments = [the_clocks_now() for _time in range(3)]
        connection.close()
        assert abs(moments[-1] - of_the_database()) < NEAR
        assert moments == sorted(moments)


@on_a_server
def test_an_unreachable_database_is_asked_again_soon_and_not_by_everybody(read, stopped):
    asked = []

    def unreachable(*_query):
        asked.append(stopped.at)
        raise OperationalError("the database is unreachable")

    with connection.execute_wrapper(unreachable):
        for _time in range(20):
            the_clocks_now()
            stopped.advance(1)
    assert [at - asked[0] for at in asked] == [0, 5, 10, 15]


@on_a_server
def test_a_database_that_was_never_there_leaves_the_hosts_clock(read):
    connection.ensure_connection()
    close_from_outside()
    assert abs(the_clocks_now() - timezone.now()) < NEAR
    connection.close()


def close_from_outside() -> None:
    """The server ends this thread's connection."""
    connection.ensure_connection()
    pid = connection.connection.info.backend_pid
    with psycopg.connect(environment.database_url, autocommit=True) as another:
        another.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


@on_a_server
def test_who_has_to_queue_for_a_connection_reads_no_other_time(read, stopped):
    """Behind a burst of answers that may take many seconds: none of them is a part of the time that is read."""
    most = connection.settings_dict["OPTIONS"]["pool"]["max_size"]
    taken, enough = threading.Barrier(most + 1), threading.Event()

    def hold():
        connection.ensure_connection()
        taken.wait(DEADLINE)
        enough.wait(DEADLINE)
        connections.close_all()

    before = of_the_database()
    connection.close()
    connection.close_pool()  # a new one: none of its connections is with a thread of an earlier test
    with ThreadPoolExecutor(most + 1) as pool:
        holding = [pool.submit(hold) for _time in range(most)]
        taken.wait(DEADLINE)
        looking = pool.submit(in_thread, read.now)
        until(lambda: connection.pool.get_stats().get("requests_waiting"))
        stopped.advance(3600)
        enough.set()
        found = looking.result(DEADLINE)
        [each.result(DEADLINE) for each in holding]
    assert before < found < of_the_database()


class Interrupted(db_clock._Clock):
    """Another thread reads the time again right after this one has looked at the n-th thing it needs."""

    looks = -1

    def __getattribute__(self, name):
        value = object.__getattribute__(self, name)
        looks = object.__getattribute__(self, "looks")
        if not callable(value) and name != "looks" and looks >= 0:
            self.looks = looks - 1
            if looks == 0:
                self.read()
        return value


@on_a_server
def test_what_was_read_is_never_mixed_with_what_another_thread_reads_meanwhile(transactional_db):
    for look in range(6):
        each = Interrupted()
        each.now()
        (base, at), hour = each.known, timedelta(hours=1)
        each.known = (base - hour, at - hour.total_seconds())  # as if it had been read an hour ago
        each.looks = look
        assert abs(each.now() - of_the_database()) < NEAR
