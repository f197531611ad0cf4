"""Connections that end at the deadline of their call, however slowly bytes arrive, and serve one call only.

A read timeout counts from byte to byte; here one thread shuts whatever is overdue, so that a call costs neither a
thread nor a timer of its own. A connection is not kept: one that the other side closed while it was idle would
turn "/iPadLogin was not sent" into "nobody knows".
"""

import heapq
import http.client
import itertools
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class Cuttable(Protocol):
    """Who makes a call that somebody else may have to end: `cut` is set to what ends it."""

    cut: Callable[[], None] | None


class _Call(threading.local):
    """The deadline of the call that this thread (or greenlet) makes."""

    deadline: "Deadline | None" = None


_call = _Call()


class Deadline:
    """A moment at which a call's connection is shut, so that bytes that trickle cannot outlive it."""

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
        """The socket to shut: itself, not its connection, which gives it away as soon as the headers are read."""
        self.sock = sock
        if self.passed:
            self.shut()

    def shut(self) -> None:
        self.passed = True
        sock = self.sock
        if sock is not None and not self.over:
            with suppress(OSError):
                # Not an SSL socket's own shutdown: it would make the reader go on in clear.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _Watch:
    """Shuts what is overdue: one thread for all calls, started with the first one."""

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
    """With a small buffer: it exists while the call waits, and thousands wait for a few hundred bytes each."""

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
        # The handshake takes the socket over before it begins; through a twin it can be shut all the same.
        self.twin = sock.dup()
        _call.deadline.hold(self.twin)
        return sock


class _OneCall:
    """A pool that keeps no connection, also where the server would keep it open."""

    def _put_conn(self, conn: HTTPConnection | None) -> None:
        if conn is not None:
            conn.close()


class Pool(_OneCall, HTTPConnectionPool):
    ConnectionCls = _Connection


class SecurePool(_OneCall, HTTPSConnectionPool):
    ConnectionCls = _SecureConnection
