from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0021_password_links"),
    ]

    operations = [
        migrations.AddField(
            model_name="accountevent",
            name="left_team",
            field=models.BigIntegerField(editable=False, null=True),
        ),
    ]
