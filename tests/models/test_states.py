"""Every pair of states is either an allowed move or refused, and the tables are complete."""

import itertools

import pytest

from accounts.models import AccountEvent, LoginAttempt
from accounts.models.event import ForbiddenMove
from accounts.states import (
    ATTEMPT_MOVES,
    FINAL_STATES,
    OPEN_STATES,
    AttemptState,
)
from tests.support.factories import make_account, make_attempt

ALLOWED = {
    ("preparing", "waiting"), ("preparing", "failed"), ("preparing", "expired"), ("preparing", "cancelled"),
    ("waiting", "code_required"), ("waiting", "page_required"), ("waiting", "succeeded"), ("waiting", "failed"),
    ("waiting", "expired"), ("waiting", "cancelled"),
    ("code_required", "waiting"), ("code_required", "page_required"), ("code_required", "succeeded"),
    ("code_required", "failed"), ("code_required", "expired"), ("code_required", "cancelled"),
    ("page_required", "waiting"), ("page_required", "code_required"), ("page_required", "succeeded"),
    ("page_required", "failed"), ("page_required", "expired"), ("page_required", "cancelled"),
}  # fmt: skip
PAIRS = list(itertools.product(AttemptState.values, repeat=2))


def test_the_tables_know_every_state():
    assert set(ATTEMPT_MOVES) == set(AttemptState.values) == {*OPEN_STATES, *FINAL_STATES}


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_pair_is_allowed_or_refused(db, old, new):
    attempt = make_attempt(make_account(), old, w_id="w-1")

    if (old, new) not in ALLOWED:
        with pytest.raises(ForbiddenMove):
            attempt.move(new)
        assert LoginAttempt.objects.get().state == old
        assert AccountEvent.objects.count() == 0
        return
    assert attempt.move(new) is True
    assert attempt.state == new
    event = AccountEvent.objects.get()
    assert (event.from_state, event.to_state, event.attempt_id) == (old, new, attempt.pk)
