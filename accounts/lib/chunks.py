"""Batches of items: databases limit the number of values in one statement."""

from collections.abc import Iterable, Iterator
from itertools import islice


def in_batches(items: Iterable, size: int) -> Iterator[list]:
    """Yield the items in order, in lists of up to `size`. No list is empty."""
    left = iter(items)
    while some := list(islice(left, size)):
        yield some
