"""The open streams of this process: what each reader may hear, and what has to be sent to it."""

import asyncio
import itertools
import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from django.http import HttpRequest

from accounts.lib.pubsub import PublishedEvent
from accounts.realtime.changes import Rights

QUEUE_SIZE = 200
RELOAD_MILLISECONDS = 10  # for each browser, when all reload
# Of no stream: a page that was told what no row tells reloads what it shows when it connects again.
NO_ID = "id: 0\n"
PING = b"event: ping\ndata: {}\n\n"
ALARM = b"event: alarm\ndata: {}\n\n"
DATABASE_DOWN = NO_ID.encode() + b"event: away\ndata: {}\n\n"
LAST_ID = re.compile(r"(\d{1,18})-[0-9a-f]{8}")
_streams_so_far = itertools.count()


@dataclass(eq=False, slots=True)
class Reader:
    user_id: int
    session_key: str
    rights: Rights
    last_id: str = ""  # of the stream that this one continues, until its page was told what it missed
    teams: frozenset[int] = frozenset()
    queue: asyncio.Queue = field(default_factory=lambda: asyncio.Queue(QUEUE_SIZE))
    number: int = field(default_factory=lambda: next(_streams_so_far))

    @property
    def continues(self) -> int | None:
        """The ID of the last row that its page knows of, None if it has to reload."""
        known = LAST_ID.fullmatch(self.last_id)
        return int(known[1]) if known else None

    def sees(self, event: PublishedEvent) -> bool:
        return not self.teams.isdisjoint({-1, event.team, event.left_team})

    def put(self, message: bytes | None) -> None:
        """Queue a message; None ends the stream. A full queue means a sleeping browser: its stream ends.

        The browser reloads what it shows when it reconnects.
        """
        if self.queue.full():
            while not self.queue.empty():
                self.queue.get_nowait()
            message = None
        self.queue.put_nowait(message)


class Readers(set[Reader]):
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

    def send_event(self, event: PublishedEvent) -> None:
        message = message_of(event)
        for reader in self.by_team[event.team] | self.by_team[event.left_team] | self.by_team[-1]:
            reader.put(message)

    def send_to_all(self, message: bytes | None) -> None:
        for reader in list(self):
            reader.put(message)


def message_of(event: PublishedEvent) -> bytes:
    data = json.dumps({"account": event.account, "attempt": event.attempt, "state": event.state})
    return f"{'' if event.id else NO_ID}event: change\ndata: {data}\n\n".encode()


def reload(browsers: int) -> bytes:
    return b'event: relook\ndata: {"within": %d}\n\n' % (browsers * RELOAD_MILLISECONDS)


def last_id(request: HttpRequest) -> str:
    """Return the ID that a browser sends by itself, or that our script sends with a new EventSource."""
    return request.headers.get("Last-Event-ID") or request.GET.get("last", "")
