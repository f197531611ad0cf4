"""PostgreSQL that crashes, is cut off, hangs, or loses the answer to a COMMIT: what was decided is written all the same."""

from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
import requests
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone

from accounts.logins import start
from accounts.models import LoginAttempt
from tests.support import environment
from tests.support.factories import People, forget_everything, make_attempt
from tests.support.invariants import assert_sound
from tests.support.processes import DEADLINE, until
from tests.support.scenarios import (
    TWO_WORKERS,
    all_end,
    answered,
    ends,
    fresh,
    marks,
    waiting,
)
from tests.support.services import Postgres, using_database
from tests.support.stack import Operator, Stack

pytestmark = marks("postgres")


@pytest.fixture(scope="module")
def postgres(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), Postgres(environment.FOLDER / "own-pg") as server:
        server.make_database("faults")
        with using_database(server.direct_url("faults")):
            yield server


@pytest.fixture(scope="module")
def running(postgres):
    # A pool far smaller than what is asked of it: nobody may need two connections to get on.
    with Stack(*TWO_WORKERS, DATABASE_URL=postgres.url("faults"), DATABASE_POOL="3") as stack:
        yield stack


@pytest.fixture
def people(postgres, running):
    forget_everything()
    return People()


@pytest.fixture
def stack(running, postgres):
    yield running
    if not postgres.alive:
        postgres.start()
    postgres.proxy.heal()
    connection.close()
    running.complete()


@pytest.fixture
def operator(people, upstream, stack):
    return Operator(stack, people.operator)


def answers_again(operator) -> None:
    """The web finds the database again by itself."""
    connection.close()
    until(lambda: operator.get("/accounts/").status_code == 200, "the web does not come back")


def assert_nobody_asked_twice(upstream, attempts) -> None:
    """Once for each lease: on a busy machine the server may be away for so long that leases lapse."""
    leases = sum(fresh(attempt).lease_epoch for attempt in attempts)
    assert len(attempts) <= upstream.calls("/getIPadLoginInfo") <= leases


@pytest.mark.parametrize("how", ["immediate", "fast"])
def test_the_server_is_restarted_while_phones_are_waited_for(
    stack, operator, upstream, people, postgres, how
):
    attempts = [waiting(operator, upstream, people.account()) for _ in range(4)]
    postgres.restart(how)
    answers_again(operator)
    for attempt in attempts:
        upstream.phone("confirm", wId=attempt.w_id)
    all_end(attempts)
    after = waiting(operator, upstream, people.account())
    upstream.phone("confirm", wId=after.w_id)
    ends(after)
    assert_sound(upstream, stack)


@pytest.mark.parametrize("tap", ["confirm", "cancel"])
def test_the_server_is_down_at_the_moment_the_phone_decides(stack, operator, upstream, people, postgres, tap):
    attempts = [waiting(operator, upstream, people.account()) for _ in range(3)]
    with postgres.stopped():
        for attempt in attempts:
            upstream.phone(tap, wId=attempt.w_id)
        upstream.wait(
            path="/getIPadLoginInfo", in_flight=0
        )  # every answer is with a worker that cannot write
        assert operator.get("/accounts/").status_code == 503
    answers_again(operator)
    all_end(attempts, {"confirm": "succeeded", "cancel": "failed"}[tap])
    assert_nobody_asked_twice(upstream, attempts)
    assert_sound(upstream, stack)


@pytest.mark.parametrize("arrives", [True, False])
def test_the_connection_is_cut_during_the_commit_of_a_success(
    stack, operator, upstream, people, postgres, arrives
):
    attempt = waiting(operator, upstream, people.account())
    hit = postgres.proxy.cut_at(b"COMMIT", after=b"bound_seq", arrives=arrives)
    upstream.phone("confirm", wId=attempt.w_id)
    assert hit.wait(DEADLINE)
    ends(attempt)
    assert_sound(upstream, stack)


@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize("what", [b"attempt_started", b"qr_shown_at"])
def test_the_connection_is_cut_during_the_commit_of_a_click(
    stack, operator, upstream, people, postgres, arrives, what
):
    """The click is answered with an error page, or not at all disturbed; the next one leads on, and asks no twice."""
    account = people.account()
    hit = postgres.proxy.cut_at(b"COMMIT", after=what, arrives=arrives)
    answer = operator.post(f"/accounts/{account.pk}/login/")
    assert hit.wait(DEADLINE)
    assert answer.status_code in (302, 503)
    for attempt in account.attempts.filter(state="preparing", sent_at=None):
        # Begun, and nobody asked: it ends at its deadline, which is brought forward here.
        attempt.deadline_at = attempt.created_at
        attempt.save(update_fields=["deadline_at"])
        until(lambda attempt=attempt: not fresh(attempt).is_open, "nobody ends it")
    attempt = operator.log_in(account)
    upstream.wait(wId=attempt.w_id, step3_now=1)
    upstream.phone("confirm", wId=attempt.w_id)
    ends(attempt)
    assert_sound(upstream, stack)


