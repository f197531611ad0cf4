"""The steps of a scan run, from one look of its page to the next."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Account, LoginAttempt, ScanRunItem
from accounts.models.operators.scan_run import ScanState
from accounts.scanning.advance import AHEAD_MOST, RENEWALS
from accounts.states import AttemptState, Method
from tests.support.factories import fresh, make_attempt
from tests.support.scanning import code_arrives, ends, look, phone_confirms, ready, run_of, shown


@pytest.fixture
def accounts(people):
    return [people.account(label=label, place=f"Slot {n}") for n, label in enumerate("abcd", start=1)]


@pytest.fixture
def run(people, accounts):
    return run_of(people.operator, accounts)


def test_the_first_look_shows_the_first_account_and_requests_its_code(run, accounts):
    done = look(run)
    assert shown(run).account == accounts[0]
    assert done.started == [shown(run).attempt_id]
    assert ready(run) is None  # nothing is fetched ahead before the first code is there
    assert look(run).started == []


def test_the_next_code_is_fetched_while_the_first_is_shown_and_shown_at_once(run, accounts):
    look(run)
    code_arrives(shown(run))
    assert look(run).started == [ready(run).attempt_id]
    ahead = code_arrives(ready(run))
    phone_confirms(shown(run))
    assert look(run).started == []
    assert (shown(run).account, shown(run).attempt) == (accounts[1], ahead)
    assert run.items.get(account=accounts[0]).state == ScanState.DONE
    assert look(run).started == [ready(run).attempt_id]  # the third one's


def test_the_next_code_is_fetched_as_late_as_the_usual_time_to_scan_allows(run, accounts, people):
    slow = run_of(people.operator, [people.account(label="z")])
    look(slow)
    code_arrives(shown(slow))
    phone_confirms(shown(slow))
    look(slow, seconds=30)  # it took 30 s
    run = run_of(people.operator, accounts)
    look(run)
    code_arrives(shown(run))
    done = look(run)
    assert ready(run) is None and 14 < done.look_in <= 15
    look(run, seconds=23)
    assert ready(run) is None
    look(run, seconds=25)
    assert ready(run) is not None


def test_a_phone_that_has_scanned_makes_the_next_code_due(run, people):
    slow = run_of(people.operator, [people.account(label="z")])
    look(slow)
    code_arrives(shown(slow))
    phone_confirms(shown(slow))
    look(slow, seconds=30)
    run = run_of(people.operator, [people.account(), people.account()])
    look(run)
    code_arrives(shown(run))
    ends(shown(run), AttemptState.CODE_REQUIRED)
    look(run)
    assert ready(run) is not None


def test_a_code_that_gets_too_old_before_it_is_shown_is_replaced_a_few_times(run):
    look(run)
    code_arrives(shown(run))
    look(run)
    for n in range(1, AHEAD_MOST):
        old = code_arrives(ready(run), seconds=18 * n)
        look(run, seconds=18 * n + 16)
        assert ready(run).attempt == old
        look(run, seconds=18 * n + 18)
        assert fresh(old).state == AttemptState.CANCELLED
        assert ready(run).attempt.is_open
    code_arrives(ready(run))
    look(run, seconds=18)
    assert ready(run) is None
    assert look(run, seconds=60).started == []  # from now on only when it is shown
    phone_confirms(shown(run))
    assert look(run, seconds=70).started == [shown(run).attempt_id]


def test_an_account_whose_code_is_fetched_no_more_ahead_keeps_its_turn(run, accounts):
    """It is never claimed for a moment: another page of the run would show the account after it."""
    look(run)
    code_arrives(shown(run))
    second = run.items.order_by("position")[1]
    ScanRunItem.objects.filter(pk=second.pk).update(fetched_ahead=AHEAD_MOST)
    states = []

    def watched(execute, sql, *args):
        result = execute(sql, *args)
        if sql.startswith("UPDATE") and ScanRunItem._meta.db_table in sql:
            states.append(fresh(second).state)
        return result

    with connection.execute_wrapper(watched):
        look(run, seconds=60)
        ScanRunItem.objects.filter(pk=second.pk).update(skips=0)  # so that one state is seen at least
    assert set(states) == {ScanState.QUEUED}
    assert ready(run) is None


def test_an_old_code_is_never_shown(run, accounts):
    look(run)
    code_arrives(shown(run))
    look(run)
    old = code_arrives(ready(run))
    phone_confirms(shown(run))
    look(run, seconds=21)
    assert shown(run).account == accounts[1]
    assert shown(run).attempt != old and fresh(old).state == AttemptState.CANCELLED
    assert LoginAttempt.objects.open().filter(account=accounts[1]).count() == 1


def test_an_expired_code_is_renewed_three_times_and_then_skipped(run, accounts):
    look(run)
    for renewals in range(RENEWALS + 1):
        assert (shown(run).account, shown(run).renewals) == (accounts[0], renewals)
        code_arrives(shown(run))
        ends(shown(run), AttemptState.EXPIRED, "not_scanned")
        look(run)
    item = run.items.get(account=accounts[0])
    assert (item.state, item.reason) == (ScanState.SKIPPED, "not_scanned")
    assert shown(run).account == accounts[1]


def test_a_failure_has_its_reason_and_the_next_account_follows(run, accounts):
    look(run)
    code_arrives(shown(run))
    ends(shown(run), AttemptState.FAILED, "declined")
    look(run)
    item = run.items.get(account=accounts[0])
    assert (item.state, item.reason) == (ScanState.FAILED, "declined")
    assert shown(run).account == accounts[1]


def test_a_failure_that_every_account_would_share_pauses_the_run(run, accounts):
    look(run)
    ends(shown(run), AttemptState.FAILED, "unreachable")
    look(run)
    assert fresh(run).paused_at is not None and fresh(run).pause_reason == "unreachable"
    assert shown(run).account == accounts[0]
    assert not run.items.filter(state=ScanState.FAILED).exists()
    assert look(run).started == []


def test_another_account_that_scanned_is_for_the_person_to_decide(run, accounts):
    look(run)
    code_arrives(shown(run))
    ends(shown(run), AttemptState.FAILED, "wrong_account")
    look(run)
    assert (shown(run).account, shown(run).attempt.reason) == (accounts[0], "wrong_account")


def test_a_prompt_under_way_is_shown_and_a_code_follows_if_it_fails(people):
    account = people.account(wc_id="wxid_1", state="offline")
    prompt = make_attempt(account, method=Method.POPUP, trigger="recovery")
    run = run_of(people.operator, [account])
    assert look(run).started == []
    assert shown(run).attempt == prompt
    ends(shown(run), AttemptState.FAILED, "prompt_declined")
    assert look(run).started == [shown(run).attempt_id]
    assert shown(run).attempt.method == Method.QR


def test_an_account_that_came_online_another_way_is_done(run, accounts):
    look(run)
    attempt = make_attempt(accounts[2])
    item = run.items.get(account=accounts[2])
    item.attempt = attempt
    item.save()
    phone_confirms(item)
    look(run)
    assert fresh(item).state == ScanState.DONE


def test_a_phone_that_confirms_after_its_code_was_put_away_counts(run, accounts):
    look(run)
    code_arrives(shown(run))
    item = shown(run)
    ends(item, AttemptState.CANCELLED, "cancelled")
    phone_confirms(item)
    look(run)
    assert fresh(item).state == ScanState.DONE
    assert shown(run).account == accounts[1]


def test_without_automatic_next_nothing_follows_until_it_is_asked_for(run, accounts):
    type(run).objects.filter(pk=run.pk).update(automatic_next=False)
    look(run)
    code_arrives(shown(run))
    phone_confirms(shown(run))
    look(run)
    look(run)
    assert shown(run) is None
    type(run).objects.filter(pk=run.pk).update(next_wanted=True)
    look(run)
    assert shown(run).account == accounts[1]


def test_a_paused_run_keeps_no_code_and_gets_a_new_one_when_it_goes_on(run, accounts):
    look(run)
    old = code_arrives(shown(run))
    look(run)
    ahead = ready(run).attempt
    look(run).pause()
    assert {fresh(old).state, fresh(ahead).state} == {AttemptState.CANCELLED}
    assert look(run, seconds=30).started == []
    assert shown(run).account == accounts[0] and ready(run) is None
    type(run).objects.filter(pk=run.pk).update(paused_at=None)
    assert look(run).started == [shown(run).attempt_id]


def test_a_run_ends_when_nothing_is_left(people):
    run = run_of(people.operator, [people.account()])
    look(run)
    code_arrives(shown(run))
    phone_confirms(shown(run))
    look(run)
    assert fresh(run).ended_at is not None


def test_the_wall_fills_its_places_and_a_place_rests_after_an_end(people):
    accounts = [people.account(place=f"Slot {n}") for n in range(1, 8)]
    run = run_of(people.operator, accounts)
    assert len(look(run, 4).started) == 4
    places = {item.slot: item.account for item in run.items.filter(state=ScanState.SHOWN)}
    assert places == dict(enumerate(accounts[:4]))
    item = run.items.get(account=accounts[1])
    code_arrives(item)
    phone_confirms(item)
    done = look(run, 4)
    assert not run.items.filter(state=ScanState.SHOWN, slot=1).exists()
    assert done.look_in <= 3
    look(run, 4, seconds=4)
    assert run.items.get(state=ScanState.SHOWN, slot=1).account == accounts[4]


def test_a_look_at_a_wall_makes_no_query_for_each_code(people):
    counts = []
    for number in (2, 6):
        run = run_of(people.operator, [people.account() for _n in range(number)])
        look(run, places=number)
        for item in run.items.select_related("attempt"):
            code_arrives(item)
        with CaptureQueriesContext(connection) as captured:
            look(run, places=number)
        counts.append(len(captured))
    assert counts[0] == counts[1]


def test_a_failure_of_one_code_leaves_the_other_codes_of_the_wall(people):
    run = run_of(people.operator, [people.account() for _n in range(3)])
    look(run, 4)
    first, second, third = run.items.order_by("position")
    code_arrives(second)
    ends(first, AttemptState.FAILED, "unreachable")
    look(run, 4)
    assert fresh(run).paused_at is None
    assert (fresh(first).state, fresh(first).reason) == (ScanState.FAILED, "unreachable")
    assert fresh(second).attempt.state == AttemptState.WAITING


def test_an_account_that_the_person_sees_no_more_gives_up_its_claim_and_its_code(people, run, accounts):
    look(run)
    code_arrives(shown(run))
    look(run)
    ahead = code_arrives(ready(run))
    Account.objects.filter(pk=accounts[1].pk).update(team=people.west)
    look(run)
    gone = run.items.get(account=accounts[1])
    assert (gone.state, gone.attempt) == (ScanState.QUEUED, None)
    assert fresh(ahead).state == AttemptState.CANCELLED
    assert ready(run).account == accounts[2]
    theirs = run_of(people.stranger, [accounts[1]])
    look(theirs)
    assert shown(theirs).account == accounts[1]


@pytest.mark.parametrize("paused", [False, True])
def test_a_shown_account_that_the_person_sees_no_more_makes_room(people, run, accounts, paused):
    look(run)
    old = code_arrives(shown(run))
    if paused:
        look(run).pause()
    Account.objects.filter(pk=accounts[0].pk).update(team=people.west)
    look(run)
    assert fresh(old).state == AttemptState.CANCELLED
    assert run.items.get(account=accounts[0]).state == ScanState.QUEUED
    assert shown(run) is None if paused else shown(run).account == accounts[1]


def test_a_login_of_an_account_that_went_to_another_team_counts(people, run, accounts):
    look(run)
    code_arrives(shown(run))
    phone_confirms(shown(run))
    Account.objects.filter(pk=accounts[0].pk).update(team=people.west)
    look(run)
    assert run.items.get(account=accounts[0]).state == ScanState.DONE


def test_a_smaller_screen_puts_back_what_has_no_place(people):
    run = run_of(people.operator, [people.account() for _n in range(4)])
    look(run, 4)
    look(run)
    assert [item.slot for item in run.items.filter(state=ScanState.SHOWN)] == [0]
    assert run.items.filter(state=ScanState.QUEUED).count() == 3
