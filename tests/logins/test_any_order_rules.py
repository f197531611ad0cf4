"""The rules of tests/logins/test_any_order.py notice when the engine breaks them: a line of it is changed, and they do."""

import inspect
import textwrap

import pytest
from hypothesis import Phase

from accounts.lib.rows import DueCheck
from accounts.logins import expire, leases, popup, start, success, wait
from accounts.models import account, login_attempt
from tests.logins.test_any_order import machine, tell_stories
from tests.support.model_based.rules import Broken

# What the rules notice is the same on every database; an example costs the least on this one.
pytestmark = pytest.mark.database("sqlite")
__all__ = ["machine"]

ENOUGH, STEPS = 600, 60
# What the rules say to it; then where, the line as it is, as it is now. Where two lines guard the same, both are changed.
CHANGES = {
    "an older login overwrites a newer one": (
        "bound|under the same number", (account.Account, "go_online", ", bound_seq__lt=seq", ""),
    ),
    "a state moves from any other": (
        None, (login_attempt, "move_together", ", state=old,", ","),
    ),
    "a move without its event": (
        "history ends with",
        (login_attempt, "move_together", "for attempt in attempts:", "for attempt in attempts if to != 'expired' else ():"),
    ),
    "an answer counts under any epoch": (
        "a move of who had lost the wait",
        (login_attempt.LoginAttempt, "move", '{"lease_epoch": epoch} if epoch is not None else {}', "{}"),
    ),
    "a code is asked for again": (
        "times",
        (start, "fetch_qr_code", "state=AttemptState.PREPARING, sent_at=None", "state=AttemptState.PREPARING"),
        (wait, "wait_with_lease", "lease.lost or ", ""),
    ),
    "a late success is dropped": (
        "was heard of",
        (success, "_save", "or _known(login):", "or not attempt.is_open:"),
    ),
    "whoever scans becomes the account expected": (
        None, (success, "_save", "return _other(login, owner)", "return _expected(login)"),
    ),
    "a placeholder is not merged": (
        "does not say so", (success, "merge_record", "update(merged_into=owner, wc_id=None)", "count()"),
    ),
    "a lease is worth nothing": (
        "a second call|another's|had lost the wait|were left although", (login_attempt.LoginAttemptQuerySet, "claimable", "~models.Exists(living), ", ""),
    ),
    "a lease is kept for ever": (
        "for ever", (leases._Holder, "give_back", "self.held.pop(key[0], None)", "pass"),
    ),
    "what was taken over is not let go": (
        "which is another's", (leases._Holder, "find_lost", "held[pk].end()", "pass"),
    ),
    "who is online is not asked": (
        "was online by it", (expire, "end_overdue", "configured.online_instances()", "{}"),
    ),
    "an attempt ends later": (
        "after its time|open at the end", (expire, "end_overdue", "SWEPT_AFTER, now", "CLOSED_AFTER * 20, now"),
    ),
    "a verification code is sent by every wait that follows": (
        "was sent again", (wait, "wait_with_lease", 'update(verify_code="")', 'update(verify_code=code)'),
    ),
    "a prompt is sent again": (
        "was asked for 2 times",
        (popup, "run_prompt", "if attempt.state != AttemptState.PREPARING:", "if False:"),
        (popup, "run_prompt", "if not mark_", "if attempt.state == AttemptState.PREPARING and not mark_"),
    ),
    "a prompt is sent whatever its row says": (
        "a prompt was sent", (popup, "run_prompt", "if not mark_prompt_sent(attempt, lease.epoch):",
        "if mark_prompt_sent(attempt, lease.epoch) is None:"),
    ),
    "a prompt is sent by who has lost the wait": (
        "by who had lost the wait", (popup, "mark_prompt_sent", "epoch=epoch,\n            now=now", "now=now"),
    ),
    "a prompt is sent for a paused account": (
        "paused", (popup, "mark_prompt_sent", "not wanted.exists()", "False"),
    ),
    "a prompt whose answer is lost has ended": (
        "before its time", (popup, "run_prompt", "(errors.Refused, errors.Unreachable)", "UpstreamError"),
    ),
    "a confirmation that nobody heard is not searched for": (
        "was online by it", (expire, "found_online", "attempt.method == Method.POPUP and", "False and"),
    ),
    "an account that is online anyway has tapped": (
        "that was there before", (expire, "found_online", "if w != attempt.old_w_id", ""),
    ),
}  # fmt: skip


def source(where: object, name: str) -> str:
    found = inspect.getattr_static(where, name)
    return getattr(found, "changed_source", None) or textwrap.dedent(inspect.getsource(found))


def test_every_line_that_is_changed_stands_once_in_the_engine():
    changes = [change for _said, *changes in CHANGES.values() for change in changes]
    counts = {(name, old): source(where, name).count(old) for where, name, old, _new in changes}
    assert {what: count for what, count in counts.items() if count != 1} == {}


@pytest.fixture(params=CHANGES)
def said(request, monkeypatch) -> str | None:
    """The engine is changed, before the world is put around it."""
    said, *changes = CHANGES[request.param]
    # Its statement was written from the engine as it is.
    monkeypatch.setattr(leases, "_orphans", DueCheck(leases._orphans.queries))
    for where, name, old, new in changes:
        changed = source(where, name).replace(old, new)
        made = {}
        exec(changed, vars(inspect.getmodule(inspect.getattr_static(where, name))), made)
        made[name].changed_source = changed
        monkeypatch.setattr(where, name, made[name])
    return said


# Each breaks the engine and looks until that is found: minutes.
@pytest.mark.faults
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_changed_engine_is_noticed(said, machine):
    with pytest.raises(Broken, match=said):
        tell_stories(machine, ENOUGH, STEPS, phases=[Phase.generate])
