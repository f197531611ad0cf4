"""HTTP connections that end at the deadline of their call, however slowly bytes arrive. Each serves one call.

A read timeout restarts with each byte. Here one thread shuts all overdue connections, so that a call needs
neither a thread nor a timer of its own. Connections are not reused: on one that the other side closed while
idle, it would be unknown whether `/iPadLogin` was sent.
"""

import heapq
import http.client
import http.cookiejar
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from accounts.upstream.errors import (
    BadAnswer,
    CertificateRefused,
    OutcomeUnknown,
    Unreachable,
    UpstreamError,
)


class Cuttable(Protocol):
    """The owner of a call that another thread may end: `exchange` sets `cut` to the function that ends it."""

    cut: Callable[[], None] | None


class _Call(threading.local):
    """The deadline of the call in progress in this thread (or greenlet)."""

    deadline: "Deadline | None" = None


_call = _Call()


class Deadline:
    """The moment at which a call's connection is shut, even if bytes still trickle in."""

    def __init__(self, seconds: float):
        self.at = time.monotonic() + seconds
        self.connected = self.passed = self.over = False
        self.sock: socket.socket | None = None

    @property
    def left(self) -> float:
        return max(0.0, self.at - time.monotonic())

    def __enter__(self) -> "Deadline":
        _call.deadline = self
        _watch.add(self)
        return self

    def __exit__(self, *_exc) -> None:
        _call.deadline = self.sock = None
        self.over = True

    def hold(self, sock: socket.socket) -> None:
        """Set the socket to shut: itself, because its connection gives it away once the headers are read."""
        self.sock = sock
        if self.passed:
            self.shut()

    def shut(self) -> None:
        self.passed = True
        sock = self.sock
        if sock is not None and not self.over:
            with suppress(OSError):
                # Not an SSL socket's own shutdown: after it, the reader would continue unencrypted.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _Watch:
    """Shuts the connections of overdue calls: one thread for all calls, started with the first one."""

    def __init__(self):
        self.heap: list[tuple[float, int, Deadline]] = []
        self.order = itertools.count()
        self.changed = threading.Condition()
        self.thread: threading.Thread | None = None

    def add(self, deadline: Deadline) -> None:
        with self.changed:
            heapq.heappush(self.heap, (deadline.at, next(self.order), deadline))
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=self.run, name="call deadlines", daemon=True)
                self.thread.start()
            elif self.heap[0][2] is deadline:
                self.changed.notify()

    def run(self) -> None:
        while True:
            with self.changed:
                while self.heap and self.heap[0][2].over:
                    heapq.heappop(self.heap)
                wait = self.heap[0][0] - time.monotonic() if self.heap else 60.0
                if wait > 0:
                    self.changed.wait(min(wait, 60.0))
                    continue
                deadline = heapq.heappop(self.heap)[2]
            deadline.shut()


_watch = _Watch()


class _Reply(http.client.HTTPResponse):
    """A response with a 1 KiB buffer: thousands of calls wait at once, for a few hundred bytes each."""

    def __init__(self, sock: socket.socket, *args, **kwargs):
        super().__init__(sock, *args, **kwargs)
        usual, self.fp = self.fp, sock.makefile("rb", 1024)
        usual.close()


class _Bounded:
    """A connection that is shut at the deadline of the call that opened it."""

    response_class = _Reply
    twin: socket.socket | None = None

    def connect(self) -> None:
        deadline = _call.deadline
        try:
            super().connect()
        finally:
            if self.twin is not None:
                self.twin.close()
        if not deadline.left:
            self.close()
            raise urllib3.exceptions.ConnectTimeoutError(self, "out of time")
        deadline.hold(self.sock)
        deadline.connected = True


class _Connection(_Bounded, HTTPConnection):
    pass


