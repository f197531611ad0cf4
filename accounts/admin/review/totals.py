"""How many rows of a list have each value, and how many there are of each day."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

from django.contrib.admin.views.main import ChangeList
from django.db.models import Count, QuerySet
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from accounts.admin.review.filters import DayFilter
from accounts.reports.buckets import QUARTER, Quarter

PAGED_TIMES = 5  # so many more of the newest rows are counted than the list has on its pages
SHOWN, DAYS_SHOWN = 10, 31
EVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Part:
    """`query`: the query string of the list narrowed to these rows, "" if no filter does."""

    title: str | Promise
    number: int
    query: str


@dataclass(frozen=True, slots=True)
class Total:
    title: str | Promise
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class Totals:
    """`since`: the newest rows from then on are counted, None for all rows."""

    number: int
    since: datetime | None
    of: list[Total]


def totals_of(cl: ChangeList, columns: tuple[str, ...], time_column: str) -> Totals:
    """Count the rows of a list by their values in columns that have a filter, and by day. Three queries."""
    rows, limit = cl.queryset.order_by(), PAGED_TIMES * cl.paginator.limit
    since = rows.order_by(f"-{time_column}").values_list(time_column, flat=True)[limit : limit + 1]
    oldest = next(iter(since), EVER)
    # More than one row may have that time: a few of the newest rows are left out then.
    rows = rows.filter(**{f"{time_column}__gt": oldest})
    counts, number = _counts(rows, columns), 0
    by_column = {column: Counter() for column in columns}
    for *values, count in counts:
        number += count
        for column, value in zip(columns, values, strict=True):
            by_column[column][value] += count
    specs = {spec.column: spec for spec in cl.filter_specs if hasattr(spec, "column")}
    of = [
        Total(specs[column].title, list(_parts(cl, specs[column], by_column[column])))
        for column in columns
        if column in specs
    ]
    of.append(Total(_("day"), list(_days(cl, rows, time_column))))
    return Totals(number, oldest if oldest != EVER else None, [total for total in of if total.parts])


def _counts(rows: QuerySet, columns: tuple[str, ...]) -> QuerySet:
    return rows.values_list(*columns).annotate(number=Count("pk"))


def _parts(cl: ChangeList, spec, counts: Counter) -> Iterator[Part]:
    found = [(spec.value_of(stored), number) for stored, number in counts.most_common() if stored != ""]
    for value, number in found[:SHOWN]:
        yield Part(spec.title_of(value), number, spec.query(cl, [value]))
    if rest := sum(number for _value, number in found[SHOWN:]):
        yield Part(_("others"), rest, "")


def _days(cl: ChangeList, rows: QuerySet, time_column: str) -> Iterator[Part]:
    spec = next(spec for spec in cl.filter_specs if isinstance(spec, DayFilter))
    zone, numbers = timezone.get_current_timezone(), Counter()
    for quarter, number in rows.values_list(Quarter(time_column)).annotate(number=Count("pk")):
        numbers[datetime.fromtimestamp(quarter * QUARTER, zone).date()] += number
    days: list[date] = sorted(numbers, reverse=True)
    for day in days[:DAYS_SHOWN]:
        yield Part(day.isoformat(), numbers[day], spec.query(cl, day, day))
    if rest := sum(numbers[day] for day in days[DAYS_SHOWN:]):
        yield Part(_("earlier"), rest, "")
