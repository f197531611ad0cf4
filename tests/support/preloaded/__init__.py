"""Starts the product's processes without the second or two in which each of them loads the same packages.

`start` does what `subprocess.Popen` does. On Linux a server, of which there are two at most in each process that runs
tests, forks `manage.py` and `celery`: see `server`. They are processes as any other, but `/proc/PID/cmdline` and
`environ` are the server's. Everything else, and everything on other systems, is started in the ordinary way.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = (["manage.py"], ["-m", "celery"])


class Forked:
    """A child of a server, in the way of `subprocess.Popen`."""

    def __init__(self, pipe: int):
        self._pipe = open(pipe)  # noqa: SIM115 - open until the process has ended
        self.pid = int(self._pipe.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            ended = select.poll()
            ended.register(self._pipe, select.POLLIN)
            if not ended.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            with self._pipe:
                self.returncode = int(self._pipe.readline())
        return self.returncode

    def send_signal(self, sign: signal.Signals) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sign)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Process = Forked | subprocess.Popen


class Server:
    def __init__(self, *options: str):
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", f"{__name__}.server", str(theirs.fileno()), *options]
        with theirs:
            self.process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()])

    def start(self, command: list[str], env: dict[str, str], stdout: IO, stderr: IO) -> Forked:
        ours, pipe = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            message = json.dumps({"command": command, "env": env}).encode()
            descriptors = [nothing, stdout.fileno(), stderr.fileno(), pipe]
            socket.send_fds(self.requests, [message], descriptors)
        finally:
            os.close(nothing)
            os.close(pipe)
        return Forked(ours)

    def stop(self) -> None:
        self.requests.close()
        self.process.wait()


_servers: dict[tuple[str, ...], Server] = {}
_one_at_a_time = threading.Lock()


def start(command: list[str], env: dict[str, str], stdout: IO, stderr: IO) -> Process:
    """Start a process in the project's folder, without input."""
    program, *words = command
    known = program == sys.executable and any(words[: len(known)] == known for known in PROGRAMS)
    if not known or sys.platform != "linux":
        return subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
        )
    options = ("gevent",) if "gevent" in words else ()
    with _one_at_a_time:
        if options not in _servers:
            _servers[options] = Server(*options)
        return _servers[options].start(words, env, stdout, stderr)


def manage(*words: str, env: dict[str, str], output: Path, seconds: float) -> bytes:
    """Run a command of `manage.py`, which has to succeed, and return what it says; `output` is written for that."""
    with output.open("wb") as stdout, output.with_suffix(".errors").open("wb") as stderr:
        ended = start([sys.executable, "manage.py", *words], env, stdout, stderr).wait(seconds)
    assert ended == 0, output.with_suffix(".errors").read_text()
    return output.read_bytes()


def stop() -> None:
    while _servers:
        _servers.popitem()[1].stop()
