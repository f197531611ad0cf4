"""Requests that are too large or never whole, sent to a real web process without a proxy before it."""

import asyncio
import os
import re
import socket
import sys
from contextlib import closing

import pytest

from tests.support.processes import DEADLINE, ROOT, Program, port_answers, reserve_port
from wkportal import http_limits

SECRET = "canary0secret-of-the-callback"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    port, folder = reserve_port(), tmp_path_factory.mktemp("serve")
    command = [sys.executable, "-c", SHORT_LIMITS, "serve", "--port", port]
    with Program(command, folder, dict(os.environ) | {"PYTHONPATH": str(ROOT)}) as server:
        server.until(lambda: port_answers(port))
        yield server, port


@pytest.fixture(scope="module")
def port(served):
    return served[1]


# The same process as `manage.py serve`, with limits that a test need not wait for.
SHORT_LIMITS = """
import sys
from wkportal import http_limits
http_limits.HEAD_SECONDS = http_limits.BODY_SECONDS = 1
sys.argv[0] = "manage.py"
from manage import main
main()
"""


def answer(port: int, *parts: bytes) -> bytes:
    """Send the parts, as far as the server reads them; return all that it answers until it closes."""
    with closing(socket.create_connection(("127.0.0.1", port), DEADLINE)) as client:
        try:
            for part in parts:
                client.sendall(part)
        except OSError:
            pass
        received = b""
        try:
            while piece := client.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
        return received


@pytest.mark.live
@pytest.mark.parametrize("beginning", [b"", b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: "])
def test_a_request_that_is_never_whole_is_closed(port, beginning):
    assert answer(port, beginning) == b""


@pytest.mark.live
def test_endless_headers_are_refused(served):
    server, port = served
    line = b"X-Header: " + b"x" * 1000 + b"\r\n"
    received = answer(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n", *[line * 100] * 200)
    assert received == b"" or received.startswith(b"HTTP/1.1 431 ")  # nothing, if the rest was in flight
    server.until_said("bytes of headers was refused")


@pytest.mark.live
def test_a_large_body_is_refused_before_it_is_read(port):
    head = b"POST /login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 120000000\r\n\r\n"
    assert answer(port, head).startswith(b"HTTP/1.1 413 ")


@pytest.mark.live
def test_a_large_body_of_unknown_length_is_refused(port):
    head = b"POST /login/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n" % 100_000 + b"x" * 100_000 + b"\r\n"
    received = answer(port, head, *[chunk] * 12)
    assert received == b"" or received.startswith(b"HTTP/1.1 413 ")


@pytest.mark.live
def test_a_body_that_never_comes_is_given_up(port):
    head = b"POST /login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nname="
    assert answer(port, head).startswith(b"HTTP/1.1 408 ")


@pytest.mark.live
def test_an_ordinary_form_arrives(port):
    body = b"username=a&password=" + b"x" * 100_000
    head = b"POST /login/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n" % len(
        body
    )
    kind = b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    assert answer(port, head + kind + body).startswith(b"HTTP/1.1 403 ")  # without a CSRF token


@pytest.mark.parametrize(
    ("count", "forwarded", "client"),
    [
        (1, ["203.0.113.7"], "203.0.113.7"),
        (1, ["1.2.3.4, 203.0.113.7"], "203.0.113.7"),
        (1, ["1.2.3.4", "203.0.113.7"], "203.0.113.7"),
        (2, ["1.2.3.4, 203.0.113.7, 10.0.0.2"], "203.0.113.7"),
        (2, ["203.0.113.7"], "10.0.0.9"),
        (1, [], "10.0.0.9"),
    ],
)
def test_the_client_is_counted_from_the_end(count, forwarded, client):
    seen = []

    async def application(scope, _receive, _send):
        seen.append(scope["client"][0])

    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    scope = {"type": "http", "headers": headers, "client": ("10.0.0.9", 5)}
    asyncio.run(http_limits.behind_proxies(application, count)(scope, None, None))
    assert seen == [client]


@pytest.mark.slow
def test_everybody_is_no_trusted_proxy(tmp_path):
    with Program(
        [sys.executable, "manage.py", "serve", "--trusted-proxies", "*"], tmp_path, dict(os.environ)
    ) as server:
        assert server.process.wait(DEADLINE) == 1
        assert "Give the number of proxies" in server.said()
    for name in ("docker-compose.yml", "Dockerfile"):
        assert re.search(r'"?--trusted-proxies"?, "1"', (ROOT / name).read_text())


@pytest.mark.slow
def test_what_caddy_logs_has_no_secret_of_an_address_and_no_headers():
    caddyfile = (ROOT / "deploy/Caddyfile").read_text()
    logs = re.findall(r"log \{.*?\n\t\}", caddyfile, re.DOTALL)
    assert len(logs) == 2
    for log in logs:
        pattern, text = re.search(r'request>uri regexp "(.+?)" "(.+?)"', log).groups()
        for path in ("/callbacks/wkteam/", "/scan/", "/password/"):
            assert re.sub(pattern, text.replace("$", "\\"), f"{path}{SECRET}/?a=1") == f"{path}…/?a=1"
        assert "request>headers delete" in log
