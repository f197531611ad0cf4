"""Two fields of the account take the names of the glossary. Their columns keep theirs, and no table is rewritten.

Processes of the version before work on the same columns while this one starts.
"""

from django.db import migrations, models
from django.db.models.functions import Concat, Lower

FIELDS = (
    (
        *("verified_at", "checked_at"),
        models.DateTimeField("last checked", null=True, blank=True, db_column="verified_at"),
    ),
    (
        *("wechat_number", "wechat_id"),
        models.CharField("WeChat ID", max_length=100, blank=True, default="", db_column="wechat_number"),
    ),
)
SEARCH_TEXT = models.GeneratedField(
    db_persist=True,
    expression=Lower(
        Concat(
            *("label", models.Value("\n"), "nickname", models.Value("\n")),
            *("wc_id", models.Value("\n"), "wechat_id"),
        )
    ),
    output_field=models.TextField(),
)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0007_triggers")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                *(migrations.RenameField("account", old, new) for old, new, _field in FIELDS),
                *(migrations.AlterField("account", new, field) for _old, new, field in FIELDS),
                # The expression names the field; the column it stands for is the same.
                migrations.AlterField("account", "search_text", SEARCH_TEXT),
            ]
        )
    ]