class _SecureConnection(_Bounded, HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        # The TLS handshake takes over the socket before it begins; its duplicate can still shut it.
        self.twin = sock.dup()
        _call.deadline.hold(self.twin)
        return sock


class _OneCall:
    """A pool that closes each connection after its call, also if the server would keep it open."""

    def _put_conn(self, conn: HTTPConnection | None) -> None:
        if conn is not None:
            conn.close()


class Pool(_OneCall, HTTPConnectionPool):
    ConnectionCls = _Connection


class SecurePool(_OneCall, HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


BODY_LIMIT = 1024 * 1024
# The list of online accounts, of which only IDs are kept: room for 370,000 that we do not know, at about 90 bytes
# each, and for those we know.
LIST_LIMIT, ENTRY_LIMIT = 32 * BODY_LIMIT, 512
PICTURE_LIMIT = 512 * 1024
CONNECT_SECONDS = 4
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Route:
    """How calls reach their host.

    `ca_bundle`: a file of certificate authorities that are trusted besides the public ones. `http_proxy`: the
    address of an HTTP proxy, which may hold a password. "" stands for none.
    """

    ca_bundle: str = ""
    http_proxy: str = field(default="", repr=False)

    @property
    def proxies(self) -> dict[str, str]:
        return {"http": self.http_proxy, "https": self.http_proxy} if self.http_proxy else {}


DIRECT = Route()
POOLS = {"http": Pool, "https": SecurePool}


class _Adapter(HTTPAdapter):
    def __init__(self, context: ssl.SSLContext | None = None, **kwargs):
        self.tls = {"ssl_context": context} if context else {}
        super().__init__(**kwargs)

    def init_poolmanager(self, *args, **kwargs) -> None:
        super().init_poolmanager(*args, **kwargs, **self.tls)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **kwargs):
        manager = super().proxy_manager_for(proxy, **kwargs, **self.tls)
        manager.pool_classes_by_scheme = POOLS
        return manager


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: even if it follows none, requests would parse the address and read all of the body."""


@lru_cache(maxsize=4)
def trusting(ca_bundle: str) -> ssl.SSLContext:
    """Return a TLS context that trusts the public authorities, and those in the file if one is named."""
    context = urllib3.util.create_urllib3_context()
    context.load_verify_locations(requests.certs.where())
    if ca_bundle:
        context.load_verify_locations(ca_bundle)
    return context


def _new_session(ca_bundle: str = "") -> requests.Session:
    session = _Session()
    session.trust_env = False
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    session.headers.update({"User-Agent": "wkportal", "Accept": "application/json", "Connection": "close"})
    adapter = _Adapter(trusting(ca_bundle) if ca_bundle else None, pool_maxsize=1, max_retries=0)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


_session = _new_session()
_session_trusting = lru_cache(maxsize=4)(_new_session)


@dataclass(frozen=True, slots=True)
class _Body:
    status: int
    content: Any
    location: str = ""


def whole(_charset: str, chunks: Iterator[bytes]) -> bytes:
    return b"".join(chunks)


def exchange(
    method: str,
    url: str,
    seconds: float,
    limit: int,
    call: Cuttable | None = None,
    route: Route = DIRECT,
    take: Callable[[str, Iterator[bytes]], object] = whole,
    **request,
) -> _Body:
    """Make one request and return its whole answer, within `seconds` and `limit` bytes (decoded).

    `call`: its `cut` is set to a function that ends the request from another thread. `take(charset, chunks)`:
    makes the content of the body's chunks, as they come. Raises the errors of `errors`: Unreachable if nothing
    was sent, OutcomeUnknown if no whole answer arrived, BadAnswer if it is too long.
    """
    with Deadline(seconds) as deadline:
        if call is not None:
            call.cut = deadline.shut
        timeout = urllib3.Timeout(connect=min(CONNECT_SECONDS, seconds), read=seconds)
        how = {"timeout": timeout, "allow_redirects": False, "stream": True, "proxies": route.proxies}
        session = _session_trusting(route.ca_bundle) if route.ca_bundle else _session
        try:
            with session.request(method, url, **how, **request) as response:
                content = take(_charset(response), _chunks(response, limit))
        except UpstreamError:
            raise
        except Exception as error:  # the libraries raise more kinds of errors than they document
            raise _failure(error, deadline) from None
        whole = response.raw.chunked or response.raw.length_remaining == 0
        if deadline.passed and not whole:
            raise OutcomeUnknown("out of time")
    return _Body(response.status_code, content, response.headers.get("Location", ""))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what the libraries wrapped in it."""
    found: object = error
    for _depth in range(8):
        if not isinstance(found, BaseException):
            return
        yield found
        inner = [getattr(found, "reason", None), *found.args, found.__cause__, found.__context__]
        found = next((cause for cause in inner if isinstance(cause, BaseException)), None)


def _failure(error: Exception, deadline: Deadline) -> UpstreamError:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return CertificateRefused(f"the certificate is not trusted: {cause.verify_message}")
    if not deadline.connected:
        if any(isinstance(cause, urllib3.exceptions.ProxyError) for cause in causes):
            return Unreachable("the HTTP proxy (WK_HTTP_PROXY) does not let the call through")
        cause = error.args[0] if error.args else None
        refused = isinstance(getattr(cause, "reason", cause), urllib3.exceptions.NewConnectionError)
        return Unreachable(
            "the connection was refused, or the name is not known" if refused else type(error).__name__
        )
    if not deadline.left:
        return OutcomeUnknown("out of time")
    if isinstance(error, urllib3.exceptions.DecodeError):
        return BadAnswer("a body that cannot be unpacked")
    broken = isinstance(error, requests.ConnectionError | urllib3.exceptions.ProtocolError | OSError)
    return OutcomeUnknown("the connection broke" if broken else type(error).__name__)


def _charset(response: requests.Response) -> str:
    # Without a charset, requests assumes Latin-1 for text, which WKTeam does not use.
    said = "charset" in response.headers.get("Content-Type", "").lower()
    return (said and response.encoding) or "utf-8"


def _chunks(response: requests.Response, limit: int) -> Iterator[bytes]:
    size = 0
    while chunk := response.raw.read(65536, decode_content=True):
        size += len(chunk)
        if size > limit:
            raise BadAnswer(f"more than {limit} bytes")
        yield chunk
