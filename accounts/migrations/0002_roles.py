"""The groups that carry a role. Permissions are normally made after all migrations, so they are made here first."""

from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations

ROLES = {
    "Operators": ["view_account", "add_account", "change_account", "log_in_account", "view_loginattempt"],
    "Viewers": ["view_account", "view_loginattempt"],
    "Admins": [
        "view_account", "add_account", "change_account", "delete_account", "log_in_account", "view_every_account",
        "view_loginattempt", "view_accountevent", "view_upstreamaccess", "view_tag", "add_tag", "change_tag", "delete_tag",
    ],
}  # fmt: skip


def install(apps, schema_editor):
    create_permissions(
        installed.get_app_config("accounts"), verbosity=0, using=schema_editor.connection.alias
    )
    group_model, permission_model = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    for name, codenames in ROLES.items():
        group, _created = group_model.objects.get_or_create(name=name)
        group.permissions.add(
            *permission_model.objects.filter(content_type__app_label="accounts", codename__in=codenames)
        )


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(install, migrations.RunPython.noop)]
