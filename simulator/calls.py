"""Record of calls: counts per path, calls in flight, and the last bodies."""

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import time
from typing import Any, Protocol

WAIT_PATH = "/getIPadLoginInfo"


class Watched(Protocol):
    settings: Any
    logins: dict[str, Any]

    def touch(self) -> None: ...


class Calls:
    """The calls that arrived. A call counts from its headers on, whatever its result."""

    def __init__(self, world: Watched) -> None:
        self.world = world
        self.count: Counter[str] = Counter()
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.last: dict[str, deque[dict[str, Any]]] = {}

    @contextmanager
    def arrived(self, path: str) -> Iterator[None]:
        self.count[path] += 1
        self.now[path] += 1
        self.most[path] = max(self.most[path], self.now[path])
        self.world.touch()
        try:
            yield
        finally:
            self.now[path] -= 1
            self.world.touch()

    @contextmanager
    def read(self, path: str, body: Any, headers: Any) -> Iterator[None]:
        """Record the body, and count step 3 per wId, even if a fault drops the answer."""
        shelf = self.last.get(path)
        if shelf is None:
            shelf = self.last[path] = deque(maxlen=self.world.settings.record_last)
        shelf.append({"at": time(), "body": body, "authorization": headers.get("Authorization")})
        wId = body.get("wId") if path == WAIT_PATH and isinstance(body, dict) else None
        login = self.world.logins.get(wId) if isinstance(wId, str) else None
        if login is None:
            self.world.touch()
            yield
            return
        login.step3_calls += 1
        login.step3_now += 1
        login.max_parallel = max(login.max_parallel, login.step3_now)
        self.world.touch()
        try:
            yield
        finally:
            login.step3_now -= 1
            self.world.touch()

    def as_dict(self) -> dict[str, Any]:
        return {
            "calls": dict(self.count),
            "in_flight": {path: n for path, n in self.now.items() if n},
            "most_in_flight": dict(self.most),
        }

    def bodies(self) -> dict[str, list[dict[str, Any]]]:
        return {path: list(shelf) for path, shelf in self.last.items()}
