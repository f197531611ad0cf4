"""What a sign-in tells about the developer account, and people who are told that WKTeam denies access are warned of it."""

from django.db import migrations, models


def warn_too(apps, _schema_editor):
    """Rules about denied access cover the developer account's end and seats too."""
    for rule in apps.get_model("accounts", "Rule").objects.all():
        if "upstream" in rule.kinds and "limits" not in rule.kinds:
            rule.kinds = [*rule.kinds, "limits"]
            rule.save(update_fields=["kinds"])


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0014_sort_keys"),
    ]

    operations = [
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
        migrations.RunPython(warn_too, migrations.RunPython.noop),
    ]
