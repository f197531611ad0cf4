"""Pages of a long table by key instead of by offset: the last page costs what the first one does.

Also counts of such tables, which stop at a limit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import F, Func, IntegerField, Lookup, Q, QuerySet, Subquery, Value
from django.db.models.lookups import In, IsNull

from accounts.lib.typed_text import is_key

PER_PAGE = 50
COUNT_LIMIT = 10_000
FEW = 500  # so many rows are named by their IDs


@dataclass(frozen=True, slots=True)
class Order:
    """One way to sort: by a column that is never null, then by ID."""

    column: str
    descending: bool = False

    @property
    def expression(self):
        return F(self.column)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a list that is sorted by its own, before or after other parts. `parts`: as of `page_of`."""

    rows: QuerySet
    parts: Sequence[QuerySet] = ()


@dataclass(frozen=True, slots=True)
class Page:
    rows: list
    previous: str
    next: str

    @property
    def is_only(self) -> bool:
        return not self.previous and not self.next


def page_of(
    rows: QuerySet,
    order: Order,
    cursor: str = "",
    size: int = PER_PAGE,
    *,
    anchors: QuerySet | None = None,
    parts: Sequence[QuerySet] = (),
) -> Page:
    """Return one page. `cursor`: "" (first page), "last", ">ID" (what follows that row) or "<ID" (what precedes it).

    A cursor names a row, not a value. Rows that are gone, junk, and cursors beyond the ends lead to the first page.
    `anchors` are the rows that a cursor may name (default: `rows`): rows that left the filter still mark a place;
    rows hidden from the reader must not reveal where they stand.
    `parts` together are the rows asked for, where an index has the order of each part but not of all: the page is then
    among the first rows of each.
    """
    named = rows if anchors is None else anchors
    anchor = _anchor(named.annotate(sort_key=order.expression), cursor)
    backwards = cursor == "last" or (cursor.startswith("<") and anchor is not None)
    up = order.descending == backwards
    found = list(_nearest(Section(rows, parts), order, anchor, up, size + 1))
    if not found and cursor:
        return page_of(rows, order, "", size, anchors=anchors, parts=parts)
    more = len(found) > size
    found = found[:size]
    if backwards:
        found.reverse()
    before = more if backwards else anchor is not None
    after = (cursor != "last") if backwards else more
    return Page(
        found,
        previous=f"<{found[0].pk}" if found and before else "",
        next=f">{found[-1].pk}" if found and after else "",
    )


def page_of_sections(
    rows: QuerySet,
    sections: Mapping[str, Section],
    order: Order,
    cursor: str = "",
    size: int = PER_PAGE,
    *,
    read: Callable = str,
) -> Page:
    """Return one page of a list in sections: all rows of the first one in ascending order, then the second's.

    A cursor is that of `page_of`, but names a section and a place in it: rows change their section between two pages.
    `read` makes the sort value of its text, or raises ValueError. `rows`: what the page has of each row.
    """
    names, at = list(sections), _place(sections, cursor, read)
    backwards = cursor == "last" or (at is not None and cursor.startswith("<"))
    first = names.index(at[0]) if at else None
    near = []
    for number, section in enumerate(sections.values()):
        if first is None or (number <= first if backwards else number >= first):
            anchor = at[1:] if number == first else None
            nearest = _nearest(section, order, anchor, not backwards, size + 1)
            near.append(_placed(nearest.values("pk"), order, number))
    side = "-" if backwards else ""
    listed = near[0].union(*near[1:], all=True) if near[1:] else near[0]
    found = list(listed.order_by(f"{side}section", f"{side}sort_key", f"{side}pk"))
    if not found and cursor:
        return page_of_sections(rows, sections, order, read=read, size=size)
    more, found = len(found) > size, found[:size]
    if backwards:
        found.reverse()
    ends = [f"{names[number]}.{_written(key)}.{pk}" for number, key, pk in (found[:1] + found[-1:])]
    by_id = rows.in_bulk([pk for _number, _key, pk in found])
    before = more if backwards else at is not None
    after = (cursor != "last") if backwards else more
    return Page(
        [by_id[pk] for _number, _key, pk in found if pk in by_id],
        previous=f"<{ends[0]}" if found and before else "",
        next=f">{ends[1]}" if found and after else "",
    )


