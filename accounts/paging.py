"""Pages of a long table by key instead of by offset: the last page costs what the first one does."""

from dataclasses import dataclass

from django.db.models import F, Q, QuerySet
from django.db.models.functions import Lower

PER_PAGE = 50
COUNT_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Order:
    """One way to sort: by a column that is never null, then by id. `fold` ignores case."""

    column: str
    fold: bool = False
    descending: bool = False

    @property
    def expression(self):
        return Lower(self.column) if self.fold else F(self.column)


@dataclass(frozen=True, slots=True)
class Page:
    rows: list
    previous: str
    next: str

    @property
    def is_only(self) -> bool:
        return not self.previous and not self.next


def page_of(
    rows: QuerySet, order: Order, cursor: str = "", size: int = PER_PAGE, anchors: QuerySet | None = None
) -> Page:
    """One page. `cursor` is "" (first page), "last", ">ID" (what follows that row) or "<ID" (what precedes it).

    A cursor names a row, not a value: rows that are gone, junk, and cursors
    beyond the ends lead to the first page. `anchors` are the rows that it may name (default: `rows`): those that
    left the filter still mark a place, those that are hidden from the reader must not tell where they stand.
    """
    rows = rows.annotate(sort_key=order.expression)
    named = rows if anchors is None else anchors.annotate(sort_key=order.expression)
    anchor = _anchor(named, cursor)
    backwards = cursor == "last" or (cursor.startswith("<") and anchor is not None)
    up = order.descending == backwards
    asked = rows.filter(_beyond(anchor, up)) if anchor else rows
    prefix = "" if up else "-"
    found = list(asked.order_by(f"{prefix}sort_key", f"{prefix}pk")[: size + 1])
    if not found and cursor:
        return page_of(rows, order, "", size, anchors)
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


def _beyond(anchor: tuple, up: bool) -> Q:
    """Rows after the anchor. The outer comparison is one an index can start from."""
    key, pk = anchor
    side = "gt" if up else "lt"
    return Q(**{f"sort_key__{side}e": key}) & (Q(**{f"sort_key__{side}": key}) | Q(**{f"pk__{side}": pk}))


def count_up_to(rows: QuerySet, limit: int = COUNT_LIMIT) -> int:
    """How many rows, counting no further than `limit` + 1."""
    return rows.order_by().values("pk")[: limit + 1].count()
