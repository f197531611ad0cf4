"""Times as a database counts them fast: in quarters of an hour, and as whole seconds between two columns.

Days and hours of a time zone are sums of quarters: every zone in use differs from UTC by a multiple of 15 minutes. So
the database need not know zones, and each day has its 23, 24 or 25 hours.
"""

from bisect import bisect_right
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from django.db.models import Func, IntegerField

QUARTER = 900


def quarter_of(moment: datetime) -> int:
    return int(moment.timestamp() // QUARTER)


class Quarter(Func):
    """The number of the quarter of an hour, since 1970, in which a time lies."""

    output_field = IntegerField()
    template = f"CAST(FLOOR(EXTRACT(EPOCH FROM %(expressions)s) / {QUARTER}) AS INTEGER)"

    def as_sqlite(self, compiler, connection, **extra):
        template = f"(CAST(strftime('%%%%s', %(expressions)s) AS INTEGER) / {QUARTER})"
        return self.as_sql(compiler, connection, template=template, **extra)


class WholeSeconds(Func):
    """The seconds from the first time to the second, rounded."""

    output_field = IntegerField()
    arity = 2
    arg_joiner = " | "

    def as_sql(self, compiler, connection, **extra):
        first, second = (compiler.compile(expression) for expression in self.source_expressions)
        if connection.vendor == "sqlite":
            text = "CAST(ROUND((julianday({1}) - julianday({0})) * 86400) AS INTEGER)"
        else:
            text = "CAST(ROUND(EXTRACT(EPOCH FROM ({1} - {0}))) AS INTEGER)"
        return text.format(first[0], second[0]), [*second[1], *first[1]]


class Days:
    """The last days of a time zone, the current one included, and which of them a quarter belongs to."""

    def __init__(self, number: int, now: datetime, zone: tzinfo):
        self.zone = zone
        today = now.astimezone(zone).date()
        self.dates = [today - timedelta(days=back) for back in range(number - 1, -1, -1)]
        self.begins = [_midnight(day, zone) for day in self.dates]  # in seconds since 1970
        self.begin = datetime.fromtimestamp(self.begins[0], UTC)
        # Up to the next one: rows may be younger than `now`.
        self.quarters = range(quarter_of(self.begin), quarter_of(now) + 2)

    def place_of(self, quarter: int) -> int:
        """Return the index in `dates` of a quarter that does not lie before them."""
        return bisect_right(self.begins, quarter * QUARTER) - 1

    def hour_of(self, quarter: int) -> int:
        return datetime.fromtimestamp(quarter * QUARTER, UTC).astimezone(self.zone).hour


def _midnight(day: date, zone: tzinfo) -> float:
    """Return when the day begins: where a clock is set forward at midnight, with its first existing minute."""
    return datetime.combine(day, time.min, zone).timestamp()
