"""A TCP proxy between the product and what it depends on: it cuts, refuses, freezes, swallows and slows down.

    with Proxy(("127.0.0.1", 5432)) as proxy:
        proxy.cut()                 # every open connection is reset; new ones pass
        proxy.refuse()              # and new ones are refused, until proxy.accept()
        proxy.swallow()             # half-open: what is connected stays connected, and hears nothing ever again
        proxy.freeze()              # nothing passes for a while, nothing is lost: proxy.thaw()
        hit = proxy.cut_at(b"COMMIT", after=b"INSERT")   # the answer to that COMMIT gets lost; hit.wait(5)

All proxies of the process share one event loop in one thread; every method may be called from any thread.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

Target = tuple[str, int] | Path

REMEMBERED = 200_000


@lru_cache(maxsize=1)
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="proxies", daemon=True).start()
    return loop


def _run(work: Coroutine):
    return asyncio.run_coroutine_threadsafe(work, _loop()).result(20)


@dataclass(eq=False)
class _Cut:
    """What a client has to say for its connection to be cut: `marker`, with `after` since its last BEGIN."""

    marker: bytes
    after: bytes
    arrives: bool
    times: int
    hit: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False)
class _Link:
    """One connection of a client, with ours to the server."""

    client: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    server: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    said: bytes = b""
    swallowed: bool = False
    doomed: bool = False  # the next answer of the server gets lost, and the connection with it
    ways: list[asyncio.Future] = field(default_factory=list)

    def abort(self) -> None:
        """A reset towards the client, an ordinary end towards the server."""
        reset(self.client[1])
        self.server[1].transport.abort()
        for way in self.ways:
            way.cancel()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a TCP reset: what was sent and not read yet is lost too."""
    with suppress(OSError):
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


class Proxy:
    """Listens on a port of 127.0.0.1 that it keeps, also while it refuses."""

    def __init__(self, target: Target):
        self.target = target
        self.links: set[_Link] = set()
        self.cuts: list[_Cut] = []
        self.accepted = 0
        self.seconds, self.piece = 0.0, 0
        self.swallowing = False
        self.port = 0
        self.listener: asyncio.Server | None = None
        self.flowing: asyncio.Event | None = None
        self.tasks: set[asyncio.Task] = set()

    # --- its life

    def __enter__(self) -> "Proxy":
        _run(self._open())
        return self

    def __exit__(self, *_exc) -> None:
        _run(self._shut())

    async def _open(self) -> None:
        if self.flowing is None:
            self.flowing = asyncio.Event()
            self.flowing.set()
        if self.listener is None:
            self.listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=512)
            self.port = self.listener.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self.listener is not None:
            self.listener.close()
            self.listener = None

    async def _shut(self) -> None:
        await self._refuse()
        await self._cut()
        for task in self.tasks:
            task.cancel()

    # --- the steering hand

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return len(self.links)

    def cut(self) -> None:
        """Reset every connection that is open now."""
        _run(self._cut())

    def refuse(self) -> None:
        """Reset what is open, and refuse what comes, as a machine does whose server is gone."""
        _run(self._refuse())
        self.cut()

    def accept(self) -> None:
        _run(self._open())

    def swallow(self, new: bool = False) -> None:
        """What is connected now hears nothing any more, and is not told; with `new`, what comes neither."""
        _run(self._swallow(new))

    def freeze(self) -> None:
        """Nothing passes until `thaw()`, and then everything does, in order."""
        _loop().call_soon_threadsafe(self.flowing.clear)

    def thaw(self) -> None:
        _loop().call_soon_threadsafe(self.flowing.set)

    def slow(self, seconds: float, piece: int = 0) -> None:
        """Every piece of data takes so long; `piece` is how many bytes one has at most (0: as they come)."""
        self.seconds, self.piece = seconds, piece

    def cut_at(
        self, marker: bytes, *, after: bytes = b"", arrives: bool = True, times: int = 1
    ) -> threading.Event:
        """Cut a connection when its client says `marker`: after the server has done it, but before the answer
        is passed on, or (`arrives=False`) before the server hears of it. `after` is what must have been said
        since the client's last BEGIN. The event that is returned is set when it has happened (for the last time).
        """
        cut = _Cut(marker, after, arrives, times)
        self.cuts.append(cut)
        return cut.hit

    def heal(self) -> None:
        """No fault any more. Connections that swallow are reset: nobody could use them again."""
        self.cuts.clear()
        self.seconds, self.piece, self.swallowing = 0.0, 0, False
        self.thaw()
        _run(self._cut(only_swallowed=True))
        self.accept()

    async def _cut(self, only_swallowed: bool = False) -> None:
        for link in list(self.links):
            if link.swallowed or not only_swallowed:
                link.abort()

    async def _swallow(self, new: bool) -> None:
        self.swallowing = new
        for link in self.links:
            link.swallowed = True

    # --- passing on

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        self.tasks.add(task)
        try:
            server = await self._connect()
        except OSError:
            reset(writer)
            self.tasks.discard(task)
            return
        link = _Link((reader, writer), server, swallowed=self.swallowing)
        self.links.add(link)
        try:
            link.ways += [asyncio.ensure_future(way(link)) for way in (self._to_server, self._to_client)]
            await asyncio.wait(link.ways, return_when=asyncio.FIRST_COMPLETED)
            for way in link.ways:
                way.cancel()
            await asyncio.wait(link.ways)
        finally:
            self.links.discard(link)
            self.tasks.discard(task)
            for _reader, either in (link.client, link.server):
                either.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.target, Path):
            return await asyncio.open_unix_connection(str(self.target))
        return await asyncio.open_connection(*self.target)

    async def _to_server(self, link: _Link) -> None:
        while data := await self._read(link, link.client[0]):
            cut = self._matching(link, data) if self.cuts else None
            if cut is not None and not cut.arrives:
                link.abort()
                cut.hit.set()
                return
            if cut is not None:
                link.doomed = True
                link.said = b""
                asyncio.get_running_loop().call_later(0, cut.hit.set)
            await self._pass_on(link, data, link.server[1])

    async def _to_client(self, link: _Link) -> None:
        while data := await self._read(link, link.server[0]):
            if link.doomed:
                link.abort()
                return
            await self._pass_on(link, data, link.client[1])

    async def _read(self, link: _Link, reader: asyncio.StreamReader) -> bytes:
        """The next bytes to pass on; b"" at the end of the connection."""
        while True:
            try:
                data = await reader.read(65536)
            except OSError:
                data = b""
            if not link.swallowed:
                return data
            if not data:  # also the end of a connection does not get through
                await asyncio.get_running_loop().create_future()

    async def _pass_on(self, link: _Link, data: bytes, writer: asyncio.StreamWriter) -> None:
        size = self.piece or len(data)
        for start in range(0, len(data), size):
            if self.seconds:
                await asyncio.sleep(self.seconds)
            await self.flowing.wait()
            if link.swallowed:
                return
            with suppress(OSError):
                writer.write(data[start : start + size])
                await writer.drain()

    def _matching(self, link: _Link, data: bytes) -> _Cut | None:
        link.said = (link.said + data)[-REMEMBERED:]
        begin = link.said.rfind(b"BEGIN")
        said = link.said[max(begin, 0) :]
        for cut in self.cuts:
            if cut.marker in data and cut.after in said:
                cut.times -= 1
                if cut.times <= 0:
                    self.cuts.remove(cut)
                return cut
        return None
