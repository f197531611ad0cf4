from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0024_job_runs")]

    operations = [
        migrations.AddField(
            model_name="waitsworker",
            name="slots",
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
    ]
