"""What workers run: load by id, one call, maybe the next step. Arguments are ids; running twice is harmless."""

import logging

from celery import shared_task
from django.core.management import call_command
from kombu.exceptions import OperationalError

from accounts import login

log = logging.getLogger(__name__)

# A message that lies longer than this is put into the queue again by the sweep anyway.
MESSAGE_SECONDS = 30


@shared_task
def wait_for_phone(attempt_id: int) -> None:
    account = login.wait(attempt_id)
    if account is not None and account.avatar_url:
        put_into_queue(fetch_avatar, account.pk)


@shared_task
def fetch_avatar(account_id: int) -> None:
    login.fetch_avatar(account_id)


@shared_task
def sweep() -> None:
    for attempt_id in login.sweep():
        put_into_queue(wait_for_phone, attempt_id)


@shared_task
def forget_old_sessions() -> None:
    call_command("clearsessions")


def put_into_queue(task, row_id: int) -> bool:
    """Hand a row to a worker. Where the queue is away the row stands, and the sweep hands it over later."""
    try:
        task.apply_async((row_id,), expires=MESSAGE_SECONDS)
    except OperationalError as error:
        log.warning(
            "the queue is away (%s): %s %s waits for the sweep", type(error).__name__, task.name, row_id
        )
        return False
    return True
