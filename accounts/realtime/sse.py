"""Server-sent events: one subscription per process, fanned out to its browsers. The only async code.

A message is `{"account", "attempt", "state"}` for an account that its reader may see. The page then fetches
what it shows from a normal, authorized view. Rights are checked again every few seconds, for all readers of the
process at once. A reader without a session or the right to view accounts loses the stream, and so does one whose
password or roles changed: the browser connects again if it still may, and reloads what it shows. A reader whose
teams changed reloads too, and gets no more events of a team it lost.

A page whose stream was interrupted names the last ID that it received, which a `ping` carries. If the rows since
then tell all that it missed, it gets their events. Otherwise, as on its first connect, it reloads what it shows.

Events may be lost. Every 2 s the process sends the rows without an event, even while Redis is unreachable. It
also sends what no event row tells: a login that no worker waits for, and a note about an incident. Other messages:

- `relook`: reload what you show `within` so many milliseconds (spread, so that not all pages do it at once)
- `alarm`: WKTeam access was denied or restored
- `away`: the database does not answer; a `relook` follows when it does
- `ping`: keeps the connection open
"""

import asyncio
import contextvars
import logging
import random
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from asgiref.sync import sync_to_async
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.views.decorators.http import require_safe

from accounts.lib import pubsub
from accounts.lib.rows import in_batches
from accounts.metrics import families
from accounts.realtime import changes
from accounts.realtime.readers import ALARM, DATABASE_DOWN, PING, Reader, Readers, last_id, message_of, reload

log = logging.getLogger(__name__)

PING_SECONDS, PING_PARTS = 15, 15
RIGHTS_SECONDS = 4
RIGHTS_AT_ONCE = 250  # a check of thousands would block everything else in this process
POLL_SECONDS = 2
POLLS_WITHOUT_READER = 10  # a person who goes from page to page has no stream for a moment
# With more missed rows than this, all pages reload instead.
MISSED_MOST = 200
STREAMS_PER_USER = 40
# Spreads the reconnects of browsers that lost their streams at the same time.
RETRY_MILLISECONDS = (1000, 3000)
# Key in a request's scope: the list that gets its reader, if the stream is sent outside of Django.
LEAVING = "wkportal.leaving"


class _Hub:
    """Work done once for all streams of this process."""

    def __init__(self):
        self.readers = Readers()
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
        self.notes: frozenset[int] = frozenset()

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
            if event is None or not event.id:
                self.poll_now.set()  # the rows tell what was missed meanwhile, and what no event tells
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
                reader.put(reload(0))

    async def ping(self) -> None:
        """Send each stream a message every PING_SECONDS, or an HTTP proxy closes it.

        One of PING_PARTS parts of the streams after the other, so that not all are sent at once.
        """
        while True:
            for part in range(PING_PARTS):
                await asyncio.sleep(PING_SECONDS / PING_PARTS)
                for reader in [reader for reader in self.readers if reader.number % PING_PARTS == part]:
                    reader.put(self.ping_of(reader))

    def ping_of(self, reader: Reader) -> bytes:
        """Return a ping. Its ID, if it has one, says that the reader was sent all rows up to now."""
        passed_on = self.rows.passed_on
        if passed_on is None or self.database_down or reader.continues is not None or self.is_alone(reader):
            return PING
        return f"id: {self.id_of(reader, passed_on)}\n".encode() + PING

    def id_of(self, reader: Reader, row: int) -> str:
        """Return the ID of a reader that knows the rows up to `row`, and of what no row tells."""
        rights = (reader.user_id, sorted(reader.teams), sorted(reader.rights.roles))
        shown = (*rights, self.alarm, sorted(self.notes))
        return f"{row}-{zlib.crc32(repr(shown).encode()):08x}"

    def is_alone(self, reader: Reader) -> bool:
        return any(reader.sees(event) for event in self.alone)

    async def tell_missed(self, newest: int) -> None:
        """Send each reader that continues a stream the events since then, or let it reload.

        `newest`: the last row that there is. Who knows a later one knows a database that was replaced by a backup.
        """
        readers = {reader: row for reader in self.readers if (row := reader.continues) is not None}
        if not readers:
            return
        complete, events = await self.in_thread(changes.newest_events, min(readers.values()))
        of_team: defaultdict[int | None, list[pubsub.PublishedEvent]] = defaultdict(list)
        for event in events:
            for team in {event.team, event.left_team, -1}:
                of_team[team].append(event)
        for reader, row in readers.items():
            known = complete <= row <= newest and not self.is_alone(reader)
            known = known and reader.last_id == self.id_of(reader, row)
            missed = [event for team in reader.teams for event in of_team[team] if event.id > row]
            if known and len(missed) <= MISSED_MOST:
                reader.put(b"".join([*map(message_of, missed), PING]))
            else:
                reader.put(reload(len(self.readers)))
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
                reader.put(reload(0))
        elif len(missed) > MISSED_MOST or self.database_down:
            self.rows.published.update(missed)
            self.readers.send_to_all(reload(len(self.readers)))
        elif missed:
            for event in await self.in_thread(changes.unpublished_events, missed):
                self.pass_event(event)
        for event in {*seen.alone, *self.alone}:
            if seen.alone.get(event) != self.alone.get(event):
                self.readers.send_event(event)
        if seen.alarm != self.alarm:
            self.readers.send_to_all(ALARM)
        if not begun and (noted := seen.notes - self.notes):
            for event in await self.in_thread(changes.note_events, noted):
                self.readers.send_event(event)
        self.notes = seen.notes
        self.alarm, self.alone, self.database_down = seen.alarm, seen.alone, False
        await self.tell_missed(max([*seen.ids, self.rows.floor or 0]))

    def report_outage(self, error: Exception) -> None:
        if not self.database_down:
            log.warning("the database does not answer (%s); open pages are notified", type(error).__name__)
            self.database_down = True
            self.readers.send_to_all(DATABASE_DOWN)


_hub = _Hub()
families.STREAMS.set_function(lambda: len(_hub.readers))


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
        yield retry + (reload(0) if reader.continues is None else b"\n")
        while (message := await reader.queue.get()) is not None:
            yield message
    finally:
        _hub.leave(reader)
