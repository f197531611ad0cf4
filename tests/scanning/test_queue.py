"""Which accounts a run has, and in which order."""

from django.utils import timezone

from accounts.models import Account
from accounts.models.operators.scan_run import ScanSource, ScanState
from accounts.scanning import queue
from tests.support.factories import fresh, make_attempt
from tests.support.scanning import look, run_of, shown


def labels(run) -> list[str]:
    return [item.account.label for item in run.items.select_related("account").order_by("position")]


def test_phones_come_in_the_natural_order_of_their_places_and_those_without_one_last(people):
    places = {"d": "", "c": "Rack 10 · Slot 1", "b": "Rack 2 · Slot 10", "a": "Rack 2 · Slot 9"}
    accounts = [people.account(label=label, place=place) for label, place in places.items()]
    run = run_of(people.operator, accounts)
    assert labels(run) == ["a", "b", "c", "d"]
    assert list(run.items.order_by("position").values_list("position", flat=True)) == [1, 2, 3, 4]


def test_a_run_has_the_first_places_of_more_accounts_than_it_takes(people, monkeypatch):
    monkeypatch.setattr(queue, "MOST", 2)
    accounts = [people.account(place=place) for place in ("Slot 10", "", "Slot 9", "Slot 2")]
    run = run_of(people.operator, accounts)
    assert [item.account.place for item in run.items.order_by("position")] == ["Slot 2", "Slot 9"]
    run.items.last().delete()
    assert queue.add(run, Account.objects.all()) == 1
    assert run.items.order_by("position").last().account.place == "Slot 9"


def test_sources(people):
    new = people.account(label="new")
    queued = people.account(label="queued", state="offline", queued_for_scan_at=timezone.now())
    failed = people.account(label="failed", state="offline")
    make_attempt(failed, "failed", reason="declined")
    back = people.account(label="back", w_id="w-1")
    make_attempt(back, "failed", reason="declined")
    people.account(label="west", team=people.west)
    people.account(label="gone", merged_into=back)

    def found(source):
        return set(queue.source_accounts(people.operator, source))

    assert found(ScanSource.SCAN_QUEUE) == {queued}
    assert found(ScanSource.NEW) == {new}
    assert found(ScanSource.FAILED_LOGIN) == {failed}


def test_nothing_to_scan_is_no_run(people):
    assert queue.start_run(people.operator, ScanSource.SCAN_QUEUE, Account.objects.none()) is None


def test_a_new_run_ends_the_earlier_one_and_frees_its_accounts(people):
    account = people.account()
    first = run_of(people.operator, [account])
    look(first)
    second = run_of(people.operator, [account])
    look(second)
    assert fresh(first).ended_at is not None
    assert shown(second).account == account


def test_accounts_are_added_at_the_end_and_once(people):
    accounts = [people.account(label=label) for label in "ab"]
    run = run_of(people.operator, accounts[:1])
    assert queue.add(run, Account.objects.all()) == 1
    assert queue.add(run, Account.objects.all()) == 0
    assert labels(run) == ["a", "b"]


def test_again_is_for_those_that_failed_or_were_skipped(people):
    run = run_of(people.operator, [people.account(label=label) for label in "abc"])
    states = (ScanState.DONE, ScanState.FAILED, ScanState.SKIPPED)
    for item, state in zip(run.items.order_by("position"), states, strict=True):
        assert item.move(state, ended_at=timezone.now())
    assert [account.label for account in queue.failed_of(run).order_by("pk")] == ["b", "c"]
