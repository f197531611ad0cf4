"""Models and fields take the names of the glossary. Tables and columns keep theirs.

Processes of the version before work on the same tables while this one starts.
"""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import migrations, models
from django.db.models import CASCADE, Q
from django.db.models.deletion import SET_NULL

MODELS = {
    "Notice": "Notification",
    "Reading": "OutboxCursor",
    "PlanEntry": "PlanResult",
    "Discovered": "UnmanagedAccount",
}
FIELDS = (
    (
        *("account", "to_scan_since", "queued_for_scan_at"),
        models.DateTimeField("in scan queue since", null=True, blank=True, db_column="to_scan_since"),
    ),
    (
        *("account", "joined_to", "merged_into"),
        models.ForeignKey(
            "accounts.Account",
            verbose_name="merged into",
            null=True,
            blank=True,
            on_delete=SET_NULL,
            related_name="merged",
            db_column="joined_to_id",
            db_index=False,
        ),
    ),
    (
        *("delivery", "notice", "notification"),
        models.ForeignKey(
            "accounts.Notification",
            verbose_name="notification",
            on_delete=CASCADE,
            related_name="deliveries",
            db_column="notice_id",
        ),
    ),
    (
        *("drop", "found_by", "detected_by"),
        models.CharField(
            "detected by",
            max_length=10,
            choices=[("sweep", "Automatic check"), ("notice", "WKTeam callback"), ("check", "Manual check")],
            default="sweep",
            db_column="found_by",
        ),
    ),
    (
        *("drop", "popups", "prompts_sent"),
        models.PositiveSmallIntegerField("prompts", default=0, db_column="popups"),
    ),
    (
        *("recoverypolicy", "popups_a_day", "prompts_a_day"),
        models.PositiveSmallIntegerField(
            "max prompts per account in 24 hours",
            default=3,
            validators=[MaxValueValidator(20)],
            db_column="popups_a_day",
        ),
    ),
    (
        *("recoverypolicy", "popups_a_minute", "prompts_a_minute"),
        models.PositiveSmallIntegerField(
            "max prompts per minute for all accounts",
            default=10,
            validators=[MinValueValidator(1), MaxValueValidator(600)],
            db_column="popups_a_minute",
        ),
    ),
)
INDEXES = {
    "account_state": (("state", "id", "merged_into"), None),
    "account_team_state": (("team", "state", "id", "merged_into"), None),
    "account_joined": (("merged_into",), Q(merged_into__isnull=False)),
    "account_to_scan": (("queued_for_scan_at", "id"), Q(queued_for_scan_at__isnull=False)),
    "account_team_to_scan": (("team", "queued_for_scan_at", "id"), Q(queued_for_scan_at__isnull=False)),
}


def rename_permissions(apps, schema_editor):
    """Roles hold permissions by id: with its new name each stays what it was."""
    database = schema_editor.connection.alias
    types = apps.get_model("contenttypes", "ContentType").objects.using(database)
    permissions = apps.get_model("auth", "Permission").objects.using(database)
    for old, new in ((old.lower(), new.lower()) for old, new in MODELS.items()):
        types.filter(app_label="accounts", model=old).update(model=new)
        for action in ("add", "change", "delete", "view"):
            found = permissions.filter(codename=f"{action}_{old}", content_type__app_label="accounts")
            found.update(codename=f"{action}_{new}")


def index(name: str) -> models.Index:
    fields, condition = INDEXES[name]
    return models.Index(*map(models.F, fields), name=name, condition=condition)


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0003_cron_expressions"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        migrations.RunPython(rename_permissions, migrations.RunPython.noop),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                *(migrations.AlterModelTable(old, f"accounts_{old.lower()}") for old in MODELS),
                *(migrations.RenameModel(old, new) for old, new in MODELS.items()),
                migrations.RemoveConstraint("delivery", "told_once_on_a_channel"),
                *(migrations.RemoveIndex("account", name) for name in INDEXES),
                *(migrations.RenameField(model, old, new) for model, old, new, _field in FIELDS),
                *(migrations.AlterField(model, new, field) for model, _old, new, field in FIELDS),
                *(migrations.AddIndex("account", index(name)) for name in INDEXES),
                migrations.AddConstraint(
                    "delivery",
                    models.UniqueConstraint(
                        fields=["channel", "notification"], name="told_once_on_a_channel"
                    ),
                ),
            ]
        ),
    ]
