"""Add the permission to manage people and teams, and give it to the role of admins."""

from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations


def give_to_admins(apps, schema_editor):
    """Django makes permissions after all migrations; the role needs it here."""
    alias = schema_editor.connection.alias
    create_permissions(installed.get_app_config("accounts"), verbosity=0, using=alias, apps=apps)
    permission = apps.get_model("auth", "Permission").objects.using(alias)
    for group in apps.get_model("auth", "Group").objects.using(alias).filter(name="Admins"):
        group.permissions.add(
            *permission.filter(content_type__app_label="accounts", codename="manage_people")
        )


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0018_browser_notifications"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="account",
            options={
                "permissions": [
                    ("log_in_account", "Can log in accounts"),
                    ("view_every_account", "Can view accounts of all teams"),
                    ("manage_people", "Can manage people and teams"),
                ],
                "verbose_name": "account",
                "verbose_name_plural": "accounts",
            },
        ),
        migrations.RunPython(give_to_admins, migrations.RunPython.noop),
    ]
