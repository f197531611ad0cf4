"""What a person can take care of: an account, an incident."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

# The columns of what nobody takes care of.
UNASSIGNED = {"assignee": None, "assigned_at": None, "assignment_note": ""}


class Assignable(models.Model):
    """`assignee` takes care of it until it is online again or over, or the person releases it."""

    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("taken by"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
    )
    assigned_at = models.DateTimeField(null=True, blank=True, editable=False)
    assignment_note = models.CharField(_("note"), max_length=200, blank=True, default="", db_default="")

    class Meta:
        abstract = True
