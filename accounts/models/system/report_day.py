"""Ended days as reports count them."""

from django.db import models


class ReportDay(models.Model):
    """The logins or the drops of one day of UTC, as `accounts.reports.history` packs them.

    All of it follows from their rows. It may be deleted at any time: the next report makes it again.
    """

    kind = models.CharField(max_length=10)
    day = models.DateField()
    numbers = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["kind", "day"], name="one_report_day")]

    def __str__(self) -> str:
        return f"{self.kind} of {self.day}"
