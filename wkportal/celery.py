import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from celery import Celery, beat, bootsteps
from celery.app.log import Logging
from celery.loaders.app import AppLoader
from celery.signals import beat_init
from django.conf import settings
from kombu.transport import redis as redis_transport
from kombu.utils import functional as kombu_functional

from accounts.lib import pubsub
from accounts.metrics import families, server
from wkportal import __version__
from wkportal.env import exit_if_misconfigured

log = logging.getLogger("wkportal")

ALIVE_SECONDS = 10

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wkportal.settings")
logging.captureWarnings(True)  # before Celery gives its own: each line of a log has the same form


class Loader(AppLoader):
    def config_from_object(self, obj, silent: bool = False):
        with exit_if_misconfigured():
            return super().config_from_object(obj, silent=silent)


class SettingsLogging(Logging):
    """Leave logging to Django's settings: what is written, at which level, and which secrets are hidden."""

    def setup_logging_subsystem(self, *args, hostname: str | None = None, **kwargs) -> None:
        """Log the version: Celery calls this once, before a worker or beat logs anything."""
        self.already_setup = True
        multiprocessing.current_process().name = hostname or "beat"  # which each log line names
        log.info("wkportal %s: %s", __version__, f"worker {hostname}" if hostname else "beat")


def report_alive() -> None:
    """Touch the file of ALIVE_PATH, whose age a container's health check looks at: asking Celery would start one."""
    if settings.ALIVE_PATH:
        with suppress(OSError):
            Path(settings.ALIVE_PATH).touch()


class Alive(bootsteps.StartStopStep):
    """A worker reports that it lives, with or without a broker. Celery's timers stop while the broker is unreachable.

    A waits worker whose event loop is blocked reports nothing: there, a thread is one of its greenlets.
    """

    def start(self, worker) -> None:
        self.stopped = threading.Event()
        threading.Thread(target=self.report, name="alive", daemon=True).start()

    def stop(self, worker) -> None:
        self.stopped.set()

    def report(self) -> None:
        report_alive()
        while not self.stopped.wait(ALIVE_SECONDS):
            report_alive()


class Scheduler(beat.Scheduler):
    """Send the jobs of CELERY_BEAT_SCHEDULE, none while `most_queued` messages wait for a jobs worker.

    `expires` alone is not enough: an expired message stays in Redis until a worker receives it. State is kept
    in memory only.
    """

    most_queued = 100
    full = False

    def adjust(self, n, drift=0.0):
        """Celery wakes up 10 ms before a job is due, and asks without a rest until it is."""
        return super().adjust(n, drift)

    def apply_entry(self, entry, producer=None) -> None:
        before, self.full = self.full, self._queued(producer) >= self.most_queued
        if self.full and not before:
            beat.warning("beat: %s messages wait for a jobs worker; no more are sent", self.most_queued)
        if not self.full:
            super().apply_entry(entry, producer=producer)
            families.BEAT_TASKS.labels(entry.name).inc()

    def tick(self, *args, **kwargs) -> float:
        report_alive()
        return super().tick(*args, **kwargs)

    def _queued(self, producer) -> int:
        try:
            producer.channel.client.set(pubsub.BEAT_KEY, 1, ex=pubsub.BEAT_KEPT)
            return producer.channel.queue_declare(self.app.conf.task_default_queue).message_count
        except Exception:  # the broker is unreachable: sending logs that and reconnects
            return 0


@beat_init.connect
def end_on_signal(sender, **_options) -> None:
    """Replace Celery's signal handler.

    That one closes the connection in use, and the resulting error would hide its SystemExit.
    """

    def end(*_signal) -> None:
        sender.stop()  # in case the exception is lost, as any is while an object is deleted
        raise SystemExit

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    server.serve()


# When a connection is lost, kombu would restore unacknowledged messages over the closed channel, and the
# worker would exit. Messages are hints here: the database holds the work.
redis_transport.Channel.do_restore = False


class QoS(redis_transport.QoS):
    """Leave out what can't be acknowledged any more.

    A task that ends in a thread acknowledges its message in the event loop. If the connection was lost in between,
    kombu would do so over the closed channel, and the worker would exit.
    """

    def ack(self, delivery_tag) -> None:
        if not self.channel.closed:
            super().ack(delivery_tag)

    def reject(self, delivery_tag, requeue: bool = False) -> None:
        if not self.channel.closed:
            super().reject(delivery_tag, requeue=requeue)


redis_transport.Channel.QoS = QoS

# Celery imports that module during gevent's patching, before time.sleep is replaced. With the real sleep a
# worker would block completely, with all its waits, between two tries to connect to an unreachable broker.
kombu_functional.sleep = time.sleep

if "gevent" in sys.modules:
    # By default each greenlet keeps the stack from which it was started. There are thousands of greenlets.
    sys.modules["gevent"].config.track_greenlet_tree = False

app = Celery("wkportal", loader="wkportal.celery:Loader", log=SettingsLogging)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
steps = ("LostKeyReport", "MetricsServer", "OrphanRescuer")
app.steps["worker"].update(f"accounts.bootsteps.{step}" for step in steps)
app.steps["worker"].add(Alive)
