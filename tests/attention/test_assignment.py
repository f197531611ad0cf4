"""Who has an account or an incident: everybody who may see it knows, and nobody else."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.attention import assignment
from accounts.lib import db_clock
from accounts.models import Drop, Incident
from accounts.states import EventType
from tests.support.factories import fresh


@pytest.fixture
def gone(people):
    return people.account(label="Shop", state="offline", wc_id="wxid_1")


@pytest.fixture
def incident(gone, people):
    found = Incident.objects.create()
    elsewhere = people.account(team=people.west, state="offline", wc_id="wxid_2")
    for account in (gone, elsewhere):
        Drop.objects.create(account=account, w_id="w", incident=found)
    return found


def page(person, account) -> str:
    return person.client.get(f"/accounts/{account.pk}/").content.decode()


def test_one_takes_an_account_and_another_takes_it_over(gone, people):
    people.operator.client.post(f"/accounts/{gone.pk}/take/", {"note": "on my desk"})
    assert (fresh(gone).assignee, fresh(gone).assignment_note) == (people.operator, "on my desk")
    shown = page(people.viewer, gone)
    assert "<bdi>operator</bdi>" in shown and "on my desk" in shown and 'id="take"' not in shown
    assert "Take over" in page(people.mate, gone)
    people.mate.client.post(f"/accounts/{gone.pk}/take/")
    assert fresh(gone).assignee == people.mate
    actors = (
        gone.events.filter(happened=EventType.ASSIGNED).order_by("id").values_list("actor_name", "detail")
    )
    assert list(actors) == [("operator", "on my desk"), ("mate", "")]


def test_it_is_released_by_a_person_or_when_the_account_is_online(gone, people):
    mine = type(gone).objects.filter(pk=gone.pk)
    assignment.take(mine, by=people.operator)
    people.operator.client.post(f"/accounts/{gone.pk}/release/")
    assert fresh(gone).assignee is None
    assignment.take(mine, by=people.operator, note="x")
    account = fresh(gone)
    account.go_online(1, "w-2", db_clock.now(), None)
    assert (fresh(gone).assignee, fresh(gone).assigned_at, fresh(gone).assignment_note) == (None, None, "")
    assert assignment.take(mine, by=people.operator) == 0  # nothing to take care of


def test_pausing_asks_for_a_reason_which_stands_until_it_is_resumed(gone, people):
    path, client = f"/accounts/{gone.pk}/keep-online/", people.operator.client
    assert 'name="reason"' in client.post(path, {"wanted": "0"}).content.decode()
    assert client.post(path, {"wanted": "0", "reason": " "}).status_code == 422
    assert fresh(gone).keep_online
    client.post(path, {"wanted": "0", "reason": "phone in repair"})
    assert (fresh(gone).keep_online, fresh(gone).pause_reason) == (False, "phone in repair")
    assert "phone in repair" in page(people.mate, gone)
    client.post(path, {"wanted": "1"})
    assert (fresh(gone).keep_online, fresh(gone).pause_reason) == (True, "")
    kinds = gone.events.order_by("id").values_list("happened", "detail")
    assert list(kinds) == [("paused", "phone in repair"), ("resumed", "")]


def test_silencing_leaves_recovery_alone(gone, people):
    path, client = f"/accounts/{gone.pk}/silence/", people.operator.client
    assert 'name="hours"' in client.post(path).content.decode()
    client.post(path, {"hours": "4"})
    until = fresh(gone).silenced_until - timezone.now()
    assert timedelta(hours=3, minutes=59) < until <= timedelta(hours=4)
    assert fresh(gone).keep_online
    assert "Silenced until" in page(people.operator, gone)
    client.post(path, {"hours": "0"})
    assert fresh(gone).silenced_until is None


# --- incidents -------------------------------------------------------------------------------------------


def test_an_incident_is_taken_taken_over_and_released_in_its_notes(incident, people):
    assert assignment.take_incident(incident, by=people.operator, note="calling the provider")
    assert not assignment.take_incident(incident, by=people.operator, note="calling the provider")
    assert assignment.take_incident(incident, by=people.mate)
    assert assignment.release_incident(incident, by=people.mate)
    assert not assignment.release_incident(incident, by=people.mate)
    rows = incident.notes.values_list("kind", "author_name", "text")
    assert list(rows) == [
        ("taken", "operator", "calling the provider"), ("taken", "mate", ""), ("released", "mate", ""),
    ]  # fmt: skip


def test_an_incident_that_is_over_is_not_taken(incident, people):
    Incident.objects.update(ended_at=timezone.now())
    assert not assignment.take_incident(incident, by=people.operator)
    assert fresh(incident).assignee is None
