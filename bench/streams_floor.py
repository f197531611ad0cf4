"""The reference of bench/streams.py: two servers that pass the doorbell on to event streams, and can do nothing else.

    python -m bench.streams_floor asgi|sockets PORT

No sessions, no rights: who listens says in the address which teams it is in. `asgi` is an application under
uvicorn, as the product is; `sockets` answers on bare connections of uvloop.
"""

import asyncio
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable

import redis.asyncio
import uvicorn
import uvloop

HELLO = b"retry: 2000\nevent: relook\ndata: {}\n\n"
PING, PING_SECONDS = b": still here\n\n", 15
TEAM = re.compile(rb"team=(\d+)")
teams: dict[int, set[Callable[[bytes], object]]] = defaultdict(set)


async def pass_on() -> None:
    pubsub = redis.asyncio.Redis.from_url(os.environ["REDIS_URL"]).pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe("wkportal:doorbell")
    async for message in pubsub.listen():
        ring = json.loads(message["data"])
        data = json.dumps({name: ring[name] for name in ("account", "attempt", "state")})
        line = f"id: {ring['id']}\nevent: change\ndata: {data}\n\n".encode()
        for put in list(teams[ring["team"]]):
            put(line)


async def ping() -> None:
    while True:
        await asyncio.sleep(PING_SECONDS)
        for put in set().union(*teams.values()):
            put(PING)


async def application(scope: dict, receive, send) -> None:
    mine = [int(team) for team in TEAM.findall(scope["query_string"])]
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
    )
    if not mine:
        await send({"type": "http.response.body"})
        return
    queue: asyncio.Queue = asyncio.Queue()
    put = queue.put_nowait
    put(HELLO)
    for team in mine:
        teams[team].add(put)
    sending = asyncio.create_task(send_all(queue, send))
    while (await receive())["type"] != "http.disconnect":
        pass
    sending.cancel()
    for team in mine:
        teams[team].discard(put)


async def send_all(queue: asyncio.Queue, send) -> None:
    while True:
        await send({"type": "http.response.body", "body": await queue.get(), "more_body": True})


class Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport, self.mine = transport, []

    def data_received(self, data: bytes) -> None:
        self.mine = [int(team) for team in TEAM.findall(data.partition(b"\r\n")[0])]
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        if not self.mine:
            self.transport.write(head + b"content-length: 0\r\n\r\n")
            return
        self.transport.write(head + b"transfer-encoding: chunked\r\n\r\n")
        self.put(HELLO)
        for team in self.mine:
            teams[team].add(self.put)

    def put(self, line: bytes) -> None:
        self.transport.write(b"%x\r\n%s\r\n" % (len(line), line))

    def connection_lost(self, _error: Exception | None) -> None:
        for team in self.mine:
            teams[team].discard(self.put)


async def serve(kind: str, port: int) -> None:
    working = [asyncio.create_task(pass_on()), asyncio.create_task(ping())]
    if kind == "asgi":
        config = uvicorn.Config(
            application,
            port=port,
            lifespan="off",
            ws="none",
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
        await uvicorn.Server(config).serve()
    else:
        await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=2048)
        await asyncio.gather(*working)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
