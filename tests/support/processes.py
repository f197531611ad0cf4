"""Real processes in tests: waiting for what they do, and finding those that stayed."""

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
# Seconds after which nothing will come any more, also on a machine that does much else.
DEADLINE = 180


def until(
    condition: Callable[[], Any],
    explain: Callable[[], str] | str = "it did not become true",
    seconds: float = 0,
) -> Any:
    """Return the first true value of `condition()`. At the deadline the test fails with the explanation.

    A request that fails and an assertion that does not hold are no value. `seconds`: a deadline after DEADLINE.
    The longer it takes, the more rarely it is asked: a question may be a page, and others wait on the same machine.
    """
    began = time.monotonic()
    deadline = began + max(seconds, DEADLINE)
    while True:
        with contextlib.suppress(requests.RequestException, AssertionError):
            if found := condition():
                return found
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(explain if isinstance(explain, str) else explain())
        time.sleep(min(max(0.02, (now - began) / 10), 0.5))


def program_path(program: str, variable: str, without: str) -> str:
    """Return the path of a program. Where there is none, the test is skipped, or fails if that variable is 1.

    `without`: what did not happen without it.
    """
    path = shutil.which(program)
    if path is None:
        message = f"{program} is not installed; {without}"
        if os.environ.get(variable) == "1":
            pytest.fail(message)
        pytest.skip(message)
    return path


def alive(pid: int) -> bool:
    """A zombie is not: in a container nobody may come to collect it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def processes_of(var_dir: Path) -> dict[int, str]:
    """Command lines, by process id, of all that run for this data directory."""
    named, found = f"VAR_DIR={var_dir}\0".encode(), {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # Valkey writes its title over its environment, but works in its folder.
            inside = (folder / "cwd").readlink().is_relative_to(var_dir)
            if (inside or named in (folder / "environ").read_bytes()) and alive(int(folder.name)):
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    return found


def bare_environment(**variables: str) -> dict[str, str]:
    """What a process needs from the machine, and nothing of the tests' own settings."""
    kept = {
        name: os.environ[name]
        for name in ("PATH", "HOME", "LANG", "TMPDIR", "TEST_RUN_FOLDER")
        if name in os.environ
    }
    return kept | variables


def reserve_port() -> int:
    """A port for a server that this process starts: nobody else gets it, also while the server is down.

    The kernel chose it for a socket that stays bound and never listens; with SO_REUSEADDR Linux lets one that listens in
    beside it. Elsewhere the port is only free at this moment.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port = holder.getsockname()[1]
    if sys.platform == "linux":
        atexit.register(holder.close)
    else:
        holder.close()
    return port


def port_answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def started(command: list[str], env: dict[str, str], cwd: Path = ROOT, **outputs: IO) -> subprocess.Popen:
    return subprocess.Popen(command, cwd=cwd, env=env, **outputs)


class Program:
    """A running command with its output; left at the end of the `with`, it is gone.

    `start`: `preloaded.start` saves the second in which one of ours loads its packages.
    """

    def __init__(
        self,
        command: list,
        folder: Path,
        env: dict[str, str],
        name: str = "program",
        start: Callable = started,
    ):
        self.output = folder / f"{name}.log"
        with open(self.output, "w") as out:
            self.process = start(list(map(str, command)), env, stdout=out, stderr=out)

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def said(self) -> str:
        return self.output.read_text()

    def until(self, condition: Callable[[], object]) -> None:
        def settled() -> object:
            ended = self.process.poll() is not None
            found = condition()
            if ended and not found:
                raise RuntimeError(f"it ended\n{self.said()}")
            return found

        until(settled, self.said)

    def until_said(self, words: str) -> None:
        self.until(lambda: words in self.said())

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(how)
        return self.process.wait(DEADLINE)
