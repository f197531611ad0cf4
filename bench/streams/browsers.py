"""The load generator: holds thousands of event streams in one process, which is asked by `Process.ask`."""

import asyncio
import contextlib
import random
import re
import time

import uvloop

from bench.processes import answer_requests_async

ATTEMPT = re.compile(rb'"attempt": (\d+|null)')
LAST_ID = re.compile(rb"^id: *(\S*)", re.MULTILINE)
CONNECTING, RETRY_SECONDS = 20, (1, 3)


class Browser(asyncio.Protocol):
    """A page with its stream. `heard` gets (when, which browser, data) of each read with an event."""

    def __init__(self, place: int, cookie: str, teams: list[int], heard: list):
        self.place, self.cookie, self.teams, self.heard = place, cookie, teams, heard
        self.transport, self.last_id = None, b""

    async def connect(self, port: int) -> bool:
        """Return whether the server opened the stream."""
        loop = asyncio.get_running_loop()
        self.opened, self.lost, self.reloads = loop.create_future(), asyncio.Event(), False
        await loop.create_connection(lambda: self, "127.0.0.1", port)
        return await self.opened

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        query = "&".join(f"team={team}" for team in self.teams)
        head = [f"GET /events/?{query} HTTP/1.1", "Host: 127.0.0.1"]
        head.append(f"Cookie: wkportal_session={self.cookie}")
        head += [f"Last-Event-ID: {self.last_id.decode()}"] if self.last_id else []
        transport.write("\r\n".join([*head, "", ""]).encode())

    def data_received(self, data: bytes) -> None:
        self.last_id = (LAST_ID.findall(data) or [self.last_id])[-1]
        self.reloads |= b"event: relook" in data
        if b"event: change" in data:
            self.heard.append((time.time(), self.place, data))
        if b"event: " in data or (data.startswith(b"HTTP") and b" 200 " not in data[:20]):
            self.answered(b"event: " in data)

    def connection_lost(self, _error: Exception | None) -> None:
        self.answered(False)
        self.lost.set()

    def answered(self, opened: bool) -> None:
        if not self.opened.done():
            self.opened.set_result(opened)

    async def come_back(self, port: int) -> float:
        """Connect again once the stream is lost; return when it was live again."""
        await self.lost.wait()
        live = False
        while not live:
            await asyncio.sleep(random.uniform(*RETRY_SECONDS))
            with contextlib.suppress(OSError):
                live = await self.connect(port)
        return time.time()


class Browsers:
    def set_people(self, people: list[tuple[str, list[int], int]]) -> None:
        """Each with the cookie of a session, teams, and the attempt that this browser sees."""
        self.events: list[tuple[float, int, bytes]] = []
        self.browsers, self.places = [], {}
        for place, (cookie, teams, attempt) in enumerate(people):
            self.browsers.append(Browser(place, cookie, teams, self.events))
            self.places[str(attempt).encode()] = place

    async def open(self, port: int, count: int) -> int:
        """Open that many streams; return how many the server refused."""
        slots = asyncio.Semaphore(CONNECTING)

        async def connect(browser: Browser) -> bool:
            async with slots:
                return await browser.connect(port)

        return (await asyncio.gather(*map(connect, self.browsers[:count]))).count(False)

    async def come_back(self, port: int) -> tuple[list[float], int]:
        """Return when each was live again, and how many pages would reload."""
        live = await asyncio.gather(*(browser.come_back(port) for browser in self.browsers))
        return live, sum(browser.reloads for browser in self.browsers)

    async def close(self) -> None:
        for browser in self.browsers:
            if browser.transport:
                browser.transport.close()
            browser.last_id = b""
        await asyncio.sleep(0.1)

    def heard(self) -> list[tuple[int, int | None, float]]:
        """Since this was asked last: (which browser, whose login, when), in the order of reading."""
        events, find = self.events.copy(), self.places.get
        self.events.clear()
        return [(place, find(one), at) for at, place, data in events for one in ATTEMPT.findall(data)]


uvloop.run(answer_requests_async(Browsers()))
