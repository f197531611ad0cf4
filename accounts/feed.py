"""Server-sent events: one doorbell per process, fanned out to its browsers. The only async code.

A message is `{"account", "attempt", "state"}` for an account that its reader may see, with the event row's id.
The page that gets it fetches what it shows by an ordinary view. Rights are looked at again every few seconds,
for all readers of the process at once; whoever lost the session or a team loses the stream.

A doorbell may stay silent: rows that it did not ring for are found by a look at the table every two seconds, also
while Redis is away. What else a page is told: `relook` (read anew what you show), `alarm` (whether the upstream lets
us in has changed), `away` (the database does not answer; a `relook` follows when it does).
"""

import asyncio
import contextvars
import json
import logging
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from asgiref.sync import SyncToAsync, sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import Max, Q
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils import timezone

from accounts import context, events
from accounts.history import AccountEvent
from accounts.roles import ROLES

log = logging.getLogger(__name__)

QUEUE_SIZE = 200
PING_SECONDS = 15
RIGHTS_SECONDS = 4
LOOK_SECONDS = 2
# A row may be committed this long after one with a higher id, and is found all the same.
COMMIT_SECONDS = 10
# So many rows without a ring are no slip of the doorbell: everybody looks anew instead.
MISSED_MOST = 200
STREAMS_PER_USER = 40
# Browsers that lost their streams together do not come back together.
RETRY_MILLISECONDS = (1000, 3000)
RELOOK_EACH = 10
PING = b": still here\n\n"
ALARM = b"event: alarm\ndata: {}\n\n"
AWAY = b"event: away\ndata: {}\n\n"
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


class _Readers(set[_Reader]):
    """All open streams of this process, and by team and by user."""

    def __init__(self):
        super().__init__()
        self.by_team: defaultdict[int | None, set[_Reader]] = defaultdict(set)
        self.of_user: Counter[int] = Counter()

    def join(self, reader: _Reader) -> None:
        self.add(reader)
        self.of_user[reader.user_id] += 1
        self.seat(reader, reader.teams)

    def leave(self, reader: _Reader) -> None:
        self.discard(reader)
        self.of_user[reader.user_id] -= 1
        self.seat(reader, frozenset())

    def seat(self, reader: _Reader, teams: frozenset[int]) -> None:
        for team in reader.teams - teams:
            self.by_team[team].discard(reader)
        for team in teams:
            self.by_team[team].add(reader)
        reader.teams = teams

    def of(self, ring: events.Ring) -> set[_Reader]:
        return self.by_team[ring.team] | self.by_team[-1]

    def tell(self, message: bytes | None) -> None:
        for reader in list(self):
            reader.put(message)


class _Table:
    """The event rows beside the doorbell: finds those that nobody rang for."""

    def __init__(self):
        self.rung: set[int] = set()
        self.floor: int | None = None  # rows up to here are old
        self.newest = 0
        self.moved_at = 0.0

    def forget(self) -> None:
        self.__init__()

    def heard(self, ring: events.Ring) -> bool:
        """Whether this ring is the first one for its row."""
        known = ring.id in self.rung
        self.rung.add(ring.id)
        return not known

    def missed(self, ids: list[int]) -> list[int]:
        """Of the rows above the floor, those without a ring; and the floor rises behind what is old by now."""
        missed = [number for number in ids if number not in self.rung]
        if time.monotonic() - self.moved_at > COMMIT_SECONDS:
            self.floor, self.newest = self.newest, max([*ids, self.newest])
            self.rung = {number for number in self.rung if number > self.floor}
            self.moved_at = time.monotonic()
        return missed


