"""The pages of the scan station and of the wall, without a browser."""

import re
from datetime import timedelta

import pytest
from django.urls import reverse

from accounts.logins.success import complete_login
from accounts.models import Account, LoginAttempt, ScanRun, Tag
from accounts.models.operators.scan_run import ScanState
from accounts.states import AttemptState, Method
from accounts.upstream.responses import LoggedIn, Profile
from accounts.web.station import presenters
from tests.support.factories import fresh, make_attempt
from tests.support.scanning import code_arrives, ends, look, phone_confirms, run_of, shown

pytestmark = pytest.mark.usually("sqlite")


@pytest.fixture
def accounts(people):
    return [people.account(label=label, place=f"Slot {n}") for n, label in enumerate("abc", start=1)]


@pytest.fixture
def run(people, accounts):
    return run_of(people.operator, accounts)


def page_of(people, run, name: str = "station") -> str:
    answer = people.operator.client.get(reverse(name, args=[run.pk]))
    assert answer.status_code == 200
    return answer.content.decode()


def do(people, run, what: str, item=None, status: int = 200, **data) -> str:
    item = item or shown(run)
    data |= {"do": what} | ({"item": item.pk} if item else {})
    answer = people.operator.client.post(
        reverse("station_do", args=[run.pk]), data, headers={"HX-Request": "true"}
    )
    assert answer.status_code == status
    return answer.content.decode()


def attribute(page: str, name: str) -> str:
    return re.search(rf'data-{name}="([^"]*)"', page)[1]


def test_the_start_page_counts_its_queues_and_starts_one(people, accounts):
    page = people.operator.client.get("/station/").content.decode()
    assert re.search(r'data-source="new"\s+data-number="3"', page)
    answer = people.operator.client.post("/station/", {"source": "new"})
    run = ScanRun.objects.get()
    assert answer["Location"] == f"/station/{run.pk}/"
    assert run.items.count() == 3
    assert f'href="/station/{run.pk}/"' in people.operator.client.get("/station/").content.decode()


def test_a_selection_has_only_accounts_that_its_person_sees(people, accounts):
    west = people.account(team=people.west)
    people.operator.client.post("/station/", {"account": [accounts[1].pk, west.pk, "x"]})
    assert [item.account for item in ScanRun.objects.get().items.all()] == [accounts[1]]
    assert people.operator.client.post("/station/", {"account": [west.pk]}).status_code == 422


@pytest.mark.parametrize("number", ["9" * 30, "٣", "-1", ""])
@pytest.mark.usually("sqlite", "postgres")
def test_what_is_no_id_names_no_account(people, run, number):
    assert people.operator.client.post("/station/", {"account": number}).status_code == 422
    answer = people.operator.client.post(reverse("station_do", args=[run.pk]), {"do": "show", "item": number})
    assert answer.status_code == 404


def test_the_page_shows_one_account_its_place_and_its_code(people, run, accounts):
    page_of(people, run)
    attempt = code_arrives(shown(run))
    page = page_of(people, run)
    assert (attribute(page, "run"), attribute(page, "position")) == (str(run.pk), "1")
    assert re.search(rf'class="code" data-attempt="{attempt.pk}"', page)
    assert '<p class="plate">Slot 1</p>' in page
    assert page.count('class="btn primary"') == 0  # nothing to do but to scan


def test_on_success_the_next_one_is_on_the_page_and_counted(people, run):
    page_of(people, run)
    code_arrives(shown(run))
    phone_confirms(shown(run))
    page = page_of(people, run, "station_live")
    assert attribute(page, "position") == "2"
    assert 'data-before="done"' in page
    assert '<p class="plate">Slot 2</p>' in page


@pytest.mark.slow
def test_a_skipped_account_comes_again_at_the_end_and_is_skipped_for_good_the_second_time(
    people, run, accounts
):
    page_of(people, run)
    for account in (accounts[0], accounts[1], accounts[2], accounts[0]):
        assert shown(run).account == account
        do(people, run, "skip")
    assert run.items.get(account=accounts[0]).state == ScanState.SKIPPED
    assert shown(run).account == accounts[1]


def test_a_key_that_comes_after_the_account_has_changed_does_nothing(people, run, accounts):
    page_of(people, run)
    late = shown(run)
    code_arrives(late)
    phone_confirms(late)
    do(people, run, "skip", item=late)
    assert fresh(late).state == ScanState.DONE
    assert shown(run).account == accounts[1]


def test_back_shows_the_account_before(people, run, accounts):
    page_of(people, run)
    do(people, run, "skip")
    do(people, run, "back")
    assert shown(run).account == accounts[0]
    do(people, run, "skip")
    assert run.items.exclude(state=ScanState.SHOWN).get(account=accounts[0]).state == ScanState.SKIPPED


