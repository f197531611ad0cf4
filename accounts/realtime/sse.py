"""Server-sent events: one subscription per process, fanned out to its browsers. The only async code.

A message is `{"account", "attempt", "state"}` for an account that its reader may see, with the event row's
ID. The page then fetches what it shows from a normal, authorized view. Rights are checked again every few
seconds, for all readers of the process at once. A reader without a session or the right to view accounts
loses the stream, and so does one whose password or roles changed: the browser connects again if it still may,
and reloads what it shows. A reader that lost a team gets no more events of that team.

Events may be lost. Every 2 s the process sends the rows without an event, even while Redis is unreachable. It
also sends, without an ID, a login that no worker waits for. Other messages:

- `relook`: reload what you show `within` so many milliseconds (spread, so that not all pages do it at once)
- `alarm`: WKTeam access was denied or restored
- `away`: the database does not answer; a `relook` follows when it does
- `ping`: keeps the connection open
"""

import asyncio
import contextvars
import itertools
import json
import logging
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from asgiref.sync import sync_to_async
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from accounts.lib import pubsub
from accounts.lib.rows import in_batches
from accounts.realtime import changes

log = logging.getLogger(__name__)

QUEUE_SIZE = 200
PING_SECONDS = 15
RIGHTS_SECONDS = 4
RIGHTS_AT_ONCE = 250  # a check of thousands would block everything else in this process
POLL_SECONDS = 2
POLLS_WITHOUT_READER = 10  # a person who goes from page to page has no stream for a moment
# With more missed rows than this, all pages reload instead.
MISSED_MOST = 200
STREAMS_PER_USER = 40
# Spreads the reconnects of browsers that lost their streams at the same time.
RETRY_MILLISECONDS = (1000, 3000)
RELOAD_MILLISECONDS = 10  # for each browser, when all reload
PING = b"event: ping\ndata: {}\n\n"
ALARM = b"event: alarm\ndata: {}\n\n"
DATABASE_DOWN = b"event: away\ndata: {}\n\n"
# Key in the scope of a request: the list that receives its reader, if the stream is sent outside of Django.
LEAVING = "wkportal.leaving"
_streams_so_far = itertools.count()


@dataclass(eq=False, slots=True)
class _Reader:
    user_id: int
    session_key: str
    rights: changes.Rights
    teams: frozenset[int] = frozenset()
    queue: asyncio.Queue = field(default_factory=lambda: asyncio.Queue(QUEUE_SIZE))
    ping_at: int = field(default_factory=lambda: next(_streams_so_far) % PING_SECONDS)

    def put(self, message: bytes | None) -> None:
        """Queue a message; None ends the stream. A full queue means a sleeping browser: its stream ends.

        The browser reloads what it shows when it reconnects.
        """
        if self.queue.full():
            while not self.queue.empty():
                self.queue.get_nowait()
            message = None
        self.queue.put_nowait(message)


class _Readers(set[_Reader]):
    """All open streams of this process, indexed by team and counted by user."""

    def __init__(self):
        super().__init__()
        self.by_team: defaultdict[int | None, set[_Reader]] = defaultdict(set)
        self.of_user: Counter[int] = Counter()
        self.ended = False  # the process stops

    def clear(self) -> None:
        self.__init__()

    def join(self, reader: _Reader) -> None:
        self.add(reader)
        self.of_user[reader.user_id] += 1
        self.seat(reader, reader.rights.teams)
        if self.ended:
            reader.put(None)

    def leave(self, reader: _Reader) -> None:
        if reader in self:
            self.remove(reader)
            self.of_user[reader.user_id] -= 1
            self.seat(reader, frozenset())

    def seat(self, reader: _Reader, teams: frozenset[int]) -> None:
        for team in reader.teams - teams:
            self.by_team[team].discard(reader)
        for team in teams:
            self.by_team[team].add(reader)
        reader.teams = teams

    def send_event(self, event: pubsub.PublishedEvent) -> None:
        message = _message(event)
        for reader in self.by_team[event.team] | self.by_team[-1]:
            reader.put(message)

    def send_to_all(self, message: bytes | None) -> None:
        for reader in list(self):
            reader.put(message)


