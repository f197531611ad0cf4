"""Where the phone of an account is, who takes care of it, its own proxy, and the keys by which lists sort; the archive,
the developer account, saved views and scan runs.

The stored column for searches is made again, with the place: seconds for 100,000 accounts.
"""

from importlib import import_module

import django.db.models.deletion
import django.db.models.functions.text
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import accounts.lib.encrypted_fields

index_trigrams = import_module("accounts.migrations.0005_search_text").index_trigrams


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0012_encrypted_qr_png"),
        ("auth", "0012_alter_user_first_name_max_length"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="IncidentNote",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("note", "Note"), ("taken", "Taken by a person"), ("released", "Released")],
                        default="note",
                        max_length=10,
                    ),
                ),
                ("text", models.CharField(blank=True, default="", max_length=500, verbose_name="note")),
                ("author_name", models.CharField(blank=True, default="", max_length=150)),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="LastVisit",
            fields=[
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="last_visit",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("seen_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("left_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
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
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="ScanRun",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("scan_queue", "Scan queue"),
                            ("new", "Never logged in"),
                            ("failed_login", "Last login failed"),
                            ("filter", "Filtered accounts"),
                            ("selection", "Selected accounts"),
                            ("again", "Again for the failed"),
                        ],
                        max_length=15,
                        verbose_name="source",
                    ),
                ),
                ("automatic_next", models.BooleanField(default=True, verbose_name="automatic next")),
                ("next_wanted", models.BooleanField(default=True, editable=False)),
                ("paused_at", models.DateTimeField(blank=True, null=True, verbose_name="paused")),
                (
                    "pause_reason",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("not_scanned", "QR code not scanned in time"),
                            ("no_answer", "No result in time"),
                            ("no_worker", "No worker available"),
                            ("cancelled", "Cancelled in the portal"),
                            ("declined", "Declined on the phone"),
                            ("wrong_account", "Scanned by another account"),
                            ("new_device_check", "New-device verification required"),
                            ("code_wrong", "Too many wrong verification codes"),
                            ("line_down", "Proxy unavailable"),
                            ("own_proxy", "Own proxy can’t be read"),
                            ("refused", "Refused by WKTeam"),
                            ("unreachable", "Can’t reach WKTeam"),
                            ("certificate", "WKTeam certificate not trusted"),
                            ("outcome_unknown", "WKTeam response lost"),
                            ("bad_answer", "Unreadable WKTeam response"),
                            ("sign_in_refused", "WKTeam authorization failed"),
                            ("developer_frozen", "Developer account frozen"),
                            ("developer_expired", "Developer account expired"),
                            ("qr_host", "QR code image on an unknown host"),
                            ("qr_host_down", "QR code image not available"),
                            ("qr_address", "Unusable QR code address"),
                            ("qr_picture", "Unreadable QR code image"),
                            ("interrupted", "Interrupted"),
                            ("not_tapped", "Not confirmed on the phone in time"),
                            ("prompt_declined", "Phone prompt declined"),
                            ("prompt_refused", "Phone prompt not possible now"),
                            ("no_seat", "Phone prompt not sent: no free seat at WKTeam"),
                            ("not_saved", "Result not saved"),
                        ],
                        default="",
                        max_length=20,
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="started"),
                ),
                (
                    "seen_at",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="last looked at"),
                ),
                ("ended_at", models.DateTimeField(blank=True, null=True, verbose_name="ended")),
            ],
            options={
                "verbose_name": "scan run",
                "verbose_name_plural": "scan runs",
            },
        ),
        migrations.CreateModel(
            name="ScanRunItem",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("position", models.PositiveIntegerField(verbose_name="position")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("ready", "QR code ready"),
                            ("shown", "Shown"),
                            ("done", "Online"),
                            ("failed", "Failed"),
                            ("skipped", "Skipped"),
                        ],
                        default="queued",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                ("slot", models.PositiveSmallIntegerField(default=0, editable=False)),
                (
                    "reason",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("not_scanned", "QR code not scanned in time"),
                            ("no_answer", "No result in time"),
                            ("no_worker", "No worker available"),
                            ("cancelled", "Cancelled in the portal"),
                            ("declined", "Declined on the phone"),
                            ("wrong_account", "Scanned by another account"),
                            ("new_device_check", "New-device verification required"),
                            ("code_wrong", "Too many wrong verification codes"),
                            ("line_down", "Proxy unavailable"),
                            ("own_proxy", "Own proxy can’t be read"),
                            ("refused", "Refused by WKTeam"),
                            ("unreachable", "Can’t reach WKTeam"),
                            ("certificate", "WKTeam certificate not trusted"),
                            ("outcome_unknown", "WKTeam response lost"),
                            ("bad_answer", "Unreadable WKTeam response"),
                            ("sign_in_refused", "WKTeam authorization failed"),
                            ("developer_frozen", "Developer account frozen"),
                            ("developer_expired", "Developer account expired"),
                            ("qr_host", "QR code image on an unknown host"),
                            ("qr_host_down", "QR code image not available"),
                            ("qr_address", "Unusable QR code address"),
                            ("qr_picture", "Unreadable QR code image"),
                            ("interrupted", "Interrupted"),
                            ("not_tapped", "Not confirmed on the phone in time"),
                            ("prompt_declined", "Phone prompt declined"),
                            ("prompt_refused", "Phone prompt not possible now"),
                            ("no_seat", "Phone prompt not sent: no free seat at WKTeam"),
                            ("not_saved", "Result not saved"),
                        ],
                        default="",
                        max_length=20,
                        verbose_name="reason",
                    ),
                ),
                ("renewals", models.PositiveSmallIntegerField(default=0, verbose_name="renewals")),
                ("fetched_ahead", models.PositiveSmallIntegerField(default=0, editable=False)),
                ("skips", models.PositiveSmallIntegerField(default=0, editable=False)),
                ("shown_at", models.DateTimeField(blank=True, null=True, verbose_name="shown")),
                ("ended_at", models.DateTimeField(blank=True, null=True, verbose_name="ended")),
            ],
            options={
                "verbose_name": "account of a scan run",
                "verbose_name_plural": "accounts of a scan run",
            },
        ),
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
                db_index=False,
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
            name="own_proxy",
            field=accounts.lib.encrypted_fields.EncryptedTextField(
                blank=True, editable=False, null=True, verbose_name="own proxy"
            ),
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
        migrations.AddField(
            model_name="incident",
            name="assigned_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="incident",
            name="assignee",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
                verbose_name="taken by",
            ),
        ),
        migrations.AddField(
            model_name="incident",
            name="assignment_note",
            field=models.CharField(
                blank=True, db_default="", default="", max_length=200, verbose_name="note"
            ),
        ),
        migrations.AddField(
            model_name="upstreamaccess",
            name="ends_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="ends"),
        ),
        migrations.AddField(
            model_name="upstreamaccess",
            name="read_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="read at"),
        ),
        migrations.AddField(
            model_name="upstreamaccess",
            name="read_due_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="upstreamaccess",
            name="seats",
            field=models.PositiveIntegerField(blank=True, null=True, verbose_name="seats"),
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
                ],
                max_length=20,
                verbose_name="event",
            ),
        ),
        migrations.AlterField(
            model_name="accountevent",
            name="reason",
            field=models.CharField(
                blank=True,
                choices=[
                    ("not_scanned", "QR code not scanned in time"),
                    ("no_answer", "No result in time"),
                    ("no_worker", "No worker available"),
                    ("cancelled", "Cancelled in the portal"),
                    ("declined", "Declined on the phone"),
                    ("wrong_account", "Scanned by another account"),
                    ("new_device_check", "New-device verification required"),
                    ("code_wrong", "Too many wrong verification codes"),
                    ("line_down", "Proxy unavailable"),
                    ("own_proxy", "Own proxy can’t be read"),
                    ("refused", "Refused by WKTeam"),
                    ("unreachable", "Can’t reach WKTeam"),
                    ("certificate", "WKTeam certificate not trusted"),
                    ("outcome_unknown", "WKTeam response lost"),
                    ("bad_answer", "Unreadable WKTeam response"),
                    ("sign_in_refused", "WKTeam authorization failed"),
                    ("developer_frozen", "Developer account frozen"),
                    ("developer_expired", "Developer account expired"),
                    ("qr_host", "QR code image on an unknown host"),
                    ("qr_host_down", "QR code image not available"),
                    ("qr_address", "Unusable QR code address"),
                    ("qr_picture", "Unreadable QR code image"),
                    ("interrupted", "Interrupted"),
                    ("not_tapped", "Not confirmed on the phone in time"),
                    ("prompt_declined", "Phone prompt declined"),
                    ("prompt_refused", "Phone prompt not possible now"),
                    ("no_seat", "Phone prompt not sent: no free seat at WKTeam"),
                    ("not_saved", "Result not saved"),
                ],
                default="",
                max_length=20,
                verbose_name="reason",
            ),
        ),
        migrations.AlterField(
            model_name="drop",
            name="next_step",
            field=models.CharField(
                choices=[
                    ("look", "Waiting for recovery"),
                    ("popup", "Phone prompt sent"),
                    ("back_off", "Waiting for the next prompt"),
                    ("hours", "Waiting for prompt hours"),
                    ("cap", "24-hour prompt limit reached"),
                    ("seats", "Waiting for a free seat at WKTeam"),
                    ("scan", "Queued for scan"),
                    ("nothing", "No automatic recovery"),
                    ("paused", "Paused: keep online is off"),
                ],
                default="look",
                max_length=10,
                verbose_name="recovery",
            ),
        ),
        migrations.AlterField(
            model_name="loginattempt",
            name="reason",
            field=models.CharField(
                blank=True,
                choices=[
                    ("not_scanned", "QR code not scanned in time"),
                    ("no_answer", "No result in time"),
                    ("no_worker", "No worker available"),
                    ("cancelled", "Cancelled in the portal"),
                    ("declined", "Declined on the phone"),
                    ("wrong_account", "Scanned by another account"),
                    ("new_device_check", "New-device verification required"),
                    ("code_wrong", "Too many wrong verification codes"),
                    ("line_down", "Proxy unavailable"),
                    ("own_proxy", "Own proxy can’t be read"),
                    ("refused", "Refused by WKTeam"),
                    ("unreachable", "Can’t reach WKTeam"),
                    ("certificate", "WKTeam certificate not trusted"),
                    ("outcome_unknown", "WKTeam response lost"),
                    ("bad_answer", "Unreadable WKTeam response"),
                    ("sign_in_refused", "WKTeam authorization failed"),
                    ("developer_frozen", "Developer account frozen"),
                    ("developer_expired", "Developer account expired"),
                    ("qr_host", "QR code image on an unknown host"),
                    ("qr_host_down", "QR code image not available"),
                    ("qr_address", "Unusable QR code address"),
                    ("qr_picture", "Unreadable QR code image"),
                    ("interrupted", "Interrupted"),
                    ("not_tapped", "Not confirmed on the phone in time"),
                    ("prompt_declined", "Phone prompt declined"),
                    ("prompt_refused", "Phone prompt not possible now"),
                    ("no_seat", "Phone prompt not sent: no free seat at WKTeam"),
                    ("not_saved", "Result not saved"),
                ],
                default="",
                max_length=20,
                verbose_name="reason",
            ),
        ),
        migrations.AlterField(
            model_name="notification",
            name="kind",
            field=models.CharField(
                choices=[
                    ("offline", "Account offline"),
                    ("to_scan", "Account queued for scan"),
                    ("back", "Account back online"),
                    ("incident", "Incident started"),
                    ("incident_over", "Incident ended"),
                    ("upstream", "WKTeam access denied"),
                    ("limits", "Developer account: seats and end"),
                    ("plan", "Plan finished"),
                    ("channel", "Channel disabled"),
                ],
                max_length=15,
                verbose_name="type",
            ),
        ),
        migrations.AlterField(
            model_name="planresult",
            name="outcome",
            field=models.CharField(
                choices=[
                    ("waiting", "Not started"),
                    ("prompted", "Phone prompt sent"),
                    ("recovery", "Handed over to recovery"),
                    ("online", "Logged in"),
                    ("to_scan", "Queued for scan"),
                    ("declined", "Phone prompt failed"),
                    ("busy", "Login already in progress"),
                    ("listed", "Already in the scan queue"),
                    ("changed", "No longer due"),
                    ("no_prompt", "Never logged in: scan required"),
                    ("cap", "24-hour prompt limit reached"),
                    ("hours", "Outside prompt hours"),
                    ("seats", "No free seat at WKTeam"),
                    ("left", "Deferred to the next run"),
                ],
                default="waiting",
                max_length=10,
                verbose_name="result",
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
                models.F("label_key"),
                models.F("id"),
                condition=models.Q(("own_proxy__isnull", False)),
                name="account_own_proxy",
            ),
        ),
        migrations.AddIndex(
            model_name="account",
            index=models.Index(
                models.F("keep_online"), models.F("label_key"), models.F("id"), name="account_keep_online"
            ),
        ),
        migrations.AddIndex(
            model_name="account",
            index=models.Index(models.F("rack"), models.F("id"), name="account_rack"),
        ),
        migrations.AddIndex(
            model_name="account",
            index=models.Index(
                models.F("id"),
                condition=models.Q(("login_seq__gt", models.F("bound_seq"))),
                name="account_unanswered",
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
        migrations.AddField(
            model_name="incidentnote",
            name="author",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="incidentnote",
            name="incident",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="notes",
                to="accounts.incident",
                verbose_name="incident",
            ),
        ),
        migrations.AddField(
            model_name="savedview",
            name="user",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="saved_views",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="scanrun",
            name="person",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
                verbose_name="operator",
            ),
        ),
        migrations.AddField(
            model_name="scanrunitem",
            name="account",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="accounts.account",
                verbose_name="account",
            ),
        ),
        migrations.AddField(
            model_name="scanrunitem",
            name="attempt",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="accounts.loginattempt",
            ),
        ),
        migrations.AddField(
            model_name="scanrunitem",
            name="run",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="items",
                to="accounts.scanrun",
            ),
        ),
        migrations.AddConstraint(
            model_name="savedview",
            constraint=models.UniqueConstraint(fields=("user", "name"), name="one_view_of_a_name"),
        ),
        migrations.AddIndex(
            model_name="scanrun",
            index=models.Index(fields=["person", "-id"], name="scan_run_of_person"),
        ),
        migrations.AddIndex(
            model_name="scanrun",
            index=models.Index(models.F("ended_at"), name="scan_run_ended"),
        ),
        migrations.AddIndex(
            model_name="scanrunitem",
            index=models.Index(
                models.F("run"), models.F("state"), models.F("position"), name="scan_item_of_run"
            ),
        ),
        migrations.AddConstraint(
            model_name="scanrunitem",
            constraint=models.UniqueConstraint(fields=("run", "account"), name="account_once_in_scan_run"),
        ),
        migrations.AddConstraint(
            model_name="scanrunitem",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state__in", ("ready", "shown"))),
                fields=("account",),
                name="account_at_one_station",
            ),
        ),
        migrations.AddConstraint(
            model_name="scanrunitem",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state__in", ("ready", "shown"))),
                fields=("run", "state", "slot"),
                name="one_item_in_slot",
            ),
        ),
        migrations.AddConstraint(
            model_name="scanrunitem",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("ended_at__isnull", False), ("state__in", ("done", "failed", "skipped"))),
                    models.Q(
                        models.Q(("state__in", ("done", "failed", "skipped")), _negated=True),
                        ("ended_at__isnull", True),
                    ),
                    _connector="OR",
                ),
                name="scan_item_ended_when_final",
            ),
        ),
    ]
