"""Roles are rows that name their group; a group without one is a team, however it is called."""

import django.db.models.deletion
from django.db import migrations, models

import accounts.models.operators.role

# What each group that was a role by its name had.
VIEWERS = {"view_account", "view_loginattempt"}
OPERATORS = VIEWERS | {"add_account", "change_account", "log_in_account"}
EDITED = ("tag", "recoverypolicy", "plan", "channel", "rule")
ADMINS = {
    *OPERATORS,
    *("delete_account", "view_every_account", "manage_people", "view_accountevent", "view_upstreamaccess"),
    *("view_drop", "view_incident", "view_planrun", "view_planresult", "view_notification", "view_delivery"),
    *(f"{action}_{model}" for model in EDITED for action in ("view", "add", "change", "delete")),
}
BEFORE = {
    "operator": ("Operators", OPERATORS),
    "viewer": ("Viewers", VIEWERS),
    "admin": ("Admins", ADMINS),
}


def name_groups(apps, schema_editor):
    """Tie each role to its group, which is known by its name for the last time.

    A group that was renamed has been a team since, and stays one: it may have accounts. It went on to give its members
    the permissions of the role, so they have that role beside it from now on, and no other right than before.
    """
    alias = schema_editor.connection.alias
    groups = apps.get_model("auth", "Group").objects.using(alias)
    members = apps.get_model("auth", "User").groups.through.objects.using(alias)
    for code, (name, codenames) in BEFORE.items():
        group, made = groups.get_or_create(name=name)
        apps.get_model("accounts", "Role").objects.using(alias).create(code=code, group=group)
        renamed = [other for other in groups.exclude(pk=group.pk) if made and _codenames(other) == codenames]
        people = members.filter(group__in=renamed).values_list("user", flat=True).distinct()
        members.bulk_create([members.model(user_id=person, group=group) for person in people])


def _codenames(group) -> set[str]:
    ours = group.permissions.filter(content_type__app_label="accounts")
    new = "view_auditentry"  # was given by the name too
    return set(ours.exclude(codename=new).values_list("codename", flat=True))


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0029_audit_entries"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [
        migrations.CreateModel(
            name="Team",
            fields=[],
            options={
                "verbose_name": "team",
                "verbose_name_plural": "teams",
                "proxy": True,
                "default_permissions": (),
                "indexes": [],
                "constraints": [],
            },
            bases=("auth.group",),
            managers=[("objects", accounts.models.operators.role.TeamManager())],
        ),
        migrations.AlterModelOptions(
            name="account",
            options={
                "permissions": [
                    ("log_in_account", "Can log in accounts"),
                    ("view_every_account", "Can view accounts of all teams"),
                    ("manage_people", "Can manage people and teams"),
                    ("manage_members", "Can manage the people of their own teams"),
                ],
                "verbose_name": "account",
                "verbose_name_plural": "accounts",
            },
        ),
        migrations.CreateModel(
            name="Role",
            fields=[
                (
                    "code",
                    models.CharField(
                        choices=[
                            ("viewer", "Viewer"),
                            ("auditor", "Auditor"),
                            ("operator", "Operator"),
                            ("lead", "Team lead"),
                            ("admin", "Admin"),
                        ],
                        max_length=20,
                        primary_key=True,
                        serialize=False,
                        verbose_name="role",
                    ),
                ),
                (
                    "group",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT, related_name="role", to="auth.group"
                    ),
                ),
            ],
            options={"verbose_name": "role", "verbose_name_plural": "roles", "default_permissions": ()},
        ),
        migrations.RunPython(name_groups, migrations.RunPython.noop),
    ]
