"""Statements on rows: IDs, batches within the limits of databases, and the lease of one row."""

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice

from django.db import DatabaseError, InterfaceError
from django.db.models import Q, QuerySet

from accounts.lib import db_clock

log = logging.getLogger(__name__)


def in_batches(items: Iterable, size: int) -> Iterator[list]:
    """Yield the items in order, in lists of up to `size`. No list is empty."""
    left = iter(items)
    while some := list(islice(left, size)):
        yield some


def is_key(text: str) -> bool:
    """Return whether this may be the ID of a row, as somebody wrote it."""
    return text.isascii() and text.isdigit() and len(text) < 19


def unleased(column: str, now: datetime) -> Q:
    """Return the condition for rows that no process holds: their lease is null or has ended."""
    return Q((column, None)) | Q((f"{column}__lte", now))


class RowLease:
    """The claim of one process on one row, until the time in a column, by the database's clock.

    That time also identifies the holder: a process that claims the row later writes a later one. Use it as a
    context manager: the end of the block releases the lease. If the process dies, the lease ends at its time.
    """

    def __init__(self, row: QuerySet, column: str, length: timedelta):
        self.row, self.column, self.length = row, column, length
        self.until: datetime | None = None

    @classmethod
    def claim(cls, rows: QuerySet, pk, column: str, length: timedelta, **changes) -> "RowLease | None":
        """Claim the row `pk` if it is one of `rows` and no process holds it; write `changes` with the claim.

        Returns None if not.
        """
        lease = cls(rows.model.objects.filter(pk=pk), column, length)
        free = rows.filter(unleased(column, db_clock.now()), pk=pk)
        return lease if lease._write(free, **changes) else None

    def renew(self, **only_if) -> bool:
        """Extend the lease. Return False if it was lost, or if the row does not match `only_if`."""
        return self._write(self.row.filter((self.column, self.until), **only_if))

    def _write(self, rows: QuerySet, **changes) -> bool:
        until = db_clock.now() + self.length
        written = bool(rows.update(**{self.column: until}, **changes))
        self.until = until if written else self.until
        return written

    def __enter__(self) -> "RowLease":
        return self

    def __exit__(self, *_error) -> None:
        """Release the row if it is still held. A database error is only logged: the lease ends anyway."""
        try:
            self.row.filter((self.column, self.until)).update(**{self.column: None})
        except (DatabaseError, InterfaceError) as error:
            log.warning("a lease was not released (%s); it ends at its time", type(error).__name__)
