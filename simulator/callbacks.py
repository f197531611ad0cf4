"""Callbacks to the one address of the developer account: a timeout of 6 s each, no retries."""

import asyncio
import json
import time
from typing import Any, Protocol

import aiohttp


class Account(Protocol):
    settings: Any

    def touch(self) -> None: ...


class Callbacks:
    """Sends callbacks. ``sent`` lists each with its result: {url, body, at, status, error, seconds}."""

    def __init__(self, world: Account) -> None:
        self.world = world
        self.url: str | None = None
        self.type: Any = None
        self.sent: list[dict[str, Any]] = []
        self._tasks: set[asyncio.Task] = set()

    def set(self, url: str, type_: Any) -> None:
        """Set the address and send a test callback at once, as WKTeam does."""
        self.url, self.type = url, type_
        test = self.world.settings.test_callback
        if test is None:
            test = {"account": self.world.settings.account, "messageType": "00000", "data": {"test": True}}
        self.send(test)

    def cancel(self) -> None:
        self.url = self.type = None

    def offline(self, wcId: str, wId: str, duplicates: int = 0, delay: float = 0) -> None:
        """Report a login as offline, once and ``duplicates`` times more, each after ``delay`` seconds."""
        native = self.world.settings.speech.native_callbacks or self.type == 1
        body = {
            "account": self.world.settings.account,
            "data": {"wId": wId},
            "messageType": 4 if native else "30000",
            "wcId": wcId,
        }
        for _ in range(1 + duplicates):
            self.send(body, delay)

    def send(self, body: Any, delay: float = 0, url: str | None = None) -> None:
        """Post this body (a str unchanged) after ``delay`` seconds. Does nothing without an address."""
        url = url or self.url
        if url:
            task = asyncio.get_running_loop().create_task(self._post(url, body, delay))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _post(self, url: str, body: Any, delay: float) -> None:
        await asyncio.sleep(delay)
        note = {"url": url, "body": body, "at": time.time(), "status": None, "error": None, "seconds": None}
        started = time.monotonic()
        limit = aiohttp.ClientTimeout(total=self.world.settings.callback_seconds)
        text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.post(
                    url,
                    data=text.encode("utf-8", "replace"),
                    headers={"Content-Type": "application/json"},
                    allow_redirects=False,
                ) as answer,
            ):
                await answer.read()
                note["status"] = answer.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            note["error"] = f"{type(error).__name__}: {error}".rstrip(": ")
        note["seconds"] = round(time.monotonic() - started, 3)
        self.sent.append(note)
        self.world.touch()
