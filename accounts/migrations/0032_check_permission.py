"""Asking WKTeam who is online has a permission of its own; everybody who could ask by seeing accounts has it."""

from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations


def give_to_those_who_could(apps, schema_editor):
    """Django makes permissions after all migrations; they are needed here."""
    alias = schema_editor.connection.alias
    create_permissions(installed.get_app_config("accounts"), verbosity=0, using=alias, apps=apps)
    permissions = apps.get_model("auth", "Permission").objects.using(alias)
    ours = permissions.filter(content_type__app_label="accounts", content_type__model="account")
    see, check = ours.get(codename="view_account"), ours.get(codename="check_account")
    for model, field in (("Group", "permissions"), ("User", "user_permissions")):
        owners = apps.get_model("auth", model).objects.using(alias)
        for owner in owners.filter(**{field: see}):
            getattr(owner, field).add(check)


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0031_second_factor"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="account",
            options={
                "permissions": [
                    ("log_in_account", "Can log in accounts"),
                    ("check_account", "Can check whether accounts are online"),
                    ("view_every_account", "Can view accounts of all teams"),
                    ("manage_people", "Can manage people and teams"),
                    ("manage_members", "Can manage the people of their own teams"),
                ],
                "verbose_name": "account",
                "verbose_name_plural": "accounts",
            },
        ),
        migrations.RunPython(give_to_those_who_could, migrations.RunPython.noop),
    ]
