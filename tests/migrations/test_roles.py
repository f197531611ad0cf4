"""Groups that were roles by their names are roles by their rows; nobody loses or gains a right by it."""

from importlib import import_module
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.db import connection

from accounts.models import Account, Role, Team
from accounts.roles import GROUP_NAMES, RoleCode
from accounts.web.people.changes import role_of
from tests.support.factories import fresh

naming = import_module("accounts.migrations.0030_roles")
checking = import_module("accounts.migrations.0032_check_permission")
NEW = ("manage_members", "check_account", "view_signin", "view_auditentry")
CHECK = "accounts.check_account"
SHOWN = ("operator", "mate", "viewer", "stranger", "boss")


def rights_and_sight() -> dict[str, tuple[set[str], set[int]]]:
    people = get_user_model().objects.filter(username__in=SHOWN)
    return {
        person.username: (
            person.get_all_permissions() - {f"accounts.{name}" for name in NEW},
            set(Account.objects.visible_to(person).values_list("pk", flat=True)),
        )
        for person in people
    }


def upgrade() -> None:
    editor = SimpleNamespace(connection=connection)
    naming.name_groups(apps, editor)
    checking.give_to_those_who_could(apps, editor)
    call_command("migrate", verbosity=0)


def go_back() -> None:
    """To the version before, which had three groups that were roles by their names."""
    Role.objects.all().delete()
    Group.objects.filter(name__in=[GROUP_NAMES["lead"], GROUP_NAMES["auditor"]]).delete()
    for group in Group.objects.all():
        group.permissions.remove(*group.permissions.filter(codename__in=NEW))


@pytest.mark.parametrize("renamed", ["", "Viewers", "Operators", "Admins"])
@pytest.mark.slow
def test_an_upgrade_keeps_what_each_person_may_and_sees(people, renamed):
    people.person("boss", "admin", people.west)
    go_back()
    people.account(team=Team.objects.create(name="Auditors"))
    people.account(team=people.west)
    groups = {group.name: group for group in Group.objects.all()}
    before = rights_and_sight()
    if renamed:
        groups[renamed].name = "Renamed"
        groups[renamed].save()
    upgrade()
    after = rights_and_sight()
    assert after == before and after["viewer"][1] == set()
    assert all(fresh(getattr(people, name)).has_perm(CHECK) for name in ("operator", "viewer", "stranger"))
    names = dict(Role.objects.values_list("code", "group__name"))
    assert names == {**GROUP_NAMES, RoleCode.AUDITOR: "Auditors (role)"}
    people_roles = {person.username: role_of(person) for person in get_user_model().objects.all()}
    assert people_roles == {
        "operator": "operator", "mate": "operator", "viewer": "viewer", "stranger": "operator", "boss": "admin",
        "admin": "",
    }  # fmt: skip
    teams = {"East", "West", "Auditors"} | ({"Renamed"} if renamed else set())
    assert set(Team.objects.values_list("name", flat=True)) == teams


def test_a_renamed_group_that_has_accounts_goes_on_to_show_them(people):
    go_back()
    renamed = Group.objects.get(name="Viewers")
    renamed.name = "Readers"
    renamed.save()
    account = people.account(team=renamed)
    upgrade()
    assert set(Account.objects.visible_to(people.viewer)) == {account}
    assert role_of(people.viewer) == "viewer" and fresh(people.viewer).has_perm(CHECK)


def test_each_migrate_gives_roles_what_code_says(people):
    viewers, operators = (Group.objects.get(role=role) for role in ("viewer", "operator"))
    viewers.permissions.add(Permission.objects.get(codename="log_in_account"))
    operators.permissions.clear()
    elsewhere = Permission.objects.get(codename="view_user")
    viewers.permissions.add(elsewhere)
    call_command("migrate", verbosity=0)
    assert set(viewers.permissions.values_list("codename", flat=True)) == {
        "view_account", "view_loginattempt", "check_account", "view_user",
    }  # fmt: skip
    assert operators.permissions.filter(codename="log_in_account").exists()
