from django.db import migrations


def make_default(apps, schema_editor):
    policies = apps.get_model("accounts", "RecoveryPolicy").objects.using(schema_editor.connection.alias)
    if not policies.filter(is_default=True).exists():
        policies.get_or_create(name="Default", defaults={"is_default": True})


class Migration(migrations.Migration):
    dependencies = [("accounts", "0006_staying_online")]
    operations = [migrations.RunPython(make_default, migrations.RunPython.noop)]
