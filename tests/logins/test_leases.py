"""Leases: slots, take-overs, what is given back and when; with rows of other holders, as other processes write them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from datetime import timedelta

import pytest
from django.db import DatabaseError, OperationalError, connection, connections, transaction
from django.utils import timezone

from accounts.lib import db_errors
from accounts.logins import leases
from accounts.logins import start as logins_start
from accounts.logins import wait as logins_wait
from accounts.models import AccountEvent, LoginAttempt, WaitsWorker
from accounts.models.login_attempt import LoginAttemptQuerySet
from accounts.states import AttemptState, EventType
from tests.support.factories import make_account, make_attempt
from tests.support.processes import until
from tests.support.threads import in_thread

SECONDS = 20


def waiting(count: int = 1, **fields) -> list[LoginAttempt]:
    """Attempts that have waited for a worker for a while; the first one, whose id is the highest, the longest."""
    now = timezone.now()
    queued = [now - timedelta(seconds=100 + number) for number in range(count)]
    return [make_attempt(make_account(), queued_at=at, **fields) for at in queued][::-1]


def living(name: str, seconds: float = 9) -> str:
    """Another worker, as its row in the database says."""
    until = timezone.now() + timedelta(seconds=seconds)
    WaitsWorker.objects.update_or_create(name=name, defaults={"alive_until": until})
    return name


def dead(name: str) -> str:
    return living(name, -1)


def row(attempt: LoginAttempt) -> tuple[str, int]:
    return LoginAttempt.objects.values_list("lease_owner", "lease_epoch").get(pk=attempt.pk)


def ids(found: list[leases.Lease]) -> list[int]:
    return [lease.attempt.pk for lease in found]


class Killed(BaseException):
    """As GreenletExit."""


@contextmanager
def database_down():
    """Of this thread: whatever it asks the database fails."""

    def fails(execute, sql, params, many, context):
        raise OperationalError("the server closed the connection unexpectedly")

    with connection.execute_wrapper(fails):
        yield


# --- slots -----------------------------------------------------------------------------------------------


def test_without_a_free_slot_nothing_is_taken_and_another_worker_takes_it(holder, settings):
    settings.WAIT_SLOTS = 2
    first, second, third = waiting(3)
    taken = [leases.take(attempt.pk) for attempt in (first, second)]

    assert all(taken) and leases.take(third.pk) is None
    assert row(third) == ("", 0)
    assert leases.claim([third.pk], living("another")) != [None]

    with taken[0]:
        pass
    assert holder.free_slots == 1
    assert row(first) == ("", 1)


def test_what_lies_there_is_taken_as_far_as_slots_are_free_the_oldest_first(holder, settings):
    settings.WAIT_SLOTS = 3
    attempts = waiting(5)
    (own,) = leases._take([attempts[4].pk])

    assert ids(leases.claim_orphaned()) == [attempt.pk for attempt in attempts[:2]]
    assert leases.claim_orphaned() == []
    assert [row(attempt)[1] for attempt in attempts] == [1, 1, 0, 0, 1]
    with own:
        pass
    assert len(leases.claim_orphaned()) == 1


def test_what_was_lost_here_is_not_taken_again_before_its_step_is_over_and_takes_nobodys_place(
    holder, settings
):
    settings.WAIT_SLOTS = 2
    lost, other = waiting(2)
    with leases.take(lost.pk) as lease:
        WaitsWorker.objects.filter(name=holder.name).update(alive_until=timezone.now())  # as if it had slept
        assert leases.claim([lost.pk], dead("who took it over and died too")) != [None]
        holder.register()
        holder.find_lost()
        assert lease.lost
        assert leases.take(lost.pk) is None
        assert ids(leases.claim_orphaned()) == [other.pk]
    assert ids(leases.claim_orphaned()) == [lost.pk]


def test_at_most_so_many_are_taken_at_once(holder, monkeypatch):
    monkeypatch.setattr(leases, "TAKEN_AT_ONCE", 2)
    waiting(3)
    assert [len(leases.claim_orphaned()) for _look in range(3)] == [2, 1, 0]


def test_a_message_has_a_moment_to_arrive_before_a_worker_polls(holder):
    now = timezone.now()
    fresh = make_attempt(make_account(), queued_at=now)
    start = make_attempt(make_account(), AttemptState.PREPARING, queued_at=now, w_id="")
    assert leases.claim_orphaned() == []
    assert leases.take(fresh.pk) and leases.take(start.pk)


def test_a_doubled_message_takes_one_lease(holder):
    (attempt,) = waiting()
    assert [bool(lease) for lease in leases._take([attempt.pk, attempt.pk])] == [True, False]
    assert leases.take(attempt.pk) is None
    assert leases.take(10**9) is None
    assert len(holder.held) == 1
    assert row(attempt) == (holder.name, 1)


def test_slots_hold_also_when_everybody_takes_at_the_same_moment(holder, settings):
    settings.WAIT_SLOTS = 5
    attempts = waiting(24)
    barrier = threading.Barrier(16)

    def take(number: int):
        barrier.wait(SECONDS)
        if number < 4:
            return leases.claim_orphaned()
        return [leases.take(attempts[number].pk)]

    with ThreadPoolExecutor(16) as pool:
        calls = [pool.submit(in_thread, take, number) for number in range(16)]
        taken = [lease for call in calls for lease in call.result(SECONDS) if lease]
    assert len(taken) == len(holder.held) == 5
    assert LoginAttempt.objects.filter(lease_owner=holder.name).count() == 5


# --- whose a row is --------------------------------------------------------------------------------------


def test_two_processes_that_claim_the_same_rows_get_each_row_once(holder):
    attempts = [attempt.pk for attempt in waiting(40)]
    barrier = threading.Barrier(4)
    for name in "abcd":  # known to the others before the first claim, as workers are
        living(name, seconds=600)

    def claim(name: str):
        barrier.wait(SECONDS)
        order = attempts if name in "ab" else attempts[::-1]
        return [attempt.pk for attempt in leases.claim(order, name) if attempt]

    with ThreadPoolExecutor(4) as pool:
        calls = {name: pool.submit(in_thread, claim, name) for name in "abcd"}
        got = {name: call.result(SECONDS) for name, call in calls.items()}
    assert sorted(pk for each in got.values() for pk in each) == sorted(attempts)
    for name, each in got.items():
        assert set(LoginAttempt.objects.filter(lease_owner=name).values_list("pk", flat=True)) == set(each)
    assert set(LoginAttempt.objects.values_list("lease_epoch", flat=True)) == {1}
    assert AccountEvent.objects.filter(happened=EventType.WAIT_TAKEN).count() == 40


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
def test_a_worker_that_registers_and_claims_during_another_claim_keeps_its_rows(holder, monkeypatch):
    """The other's statement began before: it sees the claim, as it locks the row, but not that the worker lives."""
    (attempt,) = waiting()
    claimable = LoginAttemptQuerySet.claimable
    monkeypatch.setattr(
        LoginAttemptQuerySet,
        "claimable",
        lambda rows, now: claimable(rows, now).extra(where=["pg_advisory_lock(4711)::text = ''"]),
    )
    with ThreadPoolExecutor(1) as pool, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(4711)")
        other = pool.submit(in_thread, leases.claim, [attempt.pk], living("other"))
        until(lambda: advisory_locks_awaited(cursor), "the other claim has not begun")
        mine = leases.claim([attempt.pk], living("just registered"))
        cursor.execute("SELECT pg_advisory_unlock_all()")
        assert other.result(SECONDS) == [None]
    assert [claimed.pk for claimed in mine] == [attempt.pk]
    assert row(attempt) == ("just registered", 1)


