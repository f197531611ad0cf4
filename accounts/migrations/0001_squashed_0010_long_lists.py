import django.core.validators
import django.db.models.deletion
import django.db.models.functions.text
import django.utils.timezone
from django.apps import apps as installed
from django.conf import settings
from django.contrib.auth.management import create_permissions
from django.db import migrations, models

import accounts.lib.encrypted_fields
import accounts.lib.time_windows

EDITED = ("recoverypolicy", "plan", "channel", "rule", "tag")
READ = (
    "loginattempt", "accountevent", "upstreamaccess", "drop", "incident", "planrun", "planentry", "notice", "delivery",
)  # fmt: skip
ROLES = {
    "Operators": ["view_account", "add_account", "change_account", "log_in_account", "view_loginattempt"],
    "Viewers": ["view_account", "view_loginattempt"],
    "Admins": [
        "view_account", "add_account", "change_account", "delete_account", "log_in_account", "view_every_account",
        *(f"{action}_{model}" for model in EDITED for action in ("view", "add", "change", "delete")),
        *(f"view_{model}" for model in READ),
    ],
}  # fmt: skip


def install_roles(apps, schema_editor):
    """Make the groups that carry a role. Django makes permissions after all migrations; the groups need them here."""
    create_permissions(
        installed.get_app_config("accounts"), verbosity=0, using=schema_editor.connection.alias, apps=apps
    )
    group_model, permission_model = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    for name, codenames in ROLES.items():
        group, _created = group_model.objects.get_or_create(name=name)
        group.permissions.add(
            *permission_model.objects.filter(content_type__app_label="accounts", codename__in=codenames)
        )


def make_default_policy(apps, schema_editor):
    apps.get_model("accounts", "RecoveryPolicy").objects.create(name="Default", is_default=True)


