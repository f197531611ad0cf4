import logging
import os
import signal
import sys
import time

from celery import Celery, beat
from celery.app.log import Logging
from celery.signals import beat_init
from kombu.transport import redis as redis_transport
from kombu.utils import functional as kombu_functional

from wkportal import __version__

log = logging.getLogger("wkportal")

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wkportal.settings")


class SettingsLogging(Logging):
    """Leaves the logs to Django's settings: what is written, at which level, and what is hidden in it."""

    def setup_logging_subsystem(self, *args, hostname: str | None = None, **kwargs) -> None:
        """Log the version: Celery calls this once, before a worker or beat logs anything."""
        self.already_setup = True
        log.info("wkportal %s: %s", __version__, f"worker {hostname}" if hostname else "beat")


class Scheduler(beat.Scheduler):
    """Send the jobs of CELERY_BEAT_SCHEDULE; none while `most_queued` messages wait for a jobs worker.

    `expires` alone leaves a message in Redis until a worker receives it. State is kept in memory only.
    """

    most_queued = 100
    full = False

    def apply_entry(self, entry, producer=None) -> None:
        before, self.full = self.full, self._queued(producer) >= self.most_queued
        if self.full and not before:
            beat.warning("beat: %s messages wait for a jobs worker; no more are sent", self.most_queued)
        if not self.full:
            super().apply_entry(entry, producer=producer)

    def _queued(self, producer) -> int:
        try:
            return producer.channel.queue_declare(self.app.conf.task_default_queue).message_count
        except Exception:  # the broker is away: sending logs that, and connects again
            return 0


@beat_init.connect
def end_on_signal(sender, **_options) -> None:
    """Replace Celery's signal handler: it closes the connection in use, and that error would hide its SystemExit."""

    def end(*_signal) -> None:
        sender.stop()  # for an exception that is lost, as any is while an object is deleted
        raise SystemExit

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)


# At a lost connection kombu would put back what was not acknowledged yet, over a channel that is gone, and the worker
# would die of it. Messages are hints here: what one was about lies in the database.
redis_transport.Channel.do_restore = False

# gevent replaces time.sleep only after Celery's own import of that module, half-way through the patching; with the
# real one a worker whose broker is away would stand still as a whole between two tries to connect, with all its waits.
kombu_functional.sleep = time.sleep

if "gevent" in sys.modules:
    # By default each greenlet keeps the stack from which it was started, and there are thousands.
    sys.modules["gevent"].config.track_greenlet_tree = False

app = Celery("wkportal", log=SettingsLogging)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.steps["worker"].add("accounts.bootsteps.OrphanRescuer")
