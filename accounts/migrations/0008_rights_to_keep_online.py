from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations

EDITED = ("recoverypolicy", "plan", "channel", "rule")
READ = ("drop", "incident", "planrun", "planentry", "notice", "delivery")


def give(apps, schema_editor):
    """What admins may do with the tables of this version, also where the role was made by an earlier one."""
    create_permissions(
        installed.get_app_config("accounts"), verbosity=0, using=schema_editor.connection.alias
    )
    group_model, permission_model = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    codenames = [f"{action}_{model}" for model in EDITED for action in ("view", "add", "change", "delete")]
    codenames += [f"view_{model}" for model in READ]
    group, _created = group_model.objects.get_or_create(name="Admins")
    group.permissions.add(
        *permission_model.objects.filter(content_type__app_label="accounts", codename__in=codenames)
    )


class Migration(migrations.Migration):
    dependencies = [("accounts", "0007_default_policy"), ("auth", "0012_alter_user_first_name_max_length")]
    operations = [migrations.RunPython(give, migrations.RunPython.noop)]
