"""Admins make and lock people, teams and roles; nobody takes more rights than an admin has."""

import re
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.core.exceptions import ObjectDoesNotExist
from django.db import connection
from django.db.models.functions import Coalesce
from django.test import Client

from accounts.models import Account, AccountEvent, AuditEntry, Channel, Plan, Role, Rule, SavedView, Team
from accounts.roles import GROUP_NAMES, PERMISSIONS
from accounts.states import EventType
from accounts.web.people import changes
from accounts.web.people.forms import OwnPasswordForm
from tests.support.factories import PASSWORD, fresh

pytestmark = pytest.mark.usually("sqlite")

NEW = "a longer battery staple"
LINK = re.compile(r'data-copy="http://testserver(/password/[^"]+/)"')


@pytest.fixture
def boss(people):
    """An admin by the role alone, without all rights."""
    person = people.person("boss", "admin")
    person.is_staff = True
    person.save()
    return person


def named(name: str):
    return get_user_model().objects.get(username=name)


def do(admin, person, action: str, **fields):
    return admin.client.post(f"/people/{person.pk}/", {"do": action, **fields})


def groups_of(person) -> set[str]:
    """The codes of roles, the names of teams."""
    named = Coalesce("role", "name")
    return set(person.groups.annotate(named=named).values_list("named", flat=True))


def changed(thing) -> list[tuple[str, str]]:
    """Who changed it how, in order."""
    rows = LogEntry.objects.filter(object_id=thing.pk, content_type=ContentType.objects.get_for_model(thing))
    return list(rows.order_by("pk").values_list("user__username", "change_message"))


def link_on(answer) -> str:
    return LINK.search(answer.content.decode())[1]


def set_password(link: str, client: Client, password: str = NEW):
    page = client.get(link, follow=True)
    return client.post(page.request["PATH_INFO"], {"new_password1": password, "new_password2": password})


# --- a person ---------------------------------------------------------------------------------------------------


def test_a_person_is_added_sets_a_password_by_the_link_and_signs_in(people, boss):
    form = {"username": " 张伟 ", "role": "operator", "teams": [people.east.pk]}
    answer = boss.client.post("/people/new/", form)
    person, link = named("张伟"), link_on(answer)
    assert groups_of(person) == {"operator", "East"}
    assert (person.is_staff, person.is_superuser, person.has_usable_password()) == (False, False, False)
    assert answer["Cache-Control"].count("no-store") == 1
    assert link not in boss.client.get(f"/people/{person.pk}/").content.decode()

    client = Client()
    page = client.get(link, follow=True)
    assert page.redirect_chain == [(link.replace(link.split("/")[2], "set-password"), 302)]
    assert "张伟" in page.content.decode()
    assert set_password(link, client).url == "/login/"
    assert client.post("/login/", {"username": "张伟", "password": NEW}).url == "/"
    assert client.get("/accounts/").status_code == 200
    assert changed(person) == [
        ("boss", "added: operator, East"), ("boss", "password link"), ("张伟", "password"),
    ]  # fmt: skip
    assert "This link no longer works" in Client().get(link, follow=True).content.decode()


@pytest.mark.parametrize(
    "username", ["", " ", "operator", "OPERATOR", "a b", "a\0b", "x" * 151, "<script>", "\u200b"]
)
@pytest.mark.usually("sqlite", "postgres")
def test_a_username_that_cannot_be_or_is_taken_is_refused(people, boss, username):
    before = get_user_model().objects.count()
    answer = boss.client.post("/people/new/", {"username": username, "role": "viewer"})
    assert answer.status_code == 422
    assert 'role="alert"' in answer.content.decode() and "data-copy=" not in answer.content.decode()
    assert get_user_model().objects.count() == before


@pytest.mark.parametrize("username", ["\ufdfa" * 150, "\ufdfax", "ﬃ" * 51, "a\u2024\u2100"])
def test_a_username_is_checked_as_it_is_saved(people, boss, username):
    """Normalized, it may be longer, and have characters that no username has."""
    answer = boss.client.post("/people/new/", {"username": username, "role": "viewer"})
    assert answer.status_code == 422 and 'role="alert"' in answer.content.decode()


