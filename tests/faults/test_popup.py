"""Prompts, while the worker that sent one dies, sleeps or is replaced: one prompt for an attempt, and no confirmation is lost."""

import signal
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.logins import start
from accounts.models import Drop, LoginAttempt, RecoveryPolicy
from accounts.models.event import record
from accounts.states import EventType, Method, NextStep
from tests.support.environment import WAIT_SECONDS
from tests.support.factories import make_account
from tests.support.invariants import assert_sound
from tests.support.processes import until
from tests.support.scenarios import ends, fresh, held_by_another, holder, marks, other, running_stack
from tests.support.stack import Stack

pytestmark = marks("postgres")
running = running_stack("waits-1", "waits-2")


@pytest.fixture
def upstream(upstream):
    upstream.settings(popup_seconds=WAIT_SECONDS)
    return upstream


@pytest.fixture
def prompted(stack, upstream, live) -> LoginAttempt:
    """A prompt that is on the phone, with nobody but the row to know of it: no message was sent."""
    account = make_account(wc_id="wxid_a", state="offline", team=live.east)
    record(account, EventType.ACCOUNT_OFFLINE, old="online", new="offline")
    attempt, _new = start.start_login(account, method=Method.POPUP, queued=True)
    upstream.wait(wcId="wxid_a", prompt=True)
    return fresh(attempt)


@pytest.mark.parametrize("tap", ["while nobody listens", "later"])
def test_the_worker_of_a_prompt_is_killed_and_a_confirmation_counts(stack, upstream, prompted, tap):
    dead = holder(stack, prompted)
    stack.kill(dead)
    if tap == "while nobody listens":
        upstream.phone("accept", wcId="wxid_a")
    else:
        assert held_by_another(stack, prompted, dead) == other(dead)
        upstream.wait(path="/queryLoginWx", calls=2)
        assert fresh(prompted).state == "waiting"
        upstream.phone("accept", wcId="wxid_a")

    attempt = ends(prompted)
    assert attempt.resumed
    assert upstream.online == {"wxid_a": attempt.w_id} == {"wxid_a": fresh(attempt.account).w_id}
    assert upstream.calls("/secondLogin") == 1
    assert_sound(upstream, stack)


def test_a_prompt_whose_workers_die_again_and_again_is_sent_once_and_expires(stack, upstream, prompted):
    first = holder(stack, prompted)
    stack.kill(first)
    second = held_by_another(stack, prompted, first)
    stack.start(first)
    stack.wait_ready(first)
    stack.kill(second)
    assert held_by_another(stack, prompted, second) == first

    LoginAttempt.objects.filter(pk=prompted.pk).update(deadline_at=timezone.now())
    assert ends(prompted, "expired").reason == "not_tapped"
    assert upstream.calls("/secondLogin") == 1
    assert_sound(upstream, stack)


@pytest.mark.long
def test_a_sleeper_that_wakes_hangs_up_and_its_successor_hears_the_confirmation(stack, upstream, prompted):
    asleep = holder(stack, prompted)
    stack.send(asleep, signal.SIGSTOP)
    assert held_by_another(stack, prompted, asleep) == other(asleep)
    stack.send(asleep, signal.SIGCONT)
    upstream.wait(path="/secondLogin", in_flight=0)
    assert holder(stack, prompted) == other(asleep)

    upstream.phone("accept", wcId="wxid_a")
    assert ends(prompted).lease_epoch == 2
    assert upstream.calls("/secondLogin") == 1
    assert_sound(upstream, stack)


def test_a_drop_is_recovered_by_itself(upstream, live):
    """Beat, a jobs worker and a waits worker, each of its own; nobody but the phone does anything."""
    RecoveryPolicy.objects.get_or_create(name="Default", defaults={"is_default": True})
    account = make_account(wc_id="wxid_a", state="offline", team=live.east)
    record(account, EventType.ACCOUNT_OFFLINE, old="online", new="offline")
    night = make_account(wc_id="wxid_b", state="offline", team=live.east)
    record(night, EventType.ACCOUNT_OFFLINE, old="online", new="offline")
    at = timezone.now() - timedelta(seconds=1)
    drop = Drop.objects.create(account=account, w_id="w-old", at=at)
    first = Drop.objects.create(account=night, w_id="w-other", at=at, kind="first_night")
    with Stack("waits", "jobs", "beat") as stack:
        upstream.wait(wcId="wxid_a", prompt=True)
        assert fresh(drop).next_step == NextStep.POPUP
        upstream.phone("accept", wcId="wxid_a")
        ends(LoginAttempt.objects.get())
        until(lambda: fresh(drop).ended_at, "the drop does not end")
        assert fresh(drop).ended_by == Method.POPUP
        assert (fresh(first).next_step, fresh(first).ended_at) == (NextStep.SCAN, None)
        assert_sound(upstream, stack)
    assert upstream.calls("/secondLogin") == 1
    assert upstream.calls("/iPadLogin") == 0