def advisory_locks_awaited(cursor) -> int:
    cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    return cursor.fetchone()[0]


def test_a_living_holder_keeps_its_row_and_a_dead_one_does_not(holder):
    held, left, unknown = waiting(3)
    for attempt, owner in ((held, living("living")), (left, dead("dead")), (unknown, "no row at all")):
        LoginAttempt.objects.filter(pk=attempt.pk).update(
            lease_owner=owner, lease_epoch=4, wait_started_at=timezone.now()
        )

    assert ids(leases.claim_orphaned()) == [left.pk, unknown.pk]
    assert (row(held), row(left)) == (("living", 4), (holder.name, 5))
    assert list(left.events.values_list("happened", flat=True)) == [EventType.WAIT_RESUMED]
    left.refresh_from_db()
    assert left.resumed


def test_an_attempt_that_waits_no_more_is_nobodys(holder):
    for state in set(AttemptState) - {AttemptState.WAITING}:
        attempt = make_attempt(make_account(), state)
        assert leases.take(attempt.pk) is None
    late = make_attempt(make_account(), deadline_at=timezone.now() - timedelta(seconds=7))
    assert leases.take(late.pk) is None
    assert leases.claim_orphaned() == []


def test_a_start_is_taken_once_and_never_after_its_code_was_asked_for(holder):
    now = timezone.now()
    start = make_attempt(make_account(), AttemptState.PREPARING, queued_at=now, w_id="")
    asked = make_attempt(make_account(), AttemptState.PREPARING, queued_at=now, sent_at=now, w_id="")
    clicked = make_attempt(make_account(), AttemptState.PREPARING, w_id="")
    assert leases.take(start.pk).attempt.state == AttemptState.PREPARING
    assert leases.take(asked.pk) is None
    assert leases.take(clicked.pk) is None


