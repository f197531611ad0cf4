"""Workers on hosts whose clocks are wrong: no login ends early, no wait is taken away."""

import pytest
from django.utils import timezone

from accounts.models import AccountEvent, LoginAttempt, WaitsWorker
from tests.support.invariants import assert_sound
from tests.support.processes import until
from tests.support.scenarios import (
    TWO_WORKERS,
    all_end,
    fresh,
    held_by_another,
    holder,
    marks,
    running_stack,
)
from tests.support.stack import Stack

# With SQLite there is only one host.
pytestmark = [
    *marks("postgres"),
    pytest.mark.long,
    pytest.mark.database("postgres"),
]
# By how much the clocks of the hosts are wrong that these processes run on.
SKEWED = {"waits-1": -600, "waits-2": 600}


class SkewedStack(Stack):
    def command(self, name: str) -> list[str]:
        words = super().command(name)
        skew = ["-m", "tests.support.clock_skew", str(SKEWED[name])] if name in SKEWED else []
        return [words[0], *skew, *words[1:]]


running = running_stack(*TWO_WORKERS, kind=SkewedStack)


def confirm(upstream, attempts: list[LoginAttempt]) -> None:
    for attempt in attempts:
        upstream.wait(wId=attempt.w_id, step3_now=1)
        upstream.phone("confirm", wId=attempt.w_id)


def every_worker_polled(times: int = 1) -> None:
    """Each of them has renewed what it holds so often, and has polled for what it could claim, or end."""
    seen = set()

    def polled() -> bool:
        seen.update(
            WaitsWorker.objects.filter(alive_until__gt=timezone.now()).values_list("name", "alive_until")
        )
        names = [name for name, _alive_until in seen]
        return sum(names.count(name) > times for name in set(names)) == 2

    until(polled, "workers do not poll")


def test_hosts_whose_clocks_are_wrong(stack, operator, upstream, live):
    began = timezone.now()
    attempts = [operator.log_in(live.account()) for _ in range(12)]
    for attempt in attempts:
        upstream.wait(wId=attempt.w_id, step3_now=1)
    every_worker_polled()
    assert {(row.state, row.lease_epoch) for row in map(fresh, attempts)} == {("waiting", 1)}

    lost = [attempt for attempt in attempts if holder(stack, attempt) == "waits-1"]
    stack.kill("waits-1")
    for attempt in lost:
        assert held_by_another(stack, attempt, "waits-1") == "waits-2"
    confirm(upstream, attempts)
    all_end(attempts)
    assert "this host's clock differs" in stack.log_of("waits-2")
    for times in (
        AccountEvent.objects.values_list("at", flat=True),
        LoginAttempt.objects.values_list("ended_at", flat=True),
    ):
        assert all(began <= at <= timezone.now() for at in times)
    assert_sound(upstream, stack)
