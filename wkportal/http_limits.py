"""Limits of requests, for a web process that is reached without a proxy in front of it, or with a lax one.

Heads are limited in uvicorn's protocol, since no application sees a request before its head is complete. Bodies
are limited around the ASGI application, which gets a body only when all of it is there.
"""

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES, HEAD_SECONDS = 64 * 1024, 20
# The largest form has a few kilobytes, the largest callback less than one megabyte.
BODY_BYTES, BODY_SECONDS = 1024 * 1024, 30


class LimitedProtocol(HttpToolsProtocol):
    """Close a connection whose request line and headers are too long, or do not come within HEAD_SECONDS."""

    head_bytes = 0
    head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.on_head_begin()

    def on_head_begin(self) -> None:
        if self.head_timer is None:
            self.head_bytes = 0
            self.head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def on_head_end(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.head_timer is not None:
            self.head_bytes += len(data)
            if self.head_bytes > HEAD_BYTES and not self.transport.is_closing():
                self.logger.warning("A request with more than %s bytes of headers was refused.", HEAD_BYTES)
                self.transport.write(
                    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\r\n"
                )
                self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.on_head_begin()

    def on_headers_complete(self) -> None:
        self.on_head_end()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self.on_head_end()
        super().connection_lost(exc)


class _Refused(Exception):
    """Raised with an HTTP status for a body that is not passed on."""


def limited(application: Callable) -> Callable:
    """Return the ASGI application with limited bodies: 413 for a large one, 408 for one that does not come."""

    async def limiting(scope: dict, receive: Callable, send: Callable) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] != "http" or not (b"content-length" in headers or b"transfer-encoding" in headers):
            await application(scope, receive, send)
            return
        try:
            body = await _read(receive, headers.get(b"content-length", b"0"))
        except _Refused as refused:
            head = [(b"connection", b"close"), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": refused.args[0], "headers": head})
            await send({"type": "http.response.body"})
            return
        if body is not None:
            await application(scope, _first(body, receive), send)

    return limiting


async def _read(receive: Callable, length: bytes) -> bytes | None:
    """Return the whole body, None if the client is gone. Raises _Refused."""
    if not length.isdigit() or int(length) > BODY_BYTES:
        raise _Refused(413)
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > BODY_BYTES:
                    raise _Refused(413)
                more = message.get("more_body", False)
    except TimeoutError:
        raise _Refused(408) from None
    return bytes(body)


def _first(body: bytes, receive: Callable) -> Callable:
    """Return a `receive` that gives the body, and then what comes after it."""
    given = False

    async def receive_after() -> dict:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_after


def behind_proxies(application: Callable, count: int) -> Callable:
    """Return the ASGI application for requests that pass `count` proxies, each of which adds to X-Forwarded-For.

    The client is the `count`-th address from the end: those before it are what the client itself claims. A
    request with fewer addresses did not come through the proxies, and keeps its own.
    """

    async def forwarded(scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] == "http":
            values = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
            hops = [hop.strip() for hop in b",".join(values).decode("latin1").split(",") if hop.strip()]
            if len(hops) >= count:
                scope = {**scope, "client": (hops[-count], 0)}
        await application(scope, receive, send)

    return forwarded
