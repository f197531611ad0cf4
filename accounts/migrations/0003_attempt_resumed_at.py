from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_roles")]

    operations = [
        migrations.AddField(
            model_name="loginattempt",
            name="resumed_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="wait resumed"),
        ),
    ]
