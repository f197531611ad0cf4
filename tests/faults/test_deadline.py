"""An upstream that answers around the deadline of a login, or never: the phone's decision counts, also if it is found later."""

import pytest

from tests.support.invariants import assert_sound
from tests.support.scenarios import TWO_WORKERS, ends, marks, running_stack, waiting

pytestmark = marks("sqlite")
WAIT = 20
running = running_stack(*TWO_WORKERS, WK_TIMEOUT_SECONDS="3", WK_LOGIN_WAIT_SECONDS=str(WAIT))


@pytest.fixture
def upstream(upstream):
    upstream.settings(wait_seconds=WAIT)
    return upstream


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("drip", {"seconds": 1}),
        ("late", {"seconds": WAIT + 12}),
        pytest.param("hang", {}, marks=pytest.mark.long),
        pytest.param("endless", {}, marks=pytest.mark.long),
    ],
)
def test_an_answer_that_never_comes_ends_the_wait_at_its_deadline_and_who_is_online_is_asked(
    stack, operator, upstream, live, kind, how
):
    """One phone confirms, and its answer is not to be had; the other does nothing."""
    upstream.fault("/getIPadLoginInfo", kind, effect=True, **how)
    confirmed, idle = [operator.log_in(live.account()) for _ in range(2)]
    for attempt in (confirmed, idle):
        upstream.wait(wId=attempt.w_id, step3_now=1)
    upstream.phone("confirm", wId=confirmed.w_id)
    ends(confirmed)
    assert ends(idle, "expired").reason in ("not_scanned", "no_answer")
    assert_sound(upstream, stack)


@pytest.mark.parametrize("seconds", [WAIT - 2, pytest.param(WAIT + 1, marks=pytest.mark.long), WAIT + 3])
def test_an_answer_just_before_or_after_the_deadline_counts(stack, operator, upstream, live, seconds):
    upstream.fault("/getIPadLoginInfo", "late", seconds=seconds)
    attempt = waiting(operator, upstream, live.account())
    upstream.phone("confirm", wId=attempt.w_id)
    ends(attempt)
    assert_sound(upstream, stack)
