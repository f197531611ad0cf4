"""Server-sent events: one doorbell per process, fanned out to its browsers. The only async code.

A message is `{"account", "attempt", "state"}` for an account that its reader may see, with the event row's id.
The page that gets it fetches what it shows by an ordinary view. Rights are looked at again every few seconds,
for all readers of the process at once; whoever lost the session or a team loses the stream.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils import timezone

from accounts import events
from accounts.roles import ROLES

log = logging.getLogger(__name__)

QUEUE_SIZE = 200
PING_SECONDS = 15
RIGHTS_SECONDS = 4
STREAMS_PER_USER = 40
RELOOK = "event: relook\ndata: {}\n\n"
EVERY_TEAM = frozenset({-1})


@dataclass(eq=False, slots=True)
class _Reader:
    user_id: int
    session_key: str
    teams: frozenset[int]
    queue: asyncio.Queue = field(default_factory=lambda: asyncio.Queue(QUEUE_SIZE))

    def may_see(self, ring: events.Ring) -> bool:
        return self.teams is EVERY_TEAM or ring.team in self.teams

    def put(self, message: str | None) -> None:
        """A full queue means a reader that sleeps: it is cut off, and looks anew when it is back."""
        if self.queue.full():
            while not self.queue.empty():
                self.queue.get_nowait()
            message = None
        self.queue.put_nowait(message)


class _Hub:
    """All open streams of this process."""

    def __init__(self):
        self.readers: set[_Reader] = set()
        self.tasks: list[asyncio.Task] = []
        self.loop: asyncio.AbstractEventLoop | None = None

    def join(self, reader: _Reader) -> None:
        loop = asyncio.get_running_loop()
        if self.loop is not loop or any(task.done() for task in self.tasks):
            for task in self.tasks:
                task.cancel()
            self.loop = loop
            self.tasks = [loop.create_task(self.pass_on()), loop.create_task(self.watch_rights())]
        self.readers.add(reader)

    async def pass_on(self) -> None:
        async for ring in events.listen():
            message = RELOOK if ring is None else _message(ring)
            for reader in list(self.readers):
                if ring is None or reader.may_see(ring):
                    reader.put(message)

    async def watch_rights(self) -> None:
        while True:
            await asyncio.sleep(RIGHTS_SECONDS)
            readers = list(self.readers)
            if not readers:
                continue
            try:
                teams, sessions = await sync_to_async(_rights)(
                    {r.user_id for r in readers}, {r.session_key for r in readers}
                )
            except Exception:  # without this look, revoked rights would be served on
                log.exception("rights of open streams were not looked at")
                continue
            for reader in readers:
                if reader.user_id not in teams or reader.session_key not in sessions:
                    reader.put(None)
                else:
                    reader.teams = teams[reader.user_id]

    def stop(self) -> None:
        for reader in list(self.readers):
            reader.put(None)


_hub = _Hub()


def stop() -> None:
    """End every stream of this process, so that it can end itself."""
    if _hub.loop is not None and _hub.loop.is_running():
        _hub.loop.call_soon_threadsafe(_hub.stop)


def _message(ring: events.Ring) -> str:
    data = json.dumps({"account": ring.account, "attempt": ring.attempt, "state": ring.state})
    return f"id: {ring.id}\nevent: change\ndata: {data}\n\n"


def _rights(user_ids: set[int], session_keys: set[str]) -> tuple[dict[int, frozenset[int]], set[str]]:
    """{user: teams} of those who may still look, and the sessions that are still alive."""
    users = get_user_model().objects.filter(pk__in=user_ids, is_active=True).prefetch_related("groups")
    teams = {}
    for user in users:
        if user.has_perm("accounts.view_account"):
            every = user.has_perm("accounts.view_every_account")
            teams[user.pk] = (
                EVERY_TEAM
                if every
                else frozenset(group.pk for group in user.groups.all() if group.name not in ROLES)
            )
    alive = Session.objects.filter(session_key__in=session_keys, expire_date__gt=timezone.now())
    sessions = set(alive.values_list("session_key", flat=True))
    connection.close()
    return teams, sessions


async def stream(request: HttpRequest) -> HttpResponse:
    user = await request.auser()
    if not user.is_authenticated:
        return HttpResponse(status=403)
    session_key = request.session.session_key
    teams, sessions = await sync_to_async(_rights)({user.pk}, {session_key})
    if user.pk not in teams or session_key not in sessions:
        return HttpResponse(status=403)
    if sum(reader.user_id == user.pk for reader in _hub.readers) >= STREAMS_PER_USER:
        return HttpResponse(status=503, headers={"Retry-After": "10"})
    reader = _Reader(user.pk, session_key, teams[user.pk])
    response = StreamingHttpResponse(_messages(reader), content_type="text/event-stream")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


async def _messages(reader: _Reader) -> AsyncIterator[str]:
    _hub.join(reader)
    try:
        yield "retry: 2000\n" + RELOOK
        while True:
            try:
                message = await asyncio.wait_for(reader.queue.get(), PING_SECONDS)
            except TimeoutError:
                message = ": still here\n\n"
            if message is None:
                return
            yield message
    finally:
        _hub.readers.discard(reader)
