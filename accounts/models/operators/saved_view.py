"""Saved views: the filters and the order of the account list that a person gave a name."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

NAME_LENGTH, QUERY_LENGTH = 40, 400
VIEWS_EACH = 20


class SavedView(models.Model):
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_views", db_index=False
    )
    name = models.CharField(_("name"), max_length=NAME_LENGTH)
    # The query string of the list, as `AccountList.query` writes it.
    query = models.CharField(max_length=QUERY_LENGTH, blank=True, default="")

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="one_view_of_a_name")]

    def __str__(self) -> str:
        return self.name