def test_old_rows_of_dead_workers_are_forgotten_and_no_others(holder):
    living("living")
    living("dead since an hour", -3600)
    living("dead since two days", -2 * 86400)
    leases.forget_old_workers()
    assert set(WaitsWorker.objects.values_list("name", flat=True)) == {
        holder.name,
        "living",
        "dead since an hour",
    }


# --- taken over ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_wait_that_was_taken_over_is_cut_and_writes_nothing(holder, upstream):
    attempt, _begun = logins_start.start_login(make_account())
    assert logins_start.fetch_qr_code(attempt)
    lease = leases.take(attempt.pk)
    with ThreadPoolExecutor(1) as pool:
        wait = pool.submit(in_thread, logins_wait.wait_with_lease, lease)
        upstream.wait(wId=attempt.w_id, step3_now=1)
        dead(holder.name)
        leases.claim([attempt.pk], living("another"))
        holder.renew()
        assert wait.result(SECONDS) is None

    assert lease.lost
    attempt.refresh_from_db()
    assert (attempt.state, *row(attempt)) == (AttemptState.WAITING, "another", 2)
    assert attempt.events.order_by("id").last().happened == EventType.WAIT_RESUMED
    assert holder.held == {} and holder.unreleased == set()
    upstream.wait(wId=attempt.w_id, step3_now=0)


def test_what_the_phone_decided_counts_also_under_a_lease_that_was_lost(holder, upstream):
    attempt, _begun = logins_start.start_login(make_account())
    assert logins_start.fetch_qr_code(attempt)
    lease = leases.take(attempt.pk)
    with ThreadPoolExecutor(1) as pool:
        wait = pool.submit(in_thread, logins_wait.wait_with_lease, lease)
        upstream.wait(wId=attempt.w_id, step3_now=1)
        dead(holder.name)
        leases.claim([attempt.pk], living("another"))
        upstream.phone("confirm", wId=attempt.w_id)
        assert wait.result(SECONDS).w_id == attempt.w_id
    attempt.refresh_from_db()
    assert (attempt.state, attempt.lease_owner) == (AttemptState.SUCCEEDED, "")


def test_a_lease_that_was_lost_before_its_wait_began_makes_no_call(holder, upstream):
    attempt, _begun = logins_start.start_login(make_account())
    assert logins_start.fetch_qr_code(attempt)
    lease = leases.take(attempt.pk)
    dead(holder.name)
    leases.claim([attempt.pk], living("another"))
    holder.renew()

    assert logins_wait.wait_with_lease(lease) is None
    assert upstream.calls("/getIPadLoginInfo") == 0
    assert row(attempt) == ("another", 2)


