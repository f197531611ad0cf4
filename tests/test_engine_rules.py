"""The rules of tests/test_any_order.py notice when the engine breaks them: one line of it is changed, and they do."""

import inspect
import textwrap

import pytest
from django.db import connection
from hypothesis import Phase
from hypothesis.stateful import run_state_machine_as_test

from accounts import attempts, leases, login, models, outcome, waits
from tests.engine_rules import Broken
from tests.test_any_order import machine, profile

# Each breaks the engine and looks until that is found: minutes.
# What the rules notice is the same on every database; an example costs the least on this one.
pytestmark = [
    pytest.mark.faults,
    pytest.mark.long,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="runs on SQLite"),
]

__all__ = ["machine"]

ENOUGH, STEPS = 600, 60
# Where, the line as it is, as it is now, and what the rules say to that.
CHANGES = {
    "an older login overwrites a newer one": (
        models.Account, "go_online", ", bound_seq__lt=seq", "", "bound",
    ),
    "a state moves from any other": (
        attempts, "move_together", ", state=old,", ",", "",
    ),
    "a move without its event": (
        attempts, "move_together", "for attempt in attempts:", "for attempt in attempts if to != 'expired' else ():",
        "history ends with",
    ),
    "an answer counts under any epoch": (
        attempts.LoginAttempt, "move", '{"lease_epoch": epoch} if epoch is not None else {}', "{}", "",
    ),
    "a code is asked for again": (
        login, "fetch_code", "pk=attempt.pk, state=AttemptState.PREPARING, sent_at=None", "pk=attempt.pk", "times",
    ),
    "a late success is dropped": (
        outcome, "_record", "if attempt.state == AttemptState.SUCCEEDED or", "if not attempt.is_open or", "was heard of",
    ),
    "whoever scans becomes the account expected": (
        outcome, "_record", "return _other(login, owner)", "return _expected(login)", "",
    ),
    "a placeholder is not joined": (
        outcome, "_joined", "update(joined_to=owner)", "count()", "",
    ),
    "a lease is worth nothing": (
        attempts.LoginAttemptQuerySet, "to_wait_for", "~models.Exists(living),", "", "a second call",
    ),
    "a lease is kept for ever": (
        leases._Holder, "give_back", "self.held.pop(key[0], None)", "pass", "for ever",
    ),
    "what was taken over is not let go": (
        leases._Holder, "find_lost", "held[pk].end()", "pass", "which is another's",
    ),
    "who is online is not asked": (
        login, "sweep", "online_instances()", "{}", "",
    ),
    "an attempt ends later": (
        login, "sweep", "SWEPT_AFTER, now", "CLOSED_AFTER * 20, now", "after its time",
    ),
    "a joined wait is begun for": (
        waits, "wait_under", 'update(verify_code="")', 'update(verify_code=code)', "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_engine_is_noticed(machine, monkeypatch, change):
    where, name, old, new, said = CHANGES[change]
    found = inspect.getattr_static(where, name)
    source = textwrap.dedent(inspect.getsource(found))
    assert source.count(old) == 1
    made = {}
    exec(source.replace(old, new), vars(inspect.getmodule(found)), made)
    monkeypatch.setattr(where, name, made[name])

    with pytest.raises(Broken, match=said):
        run_state_machine_as_test(machine, settings=profile(ENOUGH, STEPS, phases=[Phase.generate]))
