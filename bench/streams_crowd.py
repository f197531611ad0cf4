"""A part of bench/streams.py: holds thousands of event streams in one process. Wishes and answers are lines of JSON."""

import asyncio
import json
import re
import sys
import time
from pathlib import Path

import uvloop

AT_ONCE = 20
ATTEMPT = re.compile(rb'"attempt": (\d+|null)')


class Browser(asyncio.Protocol):
    """One stream. What it hears is kept as it came, with the moment it came."""

    def __init__(self, place: int, person: dict, port: int, heard: list):
        self.place, self.heard = place, heard
        teams = "&".join(f"team={team}" for team in person["teams"])
        self.request = (
            f"GET /events/?{teams} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n"
            f"Cookie: wkportal_session={person['cookie']}\r\n\r\n"
        ).encode()
        self.ready: asyncio.Future = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if b"event: change" in data:
            self.heard.append((time.time(), self.place, data))
        elif not self.ready.done() and b"event: relook" in data:
            self.ready.set_result(True)
        elif not self.ready.done() and not data.startswith(b"HTTP/1.1 200"):
            self.ready.set_result(False)

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_result(False)


class Crowd:
    def __init__(self, people: list[dict]):
        self.people = people
        self.places = {person["attempt"]: place for place, person in enumerate(people)}
        self.heard_now: list[tuple[float, int, bytes]] = []
        self.open_now: list[Browser] = []

    async def open(self, port: int, count: int) -> dict[str, int]:
        turn = asyncio.Semaphore(AT_ONCE)
        loop = asyncio.get_running_loop()

        async def one(place: int) -> bool:
            async with turn:
                make = lambda: Browser(place, self.people[place], port, self.heard_now)  # noqa: E731
                _transport, browser = await loop.create_connection(make, "127.0.0.1", port)
                self.open_now.append(browser)
                return await browser.ready

        good = await asyncio.gather(*(one(place) for place in range(count)))
        return {"refused": good.count(False)}

    async def close(self) -> None:
        for browser in self.open_now:
            browser.transport.close()
        self.open_now.clear()
        await asyncio.sleep(0.1)

    async def forget(self) -> None:
        self.heard_now.clear()

    async def heard(self) -> list[tuple[int, int | None, float]]:
        """(which browser, whose login, when), in the order of reading."""
        return [
            (place, self.places.get(attempt), moment)
            for moment, place, data in self.heard_now
            for attempt in (int(n) if n != b"null" else None for n in ATTEMPT.findall(data))
        ]


async def main() -> None:
    crowd = Crowd(json.loads(Path(sys.argv[1]).read_text()))
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        wish = json.loads(line)
        print(json.dumps(await getattr(crowd, wish.pop("do"))(**wish)), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
