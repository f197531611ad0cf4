"""The index for searches, and indexes for every list in every order."""

from django.db import migrations, models
from django.db.models.functions import Lower

import accounts.search


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_waits_workers")]

    operations = [
        migrations.CreateModel(
            name="Searched",
            fields=[
                ("account_id", models.BigIntegerField(db_column="rowid", primary_key=True, serialize=False)),
                ("text", accounts.search.SearchedText()),
            ],
            options={"db_table": "accounts_search", "default_permissions": (), "managed": False},
        ),
        migrations.RunPython(accounts.search.make, accounts.search.drop),
        migrations.RemoveIndex(model_name="account", name="account_state"),
        migrations.RemoveIndex(model_name="account", name="account_team_state"),
        migrations.AddIndex("account", models.Index("state", "id", "joined_to", name="account_state")),
        migrations.AddIndex(
            "account", models.Index("state", Lower("label"), "id", name="account_state_label")
        ),
        migrations.AddIndex(
            "account", models.Index("state", "state_since", "id", name="account_state_since")
        ),
        migrations.AddIndex("account", models.Index("team", "state_since", "id", name="account_team_since")),
        migrations.AddIndex(
            "account", models.Index("team", "state", "id", "joined_to", name="account_team_state")
        ),
        migrations.AddIndex("account", models.Index("proxy", Lower("label"), "id", name="account_line")),
        migrations.AddIndex(
            "account", models.Index("keep_online", Lower("label"), "id", name="account_keep_online")
        ),
    ]
