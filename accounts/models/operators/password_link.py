"""The link with which a person sets a password."""

from django.conf import settings
from django.db import models


class PasswordLink(models.Model):
    """The one link of a person that works. The token of a link depends on its key: without the row, no link works."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="password_link"
    )
    key = models.CharField(max_length=22)

    def __str__(self) -> str:
        return f"password link of {self.user_id}"
