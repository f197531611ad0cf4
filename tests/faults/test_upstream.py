"""An upstream that refuses, breaks off, trickles, lies or keeps silent: the phone's decision counts, whenever it is heard."""

import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.utils import timezone

from accounts.logins.wait import LONGEST_PAUSE
from accounts.models import Account, AccountEvent, WaitsWorker
from tests.support.invariants import assert_sound
from tests.support.processes import until
from tests.support.scenarios import (
    TWO_WORKERS,
    all_end,
    ends,
    fresh,
    marks,
    running_stack,
    waiting,
)
from tests.support.stack import Operator

pytestmark = marks("sqlite")
LONG = pytest.mark.long
GROWING_PAUSES = 4  # from FIRST_PAUSE, each twice as long, before the first of LONGEST_PAUSE
METADATA = "http://169.254.169.254/latest/meta-data/"
BROKEN = {
    "refuse": {}, "reset": {}, "empty": {}, "garbage": {}, "html": {"status": 502},
    "redirect": {"location": METADATA}, "gzip_bomb": {"size": 64 * 1024 * 1024}, "huge": {"size": 8 * 1024 * 1024},
}  # fmt: skip
# What is wrong with the real answer, when there is one.
SPOILT = ("cut", "data_list", "code_null", "charset", "bom")
running = running_stack(*TWO_WORKERS, WK_TIMEOUT_SECONDS="3")


@pytest.mark.parametrize("kind", BROKEN)
def test_a_wait_that_is_answered_with_nonsense_is_asked_again(stack, operator, upstream, live, kind):
    upstream.fault("/getIPadLoginInfo", kind, times=1, **BROKEN[kind])
    attempt = operator.log_in(live.account())
    upstream.wait(wId=attempt.w_id, path="/getIPadLoginInfo", calls=2)
    upstream.wait(wId=attempt.w_id, step3_now=1)
    upstream.phone("confirm", wId=attempt.w_id)
    ends(attempt)
    assert_sound(upstream, stack)


@pytest.mark.parametrize("kind", SPOILT)
def test_a_decision_that_arrives_spoilt_counts_all_the_same(stack, operator, upstream, live, kind):
    upstream.fault("/getIPadLoginInfo", kind, times=1)
    attempt = waiting(operator, upstream, live.account())
    upstream.phone("confirm", wId=attempt.w_id)
    ends(attempt)
    assert_sound(upstream, stack)


@pytest.mark.parametrize("kind", [*BROKEN, "cut", "data_list", "code_null", "hang"])
def test_a_code_that_is_asked_for_in_vain_is_asked_for_once(stack, operator, upstream, live, kind):
    upstream.fault("/iPadLogin", kind, times=1, **BROKEN.get(kind, {}))
    account = live.account()
    attempt = operator.log_in(account)
    assert (attempt.state, bool(attempt.reason)) == ("failed", True)
    assert upstream.calls("/iPadLogin") == 1
    again = waiting(operator, upstream, account)
    upstream.phone("confirm", wId=again.w_id)
    ends(again)
    assert_sound(upstream, stack)


def test_another_account_scans(stack, operator, upstream, live):
    upstream.person("wxid_mine")
    upstream.person("wxid_other", nickname="别人")
    account = live.account(wc_id="wxid_mine")
    attempt = waiting(operator, upstream, account)
    upstream.phone("confirm", wId=attempt.w_id, who="wxid_other")
    ended = ends(attempt, "failed")
    assert (ended.reason, fresh(account).state) == ("wrong_account", "new")
    other = Account.objects.get(wc_id="wxid_other")
    assert (other.state, other.w_id, ended.other_account) == ("online", attempt.w_id, other)
    assert_sound(upstream, stack)


def test_the_phone_confirms_after_the_login_was_cancelled_here(stack, operator, upstream, live):
    attempt = waiting(operator, upstream, live.account())
    operator.post(f"/attempts/{attempt.pk}/cancel/")
    assert fresh(attempt).state == "cancelled"
    upstream.phone("confirm", wId=attempt.w_id)
    recorded = AccountEvent.objects.filter(attempt=attempt, happened="late_success")
    upstream.wait(wId=attempt.w_id, state="online")
    ends(attempt, "cancelled")
    until(recorded.exists, "its success is not recorded")
    assert fresh(attempt.account).w_id == attempt.w_id
    assert_sound(upstream, stack)


