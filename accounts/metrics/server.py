"""Answers Prometheus: each process on a port of its own, which is not the port of the pages."""

import logging
import socket
import socketserver
import threading
import time
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from django.conf import settings
from prometheus_client import REGISTRY, Info, make_wsgi_app
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

REQUEST_SECONDS = 10


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS

    def log_message(self, *_args) -> None:
        """Write nothing: a line every few seconds carries no information."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without the name of the host, which a name server may take seconds to tell."""
        # Celery's beat gives a time limit to all sockets, and it may be long until somebody asks.
        self.socket.settimeout(None)
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]
        self.setup_environ()

    def accept_for_ever(self) -> None:
        """As `serve_forever`, but without waking up twice a second and without `poll`, which stops all of gevent."""
        while True:
            try:
                self.process_request(*self.socket.accept())
            except OSError as error:  # no file descriptor is left
                log.warning("a request for metrics was not taken: %s", error.strerror)
                time.sleep(1)


def serve(*further: Collector) -> None:
    """Answer on METRICS_HOST and METRICS_PORT from a thread; do nothing without METRICS_PORT.

    `further`: collectors beside what the process counts itself. A port that cannot be used is logged and nothing
    else: no login depends on whether it is counted.
    """
    if settings.METRICS_PORT is None:
        return
    address = (settings.METRICS_HOST, settings.METRICS_PORT)
    try:
        _Server.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        server = _Server(address, _Handler)
    except OSError as error:
        log.error("metrics cannot be read from this process (%s, port %s): %s", *address, error.strerror)
        return
    for collector in further:
        REGISTRY.register(collector)
    Info("wkportal_build", "The version that this process runs.").info({"version": settings.VERSION})
    server.set_app(make_wsgi_app())
    threading.Thread(target=server.accept_for_ever, name="metrics", daemon=True).start()
