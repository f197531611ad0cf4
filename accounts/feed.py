"""Server-sent events: one doorbell per process, fanned out to its browsers. The only async code.

A message is `{"account", "attempt", "state"}` for an account that its reader may see, with the event row's id.
The page that gets it fetches what it shows by an ordinary view. Rights are looked at again every few seconds,
for all readers of the process at once; whoever lost the session or a team loses the stream.

The doorbell may fall silent: the event rows are looked at beside it, and what it did not ring for is passed on
all the same, so that a page is at most a few seconds late. A `relook` tells a page to read anew what it shows,
an `alarm` that the upstream let us in no more (or again), and `away` that the database does not answer.
"""

import asyncio
import json
import logging
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from asgiref.sync import SyncToAsync, sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
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
# Browsers that lost their stream at the same moment come back one after the other.
RETRY_MILLISECONDS = (1000, 3000)
RELOOK = b"event: relook\ndata: {}\n\n"
PING = b": still here\n\n"
EVERY_TEAM = frozenset({-1})


@dataclass(eq=False, slots=True)
class _Reader:
    user_id: int
    session_key: str
    teams: frozenset[int]
    queue: asyncio.Queue = field(default_factory=lambda: asyncio.Queue(QUEUE_SIZE))

    def may_see(self, ring: events.Ring) -> bool:
        return self.teams is EVERY_TEAM or ring.team in self.teams

    def put(self, message: bytes | None) -> None:
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
        self.by_team: defaultdict[int | None, set[_Reader]] = defaultdict(set)
        self.of_user: Counter[int] = Counter()
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
        self.of_user[reader.user_id] += 1
        for team in reader.teams:
            self.by_team[team].add(reader)

    def leave(self, reader: _Reader) -> None:
        self.readers.discard(reader)
        self.of_user[reader.user_id] -= 1
        for team in reader.teams:
            self.by_team[team].discard(reader)

    async def pass_on(self) -> None:
        async for ring in events.listen():
            if ring is None:
                for reader in list(self.readers):
                    reader.put(RELOOK)
                continue
            message = _message(ring)
            for reader in self.by_team[ring.team] | self.by_team[-1]:
                reader.put(message)

    async def watch_rights(self) -> None:
        while True:
            await asyncio.sleep(RIGHTS_SECONDS)
            readers = list(self.readers)
            if not readers:
                continue
            try:
                teams, sessions = await asyncio.to_thread(_rights,
                    {r.user_id for r in readers}, {r.session_key for r in readers}
                )
            except Exception:  # without this look, revoked rights would be served on
                log.exception("rights of open streams were not looked at")
                continue
            for reader in readers:
                if reader.user_id not in teams or reader.session_key not in sessions:
                    reader.put(None)
                elif reader.teams != teams[reader.user_id]:
                    for team in reader.teams:
                        self.by_team[team].discard(reader)
                    reader.teams = teams[reader.user_id]
                    for team in reader.teams:
                        self.by_team[team].add(reader)

    def stop(self) -> None:
        for reader in list(self.readers):
            reader.put(None)


_hub = _Hub()


def stop() -> None:
    """End every stream of this process, so that it can end itself."""
    if _hub.loop is not None and _hub.loop.is_running():
        _hub.loop.call_soon_threadsafe(_hub.stop)


def _message(ring: events.Ring) -> bytes:
    data = json.dumps({"account": ring.account, "attempt": ring.attempt, "state": ring.state})
    return f"id: {ring.id}\nevent: change\ndata: {data}\n\n".encode()


def _rights(user_ids: set[int], session_keys: set[str]) -> tuple[dict[int, frozenset[int]], set[str]]:
    """{user: teams} of those who may still look, and the sessions that are still alive."""
    backend = ModelBackend()
    may_see, sees_all = (
        set(backend.with_perm(f"accounts.{name}").filter(pk__in=user_ids).values_list("pk", flat=True))
        for name in ("view_account", "view_every_account")
    )
    teams: dict[int, set[int]] = {user: set() for user in may_see}
    members = get_user_model().groups.through.objects.filter(user_id__in=may_see - sees_all)
    for user, group in members.exclude(group__name__in=ROLES).values_list("user_id", "group_id"):
        teams[user].add(group)
    alive = Session.objects.filter(session_key__in=session_keys, expire_date__gt=timezone.now())
    sessions = set(alive.values_list("session_key", flat=True))
    connection.close()
    return {user: EVERY_TEAM if user in sees_all else frozenset(of) for user, of in teams.items()}, sessions


def _let_thread_go() -> None:
    """A request has a thread of its own for its ordinary code; thousands of streams must not keep one each."""
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = context and SyncToAsync.context_to_thread_executor.pop(context, None)
    if executor:
        executor.shutdown(wait=False)


async def stream(request: HttpRequest) -> HttpResponse:
    user = await request.auser()
    if not user.is_authenticated:
        return HttpResponse(status=403)
    session_key = request.session.session_key
    teams, sessions = await sync_to_async(_rights)({user.pk}, {session_key})
    if user.pk not in teams or session_key not in sessions:
        return HttpResponse(status=403)
    if _hub.of_user[user.pk] >= STREAMS_PER_USER:
        return HttpResponse(status=503, headers={"Retry-After": "10"})
    reader = _Reader(user.pk, session_key, teams[user.pk])
    response = StreamingHttpResponse(_messages(reader), content_type="text/event-stream")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


async def _messages(reader: _Reader) -> AsyncIterator[bytes]:
    _let_thread_go()
    _hub.join(reader)
    try:
        yield b"retry: %d\n" % random.randint(*RETRY_MILLISECONDS) + RELOOK  # noqa: S311
        while True:
            try:
                async with asyncio.timeout(PING_SECONDS):
                    message = await reader.queue.get()
            except TimeoutError:
                message = PING
            if message is None:
                return
            yield message
    finally:
        _hub.leave(reader)
