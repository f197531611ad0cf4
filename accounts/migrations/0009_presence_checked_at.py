"""One row tells when all online accounts were last confirmed, instead of a write to each of them in every check.

It is empty until the first check: until then the accounts' own columns tell.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0008_checked_at_and_wechat_id")]

    operations = [migrations.AddField("presence", "checked_at", models.DateTimeField(blank=True, null=True))]
