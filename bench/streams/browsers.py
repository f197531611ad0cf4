"""The load generator: holds thousands of event streams in one process, which is asked by `Process.ask`."""

import asyncio
import re
import time

import uvloop

from bench.processes import answer_requests_async

ATTEMPT = re.compile(rb'"attempt": (\d+|null)')


class Browser(asyncio.Protocol):
    """One stream. `heard` gets (when, which browser, data) of each read with an event."""

    def __init__(self, place: int, request: bytes, heard: list):
        self.place, self.request, self.heard = place, request, heard
        self.opened: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if b"event: change" in data:
            self.heard.append((time.time(), self.place, data))
        elif b"event: relook" in data or not data.startswith(b"HTTP/1.1 200"):
            self.answered(b"event: relook" in data)

    def connection_lost(self, _error: Exception | None) -> None:
        self.answered(False)

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

    async def connect(self, port: int, place: int) -> bool:
        person, host = self.people[place], f"127.0.0.1:{port}"
        query = "&".join(f"team={team}" for team in person["teams"])
        head = f"GET /events/?{query} HTTP/1.1\r\nHost: {host}\r\nCookie: wkportal_session={person['cookie']}\r\n\r\n"
        browser = Browser(place, head.encode(), self.events)
        async with self.slots:
            await asyncio.get_running_loop().create_connection(lambda: browser, "127.0.0.1", port)
            self.connected.append(browser)
            return await browser.opened

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
