"""The lease of a row: one holder at a time, until it releases the row or its time ends."""

from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from accounts.lib import db_clock
from accounts.lib.rows import RowLease
from accounts.models import Presence

MINUTE = timedelta(minutes=1)


@pytest.fixture
def row(db) -> Presence:
    return Presence.objects.create(pk=Presence.ONLY)


@pytest.fixture
def later(monkeypatch):
    """Moves the database's clock forward."""

    def move(by: timedelta) -> None:
        now = db_clock.now()
        monkeypatch.setattr(db_clock, "now", lambda: now + by)

    return move


def claim(**changes) -> RowLease | None:
    return RowLease.claim(Presence.objects.all(), Presence.ONLY, "taken_until", MINUTE, **changes)


def until():
    return Presence.objects.get().taken_until


def test_one_process_holds_a_row_and_its_claim_writes_what_belongs_to_it(row):
    with claim(online=1) as lease:
        assert (until(), Presence.objects.get().online) == (lease.until, 1)
        assert claim(online=2) is None
        assert Presence.objects.get().online == 1
    assert until() is None
    assert claim() is not None


def test_a_row_outside_the_given_ones_is_not_claimed(row):
    due = Presence.objects.filter(due_at__gt=timezone.now() + MINUTE)
    assert RowLease.claim(due, Presence.ONLY, "taken_until", MINUTE) is None
    assert RowLease.claim(Presence.objects.all(), Presence.ONLY + 1, "taken_until", MINUTE) is None
    assert until() is None


def test_the_lease_of_a_process_that_died_ends_at_its_time(row, later):
    assert claim() is not None
    later(MINUTE - timedelta(seconds=1))
    assert claim() is None
    later(timedelta(seconds=1))
    assert claim() is not None


def test_a_renewed_lease_lasts_longer_and_the_end_of_the_block_releases_it(row, later):
    with claim() as lease:
        later(MINUTE / 2)
        assert lease.renew()
        later(MINUTE * 0.75)
        assert claim() is None
    assert until() is None


def test_a_lost_lease_is_neither_renewed_nor_released(row, later):
    with claim() as slept:
        later(MINUTE)
        other = claim()
        assert not slept.renew()
    assert until() == other.until
    assert other.renew()


def test_a_lease_is_renewed_only_if_the_row_is_as_wanted(row):
    with claim() as lease:
        before = lease.until
        assert not lease.renew(online=7)
        assert until() == lease.until == before


def test_the_result_of_a_block_outlives_a_database_that_goes_away(row, caplog):
    def away(*_args):
        raise OperationalError("away")

    def result() -> str:
        lease = claim()
        with connection.execute_wrapper(away), lease:
            return "kept"

    assert result() == "kept"
    assert "a lease was not released" in caplog.text