def test_pause_and_continue(people, run):
    page_of(people, run)
    attempt = code_arrives(shown(run))
    page = do(people, run, "pause")
    assert attribute(page, "mode") == "paused"
    assert fresh(attempt).state == AttemptState.CANCELLED
    assert attribute(do(people, run, "resume"), "mode") == "asking"


def test_a_prompt_is_withdrawn_before_a_code_is_requested_and_the_other_way_round(people):
    account = people.account(wc_id="wxid_1", state="offline")
    prompt = make_attempt(account, method=Method.POPUP, trigger="recovery")
    run = run_of(people.operator, [account])
    assert attribute(page_of(people, run), "mode") == "popup"
    do(people, run, "scan")
    assert fresh(prompt).state == AttemptState.CANCELLED
    code = code_arrives(shown(run))
    assert code.method == Method.QR
    do(people, run, "prompt")
    assert fresh(code).state == AttemptState.CANCELLED
    assert LoginAttempt.objects.open().get().method == Method.POPUP


def test_another_account_that_scanned_offers_both_ways_out(people, run, accounts):
    page_of(people, run)
    attempt = code_arrives(shown(run))
    other = people.account(label="other", w_id="w-9", wc_id="wxid_other", wechat_id="other")
    Account.objects.filter(pk=accounts[0].pk).update(wc_id="other")
    ends(shown(run), AttemptState.FAILED, "wrong_account")
    LoginAttempt.objects.filter(pk=attempt.pk).update(other_account=other, other_name="other (wxid_other)")
    page = page_of(people, run)
    assert attribute(page, "mode") == "wrong"
    assert 'value="join"' in page and 'value="scan"' in page
    do(people, run, "join")
    assert fresh(accounts[0]).merged_into == other
    assert run.items.get(account=accounts[0]).state == ScanState.DONE
    assert shown(run).account == accounts[1]


def test_a_verification_code_is_asked_for_and_sent(people, run):
    page_of(people, run)
    attempt = code_arrives(shown(run))
    ends(shown(run), AttemptState.CODE_REQUIRED)
    assert "autofocus" in page_of(people, run)
    assert 'role="alert"' in do(people, run, "code", code="x!", status=422)
    do(people, run, "code", code="123456")
    assert fresh(attempt).state == AttemptState.WAITING


@pytest.mark.slow
def test_without_automatic_next_the_end_stays_until_enter(people, run, accounts):
    page_of(people, run)
    do(people, run, "automatic")
    code_arrives(shown(run))
    phone_confirms(shown(run))
    page = page_of(people, run)
    assert (attribute(page, "mode"), attribute(page, "position")) == ("done", "1")
    do(people, run, "next")
    assert shown(run).account == accounts[1]


def test_a_record_that_was_merged_is_said_so_and_leads_to_where_it_can_be_undone(people):
    known = people.account(wc_id="wxid_known", state="offline", label="Known")
    new, other = people.account(label="New", place="Slot 1"), people.account(label="Other", place="Slot 2")
    run = run_of(people.operator, [new, other])
    page_of(people, run)
    code_arrives(shown(run))
    complete_login(fresh(shown(run)).attempt, LoggedIn(Profile("wxid_known", "w-9")))
    page = page_of(people, run, "station_live")
    assert fresh(new).merged_into == known
    assert re.search(rf'href="/accounts/{new.pk}/"\s+data-merged="{new.pk}"', page)
    ends(shown(run), AttemptState.FAILED, "declined")
    page = page_of(people, run)
    assert attribute(page, "mode") == "summary" and attribute(page, "merged") == str(new.pk)
    assert "Merged into accounts that had a record already: 1" in page


def test_the_wall_says_that_a_record_was_merged_and_leads_to_it(people, monkeypatch):
    monkeypatch.setattr(presenters, "SHOWS_END", timedelta(hours=1))
    people.account(wc_id="wxid_known", state="offline", label="Known", team=people.west)
    new, other = people.account(label="New", place="Slot 1"), people.account(label="Other", place="Slot 2")
    run = run_of(people.operator, [new, other])
    page_of(people, run, "wall")
    item = run.items.get(account=new)
    code_arrives(item)
    complete_login(fresh(item).attempt, LoggedIn(Profile("wxid_known", "w-9")))
    page = page_of(people, run, "wall_live")
    tile, aside = page.split("<footer")
    assert attribute(tile, "merged") == str(new.pk)
    assert re.search(rf'href="/accounts/{new.pk}/"\s+data-merged="{new.pk}"', aside)
    assert "Known" not in page


