"""`manage.py up` for real: all processes, one machine, an empty data directory."""

import contextlib
import os
import re
import signal
import socket
import sqlite3
import stat
import sys
from pathlib import Path

import pytest
import requests
from cryptography.fernet import Fernet

from tests.support import environment
from tests.support.processes import DEADLINE, Program, bare_environment, processes_of, reserve_port, until
from tests.support.services import migrated_sqlite
from wkportal import __version__

pytestmark = [
    pytest.mark.live,
    pytest.mark.database("sqlite"),
]
RUNS = "Ctrl-C stops everything."
# What the log of each process begins with, after the version; `up` itself has no label.
FIRST_WORDS = {"": "up", "web": "web", "waits": "worker waits@", "jobs": "worker jobs@", "beat": "beat"}
PASSWORD = re.compile(r"user name  (\S+)\n    password   (\S+)   \(shown only this once\)")


class Up(Program):
    def __init__(self, var_dir: Path, **variables: str):
        self.var_dir, self.port = var_dir, reserve_port()
        given = {"VAR_DIR": str(var_dir), "PORT": str(self.port), "WAIT_SLOTS": "50"} | variables
        super().__init__([sys.executable, "manage.py", "up"], var_dir.parent, bare_environment(**given))

    def get(self, path: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=5, allow_redirects=False)

    def processes(self) -> dict[int, str]:
        return processes_of(self.var_dir)

    def pid_of(self, words: str) -> int:
        return next(pid for pid, command in self.processes().items() if words in command)

    def until_nothing_is_left(self) -> None:
        until(lambda: not self.processes(), lambda: f"{self.processes()}\n{self.said()}")


@pytest.fixture
def up(tmp_path):
    with contextlib.ExitStack() as running:
        yield lambda **variables: running.enter_context(Up(tmp_path / "var", **variables))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_run_and_the_second_which_ends_with_its_worker(up, tmp_path):
    first = up()
    first.until_said(RUNS)
    assert first.get("/healthz").status_code == 200
    assert first.get("/").status_code == 302
    name, password = PASSWORD.search(first.said()).groups()
    assert name == "admin"
    assert mode(first.var_dir / "secrets.env") == mode(first.var_dir / "run.env") == 0o600
    secrets = (first.var_dir / "secrets.env").read_text()
    assert Fernet(re.search("FIELD_KEYS=(.*)", secrets)[1])
    assert first.said().count(password) == 1
    for label, words in FIRST_WORDS.items():
        first.until(lambda label=label: first_line(first, label))
        assert f"wkportal {__version__}: {words}" in first_line(first, label)
    refused(up(), f"wkportal already runs on {first.var_dir} (process {first.process.pid}).")
    shell(first, "assert get_user_model().objects.get().get_username() == 'admin'")
    stream = live_page(first, name, password)

    assert first.stop() == 0
    assert (
        "timeout graceful shutdown exceeded" not in first.said()
    )  # the open stream was ended, not waited for
    assert stream.raw.read() is not None
    first.until_nothing_is_left()
    assert not (first.var_dir / "run.env").exists()

    second = up()
    second.until_said(RUNS)
    assert "shown only this once" not in second.said()
    assert "manage.py changepassword admin" in second.said()
    assert (second.var_dir / "secrets.env").read_text() == secrets
    os.kill(second.pid_of("-n jobs@"), signal.SIGKILL)
    assert second.process.wait(DEADLINE) == 137
    assert "jobs was killed by signal 9 (SIGKILL)." in second.said()
    second.until_nothing_is_left()


def first_line(running: Up, label: str) -> str:
    return next((line for line in running.said().splitlines() if line.startswith(label)), "")


def live_page(running: Up, name: str, password: str) -> requests.Response:
    """Signs in with what was printed, and leaves a stream of live updates open."""
    browser = requests.Session()
    address = f"http://127.0.0.1:{running.port}"
    token = re.search('name="csrfmiddlewaretoken" value="(.+?)"', browser.get(f"{address}/login/").text)[1]
    form = {"username": name, "password": password, "csrfmiddlewaretoken": token}
    assert browser.post(f"{address}/login/", data=form, allow_redirects=False).status_code == 302
    stream = browser.get(f"{address}/events/", stream=True)
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    return stream


