"""The keys by which lists sort are made for the accounts that exist."""

from django.db import migrations

from accounts.lib.lists.natural_order import natural_key

BATCH = 1000


def make_keys(apps, schema_editor):
    accounts = apps.get_model("accounts", "Account").objects
    last = 0
    while rows := list(accounts.filter(pk__gt=last).order_by("pk").only("label")[:BATCH]):
        for row in rows:
            row.label_key = natural_key(row.label)
        accounts.bulk_update(rows, ["label_key"])
        last = rows[-1].pk


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("accounts", "0013_desk")]

    operations = [migrations.RunPython(make_keys, migrations.RunPython.noop, elidable=True)]
