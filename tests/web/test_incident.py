"""The page of one incident: how far it is, what each account waits for, who has it, notes, timeline."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.attention import archive
from accounts.attention.incident_progress import Part, progress_of
from accounts.models import Account, Drop, Incident, ScanRun
from accounts.states import AccountState, AttemptState, Method, NextStep
from tests.support.factories import fresh, make_attempt

pytestmark = pytest.mark.usually("sqlite")

AN_HOUR_AGO = timezone.now() - timedelta(hours=1)


@pytest.fixture
def incident(people):
    return Incident.objects.create(at=AN_HOUR_AGO, shares="proxy", shared="2")


def dropped(people, incident, number=1, drop=None, **fields) -> list[Account]:
    made = []
    for _n in range(number):
        count = Account.objects.count()
        account = people.account(
            **{"label": f"Shop {count}", "place": f"Rack {count}", "state": "offline", **fields}
        )
        Drop.objects.create(account=account, incident=incident, at=AN_HOUR_AGO, w_id="w", **(drop or {}))
        made.append(account)
    return made


def page(person, incident, status=200) -> str:
    answer = person.client.get(f"/incidents/{incident.pk}/")
    assert answer.status_code == status
    return answer.content.decode()


def members(text: str) -> dict[str, list[int]]:
    """The accounts of each part, in the order of the page."""
    parts = re.split(r'data-part="(\w+)">\s*<div class="group-head"|id="part-(back)"', text)[1:]
    found = {}
    for first, back, rest in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        found[first or back] = [int(pk) for pk in re.findall(r'<li id="member-(\d+)"', rest)]
    return found


def test_each_account_is_in_the_part_of_what_it_waits_for(people, incident):
    now = timezone.now()
    [scan] = dropped(people, incident, queued_for_scan_at=now)
    [phone] = dropped(people, incident)
    make_attempt(phone, method=Method.POPUP, asked_by=people.mate)
    [by_hand] = dropped(people, incident, keep_online=False)
    make_attempt(by_hand, asked_by=people.mate)
    [queued] = dropped(people, incident, drop={"next_step": NextStep.HOURS, "next_at": now})
    [failed] = dropped(people, incident, drop={"next_step": NextStep.NOTHING, "next_at": None})
    [paused] = dropped(people, incident, keep_online=False, pause_reason="in repair")
    [archived] = dropped(people, incident)
    archive.archive(Account.objects.filter(pk=archived.pk), by=people.operator)
    [back] = dropped(people, incident, drop={"ended_at": now})
    Account.objects.filter(pk=back.pk).update(state=AccountState.ONLINE, wc_id="wxid", w_id="w-new")
    text = page(people.operator, incident)
    assert members(text) == {
        "scan": [scan.pk], "failed": [failed.pk], "phone": [phone.pk, by_hand.pk], "queued": [queued.pk],
        "paused": sorted([paused.pk, archived.pk], key=lambda pk: fresh(Account(pk=pk)).place_key),
        "back": [back.pk],
    }  # fmt: skip
    assert "<b>1</b> <span>of 8 back</span>" in text
    assert "in repair" in text and "<bdi>mate</bdi>" in text


def test_recovery_is_asked_to_go_on_once_for_all_that_wait_for_it_or_were_given_up(people, incident):
    [waiting] = dropped(people, incident, drop={"next_step": NextStep.BACK_OFF})
    [given_up] = dropped(people, incident, drop={"next_step": NextStep.NOTHING, "next_at": None})
    dropped(people, incident, keep_online=False)
    assert page(people.operator, incident).count('id="recover"') == 1
    people.operator.client.post(f"/incidents/{incident.pk}/recover/")
    asked = Drop.objects.filter(asked_by=people.operator).values_list("account", flat=True)
    assert set(asked) == {waiting.pk, given_up.pk}
    assert 'id="recover"' not in page(people.viewer, incident)
    Drop.objects.filter(account=waiting).update(ended_at=timezone.now())
    assert page(people.operator, incident).count('id="recover"') == 1


def test_the_station_starts_with_those_of_the_incident_that_wait_for_a_scan(people, incident):
    queued = dropped(people, incident, 3, queued_for_scan_at=AN_HOUR_AGO)
    dropped(people, incident)
    dropped(people, incident, queued_for_scan_at=AN_HOUR_AGO, team=people.west)
    dropped(people, Incident.objects.create(), queued_for_scan_at=AN_HOUR_AGO)
    text = page(people.operator, incident)
    assert re.search(
        rf'name="incident"\s+value="{incident.pk}">\s*<button class="btn primary"\s+id="scan-these"', text
    )
    assert "Scan these 3" in text and 'id="scan-these"' not in page(people.viewer, incident)
    for person in (people.operator, people.mate):
        answer = person.client.post("/station/", {"incident": incident.pk})
        run = ScanRun.objects.get(person=person)
        assert answer.headers["Location"] == f"/station/{run.pk}/"
        assert list(run.items.values_list("account", flat=True)) == [account.pk for account in queued]
    assert people.operator.client.post("/station/", {"incident": "x"}).status_code == 422


def test_a_row_that_moves_takes_no_other_rows_place(people, incident):
    accounts = dropped(people, incident, 5, queued_for_scan_at=AN_HOUR_AGO)
    attempt = make_attempt(accounts[2], asked_by=people.operator)
    assert members(page(people.mate, incident))["scan"] == [accounts[n].pk for n in (0, 1, 3, 4)]
    attempt.move(AttemptState.CANCELLED)
    assert members(page(people.mate, incident))["scan"] == [account.pk for account in accounts]


def test_nobody_learns_of_the_accounts_of_other_teams(people, incident):
    dropped(people, incident, 2, queued_for_scan_at=AN_HOUR_AGO)
    dropped(people, incident, 3, team=people.west, label="West shop", drop={"ended_at": timezone.now()})
    text = page(people.operator, incident)
    assert "<b>0</b> <span>of 2 back</span>" in text and "West shop" not in text
    assert "of 3 back" in page(people.stranger, incident)
    other = Incident.objects.create()
    dropped(people, other, team=people.west)
    for action in ("take", "release", "notes"):
        answer = people.operator.client.post(f"/incidents/{other.pk}/{action}/", {"text": "x"})
        assert answer.status_code == 404
    assert not other.notes.exists()


@pytest.mark.slow
def test_aperson_takes_it_and_writes_notes_and_a_viewer_reads(people, incident):
    dropped(people, incident, 2)
    path, client = f"/incidents/{incident.pk}/", people.operator.client
    client.post(f"{path}take/", {"note": "rack 1"})
    client.post(f"{path}notes/", {"text": "The provider knows <b>"})
    assert client.post(f"{path}notes/", {"text": " "}).status_code == 422
    text = page(people.viewer, incident)
    assert "<bdi>operator</bdi>" in text and "rack 1" in text and "The provider knows &lt;b&gt;" in text
    assert "operator took it" in text
    assert 'id="take"' not in text and 'id="incident-note"' not in text
    for action in ("take", "release", "notes"):
        answer = people.viewer.client.post(f"{path}{action}/", {"text": "x"})
        assert answer.status_code == 403
    people.mate.client.post(f"{path}take/")
    assert fresh(incident).assignee == people.mate
    people.mate.client.post(f"{path}release/")
    assert "mate released it" in page(people.mate, incident)


def test_when_it_is_over_it_says_how_long_it_was_and_how_they_came_back(people, incident):
    ended = AN_HOUR_AGO + timedelta(minutes=12)
    dropped(people, incident, 3, drop={"ended_at": ended, "ended_by": Method.POPUP})
    dropped(people, incident, 1, drop={"ended_at": ended, "ended_by": Method.QR})
    dropped(people, incident, 1, drop={"ended_at": ended})
    Incident.objects.update(ended_at=ended)
    text = page(people.operator, incident)
    assert "Over after 12 min." in text
    assert "Back by phone prompt: 3, by QR code: 1, otherwise: 1." in text
    assert 'id="take"' not in text


@pytest.mark.parametrize("who", ["operator", "admin"])
@pytest.mark.slow
def test_the_page_needs_as_many_queries_for_more_accounts(people, incident, who):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            page(getattr(people, who), incident)
        return len(captured)

    dropped(
        people, incident, 2, queued_for_scan_at=AN_HOUR_AGO, assignee=people.mate, assigned_at=AN_HOUR_AGO
    )
    make_attempt(dropped(people, incident)[0], asked_by=people.mate)
    few = queries()
    dropped(
        people, incident, 6, queued_for_scan_at=AN_HOUR_AGO, assignee=people.mate, assigned_at=AN_HOUR_AGO
    )
    for account in dropped(people, incident, 4):
        make_attempt(account, asked_by=people.operator)
    assert queries() == few


def test_the_numbers_add_up_when_not_all_rows_are_shown(people, incident, monkeypatch):
    monkeypatch.setattr("accounts.attention.incident_progress.SHOWN_MOST", 2)
    dropped(people, incident, 5, queued_for_scan_at=AN_HOUR_AGO)
    found = progress_of(incident.drops.all())
    assert (found.total, found.numbers[Part.SCAN], len(found.rows[Part.SCAN])) == (5, 5, 2)
    assert "The first 2 of 5 are shown." in page(people.operator, incident)


def test_another_proxy_is_offered_for_all_that_are_not_back_if_the_proxy_is_what_they_share(people, incident):
    first, second = dropped(people, incident, 2)
    dropped(people, incident, drop={"ended_at": timezone.now()}, state="online", w_id="w1")
    dropped(people, incident, team=people.west)
    ids = re.search(r'name="ids" value="([\d,]*)"', page(people.operator, incident))[1]
    assert ids.split(",") == [str(first.pk), str(second.pk)]
    asked = people.operator.client.post("/accounts/bulk/proxy/prepare/", {"ids": ids})
    assert asked.status_code == 200 and "2" in asked.content.decode()
    assert 'id="change-proxy"' not in page(people.viewer, incident)
    Incident.objects.update(shares="")
    assert 'id="change-proxy"' not in page(people.operator, incident)