def refused(program: Program, sentence: str) -> None:
    assert program.process.wait(DEADLINE) == 1
    assert sentence in program.said()
    assert "Traceback" not in program.said()


def shell(running: Up, statement: str) -> None:
    """`manage.py shell` in a second terminal, which knows nothing but the data directory."""
    code = f"from django.contrib.auth import get_user_model; {statement}; print('seen')"
    env = bare_environment(VAR_DIR=str(running.var_dir))
    command = [sys.executable, "manage.py", "shell", "-c", code]
    with Program(command, running.var_dir.parent, env, name="shell") as second:
        assert second.process.wait(DEADLINE) == 0, second.said()
        assert "seen" in second.said()


@pytest.mark.long
def test_beat_ending_stops_all(up):
    running = up()
    running.until_said(RUNS)
    os.kill(running.pid_of(" beat "), signal.SIGTERM)
    assert running.process.wait(DEADLINE) == 1
    assert "beat ended by itself with exit code 0." in running.said()
    running.until_nothing_is_left()


@pytest.mark.long
def test_it_ends_at_term(up):
    running = up()
    running.until_said(RUNS)
    assert running.stop(signal.SIGTERM) == 0
    running.until_nothing_is_left()


@pytest.mark.long
def test_nothing_is_left_when_it_is_killed(up):
    running = up()
    running.until_said(RUNS)
    assert len(running.processes()) == 8  # itself, its guard, and six more
    assert running.stop(signal.SIGKILL) == -9
    running.until_nothing_is_left()
    assert not (running.var_dir / "run.env").exists()


def test_what_is_given_is_used_and_not_started_and_killed_it_leaves_nothing(up, tmp_path):
    database = tmp_path / "given.sqlite3"
    migrated_sqlite(database)
    running = up(
        REDIS_URL=environment.redis_url.removesuffix("/0") + "/7",
        DATABASE_URL=f"sqlite:///{database}",
        WK_BASE_URL=environment.simulator.url,
        WK_ACCOUNT="canary-developer",
        WK_PASSWORD=environment.CANARIES["WK_PASSWORD"],
        DJANGO_SUPERUSER_USERNAME="wang",
        DJANGO_SUPERUSER_PASSWORD="a password of her own",
    )
    running.until_said(RUNS)
    commands = " ".join(running.processes().values())
    assert "valkey" not in commands
    assert "simulator" not in commands
    assert "user name  wang\n    password   the one in DJANGO_SUPERUSER_PASSWORD" in running.said()
    assert "a password of her own" not in running.said()
    with contextlib.closing(sqlite3.connect(database)) as given:
        assert given.execute("select username, is_superuser from auth_user").fetchall() == [("wang", 1)]
    assert not (running.var_dir / "wkportal.sqlite3").exists()
    assert running.stop(signal.SIGKILL) == -9
    running.until_nothing_is_left()
    assert not (running.var_dir / "run.env").exists()


def test_a_taken_port_is_named(up):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refused(up(PORT=str(port)), f"Port {port} is taken by another program. Choose another one: PORT=")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"VAR_DIR": "/dev/null/var"}, "VAR_DIR is /dev/null/var, which cannot be used: Not a directory."),
        ({"PORT": "eight"}, "PORT is 'eight'; it has to be a number from 1 to 65535."),
        ({"HOST": "203.0.113.9"}, "HOST is '203.0.113.9'; it has to be an address of this machine"),
        (
            {"REDIS_SERVER": "/no/such"},
            "REDIS_SERVER is '/no/such', which is no program that can be started.",
        ),
        ({"WK_LOGIN_WAIT_SECONDS": "long"}, "WK_LOGIN_WAIT_SECONDS is 'long'"),
        ({"REDIS_URL": "redis://127.0.0.1:1/0"}, "The Redis that REDIS_URL names does not answer"),
        (
            {"DATABASE_URL": "postgres://u:p@127.0.0.1:1/x"},
            "The database that DATABASE_URL names does not answer",
        ),
    ],
)
def test_a_wrong_value_is_said_in_one_sentence(up, variables, sentence):
    running = up(**variables)
    refused(running, sentence)
    running.until_nothing_is_left()
    assert not (running.var_dir / "run.env").exists()
