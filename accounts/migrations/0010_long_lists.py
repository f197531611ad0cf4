from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0009_room_for_sweeps")]

    operations = [
        migrations.AddIndex(
            model_name="account",
            index=models.Index(
                *("team", "to_scan_since", "id"),
                name="account_team_to_scan",
                condition=models.Q(to_scan_since__isnull=False),
            ),
        ),
        migrations.AddIndex(
            model_name="drop",
            index=models.Index("kind", "at", "id", name="drop_kind"),
        ),
    ]
