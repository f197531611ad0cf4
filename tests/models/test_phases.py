"""The phases of an attempt: what a row's properties say is what the conditions find in the database."""

from datetime import timedelta
from itertools import product

import pytest
from django.db.models import Q
from django.utils import timezone

from accounts.models import Account, LoginAttempt, WaitsWorker, login_attempt
from accounts.models.login_attempt import GRACE
from accounts.states import FINAL_STATES, AttemptState

pytestmark = pytest.mark.slow

PHASES = {
    "is_queued": login_attempt.QUEUED,
    "needs_worker": login_attempt.NEEDS_WORKER,
    "is_leased": login_attempt.LEASED,
    "is_open": Q(ended_at=None),
}
TIMES = ("sent_at", "queued_at", "wait_started_at", "resumed_at")


@pytest.fixture
def attempts(db) -> list[LoginAttempt]:
    """An attempt for every combination of state, columns and holder; each of an account of its own."""
    now = timezone.now()
    WaitsWorker.objects.create(name="living", alive_until=now + timedelta(hours=1))
    WaitsWorker.objects.create(name="dead", alive_until=now - timedelta(seconds=1))
    times = [dict(zip(TIMES, some, strict=True)) for some in product((None, now), repeat=len(TIMES))]
    rows = [
        {"state": state, "lease_owner": owner, "ended_at": now if state in FINAL_STATES else None, **columns}
        for state, owner, columns in product(AttemptState.values, ("", "living", "dead", "unknown"), times)
    ]
    accounts = Account.objects.bulk_create(Account(label=str(number)) for number in range(len(rows)))
    LoginAttempt.objects.bulk_create(
        LoginAttempt(account=account, seq=1, deadline_at=now, **row)
        for account, row in zip(accounts, rows, strict=True)
    )
    return list(LoginAttempt.objects.all())


@pytest.mark.parametrize("phase", PHASES)
def test_a_property_and_its_condition_agree_on_every_row(attempts, phase):
    said = {attempt.pk for attempt in attempts if getattr(attempt, phase)}
    found = set(LoginAttempt.objects.filter(PHASES[phase]).values_list("pk", flat=True))
    assert said == found
    assert 0 < len(said) < len(attempts)


def test_each_attempt_before_its_qr_code_and_each_wait_is_in_one_phase(attempts):
    for attempt in attempts:
        before = [attempt.is_queued, attempt.is_requesting]
        waits = [attempt.is_unclaimed, attempt.is_started]
        assert sum(before) == (attempt.state == AttemptState.PREPARING)
        assert sum(waits) == (attempt.state == AttemptState.WAITING)


def test_what_needs_a_worker_can_be_claimed_until_a_living_one_holds_it_or_its_time_is_over(attempts):
    needed = {a.pk for a in attempts if a.needs_worker and a.lease_owner != "living"}
    deadline = attempts[0].deadline_at
    for now, expected in ((deadline, needed), (deadline + GRACE, set())):
        assert set(LoginAttempt.objects.claimable(now).values_list("pk", flat=True)) == expected