def test_a_username_is_saved_as_a_sign_in_reads_it(people, boss):
    boss.client.post("/people/new/", {"username": "ｏﬃｃｅ"})
    assert named("office")


@pytest.mark.parametrize("fields", [{"role": "Superusers"}, {"role": "East"}, {"teams": ["x"]}, {"teams": ["9" * 30]},
                                    {"teams": ["999999"]}, {"teams": ["role"]}])  # fmt: skip
def test_roles_and_teams_that_are_none_are_refused(people, boss, fields):
    if fields == {"teams": ["role"]}:  # a role is no team: nobody gets a second one that way
        fields = {"teams": [Group.objects.get(role="admin").pk]}
    before = groups_of(people.viewer)
    assert do(boss, people.viewer, "groups", **fields).status_code == 422
    assert boss.client.post("/people/new/", {"username": "new", **fields}).status_code == 422
    assert groups_of(people.viewer) == before
    assert not get_user_model().objects.filter(username="new").exists()


def test_role_and_teams_are_changed_and_the_role_of_admins_opens_admin(people, boss):
    person = people.viewer
    do(boss, person, "groups", role="admin", teams=[people.west.pk])
    assert groups_of(person) == {"admin", "West"} and fresh(person).is_staff
    do(boss, person, "groups", role="operator", teams=[people.east.pk, people.west.pk])
    assert groups_of(person) == {"operator", "East", "West"} and not fresh(person).is_staff
    do(boss, person, "groups", role="")
    assert groups_of(person) == set()
    assert changed(person) == [
        ("boss", "role and teams: admin, West"), ("boss", "role and teams: operator, East, West"),
        ("boss", "role and teams"),
    ]  # fmt: skip
    page = boss.client.get(f"/people/{person.pk}/").content.decode()
    assert page.count("Role and teams changed") == 3 and "Operator, East, West" in page


def test_a_saved_page_without_another_role_leaves_admin_as_it_was(people, boss):
    people.operator.is_staff = True
    people.operator.save()
    do(boss, people.operator, "groups", role="operator", teams=[people.east.pk])
    assert fresh(people.operator).is_staff


# --- locked ------------------------------------------------------------------------------------------------------


def test_a_locked_person_is_out_everywhere_and_no_session_comes_back(people, boss):
    assert people.operator.client.get("/accounts/").status_code == 200
    sessions = Session.objects.count()
    do(boss, people.operator, "lock")
    assert Session.objects.count() == sessions - 1
    assert people.operator.client.get("/accounts/").status_code == 302
    assert people.mate.client.get("/accounts/").status_code == 200
    sign_in = {"username": "operator", "password": PASSWORD}
    assert Client().post("/login/", sign_in).status_code == 200
    assert "Locked" in boss.client.get("/people/").content.decode()
    do(boss, people.operator, "unlock")
    assert people.operator.client.get("/accounts/").status_code == 302
    assert Client().post("/login/", sign_in).url == "/"
    assert groups_of(people.operator) == {"operator", "East"}
    assert changed(people.operator) == [("boss", "locked"), ("boss", "unlocked")]


def test_locking_ends_the_link_for_ever(people, boss):
    link = link_on(do(boss, people.operator, "link"))
    do(boss, people.operator, "lock")
    assert "This link no longer works" in Client().get(link, follow=True).content.decode()
    assert do(boss, people.operator, "link").status_code == 404
    do(boss, people.operator, "unlock")
    assert "This link no longer works" in Client().get(link, follow=True).content.decode()
    assert set_password(link, Client()).status_code == 200
    assert fresh(people.operator).check_password(PASSWORD)
    link = link_on(do(boss, people.operator, "link"))
    assert set_password(link, Client()).url == "/login/"


def test_locking_ends_a_link_that_is_open_already(people, boss):
    client = Client()
    page = client.get(link_on(do(boss, people.operator, "link")), follow=True)
    do(boss, people.operator, "lock")
    do(boss, people.operator, "unlock")
    client.post(page.request["PATH_INFO"], {"new_password1": NEW, "new_password2": NEW})
    assert fresh(people.operator).check_password(PASSWORD)


