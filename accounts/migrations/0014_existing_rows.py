"""What the rows that exist need: accounts the keys by which lists sort, rules the developer account's kind."""

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


def warn_too(apps, schema_editor):
    """Rules about denied access cover the developer account's end and seats too."""
    for rule in apps.get_model("accounts", "Rule").objects.all():
        if "upstream" in rule.kinds and "limits" not in rule.kinds:
            rule.kinds = [*rule.kinds, "limits"]
            rule.save(update_fields=["kinds"])


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("accounts", "0013_desk")]

    operations = [
        migrations.RunPython(make_keys, migrations.RunPython.noop, elidable=True),
        migrations.RunPython(warn_too, migrations.RunPython.noop, elidable=True),
    ]
