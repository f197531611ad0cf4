"""Pausing accounts with a reason, and silencing them: nobody is notified for a while, and recovery goes on."""

from datetime import datetime

from django.db.models import QuerySet
from django.utils import timezone

from accounts.attention.changes import change
from accounts.models import Account
from accounts.models.account_queries import keep_online_columns
from accounts.states import EventType


def pause(accounts: QuerySet[Account], reason: str, *, by) -> int:
    """Pause the accounts that are kept online. Return how many."""
    kept_online = accounts.filter(keep_online=True)
    return change(kept_online, EventType.PAUSED, lambda rows: rows.pause(reason), by=by, detail=reason)


def resume(accounts: QuerySet[Account], *, by) -> int:
    paused = accounts.kept().filter(keep_online=False)
    return change(paused, EventType.RESUMED, lambda rows: rows.update(**keep_online_columns(True)), by=by)


def silence(accounts: QuerySet[Account], until: datetime | None, *, by) -> int:
    """Notify nobody about these accounts until then; None: notify again. Return how many accounts."""
    detail = timezone.localtime(until).isoformat(" ", "minutes") if until else ""
    silenced = accounts.kept()
    return change(
        silenced, EventType.SILENCED, lambda rows: rows.update(silenced_until=until), by=by, detail=detail
    )
