"""Drop what django-celery-beat left: plans run from their own rows, and the package is gone."""

from django.db import migrations

# Tables with foreign keys first.
TABLES = (
    "periodictask",
    "periodictasks",
    "crontabschedule",
    "intervalschedule",
    "solarschedule",
    "clockedschedule",
)


def forget_models(apps, schema_editor):
    """Delete the content types, and with them the permissions, which the admin would go on offering."""
    types = apps.get_model("contenttypes", "ContentType").objects.using(schema_editor.connection.alias)
    types.filter(app_label="django_celery_beat").delete()


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_squashed_0010_long_lists"),
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        migrations.RunSQL(
            [f"DROP TABLE IF EXISTS django_celery_beat_{table}" for table in TABLES], migrations.RunSQL.noop
        ),
        migrations.RunSQL(
            "DELETE FROM django_migrations WHERE app = 'django_celery_beat'", migrations.RunSQL.noop
        ),
        migrations.RunPython(forget_models, migrations.RunPython.noop),
    ]
