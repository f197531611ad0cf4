from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0004_search"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="loginattempt",
            name="one_open_attempt",
        ),
        migrations.RemoveIndex(
            model_name="loginattempt",
            name="attempt_open_deadline",
        ),
        migrations.AddIndex(
            model_name="loginattempt",
            index=models.Index(
                models.F("trigger"), models.F("created_at"), models.F("id"), name="attempt_trigger"
            ),
        ),
        migrations.AddIndex(
            model_name="loginattempt",
            index=models.Index(
                models.F("method"), models.F("created_at"), models.F("id"), name="attempt_method"
            ),
        ),
        migrations.AddIndex(
            model_name="loginattempt",
            index=models.Index(
                models.F("proxy"), models.F("created_at"), models.F("id"), name="attempt_line"
            ),
        ),
        migrations.AddIndex(
            model_name="loginattempt",
            index=models.Index(
                models.F("deadline_at"),
                condition=models.Q(("ended_at__isnull", True)),
                name="attempt_open_deadline",
            ),
        ),
        migrations.AddConstraint(
            model_name="loginattempt",
            constraint=models.UniqueConstraint(
                condition=models.Q(("ended_at__isnull", True)), fields=("account",), name="one_open_attempt"
            ),
        ),
    ]
