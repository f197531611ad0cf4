"""Pages of a long table by key instead of by offset: the last page costs what the first one does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.db.models import F, IntegerField, Lookup, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, Lower
from django.db.models.lookups import IsNull

PER_PAGE = 50
COUNT_LIMIT = 10_000
# So many rows are read along an index, in the hope that a page of those asked for is among them; and up to so many,
# if the first ones promise that this will do: fewer where their own index finds and sorts them for little.
NEAR, NOT_FAR, FAR = 200, 400, 1_500
# So many are taken by their ids.
FEW = 500


def without_index(expression) -> Coalesce:
    """The same value, of which no index is made: where rows are to be found by another one."""
    return Coalesce(expression, expression)


@dataclass(frozen=True, slots=True)
class Order:
    """One way to sort: by a column that is never null, then by id. `fold` ignores case."""

    column: str
    fold: bool = False
    descending: bool = False

    @property
    def expression(self):
        return Lower(self.column) if self.fold else F(self.column)

    @property
    def without_index(self):
        """The same for rows that are to be found first and sorted then."""
        return without_index(self.expression)


@dataclass(frozen=True, slots=True)
class Page:
    rows: list
    previous: str
    next: str

    @property
    def is_only(self) -> bool:
        return not self.previous and not self.next


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the rows of a list, in the order of which no index has all, and two ways to them.

    All of them are among the `strands`, each of which an index has in every order. `found` gives the rows as their
    filter's own index finds them, `one_by_one` are the same as they are best asked for among few; None: they are all
    of the strands. At most `far` rows are read along the order before they are found otherwise.
    """

    strands: Sequence[QuerySet]
    found: Callable[[], QuerySet] | None = None
    one_by_one: QuerySet | None = None
    far: int | None = None

    def next(self, order: Order, anchor: tuple | None, up: bool, number: int) -> list[int]:
        """The ids of the next rows: from among those nearest in the order, or if these have too few, from all."""
        along = plaited(self.strands, order, anchor, up)
        if self.found is None:
            return _ids(along(number), number)
        rows, are_all = nearest(along, self.one_by_one, number, far=self.far)
        if are_all or len(rows) == number:
            return [pk for (pk,) in rows]
        return _ids(_sorted(self.found(), order.without_index, anchor, up), number)


def page_of(
    rows: QuerySet,
    order: Order,
    cursor: str = "",
    size: int = PER_PAGE,
    *,
    anchors: QuerySet | None = None,
    part: Part | None = None,
) -> Page:
    """One page. `cursor` is "" (first page), "last", ">ID" (what follows that row) or "<ID" (what precedes it).

    A cursor names a row, not a value: rows that are gone, junk, and cursors
    beyond the ends lead to the first page. `anchors` are the rows that it may name (default: `rows`): those that
    left the filter still mark a place, those that are hidden from the reader must not tell where they stand.
    `part`, where it is given, says which of `rows` are asked for.
    """
    named = rows if anchors is None else anchors
    anchor = _anchor(named.annotate(sort_key=order.expression), cursor)
    backwards = cursor == "last" or (cursor.startswith("<") and anchor is not None)
    up = order.descending == backwards
    if part:
        ids = part.next(order, anchor, up, size + 1)
        found = list(_sorted(rows.filter(pk__in=ids), order.without_index, None, up))
    else:
        found = list(_sorted(rows, order.expression, anchor, up)[: size + 1])
    if not found and cursor:
        return page_of(rows, order, "", size, anchors=anchors, part=part)
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


def _anchor(rows: QuerySet, cursor: str) -> tuple | None:
    """The sort value and the id of the row that a cursor names."""
    number = cursor[1:]
    if cursor[:1] not in ("<", ">") or not (number.isascii() and number.isdigit() and len(number) < 19):
        return None
    return rows.filter(pk=int(number)).values_list("sort_key", "pk").first()