class _Hub:
    """What is done once for all streams of this process."""

    def __init__(self):
        self.readers = _Readers()
        self.table = _Table()
        self.tasks: list[asyncio.Task] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        # The looks come one after the other, in a thread that is no request's.
        self.thread = ThreadPoolExecutor(1, "feed")
        self.hurry = asyncio.Event()
        self.database_away = False
        self.alarm = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        if self.loop is loop and not any(task.done() for task in self.tasks):
            return
        for task in self.tasks:
            task.cancel()
        self.loop, self.hurry = loop, asyncio.Event()
        self.table.forget()
        # In a context of their own: that of the first request would be kept as long as the process.
        fresh = contextvars.Context()
        works = (self.pass_on, self.watch_rights, self.watch_rows)
        self.tasks = [loop.create_task(work(), context=fresh) for work in works]

    async def in_thread(self, look: Callable, *args):
        return await asyncio.get_running_loop().run_in_executor(self.thread, _with_connection, look, *args)

    def pass_ring(self, ring: events.Ring) -> None:
        if self.table.heard(ring):
            message = _message(ring)
            for reader in self.readers.of(ring):
                reader.put(message)

    async def pass_on(self) -> None:
        first = True
        async for ring in events.listen():
            if ring is not None:
                self.pass_ring(ring)
            elif first:
                first = False
                self.readers.tell(_relook(0))
            else:
                self.hurry.set()

    async def watch_rights(self) -> None:
        while True:
            await asyncio.sleep(RIGHTS_SECONDS)
            readers = list(self.readers)
            if not readers:
                continue
            try:
                teams, sessions = await self.in_thread(
                    _rights, {r.user_id for r in readers}, {r.session_key for r in readers}
                )
            except (DatabaseError, InterfaceError):
                continue  # there is nothing to be seen in the meantime either
            except Exception:  # without this look, revoked rights would be served on
                log.exception("rights of open streams were not looked at")
                continue
            for reader in readers:
                if reader.user_id not in teams or reader.session_key not in sessions:
                    reader.put(None)
                elif reader in self.readers:
                    self.readers.seat(reader, teams[reader.user_id])

    async def watch_rows(self) -> None:
        while True:
            try:
                await self.look_at_rows()
            except (DatabaseError, InterfaceError) as error:
                self.say_away(type(error).__name__)
            except Exception:  # without this look, what the doorbell did not ring for would stay unseen
                log.exception("event rows were not looked at")
            self.hurry.clear()
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self.hurry.wait()
            except TimeoutError:
                pass

    async def look_at_rows(self) -> None:
        if not self.readers:
            self.table.forget()
            return
        ids, alarm = await self.in_thread(_rows, self.table.floor)
        if self.table.floor is None:
            self.table.floor = self.table.newest = ids[0]
            self.alarm = alarm
        else:
            missed = self.table.missed(ids)
            if len(missed) > MISSED_MOST:
                self.readers.tell(_relook(len(self.readers)))
                self.table.rung.update(missed)
            elif missed:
                for ring in await self.in_thread(_rings, missed):
                    self.pass_ring(ring)
        if alarm != self.alarm:
            self.alarm = alarm
            self.readers.tell(ALARM)
        if self.database_away:
            self.database_away = False
            self.readers.tell(_relook(len(self.readers)))

    def say_away(self, why: str) -> None:
        if not self.database_away:
            log.warning("the database does not answer (%s); open pages are told", why)
            self.database_away = True
            self.readers.tell(AWAY)


_hub = _Hub()


def stop() -> None:
    """End every stream of this process, so that it can end itself."""
    if _hub.loop is not None and _hub.loop.is_running():
        _hub.loop.call_soon_threadsafe(_hub.readers.tell, None)


def _message(ring: events.Ring) -> bytes:
    data = json.dumps({"account": ring.account, "attempt": ring.attempt, "state": ring.state})
    return f"id: {ring.id}\nevent: change\ndata: {data}\n\n".encode()


def _relook(browsers: int) -> bytes:
    """Look anew, `within` milliseconds: not all at the same moment."""
    return b'event: relook\ndata: {"within": %d}\n\n' % (browsers * RELOOK_EACH)


# --- what is asked of the database ---------------------------------------------------------------------


def _with_connection(look: Callable, *args):
    try:
        return look(*args)
    finally:
        connection.close()


def _rows(floor: int | None) -> tuple[list[int], object]:
    """The ids of all rows above the floor, of the newest one where there is no floor yet; and the alarm."""
    rows = AccountEvent.objects
    if floor is None:
        ids = [rows.aggregate(newest=Max("pk"))["newest"] or 0]
    else:
        ids = list(rows.filter(pk__gt=floor).values_list("pk", flat=True))
    alarm = context.alarm()
    return ids, alarm and (alarm.refused_why, alarm.refused_text)


