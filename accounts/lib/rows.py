"""Statements on rows: IDs, batches within the limits of databases, the lease of one row, and whether there are any."""

import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import cached_property
from itertools import islice

from django.db import DatabaseError, InterfaceError, connection
from django.db.models import DateTimeField, Expression, Q, QuerySet

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


# --- rows of many jobs, in one statement ------------------------------------------------------------------

Queries = Callable[["Moment"], Iterable[QuerySet]]


class Moment(Expression):
    """The time of the call, in a statement that is written before it: `moment - timedelta(hours=1)`."""

    def __init__(self, shift: timedelta = timedelta()):
        super().__init__(output_field=DateTimeField())
        self.shift = shift

    def __add__(self, delta: timedelta) -> "Moment":
        return Moment(self.shift + delta)

    def __sub__(self, delta: timedelta) -> "Moment":
        return Moment(self.shift - delta)

    def as_sql(self, _compiler, _connection) -> tuple[str, list]:
        return "%s", [self]


class DueCheck:
    """Tells by one statement which of several jobs have rows to work on.

    Django takes longer to write such a statement than a database to answer it, so it is written once. `jobs`: by name,
    the rows that a job works on at a given moment.
    """

    def __init__(self, jobs: dict[str, Queries]):
        self.jobs = jobs

    @cached_property
    def statement(self) -> tuple[str, list]:
        columns, params = [], []
        for queries in self.jobs.values():
            written = [rows.query.exists().sql_with_params() for rows in queries(Moment())]
            columns.append(" OR ".join(f"EXISTS ({sql})" for sql, _params in written))
            params += [param for _sql, some in written for param in some]
        return f"SELECT {', '.join(columns)}", params

    def __call__(self, now: datetime) -> set[str]:
        """Return the names of the jobs that have something to do."""
        sql, params = self.statement
        at = connection.ops.adapt_datetimefield_value
        known = [at(now + param.shift) if isinstance(param, Moment) else param for param in params]
        with connection.cursor() as cursor:
            cursor.execute(sql, known)
            found = cursor.fetchone()
        return {name for name, due in zip(self.jobs, found, strict=True) if due}
