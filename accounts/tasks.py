"""The Celery tasks. Each loads its rows by ID, makes one call, and may queue the next step.

Arguments are IDs, ours or WKTeam's. Every task is idempotent. A task name given explicitly is the one that processes
of the version before send and know.
"""

import logging
import time
from collections.abc import Callable

from celery import shared_task
from django.core.management import call_command
from kombu.exceptions import OperationalError

from accounts.bulk import execute as bulk_execute
from accounts.lib import db_clock, pubsub
from accounts.lib.rows import DueCheck, Queries
from accounts.logins import avatars, expire, leases, wait
from accounts.maintenance import retention
from accounts.models import Account
from accounts.notifications import dispatch
from accounts.presence import offline
from accounts.presence import sweep as presence_sweep
from accounts.relogin import plan_runs, recover
from accounts.scanning import claims, links
from accounts.status import job_runs
from accounts.upstream import developer_account

log = logging.getLogger(__name__)

# A message expires after this long: by then a worker has found the row by polling.
MESSAGE_SECONDS = 30
# So long a run of the retention may take: a jobs worker that is asked to stop gets 60 s.
RETENTION_SECONDS = 45
EVERY_STEP_SECONDS = 60


@shared_task
def wait_for_phone(attempt_id: int) -> None:
    after_wait(wait.wait_for_phone(attempt_id))


def after_wait(account: Account | None) -> None:
    """Queue the fetch of the avatar if the account came online with a new one."""
    if account is not None and account.avatar_due:
        put_into_queue(fetch_avatar, account.pk)


@shared_task
def fetch_avatar(account_id: int) -> None:
    avatars.fetch(account_id)


def _by_itself(name: str, step: Callable[[], object]) -> None:
    """Run one step and log its failure, so that the other steps still run."""
    try:
        step()
    except Exception as error:
        log.exception("%s failed; it is tried again soon", getattr(step, "__qualname__", step))
        job_runs.note(name, error)
    else:
        job_runs.note(name)


def _presence_if_due() -> None:
    if presence_sweep.is_due():
        put_into_queue(presence)


def _reasons_if_due() -> None:
    if offline.reasons_are_due():
        put_into_queue(reasons)


def _developer_account_if_due() -> None:
    if developer_account.is_due():
        put_into_queue(read_developer_account)


def _recover() -> None:
    for attempt_id in recover.tick():
        put_into_queue(wait_for_phone, attempt_id)


def _plans() -> None:
    for attempt_id in plan_runs.tick():
        put_into_queue(wait_for_phone, attempt_id)


def _bulk_runs() -> None:
    for run_id in bulk_execute.open_runs():
        put_into_queue(bulk_run, run_id)


def _notifications() -> None:
    for channel_id in dispatch.tick():
        put_into_queue(send_notifications, channel_id)


# By name: what is done, and the rows without which it has nothing to do.
STEPS: dict[str, tuple[Callable[[], object], Queries]] = {
    "presence": (_presence_if_due, presence_sweep.due),
    "reasons": (_reasons_if_due, offline.drops_without_reason),
    "developer_account": (_developer_account_if_due, developer_account.due),
    "end_drops": (offline.end_drops, offline.drops_to_end),
    "recovery": (_recover, recover.due),
    "plans": (_plans, plan_runs.due),
    "bulk_runs": (_bulk_runs, bulk_execute.due),
    "scan_claims": (claims.release_unattended, claims.due),
    "scan_links": (links.settle_due, links.due),
    "notifications": (_notifications, dispatch.due),
    # Asks WKTeam who is online: the others must not wait for its answer.
    "end_overdue": (expire.end_overdue, expire.due),
}
find_due = DueCheck({name: rows for name, (_step, rows) in STEPS.items()})


class EveryStep:
    """When this process runs all steps again, by its monotonic clock: also for what has no row yet."""

    run_at = 0.0


@shared_task
def tick() -> None:
    """Start everything that is due; runs every 2 s. A step that may take long is queued as its own task.

    One query tells which steps have something to do.
    """
    if time.monotonic() >= EveryStep.run_at:
        EveryStep.run_at = time.monotonic() + EVERY_STEP_SECONDS
        due = set(STEPS)
    else:
        due = find_due(db_clock.now())
    for name, (step, _rows) in STEPS.items():
        if name in due:
            _by_itself(name, step)
        else:
            job_runs.note(name)
    job_runs.write()


@shared_task(name="accounts.tasks.sweep")
def end_overdue() -> None:
    """What beat of the version before sends."""
    _by_itself("end_overdue", expire.end_overdue)
    job_runs.write()


@shared_task(name="accounts.tasks.tell")
def send_notifications(channel_id: int) -> None:
    dispatch.send(channel_id)


@shared_task
def presence() -> None:
    presence_sweep.check_if_due()


@shared_task
def bulk_run(run_id: int) -> None:
    for attempt_id in bulk_execute.go_on(run_id):
        put_into_queue(wait_for_phone, attempt_id)
    _presence_if_due()


@shared_task
def check_account(account_id: int) -> None:
    presence_sweep.check_account(account_id)


@shared_task
def reasons() -> None:
    offline.ask_reasons()


@shared_task
def read_developer_account() -> None:
    developer_account.read_if_needed()


@shared_task(name="accounts.tasks.offline_notice")
def offline_callback(w_id: str, wc_id: str) -> None:
    """Handle a WKTeam callback about an offline wId: check presence now instead of trusting it."""
    job_runs.note("callback")
    job_runs.write()
    if presence_sweep.callback_received(w_id, wc_id):
        presence_sweep.check_if_due()


@shared_task(name="accounts.tasks.forget_what_is_old")
def delete_old_rows() -> None:
    _by_itself("delete_old_rows", _delete_old_rows)
    job_runs.write()


def _delete_old_rows() -> None:
    call_command("clearsessions")
    leases.forget_old_workers()
    retention.delete_old(RETENTION_SECONDS)


def put_into_queue(task, *ids: int | str) -> bool:
    """Publish a task for a worker; return False if the queue is unreachable.

    Then its row stays in the database, and a worker or the next tick finds it there. The message expires
    after MESSAGE_SECONDS.
    """
    try:
        if not pubsub.ping():  # time-limited; publishing to a Redis that drops packets blocks much longer
            raise OperationalError("no answer")
        task.apply_async(ids, expires=MESSAGE_SECONDS)
    except OperationalError as error:
        log.warning("the task queue is unreachable (%s): %s %s waits in its row", error, task.name, ids)
        return False
    return True