class _Hub:
    """Work done once for all streams of this process."""

    def __init__(self):
        self.readers = _Readers()
        self.tasks: list[asyncio.Task] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        # One database check at a time, in a thread that belongs to no request.
        self.thread = ThreadPoolExecutor(1, "poll")
        self.rows = changes.Rows()
        self.poll_now = asyncio.Event()
        self.polls_without_reader = 0
        self.database_down = False
        self.alarm: tuple[str, str] | None = None
        self.alone: dict[pubsub.PublishedEvent, int] = {}

    def join(self, reader: _Reader) -> None:
        self.start()
        self.readers.join(reader)
        if self.rows.floor is None:
            self.poll_now.set()

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        if self.loop is loop and not any(task.done() for task in self.tasks):
            return
        for task in self.tasks:
            task.cancel()
        self.loop, self.poll_now, self.rows = loop, asyncio.Event(), changes.Rows()
        # An empty context: that of the first request would live as long as the process.
        context = contextvars.Context()
        works = (self.pass_on, self.ping, self.keep_checking_rights, self.keep_polling_rows)
        self.tasks = [loop.create_task(work(), context=context) for work in works]

    async def in_thread(self, call: Callable, *args):
        return await asyncio.get_running_loop().run_in_executor(self.thread, _with_connection, call, *args)

    def pass_event(self, event: pubsub.PublishedEvent) -> None:
        if self.rows.heard(event):
            self.readers.send_event(event)

    async def pass_on(self) -> None:
        async for event in pubsub.listen():
            if event is None:
                self.poll_now.set()  # the rows contain the events missed meanwhile
            else:
                self.pass_event(event)

    async def keep_checking_rights(self) -> None:
        while True:
            parts = list(in_batches(self.readers, RIGHTS_AT_ONCE)) or [[]]
            for part in parts:
                await asyncio.sleep(RIGHTS_SECONDS / len(parts))
                try:
                    await self.check_rights(part)
                except (DatabaseError, InterfaceError):
                    continue  # pages cannot read anything meanwhile either
                except Exception:  # this loop must survive: without it revoked rights would stay in effect
                    log.exception("the rights of open streams were not checked")

    async def check_rights(self, readers: list[_Reader]) -> None:
        if not readers:
            return
        people, keys = {r.user_id for r in readers}, {r.session_key for r in readers}
        rights, sessions = await self.in_thread(changes.rights, people, keys)
        for reader in readers:
            now = rights.get(reader.user_id)
            if now is None or reader.session_key not in sessions or reader.rights.is_ended_by(now):
                reader.put(None)
            elif reader in self.readers and reader.teams != now.teams:
                self.readers.seat(reader, now.teams)

    async def ping(self) -> None:
        """Send each stream a message every PING_SECONDS, or an HTTP proxy closes it.

        Each second a part of the streams gets one, so that not all are sent at once.
        """
        while True:
            for second in range(PING_SECONDS):
                await asyncio.sleep(1)
                for reader in [reader for reader in self.readers if reader.ping_at == second]:
                    reader.put(PING)

    async def keep_polling_rows(self) -> None:
        while True:
            try:
                await self.poll_rows()
            except (DatabaseError, InterfaceError) as error:
                self.report_outage(error)
            except Exception:  # this loop must survive: without it lost events would never reach a page
                log.exception("the event rows were not polled")
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self.poll_now.wait()
            self.poll_now.clear()

    async def poll_rows(self) -> None:
        self.polls_without_reader = 0 if self.readers else self.polls_without_reader + 1
        if self.polls_without_reader > POLLS_WITHOUT_READER:
            self.rows = changes.Rows()
            return
        begun = self.rows.floor is None
        seen = await self.in_thread(changes.poll, self.rows.floor)
        missed = self.rows.missed(seen.ids)
        if begun:
            self.readers.send_to_all(_reload(0))  # for changes between their page load and this first check
        elif len(missed) > MISSED_MOST or self.database_down:
            self.rows.published.update(missed)
            self.readers.send_to_all(_reload(len(self.readers)))
        elif missed:
            for event in await self.in_thread(changes.unpublished_events, missed):
                self.pass_event(event)
        for event in {*seen.alone, *self.alone}:
            if seen.alone.get(event) != self.alone.get(event):
                self.readers.send_event(event)
        if seen.alarm != self.alarm:
            self.readers.send_to_all(ALARM)
        self.alarm, self.alone, self.database_down = seen.alarm, seen.alone, False

    def report_outage(self, error: Exception) -> None:
        if not self.database_down:
            log.warning("the database does not answer (%s); open pages are notified", type(error).__name__)
            self.database_down = True
            self.readers.send_to_all(DATABASE_DOWN)


