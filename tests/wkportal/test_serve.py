"""`manage.py serve`: one process, several on one port, and a port that is taken."""

import os
import signal
import socket
import sys

import pytest
import requests
from cryptography.fernet import Fernet

from accounts.models import Channel
from tests.support import preloaded
from tests.support.processes import DEADLINE, Program, alive, port_answers, reserve_port, started, until
from wkportal import __version__

pytestmark = pytest.mark.live


def serve(folder, *options: object, start=preloaded.start, **env: str) -> Program:
    command = [sys.executable, "manage.py", "serve", *options]
    return Program(command, folder, {**os.environ, **env}, start=start)


def test_it_serves_and_stops(tmp_path):
    port = reserve_port()
    with serve(tmp_path, "--port", port) as server:
        server.until(lambda: port_answers(port))
        answer = requests.get(f"http://127.0.0.1:{port}/healthz")
        assert answer.status_code == 200
        assert "Server" not in answer.headers
        assert f"wkportal {__version__}: web" in server.said().splitlines()[0]
        assert server.stop(signal.SIGTERM) == -signal.SIGTERM


def test_several_processes_share_a_port_and_end_together(tmp_path):
    port = reserve_port()
    with serve(tmp_path, "--port", port, "--workers", 2, start=started) as server:
        server.until(lambda: server.said().count("Started server process") == 2)
        pids = [
            int(line.partition("[")[2].rstrip("]\n"))
            for line in server.said().splitlines()
            if "Started" in line
        ]
        assert requests.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        os.kill(pids[0], signal.SIGKILL)
        assert server.process.wait(DEADLINE) == 137
        until(lambda: not any(map(alive, pids)), server.said)


def test_it_names_a_taken_port(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with serve(tmp_path, "--port", port) as server:
            assert server.process.wait(DEADLINE) == 1
            assert (
                server.said()
                == f"CommandError: Port {port} is taken by another program; choose another with --port.\n"
            )


def test_a_lost_key_is_in_its_log_before_anybody_needs_the_value(transactional_db, tmp_path):
    Channel.objects.create(name="Chat", url="json://chat.example.com/")
    other_key = Fernet.generate_key().decode()
    other = {"FIELD_KEYS": other_key, "SECRET_KEY": "another-secret-key-0123456789-0123456789"}
    with serve(tmp_path, "--port", reserve_port(), **other) as server:
        server.until_said("Started server process")
        assert "accounts.Channel.url cannot be decrypted" in server.said()