def test_a_link_ends_the_earlier_ones_of_a_person_with_a_password_too(people, boss):
    first, other = link_on(do(boss, people.operator, "link")), link_on(do(boss, people.mate, "link"))
    second = link_on(do(boss, people.operator, "link"))
    assert "no longer works" in Client().get(first, follow=True).content.decode()
    for link in (second, other):
        assert "Set a password" in Client().get(link, follow=True).content.decode()


@pytest.mark.usually("sqlite", "postgres")
def test_a_password_set_at_this_moment_is_kept(people, boss):
    link = link_on(boss.client.post("/people/new/", {"username": "new"}))
    as_read_before = named("new")
    set_password(link, Client())
    changes.password_link(as_read_before, by=boss)
    assert named("new").check_password(NEW)


@pytest.mark.usually("sqlite", "postgres")
def test_a_person_locked_at_this_moment_gets_no_link_and_stays_locked(people, boss):
    as_read_before = fresh(people.operator)
    form = OwnPasswordForm(
        as_read_before, {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
    )
    assert form.is_valid()
    do(boss, people.operator, "lock")
    with pytest.raises(ObjectDoesNotExist):
        changes.password_link(as_read_before, by=boss)
    form.save()
    assert not fresh(people.operator).is_active and fresh(people.operator).check_password(NEW)


def test_a_link_ends_with_a_sign_in_and_for_a_new_person_with_the_next_link(people, boss):
    link = link_on(do(boss, people.operator, "link"))
    Client().post("/login/", {"username": "operator", "password": PASSWORD})
    assert "no longer works" in Client().get(link, follow=True).content.decode()
    first = link_on(boss.client.post("/people/new/", {"username": "new"}))
    second = link_on(do(boss, named("new"), "link"))
    assert "no longer works" in Client().get(first, follow=True).content.decode()
    assert "Set a password" in Client().get(second, follow=True).content.decode()


def test_a_password_set_by_link_ends_the_sessions(people, boss):
    link = link_on(do(boss, people.operator, "link"))
    assert people.operator.client.get("/accounts/").status_code == 200
    assert set_password(link, Client(), "short").status_code == 200
    assert fresh(people.operator).check_password(PASSWORD)
    set_password(link, Client())
    assert people.operator.client.get("/accounts/").status_code == 302
    assert fresh(people.operator).check_password(NEW)


@pytest.mark.parametrize(
    "path", ["x/x/", "set-password/MQ/", "a-b/" + "9" * 40 + "/", "a-b/%00/", "a-b/LTE/"]
)
def test_a_link_that_is_none_says_so(people, path):
    answer = Client().get(f"/password/{path}", follow=True)
    assert "This link no longer works" in answer.content.decode()


# --- the last admin, and those with more rights -------------------------------------------------------------------


def test_the_last_admin_keeps_the_role_and_nobody_locks_himself(people, boss):
    people.admin.is_active = False
    people.admin.save()
    page = boss.client.post(f"/people/{boss.pk}/", {"do": "groups", "role": "viewer"}, follow=True)
    assert "Nothing was changed" in page.content.decode()
    assert groups_of(boss) == {"admin"} and fresh(boss).is_staff and changed(boss) == []
    page = boss.client.post(f"/people/{boss.pk}/", {"do": "lock"}, follow=True)
    assert "You can’t lock yourself" in page.content.decode() and fresh(boss).is_active


def test_an_admin_who_has_no_password_yet_is_not_the_one_who_is_left(people, boss):
    people.admin.is_active = False
    people.admin.save()
    boss.client.post("/people/new/", {"username": "second", "role": "admin"})
    do(boss, boss, "groups", role="viewer")
    assert groups_of(boss) == {"admin"}
    set_password(link_on(do(boss, named("second"), "link")), Client())
    assert do(boss, boss, "groups", role="viewer").url == "/"
    assert groups_of(boss) == {"viewer"}


def test_an_admin_locks_another_one_while_one_is_left(people, boss):
    second = people.person("second", "admin")
    do(boss, second, "lock")
    assert not fresh(second).is_active


def test_nobody_changes_a_person_with_more_rights(people, boss):
    for action in ("groups", "lock", "unlock", "link"):
        assert do(boss, people.admin, action).status_code == 404
    people.operator.user_permissions.add(Permission.objects.get(codename="change_user"))
    assert do(boss, people.operator, "link").status_code == 404
    do(people.admin, people.operator, "lock")
    assert (
        do(boss, people.operator, "unlock").status_code == 404
    )  # locked, it has no permissions for the moment
    assert "you can’t change anything" in boss.client.get(f"/people/{people.admin.pk}/").content.decode()
    assert fresh(people.admin).is_active and changed(people.admin) == []
    assert do(people.admin, boss, "lock").status_code == 302 and not fresh(boss).is_active


def test_nobody_gives_more_rights_than_their_own(people):
    clerk = people.person("clerk", "viewer", people.east)
    clerk.user_permissions.add(Permission.objects.get(codename="manage_people"))
    for person in (clerk, people.viewer):
        answer = do(clerk, person, "groups", role="admin", teams=[people.west.pk])
        assert answer.status_code == 422
        assert "the person would have more rights than you" in answer.content.decode()
        assert groups_of(person) == {"viewer", "East"} and not fresh(person).is_staff
        assert changed(person) == []
    answer = clerk.client.post("/people/new/", {"username": "new", "role": "operator"})
    assert answer.status_code == 422
    assert "the person would have more rights than you" in answer.content.decode()
    assert not get_user_model().objects.filter(username="new").exists()
    assert clerk.client.post("/people/new/", {"username": "new", "role": "viewer"}).status_code == 200


def test_a_team_that_grants_permissions_is_given_by_those_who_have_them(people, boss):
    team = Team.objects.create(name="Accountants")
    team.permissions.add(Permission.objects.get(codename="change_user"))
    assert do(boss, boss, "groups", role="admin", teams=[team.pk]).status_code == 422
    assert boss.client.post("/people/new/", {"username": "new", "teams": [team.pk]}).status_code == 422
    assert groups_of(boss) == {"admin"} and not get_user_model().objects.filter(username="new").exists()
    do(people.admin, people.mate, "groups", role="operator", teams=[team.pk])
    assert groups_of(people.mate) == {"operator", "Accountants"}


def test_a_locked_person_is_given_no_more_rights_either(people, boss):
    team = Team.objects.create(name="Accountants")
    team.permissions.add(Permission.objects.get(codename="change_user"))
    do(boss, people.mate, "lock")
    assert do(boss, people.mate, "groups", role="operator", teams=[team.pk]).status_code == 422
    assert groups_of(people.mate) == {"operator", "East"}


@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
@pytest.mark.slow
def test_others_find_no_page_about_people_and_change_nothing(people, who):
    client, team = getattr(people, who).client, people.east.pk
    for path in (f"/people/{people.mate.pk}/", f"/people/teams/{team}/"):
        assert client.get(path).status_code == 404
    for path, form in (
        ("/people/new/", {"username": "new", "role": "admin"}),
        (f"/people/{people.mate.pk}/", {"do": "lock"}),
        ("/people/teams/", {"name": "Mine"}),
        (f"/people/teams/{team}/", {"name": "Mine"}),
        (f"/people/teams/{team}/delete/", {"sure": "1"}),
    ):
        assert client.post(path, form).status_code == 404
        assert Client().post(path, form).status_code == 302
    assert not LogEntry.objects.exists()
    assert client.get(f"/people/teams/{team}/delete/").status_code == 405


def test_unknown_actions_and_people_are_not_found(people, boss):
    assert do(boss, people.mate, "promote").status_code == 404
    assert boss.client.get("/people/999999/").status_code == 404
    assert boss.client.get(f"/people/{'9' * 30}/").status_code == 404


def test_only_admins_have_the_permission_and_every_role_has_what_it_should(db):
    for role, codenames in PERMISSIONS.items():
        found = Permission.objects.filter(group__role=role, content_type__app_label="accounts")
        assert set(found.values_list("codename", flat=True)) == set(codenames)


# --- teams --------------------------------------------------------------------------------------------------------


def test_a_team_is_made_renamed_and_deleted_and_its_accounts_stay(people, boss):
    boss.client.post("/people/teams/", {"name": " 华南  team "})
    team = Team.objects.get(name="华南 team")
    account = people.account(team=team)
    people.operator.groups.add(team)
    Plan.objects.create(name="Night", team=team, crontab="0 3 * * *")
    boss.client.post(f"/people/teams/{team.pk}/", {"name": "South"})
    assert fresh(team).name == "South"
    question = boss.client.post(f"/people/teams/{team.pk}/delete/").content.decode()
    assert "Accounts: 1." in question and "People: 1." in question and "The plan “Night”" in question
    boss.client.post(f"/people/teams/{team.pk}/delete/", {"sure": "1"})
    assert not Group.objects.filter(pk=team.pk).exists() and not Plan.objects.exists()
    assert Account.objects.get(pk=account.pk).team is None
    assert people.operator.client.get(f"/accounts/{account.pk}/").status_code == 404
    assert changed(team) == [("boss", "added"), ("boss", "renamed: 华南 team"), ("boss", "deleted")]


def test_the_deletion_of_a_team_says_what_goes_and_tells_the_pages_of_its_accounts(people, boss):
    east, west = people.east, people.west
    kept, archived = people.account(), people.account(state="archived")
    elsewhere = people.account(team=west)
    people.mate.groups.add(west)
    rule = Rule.objects.create(channel=Channel.objects.create(name="Chat"), kinds=["offline"])
    rule.teams.set([east, west])
    queries = {f"?team={east.pk}": False, f"?group=attention&team={east.pk}&sort=label": False, f"?team={east.pk}0": True,
               f"?q=team={east.pk}0": True, f"team={east.pk}": False, f"?team={west.pk}": True, "": True}  # fmt: skip
    for number, query in enumerate(queries):
        SavedView.objects.create(user=people.mate, name=f"View {number}", query=query)
    page = boss.client.post(f"/people/teams/{east.pk}/delete/").content.decode()
    assert "Accounts: 2." in page and "People: 3." in page and "channel “Chat” stays" in page
    left = page.split("In no team then:")[1].split("</li>")[0]
    assert "operator" in left and "viewer" in left and "mate" not in left
    assert "“View 0” of mate" in page and "“View 2”" not in page
    assert not AccountEvent.objects.exists() and Team.objects.count() == 2
    boss.client.post(f"/people/teams/{east.pk}/delete/", {"sure": "1"})
    told = AccountEvent.objects.filter(
        happened=EventType.CHANGED, detail="team", left_team=east.pk, actor=boss
    )
    assert set(told.values_list("account", flat=True)) == {kept.pk, archived.pk}
    assert set(Account.objects.filter(team=None)) == {kept, archived} and fresh(elsewhere).team_id == west.pk
    assert dict.fromkeys(SavedView.objects.values_list("query", flat=True), True) == {
        q: True for q, stays in queries.items() if stays
    }
    assert AuditEntry.objects.filter(kind="deleted", subject_name="East", actor_name="boss").exists()


def test_a_team_with_very_many_accounts_loses_them_first(people, boss, monkeypatch):
    monkeypatch.setattr("accounts.web.people.teams.ACCOUNTS_AT_ONCE", 1)
    people.account(), people.account()
    page = boss.client.post(f"/people/teams/{people.east.pk}/delete/", {"sure": "1"}).content.decode()
    assert "has 2 accounts" in page and "delete-sure" not in page and fresh(people.east)


@pytest.mark.slow
def test_a_team_shows_members_and_accounts_and_admins_add_and_remove_people(people, boss):
    path = f"/people/teams/{people.east.pk}/"
    people.account(label="Ours"), people.account(label="Theirs", team=people.west)
    page = boss.client.get(path).content.decode()
    assert all(name in page for name in ("operator", "mate", "viewer", "Ours", "People · 3", "Accounts · 1"))
    assert "Theirs" not in page and f'<option value="{people.stranger.pk}"' in page
    boss.client.post(path, {"do": "add", "person": people.stranger.pk})
    assert groups_of(people.stranger) == {"operator", "East", "West"}
    boss.client.post(path, {"do": "remove", "person": people.mate.pk})
    assert groups_of(people.mate) == {"operator"}
    assert changed(people.mate) == [("boss", "role and teams: operator")]
    for person in (people.mate.pk, "x", "", people.admin.pk):
        assert boss.client.post(path, {"do": "remove", "person": person}).status_code == 404
    for person in (people.admin.pk, "x", "", people.operator.pk):  # all rights, nobody, already there
        assert boss.client.post(path, {"do": "add", "person": person}).status_code == 422
    people.admin.groups.add(people.east)
    assert boss.client.post(path, {"do": "remove", "person": people.admin.pk}).status_code == 404
    assert f'name="person" value="{people.admin.pk}"' not in boss.client.get(path).content.decode()


def test_a_team_that_alone_limits_a_rule_is_not_deleted(people, boss):
    """The rule would be about the accounts of all teams then."""
    rule = Rule.objects.create(channel=Channel.objects.create(name="Chat"), kinds=["offline"])
    rule.teams.set([people.east])
    page = boss.client.post(f"/people/teams/{people.east.pk}/delete/", {"sure": "1"}).content.decode()
    assert "Chat" in page and "delete-sure" not in page and fresh(people.east)
    rule.teams.add(people.west)
    boss.client.post(f"/people/teams/{people.east.pk}/delete/", {"sure": "1"})
    assert list(rule.teams.all()) == [people.west]


@pytest.mark.slow
def test_a_role_has_no_page_of_a_team(people, boss):
    for role in Role.objects.all():
        pk = role.group_id
        assert boss.client.get(f"/people/teams/{pk}/").status_code == 404
        assert boss.client.post(f"/people/teams/{pk}/", {"name": "Renamed"}).status_code == 404
        assert boss.client.post(f"/people/teams/{pk}/delete/", {"sure": "1"}).status_code == 404
    page = boss.client.get("/people/teams/").content.decode()
    assert "East" in page and not any(name in page for name in GROUP_NAMES.values())
    assert dict(Role.objects.values_list("code", "group__name")) == GROUP_NAMES


@pytest.mark.usually("sqlite", "postgres")
def test_a_team_needs_a_name_of_its_own(people, boss):
    before = list(Group.objects.values())
    addresses = ("/people/teams/", f"/people/teams/{people.west.pk}/")
    names = ("", " ", "east", "Operators", "admins", "Team Lead", "审计员", "x" * 151, "a\0b", "\u200b")
    found = {
        (name, path): boss.client.post(path, {"name": name}).status_code
        for name in names
        for path in addresses
    }
    assert set(found.values()) == {422}, found
    assert list(Group.objects.values()) == before


def test_the_list_shows_role_teams_and_when_somebody_was_seen(people, boss):
    Client().post("/login/", {"username": "mate", "password": PASSWORD})
    page = boss.client.get("/people/").content.decode()
    row = re.search(rf'<tr data-person="{people.mate.pk}">.*?</tr>', page, re.DOTALL)[0]
    assert "Operator" in row and "East" in row and "just now" in row
    assert "Never" in re.search(rf'<tr data-person="{people.stranger.pk}">.*?</tr>', page, re.DOTALL)[0]
    assert "all rights" in re.search(rf'<tr data-person="{people.admin.pk}">.*?</tr>', page, re.DOTALL)[0]


def test_two_admins_do_not_lock_each_other_at_the_same_moment(committed):
    first, second = committed.admin, committed.person("second", "admin")
    together = Barrier(2)

    def lock(person, by) -> str:
        together.wait()
        try:
            changes.lock(person, by=by)
        except changes.NoAdminLeft:
            return "refused"
        finally:
            connection.close()
        return "locked"

    with ThreadPoolExecutor(2) as threads:
        done = [threads.submit(lock, first, second), threads.submit(lock, second, first)]
        assert sorted(each.result() for each in done) == ["locked", "refused"]
    assert changes.admins().count() == 1
