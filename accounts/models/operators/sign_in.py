"""Who signed in with which browser, and when that browser was last used."""

from django.conf import settings
from django.db import models


class SignIn(models.Model):
    """A sign-in. It lasts while Django has a session of this key. `ip_address` and `user_agent`: at `seen_at`."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="sign_ins")
    session_key = models.CharField(max_length=40, unique=True)
    signed_in_at = models.DateTimeField()
    seen_at = models.DateTimeField(db_index=True)
    ip_address = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=255)

    def __str__(self) -> str:
        return f"sign-in of {self.user_id}"


class SignInUnlock(models.Model):
    """An admin let somebody who was locked out try again. `username`: "" for an address, whatever name is tried."""

    at = models.DateTimeField(db_index=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True)
    by_name = models.CharField(max_length=150)
    username = models.CharField(max_length=255)
    ip_address = models.GenericIPAddressField(null=True)

    def __str__(self) -> str:
        return f"unlocked by {self.by_name}"
