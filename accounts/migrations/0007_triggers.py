"""The choices of a trigger: no attempt was ever started by a phone owner."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0006_permission_names")]
    operations = [
        migrations.AlterField(
            model_name="loginattempt",
            name="trigger",
            field=models.CharField(
                choices=[
                    ("operator", "Operator"),
                    ("schedule", "Schedule"),
                    ("bulk", "Bulk login"),
                    ("recovery", "Recovery"),
                    ("api", "API"),
                ],
                default="operator",
                max_length=10,
                verbose_name="trigger",
            ),
        ),
    ]
