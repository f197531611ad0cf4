"""The reference: an ASGI application that passes published events on to event streams, and can do nothing else.

    python -m bench.streams.reference PORT

No sessions, no permissions: the address names the teams of the browser.
"""

import asyncio
import json
import os
import re
import sys
from collections import defaultdict

import redis.asyncio
import uvicorn
import uvloop

HELLO = b"retry: 2000\nevent: relook\ndata: {}\n\n"
CHANNEL = "wkportal:doorbell"
teams: dict[int, set[asyncio.Queue]] = defaultdict(set)


async def pass_on() -> None:
    pubsub = redis.asyncio.Redis.from_url(os.environ["REDIS_URL"]).pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe(CHANNEL)
    async for message in pubsub.listen():
        event = json.loads(message["data"])
        data = json.dumps({name: event[name] for name in ("account", "attempt", "state")})
        line = f"id: {event['id']}\nevent: change\ndata: {data}\n\n".encode()
        for queue in list(teams[event["team"]]):
            queue.put_nowait(line)


async def application(scope: dict, receive, send) -> None:
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


async def main(port: int) -> None:
    passing_on = asyncio.create_task(pass_on())
    config = uvicorn.Config(application, port=port, lifespan="off", ws="none", log_level="warning")
    await uvicorn.Server(config).serve()
    passing_on.cancel()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