@pytest.mark.slow
def test_the_summary_names_the_failed_and_starts_again_for_them(people, run, accounts):
    page_of(people, run)
    code_arrives(shown(run))
    phone_confirms(shown(run))
    page_of(people, run)
    for _n in range(2):
        ends(shown(run), AttemptState.FAILED, "declined")
        page = page_of(people, run)
    assert attribute(page, "mode") == "summary"
    assert 'data-done="1"' in page
    assert re.findall(r'data-reason="(declined)"', page) == ["declined"] * 2
    answer = people.operator.client.post(reverse("station_do", args=[run.pk]), {"do": "again_for_failed"})
    again = ScanRun.objects.latest("pk")
    assert answer["Location"] == f"/station/{again.pk}/"
    assert {item.account for item in again.items.all()} == set(accounts[1:])


def test_an_account_that_somebody_else_has_is_named_and_taken_over(people, run, accounts):
    theirs = run_of(people.mate, accounts[:1])
    look(theirs)
    page = page_of(people, run)
    assert "mate has it" in page
    assert shown(run).account == accounts[1]
    do(people, run, "take", item=run.items.get(account=accounts[0]))
    assert shown(run).account == accounts[0] and shown(theirs) is None


def test_never_logged_in_accounts_are_added_at_the_end(people, run):
    page_of(people, run)
    people.account(label="new one")
    assert "Add all never logged in" in page_of(people, run)
    do(people, run, "add_new")
    assert run.items.count() == 4


def test_the_queue_is_searched_by_name_place_tag_and_note(people, run, accounts):
    accounts[1].tags.add(Tag.objects.create(name="VIP"))
    Account.objects.filter(pk=accounts[1].pk).update(note="Charger is loose")
    found = re.findall(r'data-find="([^"]*)"', page_of(people, run, "station_queue"))
    (one,) = [words for words in found if "#vip" in words]
    assert all(word in one for word in ("b", "slot 2", "charger is loose"))


def test_a_run_belongs_to_its_person(people, run):
    for name in ("station", "station_live", "station_queue", "wall", "wall_live"):
        assert people.mate.client.get(reverse(name, args=[run.pk])).status_code == 404
    assert people.mate.client.post(reverse("station_do", args=[run.pk]), {"do": "end"}).status_code == 404
    assert people.viewer.client.get("/station/").status_code == 403


def test_the_queue_needs_as_many_queries_for_more_accounts(people, run, django_assert_max_num_queries):
    page_of(people, run)
    more = [people.account() for _n in range(30)]
    long = run_of(people.operator, more)
    page_of(people, long)
    with django_assert_max_num_queries(40):
        page_of(people, long)


def test_a_tile_of_the_wall_withdraws_a_prompt_for_a_code(people):
    accounts = [people.account(label=label, wc_id=f"wxid_{label}", state="offline") for label in "ab"]
    prompts = [make_attempt(account, method=Method.POPUP, trigger="recovery") for account in accounts]
    run = run_of(people.operator, accounts)
    page_of(people, run, "wall")
    do(people, run, "scan", item=run.items.get(account=accounts[1]), status=204, wall="4x3")
    assert [fresh(prompt).state for prompt in prompts] == [AttemptState.WAITING, AttemptState.CANCELLED]
    assert LoginAttempt.objects.open().get(account=accounts[1]).method == Method.QR


@pytest.mark.parametrize("what", ["scan", "prompt"])
def test_a_login_that_has_just_succeeded_is_not_replaced(people, run, accounts, what):
    Account.objects.filter(pk=accounts[0].pk).update(wc_id="wxid_1")
    page_of(people, run)
    code_arrives(shown(run))
    phone_confirms(shown(run))
    do(people, run, what)
    assert not LoginAttempt.objects.open().filter(account=accounts[0]).exists()
    assert run.items.get(account=accounts[0]).state == ScanState.DONE


def test_the_scan_queue_leads_to_the_station_and_who_may_not_log_in_gets_the_list(people):
    assert people.operator.client.get("/to-scan/")["Location"] == "/station/?source=scan_queue"
    assert people.viewer.client.get("/to-scan/")["Location"] == "/accounts/?group=attention"
    waiting = people.account(state="offline", wc_id="wxid_w")
    Account.objects.filter(pk=waiting.pk).update(queued_for_scan_at=waiting.state_since)
    people.account()
    page = people.operator.client.get("/station/?source=scan_queue").content.decode()
    green = re.search(r'<tr data-source="(\w+)"[^<]*(?:<(?!/tr).*?)*?class="btn primary"', page, re.DOTALL)
    assert green[1] == "scan_queue"
    assert re.search(r'data-source="scan_queue"\s+data-number="1"', page)
