"""Steps of the product in threads of a test's own."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from django.db import connections

from tests.support.processes import DEADLINE


def in_thread(step: Callable, *args):
    """What a thread runs: the step; its database connection does not stay open behind it."""
    try:
        return step(*args)
    finally:
        connections.close_all()


@contextmanager
def running(step: Callable, *args) -> Iterator[Future]:
    """The step runs in another thread while the block does; it has to end after it."""
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(in_thread, step, *args)
        yield result
        result.result(DEADLINE)
