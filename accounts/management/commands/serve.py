import asyncio
import errno
import logging
import multiprocessing
import socket
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string

from accounts.maintenance import field_keys
from accounts.metrics import server
from accounts.realtime import sse
from accounts.status.exposition import StatusCollector
from wkportal.http_limits import LimitedProtocol, behind_proxies
from wkportal.local import preparation
from wkportal.local.supervisor import Process, Supervisor, with_metrics_ports

log = logging.getLogger("wkportal")

HEALTH_CHECKS = ("/healthz", "/readyz")

# Emitted for every static file: whitenoise sends synchronous chunks, as under WSGI, and Django converts them.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")


class Server(uvicorn.Server):
    """A server that leaves in time: it goes on for `drain` seconds after it was told to end, so that a proxy notices.

    Meanwhile its health checks answer 503, and each other answer closes its connection: a request on a connection
    that is kept open could arrive just as that is closed. Then it ends the live streams; uvicorn alone would wait for
    browsers that never disconnect.

    It wakes up once a second, and when it is told to end. uvicorn's own does ten times a second.
    """

    def __init__(self, application: Callable, drain: int, **config):
        super().__init__(uvicorn.Config(self.answering(application), **config))
        self.drain, self.told = drain, None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.signalled = asyncio.Event()

    async def main_loop(self) -> None:
        self.loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self.signalled.wait()
            self.signalled.clear()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.loop:
            self.loop.call_soon_threadsafe(self.signalled.set)
        if self.drain and self.told is None:
            self.told = (time.monotonic() + self.drain, sig, frame)
            self.config.encoded_headers.append((b"connection", b"close"))
        else:
            sse.stop()
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if self.told and not self.should_exit and time.monotonic() > self.told[0]:
            self.handle_exit(*self.told[1:])
        return await super().on_tick(counter)

    def answering(self, application: Callable) -> Callable:
        async def answer(scope: dict, receive: Callable, send: Callable) -> None:
            if self.told and scope["type"] == "http" and scope["path"] in HEALTH_CHECKS:
                await send({"type": "http.response.start", "status": 503, "headers": []})
                await send({"type": "http.response.body", "body": b"leaving"})
            else:
                await application(scope, receive, send)

        return answer


class Command(BaseCommand):
    help = "Serves the web pages and the live streams (ASGI)."
    requires_system_checks = []

    def add_arguments(self, parser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
        parser.add_argument("--port", type=int, default=8000, help="port to listen on (%(default)s)")
        parser.add_argument("--fd", type=int, help="an open listening socket to use instead")
        parser.add_argument(
            "--workers", type=int, default=1, help="processes that share the port (%(default)s)"
        )
        parser.add_argument(
            "--trusted-proxies",
            default="127.0.0.1,::1",
            help="who may say in X-Forwarded-For whom it speaks for: addresses or networks, or the number of "
            "proxies that every request passes (%(default)s)",
        )
        parser.add_argument(
            "--drain",
            type=int,
            default=0,
            help="seconds in which it still answers after it was told to end, while its health checks say 503 and "
            "a proxy turns to another web process (%(default)s)",
        )

    def handle(
        self,
        *,
        host: str,
        port: int,
        fd: int | None,
        workers: int,
        trusted_proxies: str,
        drain: int,
        **options,
    ) -> None:
        if "*" in trusted_proxies:
            raise CommandError(
                "--trusted-proxies *: anybody could choose an address. Give the number of proxies, such as 1."
            )
        multiprocessing.current_process().name = "web"  # which each log line names
        listener = socket.socket(fileno=fd) if fd is not None else listen(host, port)
        if workers > 1:
            sys.exit(self.serve_shared(listener, workers, trusted_proxies, drain))
        application = import_string("wkportal.asgi.application")  # now: it prepares this process to serve
        counted = trusted_proxies.isdigit()
        web = Server(
            behind_proxies(application, int(trusted_proxies)) if counted else application,
            drain,
            http=LimitedProtocol,
            lifespan="off",
            ws="none",
            log_config=None,  # the settings decide where logs go and what is hidden
            access_log=False,
            server_header=False,
            proxy_headers=not counted,
            forwarded_allow_ips=trusted_proxies,
            timeout_keep_alive=130,  # longer than an HTTP proxy's, which would send into a closed connection
            timeout_graceful_shutdown=20 if drain else 3,
        )
        log.info("wkportal %s: web", settings.VERSION)
        field_keys.report_lost()
        server.serve(StatusCollector())
        web.run(sockets=[listener])

    def serve_shared(self, listener: socket.socket, workers: int, trusted_proxies: str, drain: int) -> int:
        command = [sys.executable, sys.argv[0], "serve", "--fd", str(listener.fileno())]
        command += ["--trusted-proxies", trusted_proxies, "--drain", str(drain)]
        processes = [
            Process(f"web-{number}", command, grace=30 if drain else 10, pass_fds=(listener.fileno(),))
            for number in range(1, workers + 1)
        ]
        return Supervisor([with_metrics_ports(settings.METRICS_PORT, processes)]).run()


def listen(host: str, port: int) -> socket.socket:
    try:
        return preparation.listen(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CommandError(
                f"Port {port} is taken by another program; choose another with --port."
            ) from None
        raise CommandError(f"Cannot listen on {host}, port {port}: {error.strerror}.") from None
