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

migration = import_module("accounts.migrations.0030_roles")
SHOWN = ("operator", "mate", "viewer", "stranger", "boss")


def rights_and_sight() -> dict[str, tuple[set[str], set[int]]]:
    people = get_user_model().objects.filter(username__in=SHOWN)
    return {
        person.username: (
            person.get_all_permissions(),
            set(Account.objects.visible_to(person).values_list("pk", flat=True)),
        )
        for person in people
    }


def upgrade() -> None:
    """From the version before, which had three groups that were roles by their names."""
    migration.name_groups(apps, SimpleNamespace(connection=connection))
    call_command("migrate", verbosity=0)


@pytest.mark.parametrize("renamed", ["", "Viewers", "Operators", "Admins"])
def test_an_upgrade_keeps_what_each_person_may_and_sees(people, renamed):
    people.person("boss", "admin", people.west)
    Role.objects.all().delete()
    Group.objects.filter(name__in=[GROUP_NAMES["lead"], GROUP_NAMES["auditor"]]).delete()
    people.account(team=Team.objects.create(name="Auditors"))
    people.account(team=people.west)
    groups = {group.name: group for group in Group.objects.all()}
    before = rights_and_sight()
    Permission.objects.get(codename="manage_members").delete()  # did not exist
    for group in groups.values():
        group.permissions.remove(*group.permissions.filter(codename="view_signin"))
    if renamed:
        groups[renamed].name = "Renamed"
        groups[renamed].save()
    upgrade()
    after = rights_and_sight()
    assert after == before and after["viewer"][1] == set()
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
    Role.objects.all().delete()
    renamed = Group.objects.get(name="Viewers")
    renamed.name = "Readers"
    renamed.save()
    account = people.account(team=renamed)
    upgrade()
    assert set(Account.objects.visible_to(people.viewer)) == {account}
    assert role_of(people.viewer) == "viewer"


def test_each_migrate_gives_roles_what_code_says(people):
    viewers, operators = (Group.objects.get(role=role) for role in ("viewer", "operator"))
    viewers.permissions.add(Permission.objects.get(codename="log_in_account"))
    operators.permissions.clear()
    elsewhere = Permission.objects.get(codename="view_user")
    viewers.permissions.add(elsewhere)
    call_command("migrate", verbosity=0)
    assert set(viewers.permissions.values_list("codename", flat=True)) == {
        "view_account", "view_loginattempt", "view_user",
    }  # fmt: skip
    assert operators.permissions.filter(codename="log_in_account").exists()
