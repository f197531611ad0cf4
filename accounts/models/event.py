"""Account events: one row for every move, written in the transaction of the move.

Events are published after the commit.
The rows are the history that people read. Their IDs are the IDs of the event stream.
"""

import contextvars
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.lib import db_clock, pubsub
from accounts.models.audit import log as audit
from accounts.models.audit import origin
from accounts.reasons import Reason
from accounts.states import EventType, ScanReason

log = logging.getLogger("accounts.events")

WRITTEN_AT_ONCE = 1000


class ForbiddenMove(Exception):
    """Raised for a move that the tables of moves do not contain: a programming error."""


class AccountEvent(models.Model):
    """One row of history. Rows are added, never changed. The ID is also the event stream's ID."""

    account = models.ForeignKey(
        "accounts.Account",
        verbose_name=_("account"),
        on_delete=models.CASCADE,
        related_name="events",
        db_index=False,
    )
    attempt = models.ForeignKey(
        "accounts.LoginAttempt",
        verbose_name=_("login attempt"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="events",
        db_index=False,
    )
    happened = models.CharField(_("event"), max_length=20, choices=EventType)
    from_state = models.CharField(_("from"), max_length=15, blank=True, default="")
    to_state = models.CharField(_("to"), max_length=15, blank=True, default="")
    reason = models.CharField(_("reason"), max_length=20, choices=Reason, blank=True, default="")
    detail = models.CharField(_("details"), max_length=300, blank=True, default="")
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("by"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
    )
    actor_name = models.CharField(max_length=150, blank=True, default="", editable=False)
    # ID of the team that saw the account until this event: its pages are told too. Not a foreign key, so that the
    # deletion of a team does not read all events.
    left_team = models.BigIntegerField(null=True, editable=False)
    at = models.DateTimeField(_("time"), default=timezone.now)

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        indexes = [
            models.Index(fields=["account", "-id"], name="event_of_account"),
            models.Index("attempt", "id", name="event_of_attempt"),
            # History for admins: by time, under each filter.
            models.Index("at", "id", name="event_time"),
            models.Index("happened", "at", "id", name="event_happened"),
            models.Index("reason", "at", "id", name="event_reason"),
            models.Index("actor", "at", "id", name="event_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.get_happened_display()} #{self.pk}"

    def save(self, *args, **kwargs) -> None:
        if self.pk is not None:
            raise ForbiddenMove("an event never changes")
        super().save(*args, **kwargs)

    @property
    def words(self) -> str:
        """Return the details as people read them: recovery stores a code."""
        if self.happened in (EventType.TO_SCAN, EventType.RECOVERY_ENDED):
            return str(dict(ScanReason.choices).get(self.detail, self.detail))
        return self.detail


class _Gathered(threading.local):
    rows: list[AccountEvent] | None = None


_gathered = _Gathered()


@contextmanager
def gathered(published_most: int | None = None) -> Iterator[None]:
    """Write all event rows of the block with one INSERT at its end.

    If there are more than `published_most`, pages are only told that there are rows: they read those, or reload.
    A message for each of thousands would fill their streams. Use it only in the transaction of their moves; blocks
    do not nest. In a group commit, one block covers the rows of all callers of the batch.
    """
    _gathered.rows = []
    try:
        yield
        if _gathered.rows:
            _write(_gathered.rows, published_most)
    finally:
        _gathered.rows = None


def record(
    account: models.Model,
    happened: str,
    *,
    attempt: models.Model | None = None,
    old: str = "",
    new: str = "",
    reason: str = "",
    detail: str = "",
    by=None,
    at: datetime | None = None,
    team_before: int | None = None,
) -> AccountEvent:
    """Write one event row in the caller's transaction and publish it after the commit.

    Within `gathered()` the row is written at the end of that block. `at`: None for now. `team_before`: the account's
    team before this event; the account itself has its team of now. Returns the event.
    """
    event = AccountEvent(
        account=account,
        attempt=attempt,
        happened=happened,
        from_state=old,
        to_state=new,
        reason=reason,
        detail=detail[:300],
        actor=by,
        actor_name=by.get_username() if by else "",
        at=at or db_clock.now(),
        left_team=team_before if team_before != account.team_id else None,
    )
    # A group commit may write and log it in another caller's thread.
    event.log_context, event.origin = contextvars.copy_context(), origin.current()
    event.shown_state = attempt.state if attempt is not None else account.state
    if _gathered.rows is None:
        _write([event])
    else:
        _gathered.rows.append(event)
    return event


def _write(rows: list[AccountEvent], published_most: int | None = None) -> None:
    AccountEvent.objects.bulk_create(rows, batch_size=WRITTEN_AT_ONCE)
    audit.of_events(rows)
    if published_most is not None and len(rows) > published_most:
        events = [pubsub.OTHER_ROWS]
    else:
        events = [
            pubsub.PublishedEvent(
                row.pk, row.account_id, row.account.team_id, row.attempt_id, row.shown_state, row.left_team
            )
            for row in rows
        ]
    transaction.on_commit(lambda: _told(rows, events), robust=True)


def _told(rows: list[AccountEvent], events: list[pubsub.PublishedEvent]) -> None:
    """Publish the events and log the rows. The details stay out of the log: they may name a person."""
    pubsub.publish(events)
    for row in rows:
        fields = {
            "event": row.pk,
            "account": row.account_id,
            "attempt": row.attempt_id,
            "happened": row.happened,
            "from": row.from_state,
            "to": row.to_state,
            "reason": row.reason,
            "actor": row.actor_id,
        }
        moved = f"{row.from_state} -> {row.to_state}" if row.to_state else ""
        words = " ".join(filter(None, (str(row.happened), moved, str(row.reason))))
        fields = {name: value for name, value in fields.items() if value not in (None, "")}
        row.log_context.run(log.info, "%s", words, extra=fields)
