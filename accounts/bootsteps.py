"""What a waits worker does by itself, without being told by a message: look for waits that nobody holds, and end
what is overdue.

A message brings a wait within milliseconds, but Redis may be away, or empty, or have handed the message to a worker
that died. The rows are in the database, and so every waits worker looks there, every two seconds, also while it has
no broker at all. What it finds runs in Celery's own pool, so that a worker that is told to stop finishes it.
"""

import gc
import logging
import math
import threading
import time

from celery import bootsteps
from django.db import connection

from accounts import tasks
from accounts.lib import db_errors
from accounts.logins import expire, leases, wait

log = logging.getLogger(__name__)

LOOK_SECONDS = 2
# After trouble with the database every worker gets the time to reach it again and to say that it lives, before
# anybody takes up what seems to be a dead one's.
CALM_SECONDS = 12


class OrphanRescuer(bootsteps.StartStopStep):
    """A step of Celery's worker, for workers of the queue `waits`. It starts before the broker is asked for."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker, **kwargs):
        super().__init__(worker, **kwargs)
        self.stopped = threading.Event()
        self.thread: threading.Thread | None = None
        self.trouble_at = -math.inf

    def include_if(self, worker) -> bool:
        return "waits" in worker.app.amqp.queues.consume_from

    def start(self, worker) -> None:
        keep_collections_rare()
        self.thread = threading.Thread(
            target=self.look_for_ever, args=(worker.pool,), name="looks", daemon=True
        )
        self.thread.start()

    def stop(self, worker) -> None:
        self.stopped.set()

    def look_for_ever(self, pool) -> None:
        found: list[leases.Lease] = []
        while not self.stopped.wait(0 if len(found) >= leases.TAKEN_AT_ONCE else LOOK_SECONDS):
            try:
                found = self.look()
            except Exception as error:  # whatever it is: without these looks, what died with another is lost
                self.trouble_at, found = time.monotonic(), []
                log.warning("the database was not looked at for waits: %s", type(error).__name__)
            db_errors.release_connection()
            for lease in found:
                pool.apply_async(wait_and_after, (lease,), callback=nothing_to_tell)

    def look(self) -> list[leases.Lease]:
        began = time.monotonic()
        connection.ensure_connection()
        if leases.begin() or time.monotonic() - began > leases.RENEW_SECONDS:
            self.trouble_at = time.monotonic()
        calm = time.monotonic() - self.trouble_at > CALM_SECONDS
        found = leases.claim_orphaned(of_the_dead=calm)
        expire.end_overdue()
        return found


def keep_collections_rare() -> None:
    """What a wait consists of lives for minutes, and looking through all of it for garbage stops the whole process:
    0.1 s for every thousand waits. With Python's own thresholds that would be after each quarter of the waits.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2000, 5, 40)


def nothing_to_tell(_result: None) -> None:
    """Celery's pools call it at the end of what they ran."""


def wait_and_after(lease: leases.Lease) -> None:
    try:
        tasks.after_wait(wait.wait_with_lease(lease))
    except Exception:
        log.exception("attempt %s: its wait broke off", lease.attempt.pk)
    finally:
        db_errors.release_connection()
