"""The port on which a process answers Prometheus."""

import socket
import threading

import pytest

from accounts.metrics import server
from tests.support.processes import reserve_port


def names_of_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_without_a_port_nobody_answers(settings):
    settings.METRICS_PORT = None
    server.serve()
    assert "metrics" not in names_of_threads()


@pytest.mark.parametrize("host", ["127.0.0.1", "no.invalid", "203.0.113.1"])
def test_a_port_that_cannot_be_used_is_said_and_ends_nothing(settings, caplog, host):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings.METRICS_HOST, settings.METRICS_PORT = host, taken.getsockname()[1]
        server.serve()
    assert f"metrics cannot be read from this process ({host}, port" in caplog.text
    assert "metrics" not in names_of_threads()


def test_a_request_that_does_not_come_holds_up_no_other(monkeypatch):
    """And one whose client stays silent ends."""
    monkeypatch.setattr(server._Handler, "timeout", 0.2)
    monkeypatch.setattr(server._Server, "address_family", socket.AF_INET)
    made = server._Server(("127.0.0.1", reserve_port()), server._Handler)
    made.set_app(server.make_wsgi_app())
    threading.Thread(target=made.accept_for_ever, daemon=True).start()
    with socket.create_connection(made.server_address) as silent:
        with socket.create_connection(made.server_address) as client:
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert client.makefile("rb").readline() == b"HTTP/1.0 200 OK\r\n"
        assert silent.makefile("rb").read() == b""


def test_a_default_time_limit_for_sockets_does_not_end_its_wait_for_requests(monkeypatch):
    """Celery's beat sets one: each 30 s without a request were logged as a request that was not taken."""
    monkeypatch.setattr(server._Server, "address_family", socket.AF_INET)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)
    try:
        with server._Server(("127.0.0.1", 0), server._Handler) as made:
            assert made.socket.gettimeout() is None
    finally:
        socket.setdefaulttimeout(before)
