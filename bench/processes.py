"""Child processes of a run, and how they are asked by JSON lines."""

import asyncio
import contextlib
import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60  # seconds without progress, after which what is missing is lost
SETTINGS = ("DATABASE_", "REDIS_", "SECRET_", "FIELD_", "VAR_", "WK_")


def product_env(**settings: str) -> dict[str, str]:
    """Return this process's environment, with no settings of the product but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    return kept | {"DJANGO_SETTINGS_MODULE": "wkportal.settings"} | settings


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def wait_until(condition: Callable[[], object], seconds: float, complaint: str, every: float = 0.05) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(complaint)
        time.sleep(every)


def wait_for_count(count: int, read: Callable[[], int], every: float = 0.05) -> tuple[int, float]:
    """Poll `read` until it returns `count`, or the same for PATIENCE; return its last result and the seconds to it."""
    began = changed = time.monotonic()
    last = 0
    while last < count and time.monotonic() - changed < PATIENCE:
        time.sleep(every)
        if (found := read()) != last:
            last, changed = found, time.monotonic()
    return last, changed - began


def wait_for_http(url: str) -> None:
    def answers() -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(url, timeout=2, stream=True).ok

    wait_until(answers, 60, f"{url} does not answer", every=0.2)


class Process:
    """`python ARGUMENTS` in this checkout, in a session of its own, killed at the end of the `with` block.

    Its output goes to the file `log`; with `answers`, its stdout answers `ask`.
    """

    def __init__(self, arguments: list[str], env: dict[str, str], log: Path, answers: bool = False):
        self.log_file, self.arguments, self.env, self.answers = log, arguments, env, answers
        self.start()

    def start(self) -> None:
        """Also again, after `kill`."""
        with self.log_file.open("ab") as output:
            self.popen = subprocess.Popen(
                [sys.executable, *self.arguments], cwd=ROOT, env=self.env, start_new_session=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE if self.answers else output, stderr=output,
            )  # fmt: skip
        self.pid = self.popen.pid

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, error, *_rest) -> None:
        if error:
            print(self.log[-3000:], file=sys.stderr)
        self.kill()

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def ask(self, method: str, **arguments):
        """Call that method of the handler in the process (`answer_requests`) and return its result."""
        self.popen.stdin.write(json.dumps([method, arguments]).encode() + b"\n")
        self.popen.stdin.flush()
        if not (line := self.popen.stdout.readline()):
            raise RuntimeError(f"{self.popen.args} ended:\n{self.log[-3000:]}")
        return json.loads(line)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()
        self.popen.stdin.close()


def answer_requests(handler: object) -> None:
    """In the child: run the method that each line of stdin names, until stdin ends."""
    for line in sys.stdin:
        method, arguments = json.loads(line)
        print(json.dumps(getattr(handler, method)(**arguments)), flush=True)


async def answer_requests_async(handler: object) -> None:
    """The same in an event loop; methods may be coroutines."""
    while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        method, arguments = json.loads(line)
        result = getattr(handler, method)(**arguments)
        print(json.dumps(await result if inspect.isawaitable(result) else result), flush=True)


@dataclass(frozen=True)
class Portal:
    """What `manage.py up` runs: its address, that of its simulator, its supervisor and its environment."""

    url: str
    upstream: str
    pid: int
    env: dict[str, str]


@contextlib.contextmanager
def start_portal(**settings: str) -> Iterator[Portal]:
    with tempfile.TemporaryDirectory(prefix="wkportal-bench-") as folder:
        port = free_port()
        env = product_env(VAR_DIR=folder, PORT=str(port), **settings)
        with Process(["manage.py", "up"], env, Path(folder) / "bench.log") as portal:
            wait_for_http(f"http://127.0.0.1:{port}/readyz")
            said = (Path(folder) / "run.env").read_text()
            upstream = re.search(r"^WK_BASE_URL=\W?(http:[\w/:.]+)", said, re.MULTILINE)[1]
            yield Portal(f"http://127.0.0.1:{port}", upstream, portal.popen.pid, env)
            portal.popen.send_signal(signal.SIGINT)
            portal.popen.wait(30)
