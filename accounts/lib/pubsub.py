"""Publishes events to open pages through Redis, after the commit. The only module that imports redis.

An event carries IDs and a state, never data: the view that the page requests next decides who may see what.
An event may be lost (Redis is unreachable, a browser sleeps): pages reload what they show whenever they
connect.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from functools import lru_cache

import redis
import redis.asyncio
from django.conf import settings

log = logging.getLogger(__name__)

# Also the processes of the version before publish and listen here during an upgrade.
CHANNEL = "wkportal:doorbell"
READ_SECONDS = 15
QUIET_SECONDS = 2
# Beat renews this key with each task that it sends. How long it still lasts tells when that was, by Redis' clock.
BEAT_KEY, BEAT_KEPT = "wkportal:beat", 24 * 3600


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """A published event.

    `id`: of the event row, 0 if other rows tell what happened. `team`: ID of the group that may see the account, None
    for admins only. `left_team`: ID of the group that saw it until this event, None if it is the same.
    """

    id: int
    account: int
    team: int | None
    attempt: int | None
    state: str
    left_team: int | None = None


# Published without an event row: other rows, which open pages are sent events of, are new.
OTHER_ROWS = PublishedEvent(0, 0, None, None, "")


@lru_cache(maxsize=1)
def _client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=2, health_check_interval=30, retry=None
    )


def publish(events: list[PublishedEvent]) -> None:
    """Publish each event. Call it after the commit.

    A Redis failure is logged and never raised. For the next 2 s, events are dropped without a try.
    """
    if time.monotonic() < _quiet.until:
        return
    try:
        with _client().pipeline(transaction=False) as pipe:
            for event in events:
                pipe.publish(CHANNEL, _written(event))
            pipe.execute()
    except redis.RedisError as error:
        _quiet.begin()
        log.warning("event %s was not published: %s", events[0].id, type(error).__name__)


def _written(event: PublishedEvent) -> str:
    data = asdict(event)
    if event.left_team is None:
        del data["left_team"]  # which the version before does not know
    return json.dumps(data)


def ping() -> bool:
    """Return whether Redis answers. False without a try within 2 s of the last failure."""
    if time.monotonic() < _quiet.until:
        return False
    try:
        return bool(_client().ping())
    except redis.RedisError:
        _quiet.begin()
        return False


@dataclass(frozen=True, slots=True)
class Broker:
    """`beat_age`: seconds since beat sent a task, None if it sent none for BEAT_KEPT."""

    queues: dict[str, int]
    beat_age: float | None


def broker(*queues: str) -> Broker | None:
    """Return how many messages wait in these queues, and when beat sent the last one; None if Redis is unreachable."""
    if time.monotonic() < _quiet.until:
        return None
    try:
        with _client().pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.llen(queue)
            pipe.pttl(BEAT_KEY)
            *lengths, left = pipe.execute()
    except redis.RedisError:
        _quiet.begin()
        return None
    return Broker(dict(zip(queues, lengths, strict=True)), BEAT_KEPT - left / 1000 if left >= 0 else None)


class _Quiet:
    """Pause after a failure.

    An unreachable Redis costs a second or two, which is too much for each step of each login.
    """

    until = 0.0

    def begin(self) -> None:
        self.until = time.monotonic() + QUIET_SECONDS


_quiet = _Quiet()


async def listen() -> AsyncIterator[PublishedEvent | None]:
    """Yield every event from now on, and None after each (re)connect: the caller then reads what it missed.

    Reconnects with backoff: 0.2 s, doubled up to 5 s.
    """
    pause = 0.2
    while True:
        client = redis.asyncio.Redis.from_url(
            settings.REDIS_URL,
            socket_connect_timeout=2,
            socket_timeout=2 * READ_SECONDS,
            health_check_interval=10,
        )
        try:
            async with client.pubsub() as pubsub:
                await pubsub.subscribe(CHANNEL)
                _end_if_cancelled()
                pause = 0.2
                yield None
                while True:
                    message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=READ_SECONDS)
                    _end_if_cancelled()
                    event = _parse(message)
                    if event is not None:
                        yield event
        except redis.RedisError as error:
            log.warning("no published events are received: %s; trying again", type(error).__name__)
        finally:
            await client.aclose()
        await asyncio.sleep(pause)
        pause = min(pause * 2, 5)


def _end_if_cancelled() -> None:
    """Raise CancelledError if this task was cancelled.

    Before Python 3.12 asyncio.wait_for, which redis-py sends with, drops a cancel that arrives just as it
    ends.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _parse(message: dict | None) -> PublishedEvent | None:
    if not message or message.get("type") != "message":
        return None
    try:
        return PublishedEvent(**json.loads(message["data"]))
    except (ValueError, TypeError):
        log.warning("a message that is not a published event was ignored")
        return None
