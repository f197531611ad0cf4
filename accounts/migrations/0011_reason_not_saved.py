"""Choices only: the reason of a presence check whose result was not saved."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0010_more_reasons"),
    ]

    operations = [
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
                    ("not_saved", "Result not saved"),
                ],
                default="",
                max_length=20,
                verbose_name="reason",
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
                    ("not_saved", "Result not saved"),
                ],
                default="",
                max_length=20,
                verbose_name="reason",
            ),
        ),
    ]
