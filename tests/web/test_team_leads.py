"""Team leads manage the people of their own teams, and nobody else; auditors read and cause nothing."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from accounts.models import AuditEntry, SignIn, Team
from accounts.web.people import changes
from accounts.web.people.changes import role_of
from tests.support.factories import fresh

pytestmark = pytest.mark.usually("sqlite")


@pytest.fixture
def lead(people):
    return people.person("lead", "lead", people.east)


def do(person, whom, action: str, **fields):
    return person.client.post(f"/people/{whom.pk}/", {"do": action, **fields})


def state_of(person) -> tuple:
    person = fresh(person)
    teams = set(Team.objects.filter(user=person).values_list("name", flat=True))
    return role_of(person), teams, person.is_active, person.is_staff, person.password


@pytest.mark.slow
def test_a_lead_invites_people_into_own_teams_by_link(people, lead):
    form = {"username": "novice", "role": "operator", "teams": [people.east.pk]}
    page = lead.client.post("/people/new/", form).content.decode()
    link = re.search(r'data-copy="http://testserver(/password/[^"]+/)"', page)[1]
    assert "Set a password" in Client().get(link, follow=True).content.decode()
    novice = get_user_model().objects.get(username="novice")
    assert state_of(novice)[:4] == ("operator", {"East"}, True, False)
    for fields in (
        {"teams": [people.west.pk]},
        {"teams": []},
        {"role": "lead"},
        {"role": "auditor"},
        {"role": "admin"},
    ):
        answer = lead.client.post("/people/new/", {**form, "username": "other", **fields})
        assert answer.status_code == 422 and not get_user_model().objects.filter(username="other").exists()
    page = lead.client.get("/people/new/").content.decode()
    assert "East" in page and "West" not in page and 'value="lead"' not in page


@pytest.mark.slow
def test_a_lead_changes_locks_and_signs_out_the_people_of_the_team(people, lead):
    do(lead, people.mate, "groups", role="viewer", teams=[people.east.pk])
    assert state_of(people.mate)[:2] == ("viewer", {"East"})
    do(lead, people.mate, "lock")
    assert not fresh(people.mate).is_active
    do(lead, people.mate, "unlock")
    assert "data-copy" in do(lead, people.mate, "link").content.decode()
    do(lead, people.mate, "sign_out")
    assert fresh(people.mate).is_active
    for fields in ({"role": "lead"}, {"role": "admin"}, {"teams": [people.west.pk]}, {"teams": []}):
        sent = {"role": "operator", "teams": [people.east.pk], **fields}
        assert do(lead, people.mate, "groups", **sent).status_code == 422
    assert state_of(people.mate)[:2] == ("viewer", {"East"})
    do(lead, lead, "groups", role="lead", teams=[people.east.pk])  # what the own page offers
    assert state_of(lead)[:2] == ("lead", {"East"})


@pytest.mark.slow
def test_a_lead_learns_nothing_of_people_elsewhere_and_changes_none_who_has_more(people, lead):
    both = people.person("both", "operator", people.east)
    both.groups.add(people.west)
    boss = people.person("boss", "admin", people.east)
    auditor = people.person("auditor", "auditor", people.east)
    page = lead.client.get("/people/").content.decode()
    assert all(name in page for name in ("lead", "mate", "both", "boss", "auditor"))
    assert "stranger" not in page and "West" not in page and ">admin<" not in page
    assert "/people/sign-ins/" not in page
    for person, status in (
        (people.stranger, 404),
        (people.admin, 404),
        (both, 200),
        (boss, 200),
        (auditor, 200),
    ):
        answer = lead.client.get(f"/people/{person.pk}/")
        assert answer.status_code == status and "West" not in answer.content.decode()
        before = state_of(person)
        for action in ("groups", "lock", "unlock", "link", "sign_out"):
            assert do(lead, person, action, role="viewer", teams=[people.east.pk]).status_code == 404
        assert state_of(person) == before
    assert "in a team that you don’t lead" in lead.client.get(f"/people/{both.pk}/").content.decode()
    assert "rights that you don’t have" in lead.client.get(f"/people/{boss.pk}/").content.decode()


def test_a_lead_learns_of_no_team_in_which_somebody_was_before(people, lead):
    changes.set_groups(people.mate, "operator", [people.west], by=people.admin)
    changes.set_groups(people.mate, "operator", [people.west, people.east], by=people.admin)
    changes.set_groups(people.mate, "viewer", [people.east], by=people.admin)
    page = lead.client.get(f"/people/{people.mate.pk}/").content.decode()
    assert "West" not in page and page.count("Operator, East") == 1 and page.count("Viewer, East") == 1
    assert "Operator, West" in people.admin.client.get(f"/people/{people.mate.pk}/").content.decode()


def test_a_lead_sees_own_teams_and_neither_makes_nor_renames_nor_deletes_any(people, lead):
    page = lead.client.get("/people/teams/").content.decode()
    assert "East" in page and "West" not in page and "Add team" not in page
    page = lead.client.get(f"/people/teams/{people.east.pk}/").content.decode()
    assert "mate" in page and "Delete team" not in page and 'name="name"' not in page
    assert lead.client.get(f"/people/teams/{people.west.pk}/").status_code == 404
    before = list(Team.objects.values())
    assert lead.client.post("/people/teams/", {"name": "Mine"}).status_code == 404
    for team in (people.east, people.west):
        assert lead.client.post(f"/people/teams/{team.pk}/", {"name": "Mine"}).status_code == 404
        assert lead.client.post(f"/people/teams/{team.pk}/delete/", {"sure": "1"}).status_code == 404
    assert list(Team.objects.values()) == before


@pytest.mark.slow
def test_a_lead_takes_people_out_of_the_own_team_and_adds_those_of_the_other_own_team(people, lead):
    south = Team.objects.create(name="South")
    lead.groups.add(south)
    both = people.person("both", "operator", people.east)
    both.groups.add(people.west)
    boss = people.person("boss", "admin", people.east)
    path, other = f"/people/teams/{people.east.pk}/", f"/people/teams/{people.west.pk}/"
    lead.client.post(f"/people/teams/{south.pk}/", {"do": "add", "person": people.mate.pk})
    assert state_of(people.mate)[:2] == ("operator", {"East", "South"})
    lead.client.post(path, {"do": "remove", "person": both.pk})
    assert state_of(both)[:2] == ("operator", {"West"})
    for person in (people.stranger, both, people.admin):
        assert lead.client.post(path, {"do": "add", "person": person.pk}).status_code == 422
        assert f'value="{person.pk}"' not in lead.client.get(path).content.decode()
    assert lead.client.post(path, {"do": "remove", "person": boss.pk}).status_code == 404
    assert lead.client.post(other, {"do": "add", "person": people.mate.pk}).status_code == 404
    assert lead.client.post(other, {"do": "remove", "person": people.stranger.pk}).status_code == 404
    assert state_of(boss)[1] == {"East"} and state_of(people.stranger)[1] == {"West"}


def test_what_a_lead_does_stands_in_the_audit_log(people, lead):
    do(lead, people.mate, "lock")
    entry = AuditEntry.objects.get(kind="locked")
    assert (entry.actor_name, entry.subject_name) == ("lead", "mate")


@pytest.mark.slow
def test_an_auditor_reads_sign_ins_and_unlocks_nobody(people):
    auditor = people.person("auditor", "auditor")
    Client().post("/login/", {"username": "mate", "password": "wrong"})
    page = auditor.client.get("/people/sign-ins/").content.decode()
    assert "mate" in page and f"/people/{people.mate.pk}/" not in page and "/people/" in page
    assert auditor.client.post("/people/sign-ins/", {"lockout": "x"}).status_code == 403
    assert auditor.client.get("/people/").status_code == 404
    assert 'href="/people/sign-ins/"' in auditor.client.get("/").content.decode()
    assert "Check now" not in auditor.client.get("/accounts/").content.decode()
    assert "Check now" in people.viewer.client.get("/accounts/").content.decode()
    assert not SignIn.objects.filter(user=people.mate).exists()
