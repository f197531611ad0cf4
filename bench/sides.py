"""The two sides of a comparison as processes: the product's worker, and the bare reference."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import redis
from django.db import connection

from accounts import tasks
from bench import rows
from bench.rig import ROOT, Rig

ALONE = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
APPLICATION = "measured"  # what PostgreSQL calls the connections of the processes that are measured
QUEUE = "waits"
# Waits are put into the queue as people click: the queue never gets so long that a message in it runs out.
IN_QUEUE, AT_ONCE = 200, 50


def until(condition: Callable[[], object], seconds: float, complaint: str, every: float = 0.05) -> None:
    """Look until it is true. Raises TimeoutError with the complaint."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(complaint)
        time.sleep(every)


def in_a_thread(step: Callable[..., object], *args: object) -> threading.Thread:
    """Run a step that uses the database meanwhile."""

    def run() -> None:
        step(*args)
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


class Side:
    """One process, with its output in a file. A subclass says what it runs and how logins are begun in it."""

    name = ""

    def __init__(self, rig: Rig):
        self.rig = rig
        self.log_file = rig.folder / f"{self.name}-{time.monotonic_ns()}.log"
        self.more_env: dict[str, str] = {}
        self.process: subprocess.Popen | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def begin(self, ids: list[int], first: int, warm: bool) -> None:
        raise NotImplementedError

    def __enter__(self) -> "Side":
        env = {**self.rig.env, "PGAPPNAME": APPLICATION, **self.more_env}
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.command()],
                cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.rig.prefer(self.pid)
        until(lambda: "ready." in self.log, 60, f"{self.name} did not start: {self.log_file}")
        return self

    def __exit__(self, *_exc) -> None:
        self.process.stdin.close()
        self.kill()
        if self.rig.logs:
            shutil.copy(self.log_file, self.rig.logs)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def complaints(self) -> list[str]:
        """The lines of its log that speak of trouble."""
        return [
            line for line in self.log.splitlines() if re.search(r"WARN|ERROR|CRITICAL|Traceback|Error:", line)
        ]


class Worker(Side):
    """`celery worker` on the queue of waits, by gevent unless another pool is named.

    Without `messages` nothing is put into the queue: the worker finds the logins in the database by itself.
    """

    name = "worker"

    def __init__(
        self, rig: Rig, slots: int, pool: str = "gevent", node: str = "waits", messages: bool = True
    ):
        super().__init__(rig)
        self.slots, self.pool, self.node, self.messages = slots, pool, node, messages
        self.module = ["celery"]
        self.more_env = {"WAIT_SLOTS": str(slots)}

    def sampled(self, file: Path) -> None:
        """Run it under the profiler, which writes to that file."""
        self.module = ["bench.sampler", "celery"]
        self.more_env["SAMPLES"] = str(file)

    def command(self) -> list[str]:
        quiet = ["-W", "ignore::Warning:celery.platforms"]
        worker = ["-A", "wkportal", "worker", "-P", self.pool, "-c", str(self.slots), "-Q", QUEUE]
        return [*quiet, "-m", *self.module, *worker, "-n", f"{self.node}@bench", *ALONE]

    def begin(self, ids: list[int], first: int, warm: bool) -> None:
        if self.messages:
            self.put_into_queue(ids)
        else:
            rows.put_out(ids, overdue=True)

    def put_into_queue(self, ids: list[int]) -> None:
        with redis.Redis.from_url(self.rig.env["REDIS_URL"]) as broker:
            for position in range(0, len(ids), AT_ONCE):
                until(lambda: broker.llen(QUEUE) < IN_QUEUE, 300, "the worker takes nothing", every=0.01)
                some = ids[position : position + AT_ONCE]
                rows.put_out(some)
                for attempt_id in some:
                    tasks.put_into_queue(tasks.wait_for_phone, attempt_id)


class Bare(Side):
    """The reference; `mode` is hold or rows."""

    name = "bare"

    def __init__(self, rig: Rig, mode: str):
        super().__init__(rig)
        self.mode = mode

    def command(self) -> list[str]:
        return ["-m", "bench.bare", self.mode]

    def begin(self, ids: list[int], first: int, warm: bool) -> None:
        if self.mode == "rows":
            rows.put_out(ids)
        self.process.stdin.write(json.dumps([first, len(ids), warm]).encode() + b"\n")
        self.process.stdin.flush()
