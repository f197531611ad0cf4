"""What many ask for at the same moment, done as one batch: one transaction instead of hundreds.

Whoever comes first works at once, alone; those who come while it works wait, and the first of them then works for
all of them. Nobody waits longer than for the batch before its own, and an idle process adds nothing at all.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

MOST = 200


class Interrupted(Exception):
    """The caller that worked for this batch was killed meanwhile; whether its work took effect is not known."""


class _Place:
    """One caller in the queue."""

    __slots__ = ("called", "done", "error", "item", "left", "result")

    def __init__(self, item: Any):
        self.item = item
        self.called = threading.Event()
        self.done = self.left = False
        self.result: Any = None
        self.error: BaseException | None = None


class GroupCommit:
    """Calls `work(items)` for the items of all who call at the same time; it returns one result for each, in order.

    A result that is an exception is raised at its caller; an exception of `work` itself is raised at all of them.
    A result whose caller was killed meanwhile goes to `unwanted`.
    """

    def __init__(
        self, work: Callable[[list], list], most: int = MOST, unwanted: Callable[[Any], None] | None = None
    ):
        self.work = work
        self.most = most
        self.unwanted = unwanted
        self.lock = threading.Lock()
        self.queue: deque[_Place] = deque()
        self.busy = False

    def __call__(self, item: Any) -> Any:
        place = _Place(item)
        with self.lock:
            self.queue.append(place)
            if not self.busy:
                self._call_next()
        try:
            place.called.wait()
            if not place.done:
                self._lead()
        except BaseException:
            self._leave(place)
            raise
        if place.error is not None:
            raise place.error
        return place.result

    def _lead(self) -> None:
        with self.lock:
            batch = [self.queue.popleft() for _ in range(min(self.most, len(self.queue)))]
        try:
            self._serve(batch)
        finally:
            # Also when this caller was killed in the middle: the others must not wait for it for ever.
            with self.lock:
                for place in batch:
                    place.done = True
                    place.called.set()
                self._call_next()
            for place in batch:
                if place.left:
                    self._drop(place)

    def _leave(self, place: _Place) -> None:
        """Killed while it waited: somebody else has to lead in its place."""
        with self.lock:
            done, place.left = place.done, True
            if place in self.queue:
                self.queue.remove(place)
                if place.called.is_set():
                    self._call_next()
        if done:
            self._drop(place)

    def _drop(self, place: _Place) -> None:
        result, place.result = place.result, None
        if self.unwanted is not None and result is not None:
            self.unwanted(result)

    def _call_next(self) -> None:
        self.busy = bool(self.queue)
        if self.queue:
            self.queue[0].called.set()

    def _serve(self, batch: list[_Place]) -> None:
        try:
            results = self.work([place.item for place in batch])
        except Exception as error:
            for place in batch:
                place.error = error
        except BaseException:
            for place in batch:
                place.error = Interrupted()
            raise
        else:
            for place, result in zip(batch, results, strict=True):
                if isinstance(result, Exception):
                    place.error = result
                else:
                    place.result = result
