"""What workers do by themselves, beside their tasks.

Every worker reports at its start that a key is missing. Each waits worker rescues orphaned waits, for which it polls the
database, and ends overdue attempts.

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
from collections.abc import Callable

from celery import bootsteps
from django.db import connection

from accounts import tasks
from accounts.lib import db_errors
from accounts.logins import expire, leases, wait
from accounts.maintenance import field_keys
from accounts.metrics import server

log = logging.getLogger(__name__)

POLL_SECONDS = 2
# Seconds after a database problem in which no worker claims the waits of a seemingly dead one: every living
# worker has time to reconnect and renew its leases first.
CALM_SECONDS = 12


class LostKeyReport(bootsteps.StartStopStep):
    """A Celery worker step. It reads in a thread of its own: the start waits for no database."""

    def start(self, worker) -> None:
        threading.Thread(target=field_keys.report_lost, name="keys", daemon=True).start()


class OrphanRescuer(bootsteps.StartStopStep):
    """A Celery worker step for workers of the queue `waits`; it starts before the broker connection."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker, **kwargs):
        super().__init__(worker, **kwargs)
        self.stopped = threading.Event()
        self.trouble_at = -math.inf

    def include_if(self, worker) -> bool:
        return "waits" in worker.app.amqp.queues.consume_from

    def start(self, worker) -> None:
        keep_collections_rare()
        # In threads of their own: ending overdue attempts makes an outside call, for which no wait may wait.
        for name, step, *args in (("poll", self.keep_polling, worker.pool), ("overdue", self.keep_ending)):
            threading.Thread(target=step, args=args, name=name, daemon=True).start()

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
            db_errors.rest()
            start_waits(pool.apply_async, found)

    def keep_ending(self) -> None:
        while not self.stopped.wait(POLL_SECONDS):
            try:
                expire.end_overdue()
            except Exception as error:  # beat and the next round try again
                log.warning("overdue attempts were not ended: %s", type(error).__name__)
                db_errors.release_connection()
            db_errors.rest()

    def poll(self) -> list[leases.Lease]:
        """Claim orphaned waits and return their leases. The caller has to start a wait for each.

        A lapsed lease, or a database slower than RENEW_SECONDS, counts as a database problem: other workers
        may have failed to renew for the same cause.
        """
        began = time.monotonic()
        connection.ensure_connection()
        if leases.begin() or time.monotonic() - began > leases.RENEW_SECONDS:
            self.trouble_at = time.monotonic()
        calm = time.monotonic() - self.trouble_at > CALM_SECONDS
        return leases.claim_orphaned(of_the_dead=calm)


class MetricsServer(bootsteps.Step):
    """A Celery worker step: each worker answers Prometheus."""

    def create(self, worker) -> None:
        server.serve()


def start_waits(apply_async: Callable, found: list[leases.Lease]) -> None:
    """Start the wait of each lease in the worker's pool. A lease whose wait does not start is released."""
    for lease in found:
        try:
            apply_async(wait_and_after, (lease,), callback=ignore_result)
        except Exception as error:  # the pool is stopping: the waits are for another worker
            log.warning("attempt %s: its wait was not started: %s", lease.attempt.pk, type(error).__name__)
            with lease:
                pass


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
