"""The reference: an ASGI application that does nothing but pass events on to the teams that an address names."""

import asyncio
import json
import re
from collections import defaultdict

from accounts.lib import pubsub

HELLO = b"retry: 2000\nevent: relook\ndata: {}\n\n"
teams: dict[int, set[asyncio.Queue]] = defaultdict(set)
passing_on: list[asyncio.Task] = []


async def pass_on() -> None:
    async for event in pubsub.listen():
        if event:
            data = json.dumps({"account": event.account, "attempt": event.attempt, "state": event.state})
            line = f"id: {event.id}\nevent: change\ndata: {data}\n\n".encode()
            for queue in list(teams[event.team]):
                queue.put_nowait(line)


async def application(scope: dict, receive, send) -> None:
    if not passing_on:
        passing_on.append(asyncio.create_task(pass_on()))
    queue: asyncio.Queue = asyncio.Queue()
    queue.put_nowait(HELLO)
    mine = [teams[int(team)] for team in re.findall(rb"team=(\d+)", scope["query_string"])]
    for team in mine:
        team.add(queue)
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    sending = asyncio.create_task(send_all(queue, send))
    while (await receive())["type"] != "http.disconnect":
        pass
    sending.cancel()
    for team in mine:
        team.discard(queue)


async def send_all(queue: asyncio.Queue, send) -> None:
    while True:
        await send({"type": "http.response.body", "body": await queue.get(), "more_body": True})
