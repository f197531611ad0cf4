"""Search in a stored column of the account, instead of a table of character pairs that triggers kept.

The column is filled by rewriting the table of accounts: seconds for 100,000 rows.
"""

import logging

from django.db import DatabaseError, migrations, models, transaction
from django.db.models.functions import Concat, Lower

log = logging.getLogger(__name__)

TRIGGERS = ("added", "changed", "gone", "emptied")
OLD_INDEX = {
    "sqlite": (
        *(f"DROP TRIGGER IF EXISTS accounts_search_{name}" for name in TRIGGERS),
        "DROP TABLE IF EXISTS accounts_search",
    ),
    "postgresql": (
        *(f"DROP TRIGGER IF EXISTS accounts_search_{name} ON accounts_account" for name in TRIGGERS),
        "DROP FUNCTION IF EXISTS accounts_search_follow()",
        "DROP TABLE IF EXISTS accounts_search",
        "DROP FUNCTION IF EXISTS accounts_search_pairs(text)",
    ),
}
# A change of state rewrites an account's entries. They are gathered, and few enough that a search reads them quickly.
TRIGRAMS = (
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    "CREATE INDEX account_search ON accounts_account USING gin (search_text gin_trgm_ops)"
    " WITH (gin_pending_list_limit = 256)",
)


def drop_old_index(apps, schema_editor):
    for statement in OLD_INDEX[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


def index_trigrams(apps, schema_editor):
    """Without the extension a search reads every account; docs/operations.md says how to add it later."""
    connection = schema_editor.connection
    if connection.vendor != "postgresql":
        return
    try:
        with transaction.atomic(connection.alias), connection.cursor() as cursor:
            for statement in TRIGRAMS:
                cursor.execute(statement)
    except DatabaseError as error:
        log.warning("Searches work without an index, because pg_trgm is not available: %s", error)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0004_glossary_names")]

    operations = [
        migrations.RunPython(drop_old_index, migrations.RunPython.noop),
        migrations.AddField(
            model_name="account",
            name="search_text",
            field=models.GeneratedField(
                db_persist=True,
                expression=Lower(
                    Concat(
                        *("label", models.Value("\n"), "nickname", models.Value("\n")),
                        *("wc_id", models.Value("\n"), "wechat_number"),
                    )
                ),
                output_field=models.TextField(),
            ),
        ),
        migrations.RunPython(index_trigrams, migrations.RunPython.noop),
    ]
