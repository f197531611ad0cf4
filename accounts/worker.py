"""What a waits worker does by itself, without being told by a message: look for waits that nobody holds, and end
what is overdue.

A message brings a wait within milliseconds, but Redis may be away, or empty, or have handed the message to a worker
that died. The rows are in the database, and so every waits worker looks there, every two seconds, also while it has
no broker at all. What it finds runs in Celery's own pool, so that a worker that is told to stop finishes it.
"""

import logging
import threading

from celery import bootsteps

from accounts import leases, login, tasks, waits

log = logging.getLogger(__name__)

LOOK_SECONDS = 2
# After trouble with the database every worker renews its own leases before anybody takes up those that lapsed.
CALM_SECONDS = leases.RENEW_SECONDS + 1


class LooksForWaits(bootsteps.StartStopStep):
    """A step of Celery's worker, for workers of the queue `waits`. It starts before the broker is asked for."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker, **kwargs):
        super().__init__(worker, **kwargs)
        self.stopped = threading.Event()
        self.thread: threading.Thread | None = None

    def include_if(self, worker) -> bool:
        return "waits" in worker.app.amqp.queues.consume_from

    def start(self, worker) -> None:
        self.thread = threading.Thread(
            target=self.look_for_ever, args=(worker.pool,), name="looks", daemon=True
        )
        self.thread.start()

    def stop(self, worker) -> None:
        self.stopped.set()

    def look_for_ever(self, pool) -> None:
        calm = True
        while not self.stopped.wait(LOOK_SECONDS if calm else CALM_SECONDS):
            try:
                leases.begin()
                login.sweep()
                found = leases.take_unattended() if calm else []
                calm = True
            except Exception as error:  # whatever it is: without this look, what died with another is lost
                calm, found = False, []
                log.warning("the database was not looked at for waits: %s", type(error).__name__)
            leases.give_back_connection()
            for lease in found:
                pool.apply_async(wait_and_after, (lease,))


def wait_and_after(lease: leases.Lease) -> None:
    try:
        tasks.after_wait(waits.wait_under(lease))
    except Exception:
        log.exception("attempt %s: its wait broke off", lease.attempt.pk)
    finally:
        leases.give_back_connection()
