"""Many things, some at a time: databases take a limited number of values in one statement."""

from collections.abc import Iterable, Iterator
from itertools import islice


def in_batches(items: Iterable, size: int) -> Iterator[list]:
    """The items in their order, up to `size` of them in each list; no list is empty."""
    left = iter(items)
    while some := list(islice(left, size)):
        yield some