@pytest.mark.parametrize("status", [429, pytest.param(500, marks=LONG), pytest.param(503, marks=LONG)])
def test_an_upstream_that_refuses_everything_for_a_while_is_not_hammered(
    stack, operator, upstream, live, status
):
    attempts = [waiting(operator, upstream, live.account()) for _ in range(2)]
    began = time.monotonic()
    upstream.fault("/getIPadLoginInfo", "html", status=status)
    attempts += [operator.log_in(live.account()) for _ in range(3)]
    for path in ("/iPadLogin", "/queryLoginWx", "/member/login"):
        upstream.fault(path, "html", status=status)
    refused = [operator.log_in(live.account()) for _ in range(3)]
    assert {(attempt.state, bool(attempt.reason)) for attempt in refused} == {("failed", True)}
    assert upstream.calls("/iPadLogin") == 5 + 3  # no click is repeated by itself

    workers_live_on(times=2)  # for several seconds, that is
    # Five waits, of which three are refused: each asks again after ever longer pauses.
    calls = upstream.calls("/getIPadLoginInfo")
    assert calls <= 2 + 3 * (GROWING_PAUSES + 1 + (time.monotonic() - began) / LONGEST_PAUSE)
    upstream.clear()
    for attempt in attempts:
        upstream.phone("confirm", wId=attempt.w_id)
    all_end(attempts)
    assert_sound(upstream, stack)


def workers_live_on(times: int) -> None:
    """Every worker has said so often that it lives, which it does every few seconds.

    One that an earlier test killed may still count as alive for some seconds.
    """
    seen = defaultdict(set)

    def said() -> bool:
        alive = WaitsWorker.objects.filter(alive_until__gt=timezone.now())
        now = dict(alive.values_list("name", "alive_until"))
        for name, until_when in now.items():
            seen[name].add(until_when)
        return bool(now) and all(len(seen[name]) > times for name in now)

    until(said, "a worker is silent")


@pytest.mark.parametrize("parallel", ["refuse", "kick"])
def test_a_worker_dies_before_an_upstream_that_takes_one_listener_only(
    stack, operator, upstream, live, parallel
):
    upstream.settings(parallel=parallel)
    attempts = [waiting(operator, upstream, live.account()) for _ in range(4)]
    for name in ("waits-1", "waits-2"):
        stack.kill(name)
    stack.complete()
    for attempt in attempts:
        upstream.wait(wId=attempt.w_id, step3_now=1)
        upstream.phone("confirm", wId=attempt.w_id)
    all_end(attempts)
    assert_sound(upstream, stack)


# The last of this module: the processes know an Authorization from then on that a new simulator does not.
def test_an_authorization_that_is_refused_for_everybody_at_once_is_renewed_once(
    stack, operator, upstream, live
):
    first = waiting(operator, upstream, live.account())
    accounts = [live.account() for _ in range(8)]
    upstream.control("account", revoke_token=True, auth_style="http401")
    together = threading.Barrier(len(accounts))
    operators = [Operator(stack, live.operator) for _ in accounts]

    def click(pair):
        desk, account = pair
        together.wait()
        return desk.post(f"/accounts/{account.pk}/login/").status_code

    with ThreadPoolExecutor(len(accounts)) as pool:
        assert set(pool.map(click, zip(operators, accounts, strict=True))) == {302}
    attempts = [first, *(account.attempts.get() for account in accounts)]
    for attempt in attempts:
        upstream.wait(wId=fresh(attempt).w_id, step3_now=1)
        upstream.phone("confirm", wId=fresh(attempt).w_id)
    all_end(attempts)
    repeated = upstream.calls("/iPadLogin") - len(attempts)
    assert_sound(upstream, stack, sign_ins=2, repeated=repeated)
