"""Room in the pages of accounts: a sweep rewrites every row that is online, and finds place for it beside the old one.

Without it each rewritten row goes to another page, and every index of the table is written for it.
"""

from django.db import migrations

FILL = 50


def set_fill(apps, schema_editor, fill: str) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"ALTER TABLE accounts_account {fill}")


def make_room(apps, schema_editor) -> None:
    set_fill(apps, schema_editor, f"SET (fillfactor = {FILL})")


def undo(apps, schema_editor) -> None:
    set_fill(apps, schema_editor, "RESET (fillfactor)")


class Migration(migrations.Migration):
    dependencies = [("accounts", "0008_rights_to_keep_online")]

    operations = [migrations.RunPython(make_room, undo)]
