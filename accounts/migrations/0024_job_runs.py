from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0023_link_of_attempt")]

    operations = [
        migrations.CreateModel(
            name="JobRun",
            fields=[
                ("name", models.CharField(max_length=40, primary_key=True, serialize=False)),
                ("ran_at", models.DateTimeField(null=True)),
                ("failed_at", models.DateTimeField(null=True)),
                ("error", models.CharField(blank=True, default="", max_length=100)),
            ],
        ),
    ]
