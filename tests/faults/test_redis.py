"""Redis that dies, forgets, refuses, hangs or is full: a click still gets its code, and no login is lost."""

import signal
from contextlib import contextmanager

import pytest

from tests.support import environment
from tests.support.invariants import assert_sound
from tests.support.processes import until
from tests.support.scenarios import (
    ROUNDS,
    TWO_WORKERS,
    Listener,
    all_end,
    answered,
    ends,
    fresh,
    marks,
    waiting,
)
from tests.support.services import Valkey
from tests.support.stack import Stack

pytestmark = marks("postgres")


@pytest.fixture(scope="module")
def valkey():
    with Valkey(environment.FOLDER / "own-valkey") as running:
        yield running


@pytest.fixture(scope="module")
def running(valkey, django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), Stack(*TWO_WORKERS, REDIS_URL=valkey.url) as stack:
        yield stack


@pytest.fixture
def stack(running, valkey):
    yield running
    if valkey.process is None:
        valkey.start()
    valkey.proxy.heal()
    for words in (("CONFIG", "SET", "maxmemory", "0"), ("REPLICAOF", "NO", "ONE")):
        valkey.say(*words)
    running.complete()
    hears_messages(valkey)


def hears_messages(valkey: Valkey) -> None:
    """Every worker asks for messages (again)."""
    asking = lambda client: client["cmd"] == "brpop" and int(client["idle"]) < 3  # noqa: E731
    until(lambda: sum(map(asking, valkey.client.client_list())) >= 3, "workers do not come back to Redis")


def confirm(upstream, attempt) -> None:
    upstream.wait(wId=attempt.w_id, step3_now=1)
    upstream.phone("confirm", wId=attempt.w_id)


def test_redis_dies_while_phones_are_waited_for_and_comes_back_empty(stack, operator, upstream, live, valkey):
    attempts = [waiting(operator, upstream, live.account()) for _ in range(4)]
    valkey.kill()
    upstream.phone("confirm", wId=attempts[0].w_id)
    ends(attempts[0])  # also while Redis is unreachable
    valkey.start()
    upstream.phone("confirm", wId=attempts[1].w_id)
    queued = operator.log_in(live.account())
    for attempt in (*attempts[2:], queued):
        confirm(upstream, attempt)
    all_end([*attempts, queued])
    assert {fresh(attempt).lease_epoch for attempt in attempts} == {1}
    assert_sound(upstream, stack)


@pytest.mark.long
def test_redis_dies_again_and_again(stack, operator, upstream, live, valkey):
    for _round in range(5 * ROUNDS):
        valkey.restart()
        hears_messages(valkey)
        attempt = operator.log_in(live.account())
        confirm(upstream, attempt)
        ends(attempt)
    assert_sound(upstream, stack)


def test_everything_in_redis_is_deleted(stack, operator, upstream, live, valkey):
    attempts = [waiting(operator, upstream, live.account()) for _ in range(3)]
    with nobody_takes_messages(stack):
        queued = [operator.log_in(live.account()) for _ in range(5)]
        # Each of the two had asked for a message, and got it while it stood still.
        until(lambda: valkey.client.llen("waits") >= 3, "nothing was put into the queue")
        valkey.say("FLUSHALL")
    for attempt in attempts + queued:
        confirm(upstream, attempt)
    all_end(attempts + queued)
    assert_sound(upstream, stack)


@contextmanager
def nobody_takes_messages(stack):
    """Both workers stand still for a moment, shorter than a lease."""
    names = ("waits-1", "waits-2")
    for name in names:
        stack.send(name, signal.SIGSTOP)
    try:
        yield
    finally:
        for name in names:
            stack.send(name, signal.SIGCONT)


@pytest.mark.parametrize("how", ["refuse", "swallow everything", "swallow what is open"])
def test_a_click_while_redis_is_unreachable(stack, operator, upstream, live, valkey, how):
    before = waiting(operator, upstream, live.account())
    if how == "refuse":
        valkey.proxy.refuse()
    else:
        valkey.proxy.swallow(new=how == "swallow everything")
    attempts = []
    for _click in range(3):
        attempts.append(answered(lambda: operator.log_in(live.account())))
        assert answered(lambda: operator.get(f"/attempts/{attempts[-1].pk}/")).ok
    for attempt in [before, *attempts]:
        confirm(upstream, attempt)
    all_end([before, *attempts])

    valkey.proxy.heal()
    hears_messages(valkey)
    after = operator.log_in(live.account())
    confirm(upstream, after)
    ends(after)
    assert_sound(upstream, stack)


@pytest.mark.long
def test_redis_is_slow(stack, operator, upstream, live, valkey):
    valkey.proxy.slow(0.3)
    attempts = [answered(lambda: operator.log_in(live.account())) for _ in range(3)]
    for attempt in attempts:
        confirm(upstream, attempt)
    all_end(attempts)
    assert_sound(upstream, stack)


@pytest.mark.parametrize("words", [("CONFIG", "SET", "maxmemory", "1"), ("REPLICAOF", "127.0.0.1", "1")])
def test_redis_takes_nothing_any_more(stack, operator, upstream, live, valkey, words):
    """It is full, or was made a replica: it answers, and refuses every write."""
    valkey.say(*words)
    attempts = [answered(lambda: operator.log_in(live.account())) for _ in range(2)]
    for attempt in attempts:
        confirm(upstream, attempt)
    all_end(attempts)
    assert_sound(upstream, stack)


def test_the_workers_start_without_redis(stack, operator, upstream, live, valkey):
    valkey.kill()
    for name in ("waits-1", "waits-2"):
        stack.kill(name)
    attempt = operator.log_in(live.account())
    stack.start("waits-1")
    confirm(upstream, attempt)
    ends(attempt)
    assert_sound(upstream, stack)


@pytest.mark.parametrize("how", ["is there", "refuses", "swallows", "dies"])
def test_an_open_page_gets_the_events_of_a_login_whatever_redis_does(
    stack, operator, upstream, live, valkey, how
):
    account = live.account()
    with Listener(operator) as page:
        page.hears("relook")
        if how == "refuses":
            valkey.proxy.refuse()
        elif how == "swallows":
            valkey.proxy.swallow(new=True)
        elif how == "dies":
            valkey.kill()
        attempt = operator.log_in(account)
        page.hears("change", account=account.pk, attempt=attempt.pk, state="waiting")
        confirm(upstream, attempt)
        page.hears("change", account=account.pk, attempt=attempt.pk, state="succeeded")
    ends(attempt)
    assert_sound(upstream, stack)
