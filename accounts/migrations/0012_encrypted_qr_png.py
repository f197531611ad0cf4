from django.db import migrations

from accounts.lib.encrypted_fields import EncryptedPngField


class Migration(migrations.Migration):
    """The column stays as it is: only what is stored in it changes, so no table is rewritten."""

    dependencies = [("accounts", "0011_recovery_asked_by")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField("loginattempt", "qr_png", EncryptedPngField(editable=False, null=True)),
            ]
        )
    ]