def test_a_process_whose_leases_lapsed_checks_again_for_claims_that_commit_late(holder):
    (attempt,) = waiting()
    lease = leases.take(attempt.pk)
    dead(holder.name)
    holder.renew()
    assert not lease.lost
    # Another one's claim had begun while the row was dead, and is only now committed.
    LoginAttempt.objects.filter(pk=attempt.pk).update(lease_owner=living("another"), lease_epoch=2)
    cuts = []
    lease.cut = lambda: cuts.append(1)
    holder.renew()
    assert lease.lost and cuts == [1]


def test_held_leases_are_not_queried_while_none_lapsed(holder, django_assert_num_queries):
    for attempt in waiting(3):
        leases.take(attempt.pk)
    for _round in range(leases.CHECKS_FOR_LOST):
        holder.renew()
    with django_assert_num_queries(1):
        holder.renew()


# --- given back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [None, ValueError, Killed])
def test_a_lease_is_given_back_however_its_block_ends(holder, end):
    (attempt,) = waiting()
    with pytest.raises(end) if end else nullcontext(), leases.take(attempt.pk):
        if end:
            raise end
    assert row(attempt) == ("", 1)
    assert holder.held == {} and holder.unreleased == set()
    assert leases.take(attempt.pk).epoch == 2


def test_a_lease_is_released_later_while_the_database_is_unreachable(holder, settings):
    settings.WAIT_SLOTS = 1
    (attempt,) = waiting()
    lease = leases.take(attempt.pk)
    with database_down():
        with lease:
            pass
        with pytest.raises(DatabaseError):
            holder.renew()
    assert row(attempt) == (holder.name, 1)
    assert holder.free_slots == 1

    holder.renew()
    assert row(attempt) == ("", 1)
    assert holder.unreleased == set()


def test_a_row_that_cannot_be_released_keeps_no_lease_from_being_renewed(holder):
    """As while another transaction locks that row."""
    released, _held = (leases.take(attempt.pk) for attempt in waiting(2))

    def locked(execute, sql, params, many, context):
        if sql.startswith('UPDATE "accounts_loginattempt"'):
            raise OperationalError("canceling statement due to lock timeout")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(locked):
        with released:
            pass
        dead(holder.name)
        with pytest.raises(DatabaseError):
            holder.renew()
    assert alive_until(holder) > timezone.now()
    holder.renew()
    assert row(released.attempt) == ("", 1)


def test_what_is_given_back_late_is_not_taken_from_who_has_it_now(holder):
    (attempt,) = waiting()
    lease = leases.take(attempt.pk)
    with database_down(), lease:
        pass
    dead(holder.name)
    leases.claim([attempt.pk], living("another"))
    holder.renew()
    assert row(attempt) == ("another", 2)


def test_what_is_given_back_late_is_not_what_was_taken_again_meanwhile(holder):
    (attempt,) = waiting()
    lease = leases.take(attempt.pk)
    with database_down(), lease:
        pass
    dead(holder.name)
    assert leases.take(attempt.pk).epoch == 2
    holder.renew()
    assert row(attempt) == (holder.name, 2)


def test_a_row_that_ended_is_not_written_again(holder, django_assert_num_queries):
    (attempt,) = waiting()
    lease = leases.take(attempt.pk)
    lease.over = True
    with django_assert_num_queries(0), lease:
        pass


def test_a_wait_keeps_nothing_of_the_database_connection_while_it_waits(transactional_db):
    """What Django keeps about one is several kB, and there are thousands of waits."""
    WaitsWorker.objects.count()
    db_errors.release_connection()
    assert connections.all(initialized_only=True) == []

    with transaction.atomic():
        db_errors.release_connection()
        assert connection.in_atomic_block
        assert not WaitsWorker.objects.exists()


# --- a process that lives --------------------------------------------------------------------------------


def alive_until(holder) -> object:
    return WaitsWorker.objects.get(name=holder.name).alive_until


