"""The checker of invariants notices what is broken: each row here is wrong in one way, and is found."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import AccountEvent, LoginAttempt
from accounts.models.event import record
from accounts.states import FINAL_STATES, AttemptState, EventType
from tests.support.environment import CANARIES
from tests.support.factories import make_attempt
from tests.support.invariants import Explained, violations


def books(*attempts: LoginAttempt, online: dict | None = None, **more) -> dict:
    """What the upstream would say that saw exactly these logins."""
    logins = [login_of(attempt.w_id) for attempt in attempts if attempt.w_id]
    calls = {"/iPadLogin": len(attempts), "/member/login": 1}
    return {"calls": calls, "logins": logins, "online": online or {}, "authorization": "the token"} | more


def login_of(w_id: str, max_parallel: int = 1) -> dict:
    address = f"http://upstream/{w_id}"
    return {
        "wId": w_id,
        "method": "qr",
        "max_parallel": max_parallel,
        "qr_url": f"{address}/qr",
        "phone_url": f"{address}/phone",
    }


def attempt_with_history(account, *states: str, **fields) -> LoginAttempt:
    """One that went through these states, with its events."""
    attempt = make_attempt(account, states[-1], sent_at=timezone.now(), **fields)
    record(account, EventType.ATTEMPT_STARTED, attempt=attempt, new=AttemptState.PREPARING)
    for old, new in zip((AttemptState.PREPARING, *states), states, strict=False):
        record(account, EventType.ATTEMPT_MOVED, attempt=attempt, old=old, new=new)
    return attempt


@pytest.fixture
def account(people):
    return people.account()


def test_a_history_as_it_should_be_is_sound(account, people):
    done = attempt_with_history(people.account(), "waiting", "code_required", "waiting", "succeeded")
    waits = attempt_with_history(account, "waiting")
    assert violations(books(done, waits), "a log without secrets") == []


def test_an_account_that_is_online_on_both_sides_is_sound(people):
    account = people.account(wc_id="wxid_a", w_id="w-1")
    record(account, EventType.ACCOUNT_ONLINE, new="online")
    assert violations(books(online={"wxid_a": "w-1"})) == []


def test_an_attempt_that_is_open_after_its_time(account):
    late = timezone.now() - timedelta(seconds=21)
    attempt = attempt_with_history(account, "waiting", deadline_at=late)
    assert violations(books(attempt)) == [f"attempt {attempt.pk} is waiting after its deadline and 20 s"]


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda events: events.last().delete(), "its history ends with waiting, and it is failed"),
        (lambda events: events.first().delete(), "its history begins with"),
        (lambda events: events.filter(pk=events.all()[1].pk).delete(), "was followed by a move from waiting"),
        (lambda events: again(events.last()), "it ended 2 times"),
        (lambda events: again(events.all()[1]), "was followed by a move from preparing to waiting"),
        (lambda events: events.update(from_state="succeeded"), "its history begins with"),
    ],
    ids=["no end", "no beginning", "a gap", "two ends", "a doubled move", "another beginning"],
)
def test_events_that_are_not_the_moves(account, break_it, words):
    attempt = attempt_with_history(account, "waiting", "failed")
    break_it(AccountEvent.objects.filter(attempt=attempt).order_by("id"))
    assert any(words in found for found in violations(books(attempt)))


def again(event: AccountEvent) -> None:
    event.pk = None
    event.save(force_insert=True)


def test_more_waits_than_leases(account):
    attempt = attempt_with_history(account, "waiting")
    record(account, EventType.WAIT_TAKEN, attempt=attempt)
    assert violations(books(attempt)) == [f"attempt {attempt.pk}: 1 waits were noted, and 0 leases taken"]


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("qr_text = 'left'", "has a capability left"),
        ("lease_owner = 'somebody'", "ended and has a lease"),
        ("ended_at = NULL", "ended without a time"),
    ],
)
def test_what_an_ended_attempt_must_not_have(account, assignment, words):
    attempt = attempt_with_history(account, "waiting", "expired")
    assert attempt.state in FINAL_STATES
    with unchecked(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE accounts_loginattempt SET {assignment} WHERE id = {attempt.pk}")
    assert violations(books(attempt)) == [f"attempt {attempt.pk} {words}"]


class unchecked:  # noqa: N801 - reads as a statement
    """The database's own checks are what makes most of it impossible; here they are off, until the rollback."""

    def __enter__(self) -> None:
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                cursor.execute("PRAGMA ignore_check_constraints = ON")
                return
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            for name in ("no_capability_left", "ended_when_final"):
                cursor.execute(f"ALTER TABLE accounts_loginattempt DROP CONSTRAINT IF EXISTS {name}")

    def __exit__(self, *_exc) -> None:
        if connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA ignore_check_constraints = OFF")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"calls": {"/iPadLogin": 2}}, "2 calls for a code, 1 attempts"),
        ({"calls": {"/iPadLogin": 0}}, "0 calls for a code, 1 attempts"),
        ({"calls": {"/iPadLogin": 1, "/member/login": 2}}, "signed in 2 times"),
        ({"logins": []}, "is none of the upstream's"),
        ({"logins": [login_of("w-1"), login_of("w-2")]}, "1 codes belong to no attempt"),
        ({"logins": [login_of("w-1", max_parallel=2)]}, "2 waits at once for w-1"),
        ({"online": {"wxid_a": "w-1"}}, "['wxid_a'] are online there and not here"),
    ],
)
def test_the_upstream_saw_something_else(account, change, words):
    attempt = attempt_with_history(account, "waiting", w_id="w-1")
    found = violations(books(attempt) | change)
    assert len(found) == 1 and words in found[0]


def test_what_the_fault_explains_is_no_violation(account):
    attempt = attempt_with_history(account, "waiting", w_id="w-1")
    seen = books(attempt) | {
        "calls": {"/iPadLogin": 3, "/member/login": 2},
        "logins": [login_of("w-1", max_parallel=2)],
        "online": {"wxid_a": "w-9"},
    }
    explained = Explained(sign_ins=2, parallel=2, unsent=1, repeated=3, offline=1)
    assert violations(seen, "", explained) == []
    assert len(violations(seen)) == 4


def test_two_attempts_with_one_w_id(people):
    attempts = [attempt_with_history(people.account(), "waiting", w_id="w-1") for _ in range(2)]
    assert "2 attempts have wId w-1" in violations(books(*attempts))


@pytest.mark.parametrize("there", [{}, {"wxid_a": "w-2"}])
def test_an_account_that_is_online_here_and_not_there(people, there):
    account = people.account(wc_id="wxid_a", w_id="w-1")
    record(account, EventType.ACCOUNT_ONLINE, new="online")
    assert len(violations(books(online=there))) == 1


def test_an_account_whose_state_nobody_wrote_down(people):
    account = people.account(wc_id="wxid_a", w_id="w-1")
    assert violations(books(online={"wxid_a": "w-1"})) == [f"account {account.pk}: online without a history"]


@pytest.mark.parametrize("secret", [*CANARIES.values(), "the token", "http://upstream/w-1/phone"])
def test_a_secret_in_a_log(account, secret):
    attempt = attempt_with_history(account, "waiting", w_id="w-1")
    assert len(violations(books(attempt), f"DEBUG something: {secret} was sent")) == 1
