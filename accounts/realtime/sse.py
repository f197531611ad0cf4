"""Server-sent events: one subscription per process, fanned out to its browsers. The only async code.

A message is `{"account", "attempt", "state"}` for an account that its reader may see. The page then fetches
what it shows from a normal, authorized view. Rights are checked again every few
seconds, for all readers of the process at once. A reader without a session or the right to view accounts
loses the stream, and so does one whose password or roles changed: the browser connects again if it still may,
and reloads what it shows. A reader whose teams changed reloads too, and gets no more events of a team it lost.

A page whose stream was interrupted names the last ID that it received, which a `ping` carries. If the rows since
then tell all that it missed, it gets their events. Otherwise, as on its first connect, it reloads what it shows.

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
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from asgiref.sync import sync_to_async
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
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
# Of no stream: a page that was told what no row tells reloads what it shows when it connects again.
NO_ID = "id: 0\n"
DATABASE_DOWN = NO_ID.encode() + b"event: away\ndata: {}\n\n"
# Key in a request's scope: the list that gets its reader, if the stream is sent outside of Django.
LEAVING = "wkportal.leaving"
LAST_ID = re.compile(r"(\d{1,18})-[0-9a-f]{8}")
_streams_so_far = itertools.count()


@dataclass(eq=False, slots=True)
class Reader:
    user_id: int
    session_key: str
    rights: changes.Rights
    last_id: str = ""  # of the stream that this one continues, until its page was told what it missed
    teams: frozenset[int] = frozenset()
    queue: asyncio.Queue = field(default_factory=lambda: asyncio.Queue(QUEUE_SIZE))
    ping_at: int = field(default_factory=lambda: next(_streams_so_far) % PING_SECONDS)

    @property
    def continues(self) -> int | None:
        """The ID of the last row that its page knows of, None if it has to reload."""
        known = LAST_ID.fullmatch(self.last_id)
        return int(known[1]) if known else None

    def sees(self, event: pubsub.PublishedEvent) -> bool:
        return -1 in self.teams or event.team in self.teams

    def put(self, message: bytes | None) -> None:
        """Queue a message; None ends the stream. A full queue means a sleeping browser: its stream ends.

        The browser reloads what it shows when it reconnects.
        """
        if self.queue.full():
            while not self.queue.empty():
                self.queue.get_nowait()
            message = None
        self.queue.put_nowait(message)


class _Readers(set[Reader]):
    """All open streams of this process, indexed by team and counted by user."""

    def __init__(self):
        super().__init__()
        self.by_team: defaultdict[int | None, set[Reader]] = defaultdict(set)
        self.of_user: Counter[int] = Counter()
        self.ended = False  # the process stops

    def clear(self) -> None:
        self.__init__()

    def join(self, reader: Reader) -> None:
        if reader in self:
            return
        self.add(reader)
        self.of_user[reader.user_id] += 1
        self.seat(reader, reader.rights.teams)
        if self.ended:
            reader.put(None)

    def leave(self, reader: Reader) -> None:
        if reader in self:
            self.remove(reader)
            self.of_user[reader.user_id] -= 1
            self.seat(reader, frozenset())

    def seat(self, reader: Reader, teams: frozenset[int]) -> None:
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

    def join(self, reader: Reader) -> None:
        self.start()
        self.readers.join(reader)
        if self.rows.floor is None or reader.continues is not None:
            self.poll_now.set()

    def leave(self, reader: Reader) -> None:
        self.readers.leave(reader)

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

    async def check_rights(self, readers: list[Reader]) -> None:
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
                reader.put(_reload(0))

    async def ping(self) -> None:
        """Send each stream a message every PING_SECONDS, or an HTTP proxy closes it.

        Each second a part of the streams gets one, so that not all are sent at once.
        """
        while True:
            for second in range(PING_SECONDS):
                await asyncio.sleep(1)
                for reader in [reader for reader in self.readers if reader.ping_at == second]:
                    reader.put(self.ping_of(reader))

    def ping_of(self, reader: Reader) -> bytes:
        """Return a ping. Its ID, if it has one, says that the reader was sent all rows up to now."""
        passed_on = self.rows.passed_on
        if passed_on is None or self.database_down or reader.continues is not None or self.is_alone(reader):
            return PING
        return f"id: {self.id_of(reader, passed_on)}\n".encode() + PING

    def id_of(self, reader: Reader, row: int) -> str:
        """Return the ID of a reader that knows the rows up to `row`, and of what no row tells."""
        shown = (reader.user_id, sorted(reader.teams), sorted(reader.rights.roles), self.alarm)
        return f"{row}-{zlib.crc32(repr(shown).encode()):08x}"

    def is_alone(self, reader: Reader) -> bool:
        return any(reader.sees(event) for event in self.alone)

    async def tell_missed(self) -> None:
        """Send each reader that continues a stream the events since then, or let it reload."""
        readers = {reader: row for reader in self.readers if (row := reader.continues) is not None}
        if not readers:
            return
        complete, events = await self.in_thread(changes.newest_events, min(readers.values()))
        of_team: defaultdict[int | None, list[pubsub.PublishedEvent]] = defaultdict(list)
        for event in events:
            of_team[event.team].append(event)
            of_team[-1].append(event)
        for reader, row in readers.items():
            known = (
                row >= complete and reader.last_id == self.id_of(reader, row) and not self.is_alone(reader)
            )
            missed = [event for team in reader.teams for event in of_team[team] if event.id > row]
            if known and len(missed) <= MISSED_MOST:
                reader.put(b"".join([*map(_message, missed), PING]))
            else:
                reader.put(_reload(len(self.readers)))
            reader.last_id = ""

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
            # For changes between their page load and this first check.
            for reader in [reader for reader in self.readers if reader.continues is None]:
                reader.put(_reload(0))
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
        await self.tell_missed()

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


in_thread, leave = _hub.in_thread, _hub.leave


def join(reader: Reader) -> bool:
    """Let the reader hear what happens from now on. Return False if its user has too many streams."""
    if _hub.readers.of_user[reader.user_id] >= STREAMS_PER_USER:
        return False
    _hub.join(reader)
    return True


def _message(event: pubsub.PublishedEvent) -> bytes:
    data = json.dumps({"account": event.account, "attempt": event.attempt, "state": event.state})
    return f"{'' if event.id else NO_ID}event: change\ndata: {data}\n\n".encode()


def _reload(browsers: int) -> bytes:
    return b'event: relook\ndata: {"within": %d}\n\n' % (browsers * RELOAD_MILLISECONDS)


def _with_connection(call: Callable, *args):
    """Run `call`, then return the database connection: a stream must not keep one."""
    try:
        return call(*args)
    finally:
        connection.close()


def _reader_of(request: HttpRequest) -> Reader | None:
    """Return a reader for the user of the request, None if the user may not view accounts."""
    if not request.user.is_authenticated:
        return None
    user, key = request.user.pk, request.session.session_key
    rights = changes.rights_of((user, key))
    # A password that changed since the session was checked must not be taken for the one it was checked with.
    if rights is None or rights.auth_hash != request.user.get_session_auth_hash():
        return None
    return Reader(user, key, rights, last_id(request))


def last_id(request: HttpRequest) -> str:
    """Return the ID that a browser sends by itself, or that our script sends with a new EventSource."""
    return request.headers.get("Last-Event-ID") or request.GET.get("last", "")


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
        response = StreamingHttpResponse(messages(reader))
    if leaving is not None:
        leaving.append(reader)
    response["Content-Type"] = "text/event-stream"
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


async def messages(reader: Reader) -> AsyncIterator[bytes]:
    _hub.join(reader)
    try:
        retry = b"retry: %d\n" % random.randint(*RETRY_MILLISECONDS)  # noqa: S311 - no secret
        yield retry + (_reload(0) if reader.continues is None else b"\n")
        while (message := await reader.queue.get()) is not None:
            yield message
    finally:
        _hub.leave(reader)
