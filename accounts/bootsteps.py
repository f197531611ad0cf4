"""The rescue of orphaned waits: each waits worker polls the database for them and ends overdue attempts.

A message normally brings a wait to a worker within milliseconds. But Redis may be unreachable or empty, or
the worker that got the message may have died. So every waits worker polls the database every 2 s, also
without a broker. The waits that it claims run in Celery's own pool, so that a worker that is asked to stop
finishes them.
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

POLL_SECONDS = 2
# Seconds after a database problem in which no worker claims the waits of a seemingly dead one: every living
# worker has time to reconnect and renew its leases first.
CALM_SECONDS = 12


class OrphanRescuer(bootsteps.StartStopStep):
    """A Celery worker step for workers of the queue `waits`; it starts before the broker connection."""

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
            target=self.keep_polling, args=(worker.pool,), name="poll", daemon=True
        )
        self.thread.start()

    def stop(self, worker) -> None:
        self.stopped.set()

    def keep_polling(self, pool) -> None:
        found: list[leases.Lease] = []
        while not self.stopped.wait(0 if len(found) >= leases.TAKEN_AT_ONCE else POLL_SECONDS):
            try:
                found = self.poll()
            except Exception as error:  # if this thread ended, waits of dead workers would be lost
                self.trouble_at, found = time.monotonic(), []
                log.warning("the database was not polled for waits: %s", type(error).__name__)
            db_errors.release_connection()
            for lease in found:
                pool.apply_async(wait_and_after, (lease,), callback=ignore_result)

    def poll(self) -> list[leases.Lease]:
        """Claim orphaned waits and end overdue attempts; return the leases.

        A lapsed lease, or a database slower than RENEW_SECONDS, counts as a database problem: other workers
        may have failed to renew for the same cause.
        """
        began = time.monotonic()
        connection.ensure_connection()
        if leases.begin() or time.monotonic() - began > leases.RENEW_SECONDS:
            self.trouble_at = time.monotonic()
        calm = time.monotonic() - self.trouble_at > CALM_SECONDS
        found = leases.claim_orphaned(of_the_dead=calm)
        expire.end_overdue()
        return found


def keep_collections_rare() -> None:
    """Raise the thresholds of Python's garbage collector.

    The objects of a wait live for minutes, and a full collection stops the process for 0.1 s per thousand
    waits. With Python's defaults one would run each time the number of waits grows by a quarter.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2000, 5, 40)


def ignore_result(_result: None) -> None:
    """Do nothing: Celery's pools require a callback for the end of a call."""


def wait_and_after(lease: leases.Lease) -> None:
    try:
        tasks.after_wait(wait.wait_with_lease(lease))
    except Exception:
        log.exception("attempt %s: its wait broke off", lease.attempt.pk)
    finally:
        db_errors.release_connection()
