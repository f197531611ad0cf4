"""Where the phone of an account is, who takes care of it, and the keys by which lists sort.

The stored column for searches is made again, with the place: seconds for 100,000 accounts.
"""

from importlib import import_module

import django.db.models.deletion
import django.db.models.functions.text
from django.conf import settings
from django.db import migrations, models

index_trigrams = import_module("accounts.migrations.0005_search_text").index_trigrams


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0012_encrypted_qr_png"),
        ("auth", "0012_alter_user_first_name_max_length"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="account",
            name="account_state_is_known",
        ),
        migrations.RemoveIndex(
            model_name="account",
            name="account_label",
        ),
        migrations.RemoveIndex(
            model_name="account",
            name="account_state_label",
        ),
        migrations.RemoveIndex(
            model_name="account",
            name="account_team_label",
        ),
        migrations.RemoveIndex(
            model_name="account",
            name="account_line",
        ),
        migrations.RemoveIndex(
            model_name="account",
            name="account_keep_online",
        ),
        migrations.AddField(
            model_name="account",
            name="assigned_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="account",
            name="assignee",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
                verbose_name="taken by",
            ),
        ),
        migrations.AddField(
            model_name="account",
            name="assignment_note",
            field=models.CharField(
                blank=True, db_default="", default="", max_length=200, verbose_name="note"
            ),
        ),
        migrations.AddField(
            model_name="account",
            name="label_key",
            field=models.CharField(blank=True, db_default="", default="", editable=False, max_length=200),
        ),
        migrations.AddField(
            model_name="account",
            name="pause_reason",
            field=models.CharField(
                blank=True, db_default="", default="", max_length=200, verbose_name="reason for the pause"
            ),
        ),
        migrations.AddField(
            model_name="account",
            name="place",
            field=models.CharField(
                blank=True, db_default="", default="", max_length=80, verbose_name="place of the phone"
            ),
        ),
        migrations.AddField(
            model_name="account",
            name="place_key",
            field=models.CharField(blank=True, db_default="", default="", editable=False, max_length=200),
        ),
        migrations.AddField(
            model_name="account",
            name="rack",
            field=models.CharField(blank=True, db_default="", default="", editable=False, max_length=80),
        ),
        migrations.AddField(
            model_name="account",
            name="silenced_until",
            field=models.DateTimeField(blank=True, null=True, verbose_name="silenced until"),
        ),
        migrations.RemoveField("account", "search_text"),
        migrations.AddField(
            model_name="account",
            name="search_text",
            field=models.GeneratedField(
                db_persist=True,
                expression=django.db.models.functions.text.Lower(
                    django.db.models.functions.text.Concat(
                        "label",
                        models.Value("\n"),
                        "nickname",
                        models.Value("\n"),
                        "wc_id",
                        models.Value("\n"),
                        "wechat_id",
                        models.Value("\n"),
                        "place",
                    )
                ),
                output_field=models.TextField(),
            ),
        ),
        migrations.RunPython(index_trigrams, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="account",
            name="state",
            field=models.CharField(
                choices=[
                    ("new", "Never logged in"),
                    ("online", "Online"),
                    ("offline", "Offline"),
                    ("archived", "Archived"),
                ],
                default="new",
                max_length=10,
                verbose_name="state",
            ),
        ),
        migrations.AlterField(
            model_name="accountevent",
            name="happened",
            field=models.CharField(
                choices=[
                    ("attempt_started", "Login started"),
                    ("attempt_moved", "Login state changed"),
                    ("account_online", "Came online"),
                    ("account_offline", "Went offline"),
                    ("wait_taken", "Waiting for the phone"),
                    ("wait_resumed", "Wait resumed"),
                    ("late_success", "Phone confirmed after the login ended"),
                    ("stale_success", "Older login confirmed late; newer wId kept"),
                    ("other_account", "Logged in with another account’s QR code"),
                    ("joined", "Merged into the record with this wcId"),
                    ("added", "Account added"),
                    ("changed", "Details changed"),
                    ("to_scan", "Queued for scan"),
                    ("found_online", "Detected online; logged in outside the portal"),
                    ("logged_out", "Log-out at WKTeam requested; paused"),
                    ("listed_but_offline", "WKTeam lists it as online, but /isOnline says no"),
                    ("online_but_unlisted", "WKTeam doesn’t list it as online, but /isOnline says yes"),
                    ("reason_told", "WKTeam reported why it went offline"),
                    ("recovery_ended", "Recovery failed; manual action needed"),
                    ("assigned", "Taken by a person"),
                    ("released", "Released"),
                    ("paused", "Paused"),
                    ("resumed", "Resumed"),
                    ("silenced", "Notifications silenced"),
                    ("archived", "Archived"),
                    ("restored", "Restored from the archive"),
                    ("unmerged", "Merge undone"),
                    ("link_created", "Scan link created"),
                    ("link_opened", "Scan link opened"),
                    ("link_revoked", "Scan link revoked"),
                ],
                max_length=20,
                verbose_name="event",
            ),
        ),
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
                    ("owner", "Phone owner"),
                ],
                default="operator",
                max_length=10,
                verbose_name="trigger",
            ),
        ),
        migrations.AddIndex(
            model_name="account",
            index=models.Index(models.F("label_key"), models.F("id"), name="account_label"),
        ),
        migrations.AddIndex(
            model_name="account",
            index=models.Index(models.F("place_key"), models.F("id"), name="account_place"),
        ),
        migrations.AddIndex(
            model_name="account",
            index=models.Index(
                models.F("state"), models.F("label_key"), models.F("id"), name="account_state_label"
            ),
        ),
        migrations.AddIndex(
            model_name="account",
            index=models.Index(
                models.F("team"), models.F("label_key"), models.F("id"), name="account_team_label"
            ),
        ),
        migrations.AddIndex(
            model_name="account",
            index=models.Index(models.F("proxy"), models.F("label_key"), models.F("id"), name="account_line"),
        ),
        migrations.AddIndex(
            model_name="account",
            index=models.Index(
                models.F("keep_online"), models.F("label_key"), models.F("id"), name="account_keep_online"
            ),
        ),
        migrations.AddIndex(
            model_name="account",
            index=models.Index(
                models.F("team"), models.F("place_key"), models.F("id"), name="account_team_place"
            ),
        ),
        migrations.AddConstraint(
            model_name="account",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["new", "online", "offline", "archived"])),
                name="account_state_is_known",
            ),
        ),
    ]
