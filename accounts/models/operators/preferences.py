"""What a person chose for the pages: language, theme, notifications of the browser."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class Theme(models.TextChoices):
    LIGHT = "light", _("Light")
    DARK = "dark", _("Dark")


class Preferences(models.Model):
    """One row for each person who chose something. An empty language or theme leaves it to the browser."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="preferences"
    )
    language = models.CharField(_("language"), max_length=10, blank=True, default="", db_default="")
    theme = models.CharField(_("theme"), max_length=5, choices=Theme, blank=True, default="", db_default="")
    notifications = models.BooleanField(_("browser notifications"), default=False, db_default=False)
    sound = models.BooleanField(_("sound"), default=False, db_default=False)

    def __str__(self) -> str:
        return f"preferences of {self.user_id}"
