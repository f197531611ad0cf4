"""Pages of long lists."""

from django.core.paginator import Paginator
from django.utils.functional import cached_property

from accounts.lib.lists.keyset_pagination import COUNT_LIMIT, count_up_to


class LongPaginator(Paginator):
    """Count and page at most the first COUNT_LIMIT (10,000) rows.

    Beyond them a filter helps more than page 3,817. Pages are lists of IDs, which an index provides: the rows
    before a page are not read.
    """

    limit = COUNT_LIMIT
    in_order = False  # count along the index that has the order of the list

    @cached_property
    def count(self) -> int:
        return min(self._counted, self.limit)

    @property
    def is_capped(self) -> bool:
        return self._counted > self.limit

    @cached_property
    def _counted(self) -> int:
        if self.in_order:
            return self.object_list.values("pk")[: self.limit + 1].count()
        return count_up_to(self.object_list, self.limit)

    def ids(self, number: int) -> list[int]:
        first = (min(max(1, number), self.num_pages) - 1) * self.per_page
        return list(self.object_list.values_list("pk", flat=True)[first : first + self.per_page])
