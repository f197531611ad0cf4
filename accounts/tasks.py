"""What workers run: load by id, one call, maybe the next step.

Arguments are ids, ours or the upstream's; running twice is harmless.
"""

import logging
from collections.abc import Callable

from celery import shared_task
from django.core.management import call_command
from kombu.exceptions import OperationalError

from accounts.lib import pubsub
from accounts.logins import avatars, expire, leases, wait
from accounts.models import Account
from accounts.notifications import dispatch
from accounts.presence import offline
from accounts.presence import sweep as presence_sweep
from accounts.relogin import plan_runs, recover

log = logging.getLogger(__name__)

# By then a worker has found the row by itself.
MESSAGE_SECONDS = 30


@shared_task
def wait_for_phone(attempt_id: int) -> None:
    after_wait(wait.wait_for_phone(attempt_id))


def after_wait(account: Account | None) -> None:
    if account is not None and account.avatar_due:
        put_into_queue(fetch_avatar, account.pk)


@shared_task
def fetch_avatar(account_id: int) -> None:
    avatars.fetch(account_id)


@shared_task
def sweep() -> None:
    expire.end_overdue()


@shared_task
def tick() -> None:
    """Every two seconds: whatever is due begins. What may take long is a task of its own."""
    for step in (_presence_if_due, _reasons_if_due, offline.end_drops, _recover, _plans, _tell):
        _by_itself(step)


def _by_itself(step: Callable[[], object]) -> None:
    """The failure of one step must not keep the others from theirs."""
    try:
        step()
    except Exception:
        log.exception("%s failed; it is tried again soon", getattr(step, "__qualname__", step))


def _presence_if_due() -> None:
    if presence_sweep.is_due():
        put_into_queue(presence)


def _reasons_if_due() -> None:
    if offline.reasons_are_due():
        put_into_queue(reasons)


def _recover() -> None:
    for attempt_id in recover.tick():
        put_into_queue(wait_for_phone, attempt_id)


def _plans() -> None:
    for attempt_id in plan_runs.tick():
        put_into_queue(wait_for_phone, attempt_id)


def _tell() -> None:
    for channel_id in dispatch.tick():
        put_into_queue(tell, channel_id)


@shared_task
def tell(channel_id: int) -> None:
    dispatch.send(channel_id)


@shared_task
def presence() -> None:
    presence_sweep.check_if_due()


@shared_task
def reasons() -> None:
    offline.ask_reasons()


@shared_task
def offline_notice(w_id: str, wc_id: str) -> None:
    """The upstream's notice that an instance is offline: it is not believed, but looked at now."""
    if presence_sweep.callback_received(w_id, wc_id):
        presence_sweep.check_if_due()


@shared_task
def forget_what_is_old() -> None:
    call_command("clearsessions")
    leases.forget_old_workers()
    plan_runs.forget_old_runs()
    dispatch.forget_old()


def put_into_queue(task, *ids: int | str) -> bool:
    """Hand a row, or a job of its own, to a worker. Where the queue is away the row stands, and is found by itself."""
    try:
        if not pubsub.ping():  # bounded; publishing to a Redis that swallows packets would take much longer
            raise OperationalError("no answer")
        task.apply_async(ids, expires=MESSAGE_SECONDS)
    except OperationalError as error:
        log.warning("the queue is away (%s): %s %s waits in its row", error, task.name, ids)
        return False
    return True
