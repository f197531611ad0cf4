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
RETRY_SECONDS = 1, 3


class Browser(asyncio.Protocol):
    """One stream. `heard` gets (when, which browser, data) of each read with an event."""

    def __init__(self, place: int, request: bytes, heard: list):
        self.place, self.request, self.heard = place, request, heard
        self.opened: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.lost = asyncio.Event()
        self.last_id, self.reloads = b"", False

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        transport.write(self.request)

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


class Browsers:
    def __init__(self):
        self.slots = asyncio.Semaphore(20)  # that connect at once
        self.connected: list[Browser] = []
        self.events: list[tuple[float, int, bytes]] = []

    def set_people(self, people: list[dict]) -> None:
        """Each with the cookie of a session, teams, and the attempt that this browser sees."""
        self.people = people
        self.places = {str(person["attempt"]).encode(): place for place, person in enumerate(people)}

    async def open(self, port: int, count: int) -> int:
        """Open that many streams; return how many the server refused."""
        return (await asyncio.gather(*(self.connect(port, place) for place in range(count)))).count(False)

    async def connect(self, port: int, place: int, last_id: bytes = b"") -> bool:
        query = "&".join(f"team={team}" for team in self.people[place]["teams"])
        more = f"Last-Event-ID: {last_id.decode()}\r\n" if last_id else ""
        browser = Browser(place, self.request(port, place, f"/events/?{query}", more), self.events)
        async with self.slots:
            await asyncio.get_running_loop().create_connection(lambda: browser, "127.0.0.1", port)
            self.connected.append(browser)
            return await browser.opened

    def request(self, port: int, place: int, path: str, more: str = "") -> bytes:
        cookie = f"Cookie: wkportal_session={self.people[place]['cookie']}"
        return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{cookie}\r\n{more}\r\n".encode()

    async def come_back(self, port: int) -> dict[str, list[float]]:
        """Connect each stream again that is lost; return when each was live again, and when its page had reloaded."""
        self.slots, lost, self.connected = asyncio.Semaphore(len(self.people)), self.connected, []
        found = await asyncio.gather(*(self.follow(port, browser) for browser in lost))
        return {"live": [live for live, _ in found], "reloaded": [at for _, at in found if at]}

    async def follow(self, port: int, lost: Browser) -> tuple[float, float]:
        await lost.lost.wait()
        live = False
        while not live:
            await asyncio.sleep(random.uniform(*RETRY_SECONDS))
            with contextlib.suppress(OSError):
                live = await self.connect(port, lost.place, lost.last_id)
        at = time.time()
        browser = next(one for one in reversed(self.connected) if one.place == lost.place)
        return at, await self.reload(port, lost.place) if browser.reloads else 0

    async def reload(self, port: int, place: int) -> float:
        """Fetch what a page shows, as its script does."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(self.request(port, place, "/accounts/", "HX-Request: true\r\nConnection: close\r\n"))
        await reader.read()
        writer.close()
        return time.time()

    def cut(self, place: int) -> None:
        next(one for one in reversed(self.connected) if one.place == place).transport.close()

    async def close(self) -> None:
        while self.connected:
            self.connected.pop().transport.close()
        await asyncio.sleep(0.1)

    def forget(self) -> None:
        self.events.clear()

    def heard(self) -> list[tuple[int, int | None, float]]:
        """(which browser, whose login, when), in the order of reading."""
        find = self.places.get
        return [(place, find(one), at) for at, place, data in self.events for one in ATTEMPT.findall(data)]


if __name__ == "__main__":
    uvloop.run(answer_requests_async(Browsers()))
