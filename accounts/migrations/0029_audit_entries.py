"""The audit log, and for the role of admins the permission to see it."""

import django.utils.timezone
from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations, models


def give_to_admins(apps, schema_editor):
    """Django makes permissions after all migrations; the role needs it here."""
    alias = schema_editor.connection.alias
    create_permissions(installed.get_app_config("accounts"), verbosity=0, using=alias, apps=apps)
    permission = apps.get_model("auth", "Permission").objects.using(alias)
    for group in apps.get_model("auth", "Group").objects.using(alias).filter(name="Admins"):
        group.permissions.add(
            *permission.filter(content_type__app_label="accounts", codename="view_auditentry")
        )


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0028_sign_in_unlocks"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="time")),
                ("kind", models.CharField(max_length=20, verbose_name="action")),
                ("actor_id", models.BigIntegerField(null=True)),
                ("actor_name", models.CharField(blank=True, default="", max_length=150, verbose_name="by")),
                (
                    "way",
                    models.CharField(
                        choices=[
                            ("page", "Page"),
                            ("admin", "Django admin"),
                            ("link", "Scan link"),
                            ("command", "Command"),
                            ("job", "Job"),
                        ],
                        max_length=10,
                        verbose_name="by what",
                    ),
                ),
                (
                    "origin",
                    models.CharField(
                        blank=True, default="", max_length=80, verbose_name="view, command or task"
                    ),
                ),
                ("address", models.GenericIPAddressField(null=True, verbose_name="address")),
                (
                    "request_id",
                    models.CharField(blank=True, default="", max_length=64, verbose_name="request ID"),
                ),
                ("link_id", models.BigIntegerField(null=True, verbose_name="scan link")),
                ("subject", models.CharField(blank=True, default="", max_length=60, verbose_name="subject")),
                ("subject_id", models.BigIntegerField(null=True)),
                (
                    "subject_name",
                    models.CharField(blank=True, default="", max_length=200, verbose_name="subject"),
                ),
                ("account_id", models.BigIntegerField(null=True)),
                (
                    "account_name",
                    models.CharField(blank=True, default="", max_length=100, verbose_name="account"),
                ),
                ("team_id", models.BigIntegerField(null=True)),
                ("team_name", models.CharField(blank=True, default="", max_length=150, verbose_name="team")),
                ("attempt_id", models.BigIntegerField(null=True, verbose_name="login attempt")),
                ("detail", models.CharField(blank=True, default="", max_length=1000, verbose_name="details")),
                ("number", models.PositiveIntegerField(null=True, verbose_name="number")),
                ("once", models.CharField(editable=False, max_length=120, null=True, unique=True)),
            ],
            options={
                "verbose_name": "audit entry",
                "verbose_name_plural": "audit log",
                "indexes": [
                    models.Index(models.F("at"), models.F("id"), name="audit_time"),
                    models.Index(models.F("kind"), models.F("at"), models.F("id"), name="audit_kind"),
                    models.Index(models.F("actor_name"), models.F("at"), models.F("id"), name="audit_actor"),
                    models.Index(
                        models.F("account_id"), models.F("at"), models.F("id"), name="audit_account"
                    ),
                    models.Index(models.F("team_id"), models.F("at"), models.F("id"), name="audit_team"),
                    models.Index(models.F("address"), models.F("at"), models.F("id"), name="audit_address"),
                    models.Index(
                        models.F("subject"),
                        models.F("subject_id"),
                        models.F("at"),
                        models.F("id"),
                        name="audit_subject",
                    ),
                ],
            },
        ),
        migrations.RunPython(give_to_admins, migrations.RunPython.noop),
    ]