def leave_room(apps, schema_editor):
    """Keep half of each page of accounts free: a rewritten row then stays in its page, and no index is written."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE accounts_account SET (fillfactor = 50)")


class Migration(migrations.Migration):
    replaces = [
        ("accounts", "0001_initial"),
        ("accounts", "0002_roles"),
        ("accounts", "0003_waits_workers"),
        ("accounts", "0004_search"),
        ("accounts", "0005_open_attempts"),
        ("accounts", "0006_staying_online"),
        ("accounts", "0007_default_policy"),
        ("accounts", "0008_rights_to_keep_online"),
        ("accounts", "0009_room_for_sweeps"),
        ("accounts", "0010_long_lists"),
    ]

    initial = True

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Channel",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=60, unique=True, verbose_name="name")),
                (
                    "url",
                    accounts.lib.encrypted_fields.EncryptedTextField(editable=False, verbose_name="address"),
                ),
                (
                    "shown",
                    models.CharField(
                        blank=True, default="", editable=False, max_length=200, verbose_name="address"
                    ),
                ),
                (
                    "language",
                    models.CharField(
                        choices=[("zh-hans", "简体中文"), ("en", "English")],
                        default="zh-hans",
                        help_text="Language of the messages.",
                        max_length=10,
                        verbose_name="language",
                    ),
                ),
                ("active", models.BooleanField(default=True, verbose_name="enabled")),
                (
                    "switched_off_at",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="disabled at"),
                ),
                (
                    "switched_off_why",
                    models.CharField(
                        blank=True, default="", editable=False, max_length=300, verbose_name="reason"
                    ),
                ),
                ("sending_until", models.DateTimeField(blank=True, editable=False, null=True)),
                ("failures", models.PositiveSmallIntegerField(default=0, editable=False)),
                ("refusals", models.PositiveSmallIntegerField(default=0, editable=False)),
                ("next_at", models.DateTimeField(blank=True, editable=False, null=True)),
            ],
            options={
                "verbose_name": "channel",
                "verbose_name_plural": "channels",
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Discovered",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("wc_id", models.CharField(max_length=100, unique=True, verbose_name="wcId")),
                ("w_id", models.CharField(blank=True, default="", max_length=100, verbose_name="wId")),
                (
                    "found_at",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="detected"),
                ),
                ("ignored", models.BooleanField(default=False, verbose_name="ignored")),
            ],
            options={
                "verbose_name": "unmanaged account",
                "verbose_name_plural": "unmanaged accounts",
                "ordering": ["-found_at", "-id"],
            },
        ),
        migrations.CreateModel(
            name="Incident",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="started")),
                (
                    "shares",
                    models.CharField(blank=True, default="", max_length=10, verbose_name="in common:"),
                ),
                (
                    "shared",
                    models.CharField(blank=True, default="", max_length=101, verbose_name="shared value"),
                ),
                (
                    "last_drop_at",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="latest drop"),
                ),
                ("ended_at", models.DateTimeField(blank=True, null=True, verbose_name="ended")),
            ],
            options={
                "verbose_name": "incident",
                "verbose_name_plural": "incidents",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(models.F("id"), condition=models.Q(("ended_at", None)), name="incident_open")
                ],
            },
        ),
        migrations.CreateModel(
            name="Presence",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("due_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("taken_until", models.DateTimeField(blank=True, null=True)),
                ("asked_at", models.DateTimeField(blank=True, null=True, verbose_name="requested")),
                ("answered_at", models.DateTimeField(blank=True, null=True, verbose_name="responded at")),
                ("reasons_until", models.DateTimeField(blank=True, null=True)),
                ("unknown_since", models.DateTimeField(blank=True, null=True, verbose_name="unknown since")),
                (
                    "unknown_why",
                    models.CharField(blank=True, default="", max_length=20, verbose_name="reason"),
                ),
                ("online", models.PositiveIntegerField(default=0, verbose_name="accounts online")),
            ],
            options={
                "verbose_name": "presence check",
                "verbose_name_plural": "presence check",
            },
        ),
        migrations.CreateModel(
            name="Reading",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("floor", models.PositiveBigIntegerField(default=0)),
                ("newest", models.PositiveBigIntegerField(default=0)),
                ("moved_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
        ),
        migrations.CreateModel(
            name="RecoveryPolicy",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("hours_from", models.TimeField(blank=True, null=True, verbose_name="from")),
                ("hours_until", models.TimeField(blank=True, null=True, verbose_name="until")),
                (
                    "time_zone",
                    models.CharField(
                        blank=True,
                        db_default="",
                        default="",
                        help_text="For example Asia/Shanghai. Leave empty to use the site’s time zone.",
                        max_length=60,
                        validators=[accounts.lib.time_windows.known_zone],
                        verbose_name="time zone",
                    ),
                ),
                ("name", models.CharField(max_length=60, unique=True, verbose_name="name")),
                (
                    "is_default",
                    models.BooleanField(
                        default=False, verbose_name="default (for accounts without their own policy)"
                    ),
                ),
                (
                    "popup",
                    models.BooleanField(
                        default=True,
                        help_text="The owner confirms on the phone; no scan needed. Not used after a first-day drop, where it can’t work.",
                        verbose_name="send a phone prompt first",
                    ),
                ),
                (
                    "popups_a_day",
                    models.PositiveSmallIntegerField(
                        default=3,
                        validators=[django.core.validators.MaxValueValidator(20)],
                        verbose_name="max prompts per account in 24 hours",
                    ),
                ),
                (
                    "popups_a_minute",
                    models.PositiveSmallIntegerField(
                        default=10,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(600),
                        ],
                        verbose_name="max prompts per minute for all accounts",
                    ),
                ),
                (
                    "pause_minutes",
                    models.PositiveSmallIntegerField(
                        default=5,
                        help_text="Doubles after each further prompt, plus a small random delay.",
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(720),
                        ],
                        verbose_name="minutes before the second prompt",
                    ),
                ),
                (
                    "scan",
                    models.BooleanField(
                        default=True,
                        help_text="Adds the account to the scan queue.",
                        verbose_name="then add to scan queue",
                    ),
                ),
            ],
            options={
                "verbose_name": "recovery policy",
                "verbose_name_plural": "recovery policies",
                "ordering": ["name"],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("is_default", True)),
                        fields=("is_default",),
                        name="one_default_policy",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Rule",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "time_zone",
                    models.CharField(
                        blank=True,
                        db_default="",
                        default="",
                        help_text="For example Asia/Shanghai. Leave empty to use the site’s time zone.",
                        max_length=60,
                        validators=[accounts.lib.time_windows.known_zone],
                        verbose_name="time zone",
                    ),
                ),
                ("kinds", models.JSONField(default=list, verbose_name="notify about")),
                (
                    "debounce_seconds",
                    models.PositiveIntegerField(
                        default=180,
                        help_text="Nothing is sent if the problem is over by then.",
                        validators=[django.core.validators.MaxValueValidator(86400)],
                        verbose_name="notification delay (seconds)",
                    ),
                ),
                (
                    "digest_minutes",
                    models.PositiveSmallIntegerField(
                        default=0,
                        help_text="Notifications within this interval are combined into one message. 0 sends each one separately.",
                        validators=[django.core.validators.MaxValueValidator(1440)],
                        verbose_name="digest interval (minutes)",
                    ),
                ),
                (
                    "hours_from",
                    models.TimeField(
                        blank=True,
                        help_text="Notifications during quiet hours are held back and sent as one message at the end.",
                        null=True,
                        verbose_name="quiet hours start",
                    ),
                ),
                ("hours_until", models.TimeField(blank=True, null=True, verbose_name="quiet hours end")),
                (
                    "incidents_at_once",
                    models.BooleanField(
                        default=True,
                        help_text="Incidents and denied WKTeam access are sent immediately at any hour.",
                        verbose_name="send incidents during quiet hours",
                    ),
                ),
                (
                    "channel",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="rules",
                        to="accounts.channel",
                        verbose_name="channel",
                    ),
                ),
                (
                    "teams",
                    models.ManyToManyField(
                        blank=True,
                        help_text="Only notify about accounts of these teams. Select none for all accounts.",
                        related_name="+",
                        to="auth.group",
                        verbose_name="teams",
                    ),
                ),
            ],
            options={
                "verbose_name": "rule",
                "verbose_name_plural": "rules",
                "ordering": ["channel", "id"],
            },
        ),
        migrations.CreateModel(
            name="Tag",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=40, unique=True, verbose_name="name")),
            ],
            options={
                "verbose_name": "tag",
                "verbose_name_plural": "tags",
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Account",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "label",
                    models.CharField(
                        help_text="Your own name for this account.", max_length=100, verbose_name="label"
                    ),
                ),
                (
                    "wc_id",
                    models.CharField(
                        blank=True, default=None, max_length=100, null=True, unique=True, verbose_name="wcId"
                    ),
                ),
                ("w_id", models.CharField(blank=True, default="", max_length=100, verbose_name="wId")),
                (
                    "state",
                    models.CharField(
                        choices=[("new", "Never logged in"), ("online", "Online"), ("offline", "Offline")],
                        default="new",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                (
                    "state_since",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="since"),
                ),
                ("verified_at", models.DateTimeField(blank=True, null=True, verbose_name="last checked")),
                (
                    "nickname",
                    models.CharField(blank=True, default="", max_length=100, verbose_name="nickname"),
                ),
                (
                    "wechat_number",
                    models.CharField(blank=True, default="", max_length=100, verbose_name="WeChat ID"),
                ),
                (
                    "avatar_url",
                    models.CharField(blank=True, default="", max_length=500, verbose_name="avatar URL"),
                ),
                ("sex", models.PositiveSmallIntegerField(blank=True, null=True, verbose_name="gender")),
                ("region", models.CharField(blank=True, default="", max_length=101, verbose_name="region")),
                (
                    "signature",
                    models.CharField(blank=True, default="", max_length=200, verbose_name="signature"),
                ),
                (
                    "mobile",
                    models.CharField(blank=True, default="", max_length=30, verbose_name="phone number"),
                ),
                ("proxy", models.PositiveSmallIntegerField(blank=True, null=True, verbose_name="proxy")),
                ("note", models.TextField(blank=True, default="", max_length=2000, verbose_name="note")),
                (
                    "keep_online",
                    models.BooleanField(
                        default=True,
                        help_text="Recover this account when it drops. Off means paused.",
                        verbose_name="keep online",
                    ),
                ),
                (
                    "relogin_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="scheduled re-login"),
                ),
                ("first_login_at", models.DateTimeField(blank=True, null=True, verbose_name="first login")),
                ("last_login_at", models.DateTimeField(blank=True, null=True, verbose_name="last login")),
                ("last_offline_at", models.DateTimeField(blank=True, null=True, verbose_name="last drop")),
                (
                    "last_offline_reason",
                    models.CharField(
                        blank=True, default="", max_length=300, verbose_name="reason for the last drop"
                    ),
                ),
                ("login_seq", models.PositiveIntegerField(default=0, editable=False)),
                ("bound_seq", models.PositiveIntegerField(default=0, editable=False)),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="added"
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="wechat_accounts",
                        to="auth.group",
                        verbose_name="team",
                    ),
                ),
                ("absent", models.PositiveSmallIntegerField(db_default=0, default=0, editable=False)),
                ("hours_from", models.TimeField(blank=True, null=True, verbose_name="from")),
                ("hours_until", models.TimeField(blank=True, null=True, verbose_name="until")),
                ("missed_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "missed_by",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("sweep", "Automatic check"),
                            ("notice", "WKTeam callback"),
                            ("check", "Manual check"),
                        ],
                        db_default="",
                        default="",
                        editable=False,
                        max_length=10,
                    ),
                ),
                ("reason_asked_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "time_zone",
                    models.CharField(
                        blank=True,
                        db_default="",
                        default="",
                        help_text="For example Asia/Shanghai. Leave empty to use the site’s time zone.",
                        max_length=60,
                        validators=[accounts.lib.time_windows.known_zone],
                        verbose_name="time zone",
                    ),
                ),
                (
                    "joined_to",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="joined",
                        to="accounts.account",
                        verbose_name="merged into",
                    ),
                ),
                (
                    "to_scan_since",
                    models.DateTimeField(blank=True, null=True, verbose_name="in scan queue since"),
                ),
                (
                    "policy",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="accounts",
                        to="accounts.recoverypolicy",
                        verbose_name="recovery policy",
                    ),
                ),
                (
                    "tags",
                    models.ManyToManyField(
                        blank=True, related_name="accounts", to="accounts.tag", verbose_name="tags"
                    ),
                ),
            ],
            options={
                "verbose_name": "account",
                "verbose_name_plural": "accounts",
                "permissions": [
                    ("log_in_account", "Can log in accounts"),
                    ("view_every_account", "Can view accounts of all teams"),
                ],
                "indexes": [
                    models.Index(
                        django.db.models.functions.text.Lower("label"), models.F("id"), name="account_label"
                    ),
                    models.Index(models.F("state_since"), models.F("id"), name="account_since"),
                    models.Index(
                        models.F("state"), models.F("id"), models.F("joined_to"), name="account_state"
                    ),
                    models.Index(
                        models.F("state"),
                        django.db.models.functions.text.Lower("label"),
                        models.F("id"),
                        name="account_state_label",
                    ),
                    models.Index(
                        models.F("state"), models.F("state_since"), models.F("id"), name="account_state_since"
                    ),
                    models.Index(
                        models.F("team"),
                        django.db.models.functions.text.Lower("label"),
                        models.F("id"),
                        name="account_team_label",
                    ),
                    models.Index(
                        models.F("team"), models.F("state_since"), models.F("id"), name="account_team_since"
                    ),
                    models.Index(
                        models.F("team"),
                        models.F("state"),
                        models.F("id"),
                        models.F("joined_to"),
                        name="account_team_state",
                    ),
                    models.Index(
                        models.F("proxy"),
                        django.db.models.functions.text.Lower("label"),
                        models.F("id"),
                        name="account_line",
                    ),
                    models.Index(
                        models.F("keep_online"),
                        django.db.models.functions.text.Lower("label"),
                        models.F("id"),
                        name="account_keep_online",
                    ),
                    models.Index(
                        models.F("joined_to"),
                        condition=models.Q(("joined_to__isnull", False)),
                        name="account_joined",
                    ),
                    models.Index(models.F("first_login_at"), name="account_first_login"),
                    models.Index(models.F("last_login_at"), name="account_last_login"),
                    models.Index(
                        models.F("to_scan_since"),
                        models.F("id"),
                        condition=models.Q(("to_scan_since__isnull", False)),
                        name="account_to_scan",
                    ),
                    models.Index(
                        models.F("team"),
                        models.F("to_scan_since"),
                        models.F("id"),
                        condition=models.Q(("to_scan_since__isnull", False)),
                        name="account_team_to_scan",
                    ),
                    models.Index(
                        models.F("relogin_at"),
                        models.F("id"),
                        condition=models.Q(("relogin_at__isnull", False)),
                        name="account_due",
                    ),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("wc_id", ""), _negated=True), name="wc_id_is_null_when_unknown"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["new", "online", "offline"])),
                        name="account_state_is_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("state", "online"), ("w_id__gt", "")),
                            models.Q(models.Q(("state", "online"), _negated=True), ("w_id", "")),
                            _connector="OR",
                        ),
                        name="w_id_while_online",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("state", "online"), _negated=True),
                            ("wc_id__isnull", False),
                            _connector="OR",
                        ),
                        name="online_has_wc_id",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Avatar",
            fields=[
                (
                    "account",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        serialize=False,
                        to="accounts.account",
                    ),
                ),
                ("png", models.BinaryField()),
                ("source_url", models.CharField(max_length=500)),
                ("fetched_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
        ),
        migrations.CreateModel(
            name="Drop",
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
                        choices=[
                            ("ordinary", "Dropped"),
                            ("first_night", "First-day drop"),
                            ("at_once", "Immediate drop"),
                        ],
                        default="ordinary",
                        max_length=15,
                        verbose_name="type",
                    ),
                ),
                (
                    "found_by",
                    models.CharField(
                        choices=[
                            ("sweep", "Automatic check"),
                            ("notice", "WKTeam callback"),
                            ("check", "Manual check"),
                        ],
                        default="sweep",
                        max_length=10,
                        verbose_name="detected by",
                    ),
                ),
                ("w_id", models.CharField(max_length=100, verbose_name="wId")),
                ("online_since", models.DateTimeField(blank=True, null=True, verbose_name="online since")),
                ("at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="detected")),
                ("proxy", models.PositiveSmallIntegerField(blank=True, null=True, verbose_name="proxy")),
                ("region", models.CharField(blank=True, default="", max_length=101, verbose_name="region")),
                (
                    "reason_text",
                    models.CharField(blank=True, default="", max_length=300, verbose_name="WKTeam message"),
                ),
                (
                    "next_step",
                    models.CharField(
                        choices=[
                            ("look", "Waiting for recovery"),
                            ("popup", "Phone prompt sent"),
                            ("back_off", "Waiting for the next prompt"),
                            ("hours", "Waiting for prompt hours"),
                            ("cap", "24-hour prompt limit reached"),
                            ("scan", "Queued for scan"),
                            ("nothing", "No automatic recovery"),
                            ("paused", "Paused: keep online is off"),
                        ],
                        default="look",
                        max_length=10,
                        verbose_name="recovery",
                    ),
                ),
                (
                    "next_at",
                    models.DateTimeField(
                        blank=True, default=django.utils.timezone.now, null=True, verbose_name="next step at"
                    ),
                ),
                ("popups", models.PositiveSmallIntegerField(default=0, verbose_name="prompts")),
                ("ended_at", models.DateTimeField(blank=True, null=True, verbose_name="recovered")),
                (
                    "ended_by",
                    models.CharField(
                        blank=True,
                        choices=[("qr", "QR code"), ("popup", "Phone prompt")],
                        default="",
                        max_length=10,
                        verbose_name="recovered by",
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="drops",
                        to="accounts.account",
                        verbose_name="account",
                    ),
                ),
                (
                    "incident",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="drops",
                        to="accounts.incident",
                        verbose_name="incident",
                    ),
                ),
            ],
            options={
                "verbose_name": "drop",
                "verbose_name_plural": "drops",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(fields=["account", "-id"], name="drop_of_account"),
                    models.Index(models.F("at"), models.F("id"), name="drop_time"),
                    models.Index(models.F("kind"), models.F("at"), models.F("id"), name="drop_kind"),
                    models.Index(
                        models.F("next_at"),
                        models.F("id"),
                        condition=models.Q(("ended_at", None)),
                        name="drop_due",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("ended_at", None)), fields=("account",), name="one_open_drop"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="LoginAttempt",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "method",
                    models.CharField(
                        choices=[("qr", "QR code"), ("popup", "Phone prompt")],
                        default="qr",
                        max_length=10,
                        verbose_name="method",
                    ),
                ),
                (
                    "trigger",
                    models.CharField(
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
                ("asked_by_name", models.CharField(blank=True, default="", editable=False, max_length=150)),
                ("proxy", models.PositiveSmallIntegerField(blank=True, null=True, verbose_name="proxy")),
                ("seq", models.PositiveIntegerField(editable=False)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("preparing", "Preparing"),
                            ("waiting", "Waiting for scan"),
                            ("code_required", "Code required"),
                            ("page_required", "Needs verification"),
                            ("succeeded", "Logged in"),
                            ("failed", "Failed"),
                            ("expired", "Timed out"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="preparing",
                        max_length=15,
                        verbose_name="state",
                    ),
                ),
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
                            ("refused", "Refused by WKTeam"),
                            ("unreachable", "Can’t reach WKTeam"),
                            ("outcome_unknown", "WKTeam response lost"),
                            ("bad_answer", "Unreadable WKTeam response"),
                            ("sign_in_refused", "WKTeam authorization failed"),
                            ("developer_frozen", "Developer account frozen"),
                            ("developer_expired", "Developer account expired"),
                            ("qr_host", "QR code image on an unknown host"),
                            ("qr_picture", "Unreadable QR code image"),
                            ("interrupted", "Interrupted"),
                            ("not_tapped", "Not confirmed on the phone in time"),
                            ("prompt_declined", "Phone prompt declined"),
                            ("prompt_refused", "Phone prompt not possible now"),
                        ],
                        default="",
                        max_length=20,
                        verbose_name="reason",
                    ),
                ),
                (
                    "upstream_code",
                    models.CharField(
                        blank=True, default="", max_length=20, verbose_name="WKTeam response code"
                    ),
                ),
                (
                    "upstream_text",
                    models.CharField(blank=True, default="", max_length=300, verbose_name="WKTeam message"),
                ),
                ("other_name", models.CharField(blank=True, default="", editable=False, max_length=210)),
                ("w_id", models.CharField(blank=True, default="", max_length=100, verbose_name="wId")),
                (
                    "qr_text",
                    accounts.lib.encrypted_fields.EncryptedTextField(blank=True, default="", editable=False),
                ),
                ("qr_png", models.BinaryField(null=True)),
                (
                    "page_url",
                    accounts.lib.encrypted_fields.EncryptedTextField(blank=True, default="", editable=False),
                ),
                (
                    "verify_code",
                    accounts.lib.encrypted_fields.EncryptedTextField(blank=True, default="", editable=False),
                ),
                ("codes_tried", models.PositiveSmallIntegerField(default=0, editable=False)),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="requested"),
                ),
                ("sent_at", models.DateTimeField(blank=True, null=True, verbose_name="QR code requested")),
                ("qr_shown_at", models.DateTimeField(blank=True, null=True, verbose_name="QR code shown")),
                ("wait_started_at", models.DateTimeField(blank=True, null=True, verbose_name="wait started")),
                ("ended_at", models.DateTimeField(blank=True, null=True, verbose_name="ended")),
                ("deadline_at", models.DateTimeField(verbose_name="deadline")),
                ("lease_owner", models.CharField(blank=True, default="", editable=False, max_length=100)),
                ("lease_epoch", models.PositiveIntegerField(default=0, editable=False)),
                ("queued_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "account",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="attempts",
                        to="accounts.account",
                        verbose_name="account",
                    ),
                ),
                (
                    "asked_by",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="operator",
                    ),
                ),
                (
                    "other_account",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="accounts.account",
                        verbose_name="scanned by",
                    ),
                ),
                ("resumed_at", models.DateTimeField(blank=True, null=True, verbose_name="wait resumed")),
                (
                    "device_type",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=10, verbose_name="device type"
                    ),
                ),
                (
                    "old_w_id",
                    models.CharField(blank=True, db_default="", default="", editable=False, max_length=100),
                ),
            ],
            options={
                "verbose_name": "login attempt",
                "verbose_name_plural": "login attempts",
                "indexes": [
                    models.Index(fields=["account", "-id"], name="attempt_of_account"),
                    models.Index(models.F("created_at"), models.F("id"), name="attempt_time"),
                    models.Index(
                        models.F("state"), models.F("created_at"), models.F("id"), name="attempt_state"
                    ),
                    models.Index(
                        models.F("reason"), models.F("created_at"), models.F("id"), name="attempt_reason"
                    ),
                    models.Index(
                        models.F("trigger"), models.F("created_at"), models.F("id"), name="attempt_trigger"
                    ),
                    models.Index(
                        models.F("method"), models.F("created_at"), models.F("id"), name="attempt_method"
                    ),
                    models.Index(
                        models.F("proxy"), models.F("created_at"), models.F("id"), name="attempt_line"
                    ),
                    models.Index(
                        models.F("asked_by"), models.F("created_at"), models.F("id"), name="attempt_asked_by"
                    ),
                    models.Index(models.F("w_id"), name="attempt_w_id"),
                    models.Index(
                        models.F("deadline_at"),
                        condition=models.Q(("ended_at__isnull", True)),
                        name="attempt_open_deadline",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("ended_at__isnull", True)),
                        fields=("account",),
                        name="one_open_attempt",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "state__in",
                                [
                                    "preparing",
                                    "waiting",
                                    "code_required",
                                    "page_required",
                                    "succeeded",
                                    "failed",
                                    "expired",
                                    "cancelled",
                                ],
                            )
                        ),
                        name="attempt_state_is_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("ended_at__isnull", True),
                                ("state__in", ("preparing", "waiting", "code_required", "page_required")),
                            ),
                            models.Q(
                                ("ended_at__isnull", False),
                                ("state__in", ("succeeded", "failed", "expired", "cancelled")),
                            ),
                            _connector="OR",
                        ),
                        name="ended_when_final",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("state__in", ("succeeded", "failed", "expired", "cancelled")), _negated=True
                            ),
                            models.Q(
                                ("page_url", ""), ("qr_png", None), ("qr_text", ""), ("verify_code", "")
                            ),
                            _connector="OR",
                        ),
                        name="no_capability_left",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="AccountEvent",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "happened",
                    models.CharField(
                        choices=[
                            ("attempt_started", "Login started"),
                            ("attempt_moved", "Login state changed"),
                            ("account_online", "Came online"),
                            ("account_offline", "Went offline"),
                            ("wait_taken", "Waiting for the phone"),
                            ("wait_resumed", "Wait resumed"),
                            ("late_success", "Phone confirmed after the login ended"),
                            (
                                "stale_success",
                                "Older login confirmed late; newer wId kept",
                            ),
                            ("other_account", "Logged in with another account’s QR code"),
                            ("joined", "Merged into the record with this wcId"),
                            ("added", "Account added"),
                            ("changed", "Details changed"),
                            ("to_scan", "Queued for scan"),
                            ("found_online", "Detected online; logged in outside the portal"),
                            ("reason_told", "WKTeam reported why it went offline"),
                            ("recovery_ended", "Recovery failed; manual action needed"),
                        ],
                        max_length=20,
                        verbose_name="event",
                    ),
                ),
                ("from_state", models.CharField(blank=True, default="", max_length=15, verbose_name="from")),
                ("to_state", models.CharField(blank=True, default="", max_length=15, verbose_name="to")),
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
                            ("refused", "Refused by WKTeam"),
                            ("unreachable", "Can’t reach WKTeam"),
                            ("outcome_unknown", "WKTeam response lost"),
                            ("bad_answer", "Unreadable WKTeam response"),
                            ("sign_in_refused", "WKTeam authorization failed"),
                            ("developer_frozen", "Developer account frozen"),
                            ("developer_expired", "Developer account expired"),
                            ("qr_host", "QR code image on an unknown host"),
                            ("qr_picture", "Unreadable QR code image"),
                            ("interrupted", "Interrupted"),
                            ("not_tapped", "Not confirmed on the phone in time"),
                            ("prompt_declined", "Phone prompt declined"),
                            ("prompt_refused", "Phone prompt not possible now"),
                        ],
                        default="",
                        max_length=20,
                        verbose_name="reason",
                    ),
                ),
                ("detail", models.CharField(blank=True, default="", max_length=300, verbose_name="details")),
                ("actor_name", models.CharField(blank=True, default="", editable=False, max_length=150)),
                ("at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="time")),
                (
                    "account",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="events",
                        to="accounts.account",
                        verbose_name="account",
                    ),
                ),
                (
                    "actor",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="by",
                    ),
                ),
                (
                    "attempt",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="events",
                        to="accounts.loginattempt",
                        verbose_name="login attempt",
                    ),
                ),
            ],
            options={
                "verbose_name": "event",
                "verbose_name_plural": "events",
                "indexes": [
                    models.Index(fields=["account", "-id"], name="event_of_account"),
                    models.Index(models.F("attempt"), models.F("id"), name="event_of_attempt"),
                    models.Index(models.F("at"), models.F("id"), name="event_time"),
                    models.Index(models.F("happened"), models.F("at"), models.F("id"), name="event_happened"),
                    models.Index(models.F("reason"), models.F("at"), models.F("id"), name="event_reason"),
                    models.Index(models.F("actor"), models.F("at"), models.F("id"), name="event_actor"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Notice",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("key", models.CharField(max_length=100, unique=True)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("offline", "Account offline"),
                            ("to_scan", "Account queued for scan"),
                            ("back", "Account back online"),
                            ("incident", "Incident started"),
                            ("incident_over", "Incident ended"),
                            ("upstream", "WKTeam access denied"),
                            ("plan", "Plan finished"),
                            ("channel", "Channel disabled"),
                        ],
                        max_length=15,
                        verbose_name="type",
                    ),
                ),
                ("facts", models.JSONField(default=dict)),
                ("at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="time")),
                ("ended_at", models.DateTimeField(blank=True, null=True, verbose_name="ended")),
                ("closed_at", models.DateTimeField(blank=True, null=True)),
                (
                    "account",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.account",
                        verbose_name="account",
                    ),
                ),
                (
                    "drop",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="accounts.drop",
                    ),
                ),
                (
                    "ended_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="ends",
                        to="accounts.notice",
                    ),
                ),
                (
                    "incident",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.incident",
                    ),
                ),
            ],
            options={
                "verbose_name": "notification",
                "verbose_name_plural": "notifications",
                "indexes": [
                    models.Index(
                        models.F("account"),
                        models.F("id"),
                        condition=models.Q(("ended_at", None)),
                        name="notice_open",
                    ),
                    models.Index(
                        models.F("closed_at"),
                        condition=models.Q(("closed_at__isnull", False), ("ended_by", None)),
                        name="notice_closed",
                    ),
                    models.Index(models.F("at"), name="notice_time"),
                    models.Index(
                        models.F("incident"),
                        models.F("id"),
                        condition=models.Q(("incident__isnull", False)),
                        name="notice_of_incident",
                    ),
                    models.Index(
                        models.F("drop"), condition=models.Q(("drop__isnull", False)), name="notice_of_drop"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("failed", "Failed, will retry"),
                            ("sent", "Sent"),
                            ("given_up", "Gave up"),
                            ("unneeded", "No longer needed"),
                        ],
                        default="pending",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="created"),
                ),
                ("next_at", models.DateTimeField(blank=True, null=True, verbose_name="next retry")),
                ("tries", models.PositiveSmallIntegerField(default=0, verbose_name="tries")),
                ("sent_at", models.DateTimeField(blank=True, null=True, verbose_name="sent")),
                ("together", models.BooleanField(default=False)),
                ("message", models.PositiveBigIntegerField(blank=True, null=True, verbose_name="message")),
                ("may_have_arrived", models.BooleanField(default=False)),
                (
                    "error",
                    models.CharField(blank=True, default="", max_length=300, verbose_name="last error"),
                ),
                (
                    "channel",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="accounts.channel",
                        verbose_name="channel",
                    ),
                ),
                (
                    "notice",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="accounts.notice",
                        verbose_name="notification",
                    ),
                ),
                (
                    "rule",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="accounts.rule",
                    ),
                ),
            ],
            options={
                "verbose_name": "delivery",
                "verbose_name_plural": "deliveries",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(
                        models.F("next_at"),
                        models.F("id"),
                        condition=models.Q(("state__in", ("pending", "failed"))),
                        name="delivery_due",
                    ),
                    models.Index(fields=["state", "-id"], name="delivery_state"),
                    models.Index(models.F("created_at"), models.F("id"), name="delivery_time"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("channel", "notice"), name="told_once_on_a_channel")
                ],
            },
        ),
        migrations.CreateModel(
            name="Plan",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=60, unique=True, verbose_name="name")),
                ("active", models.BooleanField(default=True, verbose_name="enabled")),
                (
                    "state",
                    models.CharField(
                        blank=True,
                        choices=[("new", "Never logged in"), ("online", "Online"), ("offline", "Offline")],
                        default="offline",
                        help_text="Leave empty for any state. Accounts that are online also get a new wId.",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                (
                    "only_due",
                    models.BooleanField(
                        default=False,
                        help_text="Accounts whose scheduled re-login time has passed and that haven’t been logged in since.",
                        verbose_name="due accounts only",
                    ),
                ),
                (
                    "crontab",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Minute, hour, day of month, month, day of week. “30 9 * * 1-5” means 9:30, Monday to Friday. If you set both kinds of days, both must match.",
                        max_length=200,
                        verbose_name="cron expression",
                    ),
                ),
                (
                    "weekdays",
                    models.CharField(blank=True, default="", max_length=13, verbose_name="days of the week"),
                ),
                (
                    "at",
                    models.TimeField(
                        blank=True,
                        help_text="Use instead of a cron expression. If daylight saving time skips this time, the run starts right after the gap.",
                        null=True,
                        verbose_name="time of day",
                    ),
                ),
                (
                    "time_zone",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="For example Asia/Shanghai. Leave empty to use the site’s time zone.",
                        max_length=60,
                        validators=[accounts.lib.time_windows.known_zone],
                        verbose_name="time zone",
                    ),
                ),
                (
                    "method",
                    models.CharField(
                        choices=[
                            ("ladder", "Phone prompt, then scan queue"),
                            ("popup", "Phone prompt only"),
                            ("scan", "Scan queue"),
                        ],
                        default="ladder",
                        max_length=10,
                        verbose_name="method",
                    ),
                ),
                (
                    "most_a_run",
                    models.PositiveIntegerField(
                        default=100,
                        help_text="Accounts that haven’t been logged in for longest come first. The rest wait for the next run.",
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(20000),
                        ],
                        verbose_name="max accounts per run",
                    ),
                ),
                (
                    "most_a_minute",
                    models.PositiveSmallIntegerField(
                        default=10,
                        help_text="The limits and prompt hours of each account’s recovery policy also apply.",
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(600),
                        ],
                        verbose_name="max accounts per minute",
                    ),
                ),
                (
                    "next_at",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="next run"),
                ),
                (
                    "team",
                    models.ForeignKey(
                        blank=True,
                        help_text="Leave empty for all teams.",
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="plans",
                        to="auth.group",
                        verbose_name="team",
                    ),
                ),
                (
                    "tags",
                    models.ManyToManyField(
                        blank=True,
                        help_text="Accounts with any of these tags. Select none for all accounts.",
                        related_name="plans",
                        to="accounts.tag",
                        verbose_name="tags",
                    ),
                ),
            ],
            options={
                "verbose_name": "plan",
                "verbose_name_plural": "plans",
                "ordering": ["name"],
                "indexes": [
                    models.Index(models.F("next_at"), condition=models.Q(("active", True)), name="plan_next")
                ],
            },
        ),
        migrations.CreateModel(
            name="PlanRun",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("plan_name", models.CharField(blank=True, default="", max_length=60, verbose_name="plan")),
                (
                    "method",
                    models.CharField(
                        choices=[
                            ("ladder", "Phone prompt, then scan queue"),
                            ("popup", "Phone prompt only"),
                            ("scan", "Scan queue"),
                        ],
                        default="ladder",
                        max_length=10,
                        verbose_name="method",
                    ),
                ),
                ("slot_at", models.DateTimeField(verbose_name="scheduled")),
                ("began_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="started")),
                ("ended_at", models.DateTimeField(blank=True, null=True, verbose_name="ended")),
                (
                    "asked_by_name",
                    models.CharField(blank=True, default="", max_length=150, verbose_name="by"),
                ),
                ("due", models.PositiveIntegerField(default=0, verbose_name="due accounts")),
                ("told_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("skipped", models.BooleanField(default=False, verbose_name="skipped")),
                (
                    "asked_by",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="operator",
                    ),
                ),
                (
                    "plan",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="runs",
                        to="accounts.plan",
                        verbose_name="plan",
                    ),
                ),
            ],
            options={
                "verbose_name": "plan run",
                "verbose_name_plural": "plan runs",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(models.F("began_at"), models.F("id"), name="run_time"),
                    models.Index(models.F("id"), condition=models.Q(("ended_at", None)), name="run_open"),
                    models.Index(
                        models.F("ended_at"), condition=models.Q(("told_at", None)), name="run_untold"
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("plan", "slot_at"), name="one_run_per_slot"),
                    models.UniqueConstraint(
                        condition=models.Q(("ended_at", None), ("plan_name", "")),
                        fields=("skipped",),
                        name="one_open_run_of_the_due",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="PlanEntry",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("due_at", models.DateTimeField(blank=True, null=True, verbose_name="due at")),
                (
                    "outcome",
                    models.CharField(
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
                            ("left", "Deferred to the next run"),
                        ],
                        default="waiting",
                        max_length=10,
                        verbose_name="result",
                    ),
                ),
                ("next_at", models.DateTimeField(blank=True, null=True, verbose_name="next step at")),
                ("taken_at", models.DateTimeField(blank=True, null=True, verbose_name="processed")),
                ("ended_at", models.DateTimeField(blank=True, null=True, verbose_name="finished")),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="plan_entries",
                        to="accounts.account",
                        verbose_name="account",
                    ),
                ),
                (
                    "attempt",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="accounts.loginattempt",
                        verbose_name="login attempt",
                    ),
                ),
                (
                    "run",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="entries",
                        to="accounts.planrun",
                        verbose_name="plan run",
                    ),
                ),
            ],
            options={
                "verbose_name": "plan result",
                "verbose_name_plural": "plan results",
                "ordering": ["id"],
                "indexes": [
                    models.Index(models.F("run"), models.F("outcome"), models.F("id"), name="entry_of_run"),
                    models.Index(
                        models.F("id"), condition=models.Q(("ended_at", None)), name="entry_unsettled"
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("run", "account"), name="an_account_once_a_run"),
                    models.UniqueConstraint(
                        condition=models.Q(("due_at__isnull", False)),
                        fields=("account", "due_at"),
                        name="a_due_time_once",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="UpstreamAccess",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("base_url", models.CharField(max_length=300, verbose_name="address")),
                (
                    "account",
                    models.CharField(
                        blank=True, default="", max_length=150, verbose_name="developer account"
                    ),
                ),
                ("authorization", accounts.lib.encrypted_fields.EncryptedTextField(blank=True, default="")),
                ("renewed_at", models.DateTimeField(blank=True, null=True, verbose_name="authorized at")),
                ("renewing_until", models.DateTimeField(blank=True, null=True)),
                ("refused_at", models.DateTimeField(blank=True, null=True, verbose_name="refused at")),
                (
                    "refused_why",
                    models.CharField(blank=True, default="", max_length=20, verbose_name="reason"),
                ),
                (
                    "refused_text",
                    models.CharField(blank=True, default="", max_length=300, verbose_name="WKTeam message"),
                ),
            ],
            options={
                "verbose_name": "WKTeam connection",
                "verbose_name_plural": "WKTeam connection",
                "constraints": [
                    models.UniqueConstraint(fields=("base_url", "account"), name="one_access_per_account")
                ],
            },
        ),
        migrations.CreateModel(
            name="WaitsWorker",
            fields=[
                ("name", models.CharField(max_length=100, primary_key=True, serialize=False)),
                ("alive_until", models.DateTimeField()),
            ],
            options={
                "verbose_name": "waits worker",
                "verbose_name_plural": "waits workers",
            },
        ),
        migrations.RunPython(leave_room, migrations.RunPython.noop),
        migrations.RunPython(install_roles, migrations.RunPython.noop),
        migrations.RunPython(make_default_policy, migrations.RunPython.noop),
    ]