def test_the_server_is_cut_off_for_longer_than_a_lease(stack, operator, upstream, people, postgres):
    attempts = [waiting(operator, upstream, people.account()) for _ in range(4)]
    postgres.proxy.refuse()
    until(lambda: nobody_lives(), "leases do not run out")
    upstream.phone("confirm", wId=attempts[0].w_id)
    postgres.proxy.accept()
    answers_again(operator)
    ends(attempts[0])
    for attempt in attempts[1:]:
        upstream.wait(wId=attempt.w_id, step3_now=1)
        upstream.phone("confirm", wId=attempt.w_id)
    all_end(attempts)
    # The holder of a wait renews it before anybody else claims it: nobody was asked for twice.
    assert {fresh(attempt).lease_epoch for attempt in attempts} == {1}
    assert_sound(upstream, stack)


def nobody_lives() -> bool:
    """By the database's own clock no worker has said lately that it lives."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM accounts_waitsworker WHERE alive_until > clock_timestamp()")
        return cursor.fetchone()[0] == 0


def test_the_server_hangs_when_the_phone_decides(stack, operator, upstream, people, postgres):
    attempts = [waiting(operator, upstream, people.account()) for _ in range(3)]
    postgres.proxy.freeze()
    for attempt in attempts:
        upstream.phone("confirm", wId=attempt.w_id)
    upstream.wait(path="/getIPadLoginInfo", in_flight=0)
    postgres.proxy.thaw()
    all_end(attempts)
    assert_sound(upstream, stack)


@pytest.mark.parametrize("also_new", [False, True])
def test_the_connections_go_silent_when_the_phone_decides(
    stack, operator, upstream, people, postgres, also_new
):
    """As after a failover behind one address: what is connected stays connected, and hears nothing any more."""
    attempts = [waiting(operator, upstream, people.account()) for _ in range(5)]
    postgres.proxy.swallow(new=also_new)
    for attempt in attempts:
        upstream.phone("confirm", wId=attempt.w_id)
    pages = [answered(lambda: operator.get("/accounts/").status_code) for _ in range(4)]
    if also_new:
        assert pages == [503] * 4
        assert answered(lambda: operator.post("/accounts/new/", label="x").status_code) == 503
        postgres.proxy.heal()
    all_end(attempts)
    answers_again(operator)
    after = waiting(operator, upstream, people.account())
    upstream.phone("confirm", wId=after.w_id)
    ends(after)
    assert_nobody_asked_twice(upstream, [*attempts, after])
    assert_sound(upstream, stack)


def test_a_click_while_the_server_is_unreachable_says_so_and_changes_nothing(
    stack, operator, upstream, people, postgres
):
    account = people.account()
    postgres.proxy.refuse()
    answer = operator.post(f"/accounts/{account.pk}/login/")
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    assert requests.get(stack.url + "/healthz", timeout=10).ok
    assert requests.get(stack.url + "/readyz", timeout=20).json()["database"] == "away"
    postgres.proxy.accept()
    answers_again(operator)
    assert upstream.calls("/iPadLogin") == 0
    assert not LoginAttempt.objects.exists()


def test_far_more_answers_at_once_than_there_are_connections(stack, operator, upstream, people, postgres):
    attempts = [operator.log_in(people.account()) for _ in range(40)]
    for attempt in attempts:
        upstream.wait(wId=attempt.w_id, step3_now=1)
    postgres.proxy.freeze()  # so that all of them ask for a connection at the same moment
    for attempt in attempts:
        upstream.phone("confirm", wId=attempt.w_id)
    upstream.wait(path="/getIPadLoginInfo", in_flight=0)
    postgres.proxy.thaw()
    all_end(attempts)
    assert_sound(upstream, stack)


@pytest.fixture
def read_only(postgres):
    """Call it: the server takes no writes any more, as one that became a replica; call what it gives: again."""

    def set_to(value: str) -> None:
        with psycopg.connect(postgres.direct_url("postgres"), autocommit=True) as admin:
            admin.execute("SET default_transaction_read_only = off")
            admin.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
            admin.execute("SELECT pg_reload_conf()")
        with psycopg.connect(postgres.direct_url("faults"), autocommit=True) as probe:
            shown = lambda: probe.execute("SHOW default_transaction_read_only").fetchone()[0]  # noqa: E731
            until(lambda: shown() == value, "the setting does not change")

    yield set_to
    set_to("off")


@pytest.mark.parametrize("tap", ["confirm", "cancel"])
def test_the_server_takes_no_writes_when_the_phone_decides(
    stack, operator, upstream, people, postgres, read_only, tap
):
    """As after a failover to a server that is still a replica: it answers, and refuses every write."""
    attempts = [waiting(operator, upstream, people.account()) for _ in range(3)]
    account = people.account()
    read_only("on")
    for attempt in attempts:
        upstream.phone(tap, wId=attempt.w_id)
    upstream.wait(path="/getIPadLoginInfo", in_flight=0)
    assert operator.get("/accounts/new/").ok
    answer = operator.post(f"/accounts/{account.pk}/login/")
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    until(lambda: tells_of_it(stack, attempts), "no worker tried to write it")
    assert {fresh(attempt).state for attempt in attempts} == {"waiting"}

    read_only("off")
    all_end(attempts, {"confirm": "succeeded", "cancel": "failed"}[tap])
    assert_nobody_asked_twice(upstream, attempts)
    assert_sound(upstream, stack)


def tells_of_it(stack: Stack, attempts: list[LoginAttempt]) -> bool:
    """Every one of them was tried to be written, in vain."""
    return all(f"attempt {attempt.pk}: the database is unreachable (" in stack.log for attempt in attempts)


@contextmanager
def somebody_holds(postgres: Postgres, table: str, row_id: int):
    """A transaction of somebody else has locked this row; inside the block it goes on."""
    with psycopg.connect(postgres.direct_url("faults")) as other:
        other.execute("SET deadlock_timeout = '60s'")  # so that it is not this one that is given up
        other.execute(f"SELECT 1 FROM {table} WHERE id = %s FOR NO KEY UPDATE", [row_id])
        yield other


def blocked(postgres: Postgres) -> int:
    """How many of the product's connections wait for a lock now."""
    with psycopg.connect(postgres.direct_url("postgres"), autocommit=True) as admin:
        question = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'faults' AND wait_event_type = 'Lock'"
        )
        return admin.execute(question).fetchone()[0]


