"""Rename two permissions: Django names a permission when it makes it, and never again."""

from django.db import migrations

NAMES = {"log_in_account": "Can log in accounts", "view_every_account": "Can view accounts of all teams"}


def rename(apps, schema_editor):
    permissions = apps.get_model("auth", "Permission").objects.using(schema_editor.connection.alias)
    for codename, name in NAMES.items():
        permissions.filter(content_type__app_label="accounts", codename=codename).update(name=name)


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0005_search_text"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]
    operations = [migrations.RunPython(rename, migrations.RunPython.noop)]