def test_a_worker_says_that_it_lives_also_while_it_holds_nothing(holder):
    WaitsWorker.objects.all().delete()
    holder.renew()
    assert not WaitsWorker.objects.exists()

    leases.begin()
    holder.renew()
    assert alive_until(holder) > timezone.now() + leases.LEASE / 2


def test_a_process_says_that_it_lives_before_it_holds_anything(holder):
    """Else its first lease would be worth nothing, and another would take the same wait up."""
    WaitsWorker.objects.all().delete()
    holder.renewed_at = 0.0
    (attempt,) = waiting()
    leases.take(attempt.pk)
    assert leases.claim([attempt.pk], living("another")) == [None]


def test_a_lapse_is_reported_once(holder, monkeypatch):
    assert leases.begin() is False
    dead(holder.name)
    holder.renew()
    assert alive_until(holder) > timezone.now()
    assert [leases.begin(), leases.begin()] == [True, False]
    holder.renewed_at -= leases.LEASE.total_seconds() + 1
    assert [leases.begin(), leases.begin()] == [True, False]


def test_of_the_dead_nothing_is_taken_while_it_is_not_known_whether_they_are(holder):
    new, old = waiting(2)
    LoginAttempt.objects.filter(pk=old.pk).update(lease_owner=dead("dead"))
    assert ids(leases.claim_orphaned(of_the_dead=False)) == [new.pk]
    assert ids(leases.claim_orphaned()) == [old.pk]


def test_renewing_does_not_wait_for_a_claim_under_way(holder, monkeypatch):
    """Which may have to queue for a connection for longer than a lease lasts."""
    (attempt,) = waiting()
    entered, may_go_on, claim = threading.Event(), threading.Event(), leases.claim

    def slow(*args):
        entered.set()
        assert may_go_on.wait(SECONDS)
        return claim(*args)

    monkeypatch.setattr(leases, "claim", slow)
    leases.begin()
    with ThreadPoolExecutor(2) as pool:
        claiming = pool.submit(in_thread, leases.take, attempt.pk)
        assert entered.wait(SECONDS)
        first = alive_until(holder)
        renewing = pool.submit(in_thread, holder.renew)
        try:
            until(lambda: alive_until(holder) > first)
        finally:
            may_go_on.set()
        renewing.result(SECONDS)
        assert claiming.result(SECONDS)


@pytest.mark.parametrize("error", [OperationalError, Killed])
def test_a_claim_whose_answer_was_lost_is_left_to_others(holder, monkeypatch, error):
    """The answer to the COMMIT got lost; the rows are this process's, and it lives."""
    first, second = waiting(2)
    claim = leases.claim

    def claim_unheard(*args):
        claim(*args)
        raise error("the server was restarted")

    with monkeypatch.context() as broken, pytest.raises(error):
        broken.setattr(leases, "claim", claim_unheard)
        leases.take(first.pk)
    assert [bool(lease) for lease in leases._take([first.pk, second.pk])] == [False, True]
    holder.renew()

    assert (row(first), row(second)) == (("", 1), (holder.name, 1))
    assert ids(leases.claim_orphaned()) == [first.pk]


def test_a_forked_child_is_another_holder(holder):
    (attempt,) = waiting()
    leases.take(attempt.pk)
    before = holder.name
    holder.pid = -1  # as the child sees it: that is another's
    assert holder.start() != before
    assert holder.held == {} and holder.unreleased == set()
    assert leases.claim([attempt.pk], holder.name) == [None]


@contextmanager
def table_away():
    """For every process and thread."""
    rename = "ALTER TABLE {} RENAME TO {}"
    with connection.cursor() as cursor:
        cursor.execute(rename.format("accounts_waitsworker", "away"))
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(rename.format("away", "accounts_waitsworker"))


@pytest.mark.slow
def test_leases_are_renewed_again_after_whatever_went_wrong(
    transactional_db, own_leases, monkeypatch, caplog
):
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.02)
    leases.begin()
    first = alive_until(own_leases)
    until(lambda: alive_until(own_leases) > first)
    with table_away():
        until(lambda: "leases were not renewed" in caplog.text)
    later = alive_until(own_leases)
    until(lambda: alive_until(own_leases) > later)
