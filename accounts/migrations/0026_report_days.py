"""Ended days as reports count them. The first report fills the table."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0025_worker_slots")]

    operations = [
        migrations.CreateModel(
            name="ReportDay",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("kind", models.CharField(max_length=10)),
                ("day", models.DateField()),
                ("numbers", models.BinaryField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("kind", "day"), name="one_report_day"),
                ],
            },
        ),
    ]
