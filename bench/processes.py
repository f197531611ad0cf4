"""Child processes of a run: how they start and are asked by JSON lines, and what they use of the machine."""

import asyncio
import atexit
import contextlib
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import requests

from tests.support.processes import ROOT, bare_environment, reserve_port, until

PATIENCE = 60  # seconds without progress, after which what is missing is lost


def product_env(**settings: str) -> dict[str, str]:
    return bare_environment(DJANGO_SETTINGS_MODULE="wkportal.settings", **settings)


class Process:
    """`python ARGUMENTS` in this checkout, until the `with` block or this process ends; its output goes to `log`."""

    def __init__(self, arguments: list[str], env: dict[str, str], log: Path, answers: bool = False):
        self.log, self.arguments, self.env, self.answers = log, arguments, env, answers

    def start(self) -> None:
        """Also again, after `kill`."""
        with self.log.open("ab") as output:
            self.popen = subprocess.Popen(
                [sys.executable, *self.arguments], cwd=ROOT, env=self.env, start_new_session=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE if self.answers else output, stderr=output,
            )  # fmt: skip
        self.pid = self.popen.pid
        atexit.register(self.kill)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()
        self.popen.stdin.close()
        atexit.unregister(self.kill)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, error, *_rest) -> None:
        if error:
            print(self.log.read_text()[-3000:], file=sys.stderr)
        self.kill()

    def ask(self, method: str, **arguments):
        """Call that method of the handler in the process (`answer_requests`); its stdout has the result."""
        self.popen.stdin.write(json.dumps([method, arguments]).encode() + b"\n")
        self.popen.stdin.flush()
        if not (line := self.popen.stdout.readline()):
            raise RuntimeError(f"{self.popen.args} ended:\n{self.log.read_text()[-3000:]}")
        return json.loads(line)


class Server(Process):
    """One whose port is {port} in its arguments and PORT in its environment."""

    def __init__(self, arguments: list[str], env: dict[str, str], log: Path):
        self.port = port = reserve_port()
        self.url = f"http://127.0.0.1:{port}"
        super().__init__([each.format(port=port) for each in arguments], env | {"PORT": str(port)}, log)

    def start(self) -> None:
        super().start()
        # The answer itself may have no end.
        until(lambda: requests.get(f"{self.url}/healthz", timeout=2, stream=True).ok, self.log.read_text)


def answer_requests(handler: object) -> None:
    """In the child: run the method that each line of stdin names, until stdin ends."""
    for line in sys.stdin:
        method, arguments = json.loads(line)
        print(json.dumps(getattr(handler, method)(**arguments)), flush=True)


async def answer_requests_async(handler: object) -> None:
    """The same in an event loop; methods may be coroutines."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        method, arguments = json.loads(line)
        result = getattr(handler, method)(**arguments)
        print(json.dumps(await result if inspect.isawaitable(result) else result), flush=True)


def wait_for_count(count: int, read: Callable[[], int], every: float = 0.05) -> tuple[int, float]:
    """Poll `read` until it returns `count`, or the same for PATIENCE; return its last result and the seconds to it."""
    began = changed = time.monotonic()
    last = 0
    while last < count and time.monotonic() - changed < PATIENCE:
        time.sleep(every)
        if (found := read()) != last:
            last, changed = found, time.monotonic()
    return last, changed - began


def process_tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def memory_kb(processes: list[psutil.Process], kind: str = "rss") -> float:
    """Resident memory ("rss"); "pss" divides the pages that several processes share among them."""
    return sum(getattr(process.memory_full_info(), kind) for process in processes) / 1024


def cpu_seconds(pid: int) -> float:
    """User and system time of a process tree and its ended children, in steps of 10 ms."""
    total = 0.0
    for process in process_tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


class CpuUsage:
    """Processor time of process trees by name, of this process, and of all other programs, until `stop`."""

    def __init__(self, **pids: int):
        self.pids, self.began, self.first = pids, time.monotonic(), self._read(pids)

    def _read(self, pids: dict[str, int]) -> dict[str, float]:
        user, nice, system, _idle, _iowait, irq, softirq, *_ = psutil.cpu_times()
        ours = {name: cpu_seconds(pid) for name, pid in pids.items()} | {"bench": time.process_time()}
        return ours | {"others": user + nice + system + irq + softirq - sum(ours.values())}

    def stop(self) -> "CpuUsage":
        """Set `seconds` (elapsed), `used` (seconds by name) and `others` (share of one core)."""
        self.seconds = max(time.monotonic() - self.began, 0.001)
        self.used = {name: value - self.first[name] for name, value in self._read(self.pids).items()}
        self.others = max(0.0, self.used.pop("others")) / self.seconds
        return self

    @property
    def warning(self) -> list[str]:
        return [f"Other programs used {self.others:.2f} of a core."] if self.others > 0.2 else []
