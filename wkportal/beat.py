"""Beat: the jobs of the settings by heart, the plans of admins from the database.

The jobs that keep logins and accounts right (`CELERY_BEAT_SCHEDULE`) depend on no row: they are sent while the
database is away, also by a beat that starts then, and nobody can change or delete them. Of the plans beat knows what
it read last, and reads again when it can. It writes nothing: what a plan did stands in its runs, so that two beats,
or one that was away, neither double a slot nor lose it.
"""

import logging
import threading
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from celery.beat import ScheduleEntry
from celery.schedules import schedule as interval
from django.db import DatabaseError, InterfaceError, connection
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry

log = logging.getLogger(__name__)

LOOK_SECONDS = 5


class Scheduler(DatabaseScheduler):
    def __init__(self, app, *args, schedule_filename: str = "", **kwargs):
        self.alive = Path(schedule_filename or app.conf.beat_schedule_filename)
        self.jobs: dict[str, ScheduleEntry] = {}
        self.plans: dict[str, ModelEntry] = {}
        self.changed_at: datetime | None = None
        self.away: bool | None = None  # whether the database was at the last look; None: there was none
        self.reader: threading.Thread | None = None
        self.told_to_end = False
        super().__init__(app, *args, **kwargs)

    def setup_schedule(self) -> None:
        for name, fields in self.app.conf.beat_schedule.items():
            entry = self.jobs[name] = ScheduleEntry(name=name, app=self.app, **fields)
            if isinstance(entry.schedule, interval):
                # Due as soon as beat runs: whoever is restarted often must not put it off for ever.
                entry.last_run_at -= entry.schedule.run_every

    @property
    def schedule(self) -> dict[str, ScheduleEntry]:
        return {**self.plans, **self.jobs}

    def tick(self, *args, **kwargs) -> float:
        if self.told_to_end:
            raise SystemExit  # the handler's own may be lost, as any exception is while an object is deleted
        if self.reader is None:
            # In a thread of its own: a database that does not answer must not hold up the jobs.
            self.reader = threading.Thread(target=self.look_for_ever, name="plans", daemon=True)
            self.reader.start()
        # For whoever watches this process: its file is as old as its last round.
        with suppress(OSError):
            self.alive.touch()
        return super().tick(*args, **kwargs)

    def look_for_ever(self) -> None:
        while True:
            try:
                self.look()
            except Exception:
                log.exception("beat could not read the plans; it goes on with what it knows")
            time.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Read the plans, if they changed since the last time or could not be read then."""
        try:
            changed_at = self.Changes.last_change()
            if self.away is not False or changed_at != self.changed_at:
                self.plans = self.read()
                self.changed_at = changed_at
            self.away = False
        except (DatabaseError, InterfaceError) as error:
            if self.away is not True:
                log.warning(
                    "the database is away (%s): beat goes on with what it knows", type(error).__name__
                )
            self.away = True
        finally:
            connection.close()

    def read(self) -> dict[str, ModelEntry]:
        found = {}
        for task in self.Model.objects.enabled():
            before = self.plans.get(task.name)
            # From now on, not from when it was written: what was missed is found by its row.
            task.last_run_at = before.last_run_at if before else self.app.now()
            try:
                found[task.name] = self.Entry(task, app=self.app)
            except (ValueError, TypeError):
                log.exception("beat cannot read %s", task.name)
        return found

    def reserve(self, entry: ScheduleEntry) -> ScheduleEntry:
        entries = self.jobs if entry.name in self.jobs else self.plans
        entries[entry.name] = following = next(entry)
        return following

    def sync(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Called by the handler of SIGTERM in the middle of anything, before it raises SystemExit.

        The connection stays open: it may be the one that is just used, and the error of a use after its end would
        be taken for the broker's, with beat going on as if nobody had told it to end.
        """
        self.told_to_end = True
