"""Retention: history that is older than RETENTION_DAYS is deleted, in many short transactions.

Rows are found along an index of their time, from where the batch before ended: entries of rows that were just deleted
are not read again. After each batch the job rests three times as long as it took, so that logins find the database free.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.db.models import Exists, F, Model, OuterRef, Q, QuerySet

from accounts.lib import db_clock
from accounts.models import (
    AccountEvent,
    AuditEntry,
    Avatar,
    BulkItem,
    BulkRun,
    Drop,
    Incident,
    LoginAttempt,
    Notification,
    PlanResult,
    PlanRun,
    ScanLink,
    ScanRun,
    ScanRunItem,
    SignIn,
    SignInUnlock,
)
from accounts.states import AccountState, AttemptState, NotificationKind

log = logging.getLogger(__name__)

AT_ONCE = 250
REST = 3
# Rows with many that hang on them, which are deleted before.
FEW_AT_ONCE = 20
# Without their row, the cause would be told again as long as it lasts.
ALARMS = (NotificationKind.INCIDENT, NotificationKind.UPSTREAM, NotificationKind.LIMITS)


@dataclass(frozen=True, slots=True)
class Old:
    """Rows of one table that may go. `column`: their time. `parts`: the table of what hangs on them, and its column."""

    rows: QuerySet
    column: str
    parts: tuple[type[Model], str] | None = None

    @property
    def name(self) -> str:
        return self.rows.model._meta.label_lower


def _attempts(before: datetime) -> QuerySet:
    """Return old logins, but for the last one of each account and the last that succeeded."""
    newer = LoginAttempt.objects.filter(account=OuterRef("account"), pk__gt=OuterRef("pk"))
    ended = LoginAttempt.objects.filter(created_at__lt=before, ended_at__lt=before)
    newer_success = ~Q(state=AttemptState.SUCCEEDED) | Exists(newer.filter(state=AttemptState.SUCCEEDED))
    return ended.exclude(seq=F("account__login_seq")).filter(Exists(newer), newer_success)


def _notifications(before: datetime) -> QuerySet:
    return Notification.objects.filter(at__lt=before).exclude(ended_at=None, kind__in=ALARMS)


# What RETENTION_DAYS names, in the order in which it is deleted.
KINDS: dict[str, Callable[[datetime], list[Old]]] = {
    "events": lambda before: [Old(AccountEvent.objects.filter(at__lt=before), "at")],
    "attempts": lambda before: [Old(_attempts(before), "created_at")],
    "drops": lambda before: [Old(Drop.objects.filter(at__lt=before, ended_at__lt=before), "at")],
    "incidents": lambda before: [Old(Incident.objects.filter(ended_at__lt=before), "ended_at")],
    "links": lambda before: [Old(ScanLink.objects.filter(ended_at__lt=before), "ended_at")],
    "deliveries": lambda before: [Old(_notifications(before), "at")],
    "runs": lambda before: [
        Old(PlanRun.objects.filter(ended_at__lt=before), "began_at", (PlanResult, "run")),
        Old(ScanRun.objects.filter(seen_at__lt=before), "seen_at", (ScanRunItem, "run")),
        Old(BulkRun.objects.filter(ended_at__lt=before), "ended_at", (BulkItem, "run")),
    ],
    "sign_ins": lambda before: [
        Old(AccessLog.objects.filter(attempt_time__lt=before), "attempt_time"),
        Old(SignIn.objects.filter(seen_at__lt=before), "seen_at"),
        Old(SignInUnlock.objects.filter(at__lt=before), "at"),
    ],
    "failed_sign_ins": lambda before: [
        Old(model.objects.filter(attempt_time__lt=before), "attempt_time")
        for model in (AccessFailureLog, AccessAttempt)
    ],
    "audit": lambda before: [Old(AuditEntry.objects.filter(at__lt=before), "at")],
    "admin_log": lambda before: [Old(LogEntry.objects.filter(action_time__lt=before), "action_time")],
    "avatars": lambda before: [
        Old(
            Avatar.objects.filter(account__state=AccountState.ARCHIVED, account__state_since__lt=before),
            "account__state_since",
        )
    ],
}


def old_rows() -> Iterator[tuple[str, int, Old]]:
    """Yield (kind, days, rows) of everything that is kept for some days only."""
    now = db_clock.now()
    for kind, rows_before in KINDS.items():
        if days := settings.RETENTION_DAYS[kind]:
            yield from ((kind, days, old) for old in rows_before(now - timedelta(days=days)))


def delete(old: Old) -> Iterator[int]:
    """Delete the rows batch by batch. Yield how many each batch had; what hangs on them is not counted."""
    size, since = FEW_AT_ONCE if old.parts else AT_ONCE, None
    while True:
        began = time.monotonic()
        rows = old.rows if since is None else old.rows.filter(**{f"{old.column}__gte": since})
        some = list(rows.order_by(old.column, "pk").values_list("pk", old.column)[:size])
        if not some:
            return
        ids, since = [pk for pk, _at in some], some[-1][1]
        if old.parts:
            model, column = old.parts
            for _number in delete(Old(model.objects.filter(**{f"{column}__in": ids}), "pk")):
                pass
        old.rows.filter(pk__in=ids).only("pk").delete()
        yield len(some)
        time.sleep(REST * (time.monotonic() - began))


def delete_old(seconds: float) -> dict[str, int]:
    """Delete what is too old, for at most so long: the next run goes on. Return {table: number of deleted rows}."""
    until, found = time.monotonic() + seconds, {}
    for _kind, _days, old in old_rows():
        for number in delete(old):
            found[old.name] = found.get(old.name, 0) + number
            if time.monotonic() > until:
                log.info("retention: not all old rows are deleted yet; the next run goes on")
                return found
    return found
