"""Saved views, and what the account list finds accounts by: the rack, a last login that did not succeed."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0015_developer_account"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="SavedView",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=40, verbose_name="name")),
                ("query", models.CharField(blank=True, default="", max_length=400)),
                (
                    "user",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="saved_views",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
                "constraints": [models.UniqueConstraint(fields=("user", "name"), name="one_view_of_a_name")],
            },
        ),
        migrations.AddIndex(
            model_name="account", index=models.Index(models.F("rack"), models.F("id"), name="account_rack")
        ),
        migrations.AddIndex(
            model_name="account",
            index=models.Index(
                models.F("id"),
                name="account_unanswered",
                condition=models.Q(login_seq__gt=models.F("bound_seq")),
            ),
        ),
    ]
