"""Bulk actions on pages: the selection, what a dry run says, the start, and the page of a run."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.bulk import execute, runs
from accounts.models import Account, BulkRun, RecoveryPolicy, WaitsWorker
from accounts.models.operators.bulk_run import BulkAction
from accounts.states import AccountState
from tests.support.factories import fresh


def html(answer, status: int = 200) -> str:
    assert answer.status_code == status
    return answer.content.decode()


def prepare(person, action: str, accounts=(), **data):
    data |= {"account": [account.pk for account in accounts]} if accounts else {}
    return person.client.post(f"/accounts/bulk/{action}/prepare/", data)


def offline(people, label: str, **fields) -> Account:
    return people.account(label=label, wc_id=f"wxid_{label}", state=AccountState.OFFLINE, **fields)


@pytest.mark.slow
def test_the_bar_has_the_actions_that_a_person_may_do(people):
    people.account()
    bar = html(people.operator.client.get("/accounts/"))
    for action in ("log_in", "prompt", "tag", "team", "proxy", "pause"):
        assert f"/accounts/bulk/{action}/prepare/" in bar
    seen = html(people.viewer.client.get("/accounts/"))
    assert "/prepare/" not in seen and "/accounts/bulk/choose/" in seen
    choices = html(people.viewer.client.post("/accounts/bulk/choose/", {"account": "1"}))
    assert re.findall(r'data-action="(\w+)"', choices) == ["check"]


@pytest.mark.slow
def test_an_auditor_does_nothing_to_many_either(people):
    account, auditor = people.account(), people.person("auditor", "auditor")
    run = runs.start(people.operator, BulkAction.CHECK, {}, Account.objects.filter(pk=account.pk))
    answers = [
        auditor.client.post("/accounts/bulk/choose/", {"account": account.pk}),
        *(
            auditor.client.post(f"/accounts/bulk/{action}/prepare/", {"account": account.pk, "start": "1"})
            for action in BulkAction.values
        ),
        auditor.client.post(f"/accounts/bulk/{run.pk}/cancel/"),
    ]
    assert {answer.status_code for answer in answers} == {404, 403}
    assert BulkRun.objects.get() == run and fresh(run).cancelled_at is None
    assert "/accounts/bulk/choose/" not in html(auditor.client.get("/accounts/"))


def test_prompts_are_shown_before_any_phone_is_asked(people):
    RecoveryPolicy.objects.update(prompts_a_minute=1)
    WaitsWorker.objects.create(name="w", alive_until=timezone.now() + timedelta(hours=1))
    mine = [offline(people, label) for label in "ab"] + [people.account(label="never")]
    page = html(prepare(people.operator, "prompt", mine))
    assert "2 phones ask their owners" in page and "Never logged in: scan required: 1" in page
    assert 'data-ready="2"' in page
    assert not BulkRun.objects.exists()
    ids = re.search(r'name="ids" value="([\d,]*)"', page)[1]
    answer = prepare(people.operator, "prompt", ids=ids, start="1")
    run = BulkRun.objects.get()
    assert answer["Location"] == f"/accounts/bulk/{run.pk}/"
    assert runs.counts(run) == {"waiting": 2, "left_out": 1}


def test_the_whole_filter_is_a_selection_and_what_came_later_is_not_part_of_it(people):
    mine = [offline(people, label) for label in "ab"]
    page = html(prepare(people.operator, "resume", all="1", filter="?group=offline"))
    late = offline(people, "late", keep_online=False)
    ids = re.search(r'name="ids" value="([\d,]*)"', page)[1]
    assert sorted(ids.split(",")) == sorted(str(account.pk) for account in mine)
    Account.objects.update(keep_online=False)
    prepare(people.operator, "resume", ids=ids, start="1")
    execute.go_on(BulkRun.objects.get().pk)
    assert [account.keep_online for account in (*map(fresh, mine), fresh(late))] == [True, True, False]


def test_another_teams_accounts_are_no_selection(people):
    theirs = people.account(label="theirs", team=people.west)
    for data in ({"account": [theirs.pk]}, {"ids": str(theirs.pk)}):
        prepare(people.operator, "pause", start="1", reason="x", **data)
    assert not BulkRun.objects.filter(items__isnull=False).exists()
    assert "theirs" not in html(prepare(people.operator, "check", ids=str(theirs.pk)))


def test_what_an_action_needs_is_asked_for_and_wrong_input_starts_nothing(people):
    account = people.account(label="a")
    assert 'name="reason"' in html(prepare(people.operator, "pause", [account]))
    wrong = html(prepare(people.operator, "pause", ids=str(account.pk), start="1", reason=""), 422)
    assert "Say why" in wrong and "1 account is selected" in wrong
    assert not BulkRun.objects.exists()
    prepare(people.operator, "pause", ids=str(account.pk), start="1", reason="holiday")
    execute.go_on(BulkRun.objects.get().pk)
    assert fresh(account).pause_reason == "holiday"


def test_a_login_of_many_leads_to_the_scan_station(people):
    mine = [people.account(label=label, place=f"Slot {label}") for label in "ab"]
    page = html(prepare(people.operator, "log_in", mine))
    assert "The scan station shows the QR codes of 2 accounts" in page
    answer = prepare(people.operator, "log_in", mine, start="1")
    run = BulkRun.objects.get()
    assert answer["Location"] == f"/station/{run.scan_run_id}/"


@pytest.mark.parametrize(
    ("who", "status"), [("operator", 200), ("admin", 200), ("mate", 404), ("stranger", 404)]
)
def test_a_run_is_for_who_started_it_and_who_sees_every_account(people, who, status):
    people.account()
    run = runs.start(people.operator, "resume", {}, Account.objects.all())
    client = getattr(people, who).client
    assert client.get(f"/accounts/bulk/{run.pk}/").status_code == status
    assert client.get(f"/accounts/bulk/{run.pk}/live/").status_code == status
    assert client.post(f"/accounts/bulk/{run.pk}/cancel/").status_code == (302 if status == 200 else 404)


def test_nobody_prepares_what_they_may_not_do(people):
    account = people.account()
    assert prepare(people.viewer, "pause", [account]).status_code == 403
    assert prepare(people.viewer, "check", [account]).status_code == 200
    assert prepare(people.operator, "junk", [account]).status_code == 404


@pytest.mark.slow
def test_the_page_of_a_run_names_each_result_and_offers_it_again_for_the_failed(people, settings):
    mine = [people.account(label=label, proxy=1) for label in ("a", "b", "own")]
    Account.objects.filter(pk=mine[2].pk).update(own_proxy={"host": "10.0.0.1", "port": 1080})
    answer = prepare(people.operator, "proxy", mine, start="1", proxy="4")
    page = html(people.operator.client.get(answer["Location"]))
    assert "0 of 3 done" in page and 'id="cancel-run"' in page and 'data-live="' in page
    run = BulkRun.objects.get()
    Account.objects.filter(pk=mine[0].pk).update(team=people.west)
    execute.go_on(run.pk)
    page = html(people.operator.client.get(answer["Location"]))
    assert "Finished: 1 of 3 done" in page and 'data-live="/accounts/bulk' not in page
    assert "An account of another team" in page and ">a</bdi>" not in page
    assert "Uses its own proxy" in page
    again = re.search(r'name="ids" value="([\d,]*)"', page)[1]
    assert again == str(mine[2].pk)
    Account.objects.filter(pk=mine[2].pk).update(own_proxy=None)
    asked = html(prepare(people.operator, "proxy", ids=again, again=run.pk))
    assert "1 account." in asked and "上海" in asked
    prepare(people.operator, "proxy", ids=again, again=run.pk, start="1")
    execute.go_on(BulkRun.objects.last().pk)
    assert fresh(mine[2]).proxy == 4
    listed = html(people.operator.client.get("/accounts/bulk/"))
    assert listed.count("data-run=") == 2
    assert html(people.operator.client.get(f"{answer['Location']}?state=failed&page=junk"))


def test_more_than_a_run_takes_is_refused_with_the_limit(people, monkeypatch):
    monkeypatch.setattr(runs, "MOST", 1)
    mine = [people.account() for _n in range(2)]
    answer = prepare(people.operator, "check", mine, start="1")
    assert answer["Location"] == "/accounts/"
    assert "At most 1 accounts at a time" in html(people.operator.client.get("/accounts/"))
