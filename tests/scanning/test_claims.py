"""Two people whose queues overlap never have the same account on their screens at the same time."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts.models import LoginAttempt, ScanRunItem
from accounts.models.operators.scan_run import UNATTENDED_AFTER, ScanState
from accounts.scanning import claims
from accounts.states import AttemptState
from tests.support.factories import fresh
from tests.support.processes import DEADLINE
from tests.support.scanning import code_arrives, ends, look, ready, run_of, shown
from tests.support.threads import in_thread


def claim_all(run, start: Barrier) -> list[int]:
    """Claim until nothing is left, each in a place of its own."""
    start.wait(DEADLINE)
    taken = []
    while item := claims.claim_next(run, len(taken)):
        taken.append(item.account_id)
    return taken


def test_runs_that_claim_at_the_same_moment_share_no_account(committed):
    accounts = [committed.account() for _n in range(24)]
    runs = [run_of(person, accounts) for person in (committed.operator, committed.mate, committed.admin)]
    start = Barrier(len(runs))
    with ThreadPoolExecutor(len(runs)) as pool:
        futures = [pool.submit(in_thread, claim_all, run, start) for run in runs]
        taken = [future.result(DEADLINE) for future in futures]
    assert sorted(sum(taken, [])) == [account.pk for account in accounts]


def test_the_database_itself_refuses_a_second_claim(people):
    account = people.account()
    first, second = (run_of(person, [account]).items.get() for person in (people.operator, people.mate))
    assert first.move(ScanState.SHOWN)
    assert not second.move(ScanState.READY)
    with pytest.raises(IntegrityError), transaction.atomic():
        ScanRunItem.objects.filter(pk=second.pk).update(state=ScanState.READY)


def test_two_tabs_of_one_run_show_one_account(people):
    run = run_of(people.operator, [people.account(), people.account()])
    assert claims.claim_next(run, 0)
    assert claims.claim_next(run, 0) is None


def both_look(run, *, seconds: float = 0) -> list[int]:
    """Two pages of the run look at the same moment; return the logins that they started."""
    start = Barrier(2)

    def one_looks() -> list[int]:
        start.wait(DEADLINE)
        return look(run, seconds=seconds).started

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(in_thread, one_looks) for _page in range(2)]
        return sum((future.result(DEADLINE) for future in futures), [])


def test_two_pages_of_one_run_request_each_code_once(committed):
    run = run_of(committed.operator, [committed.account(place=f"Slot {n}") for n in (1, 2)])
    started = both_look(run)  # the first account is shown
    code_arrives(shown(run))
    started += both_look(run)  # the code of the second one is requested ahead
    code_arrives(ready(run))
    started += both_look(run, seconds=18)  # it is too old by now
    ends(shown(run), AttemptState.EXPIRED)
    started += both_look(run)
    assert started == list(LoginAttempt.objects.order_by("pk").values_list("pk", flat=True))
    assert [item.account.attempts.count() for item in run.items.order_by("position")] == [2, 2]
    assert shown(run).renewals == 1


def test_no_code_is_fetched_ahead_before_its_turn(people):
    """Another page of the run has the next account for a moment, and puts it back."""
    run = run_of(people.operator, [people.account() for _n in range(3)])
    other = run.items.order_by("position")[0]
    moves = [("SELECT", ScanState.READY), ("UPDATE", ScanState.QUEUED)]

    def in_between(execute, sql, *args):
        if moves and not hold and sql.startswith(moves[0][0]) and ScanRunItem._meta.db_table in sql:
            _word, state = moves.pop(0)
            hold.append(state)  # not for the statement of the other page
            ScanRunItem.objects.filter(pk=other.pk).update(state=state)
            hold.clear()
        return execute(sql, *args)

    hold: list[str] = []
    with connection.execute_wrapper(in_between):
        claims.claim_ahead(run, 1)
    assert ready(run) in (None, other)


def test_what_another_run_has_is_passed_over_and_comes_when_it_is_free(people):
    accounts = [people.account(place=f"Slot {n}") for n in (1, 2)]
    theirs, mine = run_of(people.mate, accounts), run_of(people.operator, accounts)
    look(theirs)
    look(mine)
    assert shown(theirs).account == accounts[0]
    assert shown(mine).account == accounts[1]
    claims.put_back(shown(theirs))
    assert claims.claim_ahead(mine, 1).account == accounts[0]


def test_an_account_can_be_taken_over_when_asked(people):
    account = people.account()
    theirs, mine = run_of(people.mate, [account]), run_of(people.operator, [account])
    look(theirs)
    assert claims.take_over(mine, mine.items.get())
    assert shown(theirs) is None
    assert claims.claim_next(mine, 0).account == account


def test_a_closed_page_keeps_nothing(people):
    run = run_of(people.operator, [people.account(), people.account()])
    look(run)
    code_arrives(shown(run))
    look(run)
    on_screen, ahead = shown(run).attempt, ready(run).attempt
    now = timezone.now()
    assert claims.release_unattended(now + UNATTENDED_AFTER - timedelta(seconds=5)) == 0
    assert claims.release_unattended(now + UNATTENDED_AFTER + timedelta(seconds=5)) == 2
    assert {item.state for item in run.items.all()} == {ScanState.QUEUED}
    # A phone may be about to confirm what was on the screen; the other code nobody has seen.
    assert fresh(on_screen).is_open and not fresh(ahead).is_open


def test_accounts_of_a_team_that_was_left_are_not_shown(people):
    run = run_of(people.operator, [people.account()])
    people.operator.groups.remove(people.east)
    assert claims.claim_next(fresh(run), 0) is None