def moment(text: str) -> datetime:
    """Read a sort value that is a time."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(text)
    return time


def _written(key: object) -> str:
    return key.isoformat() if isinstance(key, datetime) else str(key)


def _place(sections: Mapping[str, Section], cursor: str, read: Callable) -> tuple | None:
    """Return the section, the sort value and the ID that a cursor of `page_of_sections` names."""
    name, _dot, rest = cursor[1:].partition(".")
    key, _dot, number = rest.rpartition(".")
    if cursor[:1] not in ("<", ">") or name not in sections or not is_key(number):
        return None
    try:
        return name, read(key), int(number)
    except ValueError:
        return None


def _placed(ids: QuerySet, order: Order, number: int) -> QuerySet:
    """Return the section's number, the sort value and the ID of each row, as a part of a union."""
    named = ids.model._default_manager.filter(InOnce(F("pk"), ids))
    named = named.annotate(section=Value(number), sort_key=order.expression)
    return named.order_by().values_list("section", "sort_key", "pk")


def _nearest(section: Section, order: Order, anchor: tuple | None, up: bool, size: int) -> QuerySet:
    nearest = [_sorted(part, order, anchor, up)[:size] for part in section.parts]
    return _sorted(section.rows.filter(_in_any(nearest)), order, anchor, up)[:size]


def _anchor(rows: QuerySet, cursor: str) -> tuple | None:
    """Return the sort value and the ID of the row that a cursor names."""
    number = cursor[1:]
    if cursor[:1] not in ("<", ">") or not is_key(number):
        return None
    return rows.filter(pk=int(number)).values_list("sort_key", "pk").first()


def _sorted(rows: QuerySet, order: Order, anchor: tuple | None, up: bool) -> QuerySet:
    rows = rows.annotate(sort_key=order.expression)
    prefix = "" if up else "-"
    return (rows.filter(_beyond(anchor, up)) if anchor else rows).order_by(f"{prefix}sort_key", f"{prefix}pk")


def _beyond(anchor: tuple, up: bool) -> Q:
    """Match rows after the anchor. The outer comparison is one that an index scan can start from."""
    key, pk = anchor
    side = "gt" if up else "lt"
    return Q(**{f"sort_key__{side}e": key}) & (Q(**{f"sort_key__{side}": key}) | Q(**{f"pk__{side}": pk}))


def _in_any(parts: list[QuerySet]) -> Q:
    """Match the rows of all parts; all rows if there are no parts."""
    ids = [
        part.model._default_manager.filter(InOnce(F("pk"), part.values("pk"))).values("pk") for part in parts
    ]
    return Q(InOnce(F("pk"), ids[0].union(*ids[1:], all=True))) if ids else Q()


def ids_if_few(rows: QuerySet, limit: int = FEW) -> list[int] | None:
    """Return the IDs of the rows, or None if there are more than `limit`."""
    ids = list(rows.order_by().values_list("pk", flat=True)[: limit + 1])
    return ids if len(ids) <= limit else None


class InOnce(In):
    """The condition IN with a query that is executed once, whatever the statistics say.

    PostgreSQL executes the query of an IN again for each outer row if it believes that there is one. It does after a
    table was emptied and filled again, until its next ANALYZE: a page of 160 accounts then took minutes.
    """

    def get_rhs_op(self, connection, rhs):
        if connection.vendor == "postgresql":
            return f"= ANY(ARRAY{rhs})"
        return super().get_rhs_op(connection, rhs)


class WithoutIndex(Func):
    """The same value, for a condition that must not choose the index on SQLite.

    Without statistics SQLite takes the index that serves most conditions, and then sorts. PostgreSQL has statistics.
    """

    template = "%(expressions)s"

    def as_sqlite(self, compiler, connection, **extra):
        return self.as_sql(compiler, connection, template="+%(expressions)s", **extra)


def for_each(rows: QuerySet) -> Lookup:
    """Return the condition that there is one of `rows`, which refer to the outer row.

    PostgreSQL may turn an EXISTS into a join, and read both tables to their ends for a page of rows. This is tested
    for one outer row after the other.
    """
    return IsNull(Subquery(rows.order_by().values("pk")[:1]), False)


def count_up_to(rows: QuerySet, limit: int = COUNT_LIMIT) -> int:
    """Count the rows, no further than `limit` + 1."""
    return rows.order_by().values("pk")[: limit + 1].count()


class Number(Subquery):
    """The number of rows, as a value beside others in one query; counts no further than `limit`."""

    template = "(SELECT COUNT(*) FROM (%(subquery)s) AS counted)"
    output_field = IntegerField()
    empty_result_set_value = 0

    def __init__(self, rows: QuerySet, limit: int | None = None, **extra):
        super().__init__(rows.order_by().values("pk")[:limit], **extra)


def counts_up_to(limit: int, *lists: QuerySet) -> list[int]:
    """Count the rows of each list, no further than `limit` + 1, by one query for all."""
    table = lists[0].model._default_manager.order_by()
    counted = table.values_list(*(Number(rows, limit + 1) for rows in lists))
    return list(counted.first() or [0] * len(lists))
