from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0017_preferences"),
    ]

    operations = [
        migrations.AddField(
            model_name="preferences",
            name="notifications",
            field=models.BooleanField(db_default=False, default=False, verbose_name="browser notifications"),
        ),
        migrations.AddField(
            model_name="preferences",
            name="sound",
            field=models.BooleanField(db_default=False, default=False, verbose_name="sound"),
        ),
    ]