def _sorted(rows: QuerySet, key, anchor: tuple | None, up: bool) -> QuerySet:
    rows = rows.annotate(sort_key=key)
    prefix = "" if up else "-"
    return (rows.filter(_beyond(anchor, up)) if anchor else rows).order_by(f"{prefix}sort_key", f"{prefix}pk")


def _ids(rows: QuerySet, number: int) -> list[int]:
    return list(rows.values_list("pk", flat=True)[:number])


def _beyond(anchor: tuple, up: bool) -> Q:
    """Rows after the anchor. The outer comparison is one an index can start from."""
    key, pk = anchor
    side = "gt" if up else "lt"
    return Q(**{f"sort_key__{side}e": key}) & (Q(**{f"sort_key__{side}": key}) | Q(**{f"pk__{side}": pk}))


def plaited(
    strands: Sequence[QuerySet], order: Order, anchor: tuple | None = None, up: bool = True
) -> Callable[[int], QuerySet]:
    """What gives the rows of all strands in one order, right up to as many as it is told: each by its own index."""
    each = [_sorted(rows, order.expression, anchor, up) for rows in strands]
    if len(each) == 1:
        return lambda end: each[0]
    table = strands[0].model._default_manager

    def first(end: int) -> QuerySet:
        ids, *others = [table.filter(pk__in=rows[:end].values("pk")).values("pk") for rows in each]
        return _sorted(table.filter(pk__in=ids.union(*others, all=True)), order.without_index, None, up)

    return first


def nearest(
    along: Callable[[int], QuerySet],
    asked: QuerySet,
    number: int,
    *columns: str,
    enough: int | None = None,
    far: int | None = None,
) -> tuple[list[tuple], bool]:
    """The ids (and columns) of the rows nearest `along` an index that are among those `asked` for; and whether there
    are no others.

    Up to `number`, and fewer if they are rare: then whoever asks finds them all and sorts them. So neither a filter
    that few rows pass nor one that most pass reads the whole table, and no database has to guess which one it is.
    """
    is_asked = Subquery(asked.filter(pk=OuterRef("pk")).order_by().values("pk")[:1])
    found, begin, end, enough, far = [], 0, NEAR, enough or number, far or FAR
    while True:
        rows = along(end).annotate(is_asked=is_asked).values_list("is_asked", "pk", *columns)
        stretch = list(rows[begin:end])
        found += [row[1:] for row in stretch if row[0] is not None]
        at_the_end = len(stretch) < end - begin
        needed = end * enough // max(1, len(found))
        if len(found) >= enough or at_the_end or begin or needed > far:
            return found[:number], at_the_end and len(found) <= number
        begin, end = end, min(far, needed + needed // 2)


def for_each(rows: QuerySet) -> Lookup:
    """Whether there is one of `rows`, which refer to the outer row: looked at for each outer row by itself.

    An EXISTS PostgreSQL may turn into a join, and read both tables to their ends for a page of rows.
    """
    return IsNull(Subquery(rows.order_by().values("pk")[:1]), False)


def count_up_to(rows: QuerySet, limit: int = COUNT_LIMIT) -> int:
    """How many rows, counting no further than `limit` + 1."""
    return rows.order_by().values("pk")[: limit + 1].count()


class Number(Subquery):
    """How many rows there are, as a value beside others in one query; counting no further than `limit`."""

    template = "(SELECT COUNT(*) FROM (%(subquery)s) AS counted)"
    output_field = IntegerField()
    empty_result_set_value = 0

    def __init__(self, rows: QuerySet, limit: int | None = None, **extra):
        super().__init__(rows.order_by().values("pk")[:limit], **extra)


def counts_up_to(limit: int, *lists: QuerySet) -> list[int]:
    """How many rows each list has, counting no further than `limit` + 1; by one query for all."""
    table = lists[0].model._default_manager.order_by()
    counted = table.values_list(*(Number(rows, limit + 1) for rows in lists))
    return list(counted.first() or [0] * len(lists))
