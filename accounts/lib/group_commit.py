"""Group commit: concurrent calls run as one batch (one transaction, not hundreds).

The first caller runs immediately, alone. Callers that arrive meanwhile wait; the first of them then runs the
next batch for all of them. A call may therefore run in another caller's thread and on its transaction. A
caller waits at most for the batch before its own while no more than `most` callers are queued. An idle
process adds no delay.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

MOST = 200


class Interrupted(Exception):
    """Raised if the caller that ran this batch was killed: it is unknown whether its work took effect."""


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
    """Call `work(items)` with the items of all concurrent callers. It returns one result for each, in order.

    `most`: items in one batch. A result that is an exception is raised in its own caller. An exception that
    `work` raises is raised in all callers of the batch. A result whose caller was killed meanwhile goes to
    `unwanted`.
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
            # Also if this caller was killed in the middle: the others must not wait for it indefinitely.
            with self.lock:
                for place in batch:
                    place.done = True
                    place.called.set()
                self._call_next()
            for place in batch:
                if place.left:
                    self._drop(place)

    def _leave(self, place: _Place) -> None:
        """Remove a caller that was killed while it waited. If it was to lead, the next one leads."""
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
