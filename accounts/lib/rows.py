"""Statements on rows: batches within the limits of databases, the lease of one row, whether and how many there are."""

import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import cached_property
from itertools import islice
from typing import Any

from django.db import DatabaseError, InterfaceError, connection
from django.db.models import DateTimeField, Expression, Q, QuerySet

from accounts.lib import db_clock
from accounts.lib.lists.keyset_pagination import Number

log = logging.getLogger(__name__)


def in_batches(items: Iterable, size: int) -> Iterator[list]:
    """Yield the items in order, in lists of up to `size`. No list is empty."""
    left = iter(items)
    while some := list(islice(left, size)):
        yield some


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


# --- statements that are written once ---------------------------------------------------------------------


class Given(Expression):
    """A value that is known when a statement is executed, which was written before."""

    def as_sql(self, _compiler, _connection) -> tuple[str, list]:
        return "%s", [self]

    def value(self, given: Any) -> Any:
        return given


class Moment(Given):
    """The time at which a statement is executed: `moment - timedelta(hours=1)`."""

    def __init__(self, shift: timedelta = timedelta()):
        super().__init__(output_field=DateTimeField())
        self.shift = shift

    def __add__(self, delta: timedelta) -> "Moment":
        return Moment(self.shift + delta)

    def __sub__(self, delta: timedelta) -> "Moment":
        return Moment(self.shift - delta)

    def value(self, given: datetime) -> Any:
        return connection.ops.adapt_datetimefield_value(given + self.shift)


Queries = Callable[[Any], Iterable[QuerySet]]


class _WrittenOnce:
    """A SELECT of one row: Django takes longer to write such a statement than a database to answer it.

    `queries`: by the name of its column, the rows that it looks at, for what is given at each call.
    """

    def __init__(self, queries: dict[str, Queries], given: Given):
        self.queries, self.given = queries, given

    def column(self, rows: list[QuerySet]) -> tuple[str, list]:
        raise NotImplementedError

    @cached_property
    def statement(self) -> tuple[str, list]:
        written = [self.column(list(queries(self.given))) for queries in self.queries.values()]
        return f"SELECT {', '.join(sql for sql, _params in written)}", [
            param for _sql, params in written for param in params
        ]

    def execute(self, given: Any) -> dict[str, Any]:
        sql, params = self.statement
        known = [param.value(given) if isinstance(param, Given) else param for param in params]
        with connection.cursor() as cursor:
            cursor.execute(sql, known)
            return dict(zip(self.queries, cursor.fetchone(), strict=True))


class DueCheck(_WrittenOnce):
    """Tells by one statement which of several jobs have rows to work on: those that a job works on at a moment."""

    def __init__(self, queries: dict[str, Queries]):
        super().__init__(queries, Moment())

    def column(self, rows: list[QuerySet]) -> tuple[str, list]:
        written = [some.query.exists().sql_with_params() for some in rows]
        sql = " OR ".join(f"EXISTS ({sql})" for sql, _params in written)
        return sql, [param for _sql, params in written for param in params]

    def __call__(self, now: datetime) -> set[str]:
        """Return the names of the jobs that have something to do."""
        return {name for name, due in self.execute(now).items() if due}


class Counts(_WrittenOnce):
    """Counts several kinds of rows by one statement. Call it with the value of what is given."""

    def column(self, rows: list[QuerySet]) -> tuple[str, list]:
        (some,) = rows
        sql, params = some.order_by().values("pk").query.sql_with_params()
        return Number.template % {"subquery": sql}, list(params)

    __call__ = _WrittenOnce.execute
