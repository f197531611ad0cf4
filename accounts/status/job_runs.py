"""Writes when the periodic jobs last ran: the jobs do it themselves, every WRITE_SECONDS, with one statement for all."""

import logging
import threading
import time

from django.db import DatabaseError, InterfaceError

from accounts.lib import db_clock
from accounts.models import JobRun

log = logging.getLogger(__name__)

WRITE_SECONDS = 10


class JobRuns:
    """What ran in this process and is not written yet."""

    def __init__(self):
        self.lock = threading.Lock()  # a worker of short tasks has several threads
        self.write_at = 0.0  # of our monotonic clock
        self.errors: dict[str, str] = {}  # by job, "" for one that ran

    def note(self, job: str, error: Exception | None = None) -> None:
        with self.lock:
            self.errors[job] = type(error).__name__ if error else ""

    def write(self) -> None:
        """Write what was noted, unless this process wrote lately. A database error is logged."""
        with self.lock:
            if time.monotonic() < self.write_at:
                return
            self.write_at = time.monotonic() + WRITE_SECONDS
            noted, self.errors = self.errors, {}
        now = db_clock.now()
        ran = [JobRun(name=name, ran_at=now) for name, error in sorted(noted.items()) if not error]
        failed = [
            JobRun(name=name, failed_at=now, error=error) for name, error in sorted(noted.items()) if error
        ]
        try:
            _upsert(ran, ["ran_at", "error"])
            _upsert(failed, ["failed_at", "error"])
        except (DatabaseError, InterfaceError) as error:
            log.warning("when jobs ran was not written: %s", type(error).__name__)


def _upsert(rows: list[JobRun], columns: list[str]) -> None:
    JobRun.objects.bulk_create(rows, update_conflicts=True, unique_fields=["name"], update_fields=columns)


_runs = JobRuns()
note, write = _runs.note, _runs.write