def deadlocks(postgres: Postgres) -> int:
    """How many the server has broken up so far."""
    with psycopg.connect(postgres.direct_url("postgres"), autocommit=True) as admin:
        question = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'faults'"
        return admin.execute(question).fetchone()[0]


def test_two_transactions_that_wait_for_each_other(stack, operator, upstream, people, postgres):
    """The server ends one of the two, the one that writes a success: it is written after the other."""
    upstream.person("wxid_known")
    before = deadlocks(postgres)
    attempt = waiting(operator, upstream, people.account(wc_id="wxid_known"))
    with somebody_holds(postgres, "accounts_account", attempt.account_id) as other:
        upstream.phone("confirm", wId=attempt.w_id, who="wxid_known")
        until(lambda: blocked(postgres), "nobody wants the row")
        # The success has its attempt's row already, and waits for the account's.
        other.execute("SELECT 1 FROM accounts_loginattempt WHERE id = %s FOR UPDATE", [attempt.pk])
        other.commit()
    ends(attempt)
    until(lambda: deadlocks(postgres) > before, "the two did not wait for each other")
    assert_sound(upstream, stack)


def test_a_row_that_somebody_holds_keeps_only_its_own_login_waiting(
    stack, operator, upstream, people, postgres
):
    """As a process does that was frozen in the middle of a transaction, or a hand at a database console."""
    held, *others = [waiting(operator, upstream, people.account()) for _ in range(5)]
    account = people.account()
    with somebody_holds(postgres, "accounts_account", held.account_id):
        upstream.phone("confirm", wId=held.w_id)
        until(lambda: blocked(postgres) or tells_of_it(stack, [held]), "nobody wants the row")
        for attempt in others:
            upstream.phone("confirm", wId=attempt.w_id)
        all_end(others, seconds=30)
        after = waiting(operator, upstream, account)
        upstream.phone("confirm", wId=after.w_id)
        ends(after)
        assert operator.post(f"/accounts/{held.account_id}/login/").status_code in (302, 503)
    ends(held)
    assert_sound(upstream, stack)


def test_a_check_that_fails_keeps_no_wait_from_its_worker(stack, upstream, people, postgres):
    """A worker claims waits and finds an overdue attempt, but a locked table keeps it from asking who is online."""
    for name in ("waits-1", "waits-2", "jobs"):
        stack.kill(name)
    long_ago = timezone.now() - timedelta(seconds=30)
    attempts = [
        start.start_login(people.account())[0] for _ in range(3)
    ]  # without messages: only polling finds them
    assert all(start.fetch_qr_code(attempt) for attempt in attempts)
    LoginAttempt.objects.update(queued_at=long_ago)
    overdue = make_attempt(people.account(), created_at=long_ago, deadline_at=long_ago)
    with psycopg.connect(postgres.direct_url("faults")) as other:
        other.execute("LOCK TABLE accounts_upstreamaccess")
        stack.start("waits-1")
        until(lambda: "OperationalError" in stack.log_of("waits-1"), "nothing failed")
    for attempt in attempts:
        upstream.wait(wId=attempt.w_id, step3_now=1)
        upstream.phone("confirm", wId=attempt.w_id)
    all_end(attempts)
    ends(overdue, "expired")


def test_the_test_can_reach_the_server_while_the_product_cannot(postgres, people):
    """What the tests above rely on."""
    postgres.proxy.refuse()
    try:
        assert LoginAttempt.objects.count() == 0
        with using_database(postgres.url("faults")), pytest.raises((DatabaseError, InterfaceError)):
            LoginAttempt.objects.count()
    finally:
        postgres.proxy.accept()
