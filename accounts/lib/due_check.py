"""One statement that tells which of several jobs have rows to work on.

Django takes longer to write such a statement than a database to answer it, so it is written once.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import cached_property

from django.db import connection
from django.db.models import DateTimeField, Expression, QuerySet

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
    """`jobs`: by name, the rows that a job works on at a given moment; none of them, nothing to do."""

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
