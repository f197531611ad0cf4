"""When the periodic jobs last ran."""

from django.db import models


class JobRun(models.Model):
    """The last run of a periodic job, or of a step of one. `error`: of the last failure, "" after a run."""

    name = models.CharField(max_length=40, primary_key=True)
    ran_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=100, blank=True, default="")

    def __str__(self) -> str:
        return f"{self.name} at {self.ran_at}"