_hub = _Hub()


def stop() -> None:
    """End every stream of this process, also those that open from now on, so that the process can exit."""
    _hub.readers.ended = True
    if _hub.loop is not None and _hub.loop.is_running():
        _hub.loop.call_soon_threadsafe(_hub.readers.send_to_all, None)


def _message(event: pubsub.PublishedEvent) -> bytes:
    data = json.dumps({"account": event.account, "attempt": event.attempt, "state": event.state})
    number = f"id: {event.id}\n" if event.id else ""
    return f"{number}event: change\ndata: {data}\n\n".encode()


def _reload(browsers: int) -> bytes:
    return b'event: relook\ndata: {"within": %d}\n\n' % (browsers * RELOAD_MILLISECONDS)


def _with_connection(call: Callable, *args):
    """Run `call`, then return the database connection: a stream must not keep one."""
    try:
        return call(*args)
    finally:
        connection.close()


def _reader_of(request: HttpRequest) -> _Reader | None:
    """Return a reader for the user of the request, None if the user may not view accounts."""
    if not request.user.is_authenticated:
        return None
    user, key = request.user.pk, request.session.session_key
    rights = changes.rights_of((user, key))
    # A password that changed since the session was checked must not be taken for the one it was checked with.
    if rights is None or rights.auth_hash != request.user.get_session_auth_hash():
        return None
    return _Reader(user, key, rights)


@require_safe
async def stream(request: HttpRequest) -> HttpResponse:
    """Serve the stream. HEAD returns the same status without a stream.

    403: the user may not view accounts. 503 with Retry-After: the user has too many streams in this process.
    """
    reader = await sync_to_async(_with_connection)(_reader_of, request)
    if reader is None:
        return HttpResponse(status=403)
    if _hub.readers.of_user[reader.user_id] >= STREAMS_PER_USER:
        return HttpResponse(status=503, headers={"Retry-After": "10"})
    leaving = getattr(request, "scope", {}).get(LEAVING)
    if request.method == "HEAD" or leaving is not None:
        response = HttpResponse()
    else:
        response = StreamingHttpResponse(_messages(reader))
    if leaving is not None:
        leaving.append(reader)
    response["Content-Type"] = "text/event-stream"
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


async def _messages(reader: _Reader) -> AsyncIterator[bytes]:
    _hub.join(reader)
    try:
        yield b"retry: %d\n" % random.randint(*RETRY_MILLISECONDS) + _reload(0)  # noqa: S311 - no secret
        while (message := await reader.queue.get()) is not None:
            yield message
    finally:
        _hub.readers.leave(reader)


# --- streams outside of Django -------------------------------------------------------------------------


def outside(django: Callable) -> Callable:
    """Return the ASGI application `django` with its streams sent outside of it.

    Django decides who may open a stream, and then its request ends. Otherwise the request's thread,
    middleware and objects would live as long as the stream.
    """
    address = reverse("events")

    async def application(scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != address:
            await django(scope, receive, send)
            return
        leaving: list[_Reader] = []
        head: list[dict] = []

        async def send_unless_leaving(message: dict) -> None:
            if not leaving:
                await send(message)
            elif message["type"] == "http.response.start":
                head.append(message)

        await django({**scope, LEAVING: leaving}, receive, send_unless_leaving)
        if head:
            await _send_all(leaving[0], head[0], receive, send)

    return application


async def _send_all(reader: _Reader, head: dict, receive: Callable, send: Callable) -> None:
    head["headers"] = [(name, value) for name, value in head["headers"] if name.lower() != b"content-length"]
    watching = asyncio.create_task(_end_with_browser(reader, receive))
    try:
        await send(head)
        async with aclosing(_messages(reader)) as messages:
            async for message in messages:
                await send({"type": "http.response.body", "body": message, "more_body": True})
        await send({"type": "http.response.body"})
    finally:
        watching.cancel()


async def _end_with_browser(reader: _Reader, receive: Callable) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reader.put(None)
