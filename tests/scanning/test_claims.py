"""Two people whose queues overlap never have the same account on their screens at the same time."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
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
    while item := claims.show_next(run, len(taken)):
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
    assert claims.show_next(run, 0)
    assert claims.show_next(run, 0) is None


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


@contextmanager
def another_page(acts: dict[int, Callable[[], object]]) -> Iterator[None]:
    """Before the statement about items of this number is executed, another page of the run acts."""
    count = 0
    acting = False

    def in_between(execute, sql, *args):
        nonlocal count, acting
        if not acting and ScanRunItem._meta.db_table in sql:
            acting = True
            acts.get(count, bool)()
            acting, count = False, count + 1
        return execute(sql, *args)

    with connection.execute_wrapper(in_between):
        yield


def test_no_code_is_fetched_ahead_before_its_turn(people):
    """Another page of the run has the next account for a moment, and puts it back."""
    run = run_of(people.operator, [people.account() for _n in range(3)])
    other = run.items.order_by("position")[0]
    row = ScanRunItem.objects.filter(pk=other.pk)
    with another_page(
        {0: partial(row.update, state=ScanState.READY), 1: partial(row.update, state=ScanState.QUEUED)}
    ):
        claims.claim_ahead(run, 1)
    assert ready(run) in (None, other)


@pytest.mark.parametrize("before", range(8))
def test_the_next_account_is_shown_while_another_page_fetches_its_code_ahead(people, before):
    run = run_of(people.operator, [people.account() for _n in range(3)])
    with another_page({before: partial(claims.claim_ahead, run, 1)}):
        look(run)
    assert shown(run).position == 1


@pytest.mark.parametrize("before", range(8))
def test_the_next_account_is_shown_while_another_page_puts_back_its_old_code(people, before):
    run = run_of(people.operator, [people.account() for _n in range(3)])
    first = claims.claim_ahead(run, 1)
    with another_page({before: partial(claims.put_back, first)}):
        look(run)
    assert shown(run).position == 1


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
    assert claims.show_next(mine, 0).account == account


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
    assert claims.show_next(fresh(run), 0) is None
