"""What workers run: load by id, one call, maybe the next step. Arguments are ids; running twice is harmless."""

import logging

from celery import shared_task
from django.core.management import call_command
from kombu.exceptions import OperationalError

from accounts import events, leases, login, waits
from accounts.models import Account

log = logging.getLogger(__name__)

# By then a worker has found the row by itself.
MESSAGE_SECONDS = 30


@shared_task
def wait_for_phone(attempt_id: int) -> None:
    after_wait(waits.wait(attempt_id))


def after_wait(account: Account | None) -> None:
    if account is not None and account.avatar_due:
        put_into_queue(fetch_avatar, account.pk)


@shared_task
def fetch_avatar(account_id: int) -> None:
    login.fetch_avatar(account_id)


@shared_task
def sweep() -> None:
    login.sweep()


@shared_task
def forget_what_is_old() -> None:
    call_command("clearsessions")
    leases.forget_old_workers()


def put_into_queue(task, row_id: int) -> bool:
    """Hand a row to a worker. Where the queue is away the row stands, and a waits worker finds it by itself."""
    try:
        if not events.ping():  # bounded; publishing to a Redis that swallows packets would take much longer
            raise OperationalError("no answer")
        task.apply_async((row_id,), expires=MESSAGE_SECONDS)
    except OperationalError as error:
        log.warning("the queue is away (%s): %s %s waits in its row", error, task.name, row_id)
        return False
    return True