def _rings(ids: list[int]) -> list[events.Ring]:
    rows = AccountEvent.objects.filter(pk__in=ids).order_by("pk").select_related("account", "attempt")
    fields = ("pk", "account_id", "account__team_id", "attempt_id", "attempt__state", "account__state")
    return [
        events.Ring(pk, account, team, attempt, attempt_state or account_state)
        for pk, account, team, attempt, attempt_state, account_state in rows.values_list(*fields)
    ]


def _rights(user_ids: set[int], session_keys: set[str]) -> tuple[dict[int, frozenset[int]], set[str]]:
    """{user: teams} of those who may still look, and the sessions that are still alive.

    What ModelBackend would say of each user, for all of them by as many queries as for one.
    """
    model = get_user_model()
    here = Q(permission__content_type__app_label="accounts")
    may: dict[str, tuple[set[int], set[int]]] = {
        "view_account": (set(), set()),
        "view_every_account": (set(), set()),
    }
    here &= Q(permission__codename__in=may)
    carried = Group.permissions.through.objects.filter(here)
    for codename, group in carried.values_list("permission__codename", "group_id"):
        may[codename][0].add(group)
    given = model.user_permissions.through.objects.filter(here, user_id__in=user_ids)
    for codename, user in given.values_list("permission__codename", "user_id"):
        may[codename][1].add(user)
    groups: dict[int, set[int]] = defaultdict(set)
    for user, group in model.groups.through.objects.filter(user_id__in=user_ids).values_list(
        "user_id", "group_id"
    ):
        groups[user].add(group)
    roles = set(Group.objects.filter(name__in=ROLES).values_list("pk", flat=True))

    def has(user: int, codename: str) -> bool:
        return user in may[codename][1] or not may[codename][0].isdisjoint(groups[user])

    teams = {}
    people = model.objects.filter(pk__in=user_ids, is_active=True).values_list("pk", "is_superuser")
    for user, is_superuser in people:
        if is_superuser or (has(user, "view_account") and has(user, "view_every_account")):
            teams[user] = EVERY_TEAM
        elif has(user, "view_account"):
            teams[user] = frozenset(groups[user] - roles)
    alive = Session.objects.filter(session_key__in=session_keys, expire_date__gt=timezone.now())
    return teams, set(alive.values_list("session_key", flat=True))


def _reader_of(request: HttpRequest) -> _Reader | None:
    """Who asks, as a reader; None for who may not look."""
    if not request.user.is_authenticated:
        return None
    user, key = request.user.pk, request.session.session_key
    teams, sessions = _rights({user}, {key})
    return _Reader(user, key, teams[user]) if user in teams and key in sessions else None


# --- the view ------------------------------------------------------------------------------------------


async def stream(request: HttpRequest) -> HttpResponse:
    """The stream; 403 for who may not look, 503 with Retry-After for one too many. HEAD asks which it would be."""
    reader = await sync_to_async(_with_connection)(_reader_of, request)
    if reader is None:
        return HttpResponse(status=403)
    if _hub.readers.of_user[reader.user_id] >= STREAMS_PER_USER:
        return HttpResponse(status=503, headers={"Retry-After": "10"})
    if request.method == "HEAD":
        return HttpResponse(content_type="text/event-stream")
    response = StreamingHttpResponse(_messages(reader), content_type="text/event-stream")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


def _let_thread_go() -> None:
    """A request has a thread of its own for its ordinary code: an open stream would keep it, and it is not needed."""
    context_of_request = SyncToAsync.thread_sensitive_context.get(None)
    if context_of_request is not None:
        thread = SyncToAsync.context_to_thread_executor.pop(context_of_request, None)
        if thread is not None:
            thread.shutdown(wait=False)


async def _messages(reader: _Reader) -> AsyncIterator[bytes]:
    _let_thread_go()
    _hub.start()
    _hub.readers.join(reader)
    try:
        yield b"retry: %d\n" % random.randint(*RETRY_MILLISECONDS) + _relook(0)  # noqa: S311
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
        _hub.readers.leave(reader)
