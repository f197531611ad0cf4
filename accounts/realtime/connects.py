"""Streams that open, and are then sent outside of Django.

After a restart all browsers connect within seconds. Who may have a stream is decided for many at once, one batch
at a time, so that ordinary pages are answered meanwhile. Only a yes is decided here: Django answers all others.
"""

import asyncio
import contextvars
import io
import logging
from collections.abc import Callable
from contextlib import aclosing

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from django.db import DatabaseError, InterfaceError
from django.urls import reverse

from accounts.realtime import changes, sse
from accounts.realtime.readers import Reader, last_id

log = logging.getLogger(__name__)

ADMITTED_AT_ONCE = 50
PAUSE = 0.1  # seconds after a batch, in which pages are answered
DJANGO_AT_ONCE = 8  # each takes a thread
# Headers of Django's answer that are about one request.
OWN = frozenset({b"content-length", b"content-language", b"set-cookie"})


class _Admission:
    """The connects of this process that wait for a decision."""

    def __init__(self):
        self.loop: asyncio.AbstractEventLoop | None = None
        self.headers: list[tuple[bytes, bytes]] = []  # of the first stream, which Django admitted

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        if self.loop is not loop:
            self.loop, self.waiting, self.task = loop, [], None
            self.django = asyncio.Semaphore(DJANGO_AT_ONCE)

    async def decide(self, session_key: str) -> tuple[int, changes.Rights] | None:
        """Return (user, rights) if this session may have a stream, None if it may not, or if that is not known."""
        decided = self.loop.create_future()
        self.waiting.append((session_key, decided))
        if self.task is None or self.task.done():
            # An empty context: that of this request would live as long as the process.
            self.task = self.loop.create_task(self.decide_all(), context=contextvars.Context())
        return await decided

    async def decide_all(self) -> None:
        while self.waiting:
            batch, self.waiting = self.waiting[:ADMITTED_AT_ONCE], self.waiting[ADMITTED_AT_ONCE:]
            found: list = [None] * len(batch)
            try:
                found = await sse.in_thread(changes.admitted, [key for key, _decided in batch])
            except (DatabaseError, InterfaceError):
                pass  # Django's answer says so
            except Exception:
                log.exception("who may have a stream was not decided")
            for (_key, decided), result in zip(batch, found, strict=True):
                if not decided.done():
                    decided.set_result(result)
            await asyncio.sleep(PAUSE)


_admission = _Admission()


def outside(django: Callable) -> Callable:
    """Return the ASGI application `django` with its streams sent outside of it.

    Django's request ends before the stream begins. Otherwise the request's thread, middleware and objects would
    live as long as the stream.
    """
    address = reverse("events")

    async def application(scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != address:
            await django(scope, receive, send)
            return
        _admission.start()
        while True:
            first = not _admission.headers
            reader = None if first else await _admitted(scope)
            if reader is None:
                async with _admission.django:
                    if first and _admission.headers:
                        continue  # another request was the first meanwhile
                    reader = await _admitted_by_django(django, scope, receive, send)
            break
        if reader is not None:
            await _send_all(reader, receive, send)

    return application


async def _admitted(scope: dict) -> Reader | None:
    """Return the reader of a request that may have a stream, None if Django must answer."""
    request = ASGIRequest(scope, io.BytesIO())
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    try:
        request.get_host()
    except SuspiciousOperation:
        return None
    if not key or (settings.SECURE_SSL_REDIRECT and not request.is_secure()):
        return None
    decided = await _admission.decide(key)
    if decided is None:
        return None
    user, rights = decided
    reader = Reader(user, key, rights, last_id(request))
    return reader if sse.join(reader) else None


async def _admitted_by_django(
    django: Callable, scope: dict, receive: Callable, send: Callable
) -> Reader | None:
    """Let Django answer. Return the reader if its answer is a stream, which it leaves to us."""
    leaving: list[Reader] = []

    async def send_unless_leaving(message: dict) -> None:
        if not leaving:
            await send(message)
        elif message["type"] == "http.response.start":
            headers = [(name, value) for name, value in message["headers"] if name.lower() not in OWN]
            _admission.headers = headers

    await django({**scope, sse.LEAVING: leaving}, receive, send_unless_leaving)
    return leaving[0] if leaving else None


async def _send_all(reader: Reader, receive: Callable, send: Callable) -> None:
    watching = asyncio.create_task(_end_with_browser(reader, receive))
    try:
        await send({"type": "http.response.start", "status": 200, "headers": _admission.headers})
        async with aclosing(sse.messages(reader)) as messages:
            async for message in messages:
                await send({"type": "http.response.body", "body": message, "more_body": True})
        await send({"type": "http.response.body"})
    finally:
        watching.cancel()
        sse.leave(reader)


async def _end_with_browser(reader: Reader, receive: Callable) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reader.put(None)
