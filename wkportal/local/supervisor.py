"""Starts processes stage by stage, shows their output, and stops them in reverse order.

Does not depend on Django.

The processes of one stage start, and are asked to stop, one right after the other. The next stage waits until
all of them are ready, or have ended. If one process ends unasked, all end, and the exit code is never 0. The
first Ctrl-C stops in order, the second kills. If the supervisor itself is killed, no process remains (see
`parent_death`).
"""

import asyncio
import contextlib
import itertools
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

PARENT_DEATH = [sys.executable, "-I", "-S", str(Path(__file__).with_name("parent_death.py"))]
COLOURS = (36, 33, 32, 35, 34, 96, 93, 92)
LINE_LIMIT = 64 * 1024
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DOUBLE_SIGNAL = 0.5  # seconds: make and a terminal may both forward the same Ctrl-C

Probe = Callable[[], Awaitable[bool]]


@dataclass(frozen=True)
class Process:
    name: str
    command: Sequence[str]
    ready: Probe | None = None
    start_within: float = 60
    grace: float = 10
    hint: str = ""  # where to find the reason if it ends unasked
    pass_fds: tuple[int, ...] = ()
    env: dict[str, str] = field(default_factory=dict)  # beside the supervisor's own


def with_metrics_ports(first: int | None, processes: list[Process]) -> list[Process]:
    """Give each process its own port for metrics, counted up from `first`; None: no port."""
    if first is None:
        return processes
    return [
        replace(process, env=process.env | {"METRICS_PORT": str(first + place)})
        for place, process in enumerate(processes)
    ]


@dataclass(frozen=True)
class Step:
    """Work that must be done before the next stage starts. It runs in a thread of the supervisor."""

    name: str
    action: Callable[[], None]


@dataclass(eq=False)
class Child:
    process: Process
    handle: asyncio.subprocess.Process
    pump: asyncio.Task
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    watch: asyncio.Task | None = None

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.handle.pid, number)


class StartFailed(Exception):
    """Raised with a sentence that says what did not start."""


class Supervisor:
    def __init__(
        self,
        stages: Sequence[Step | Sequence[Process]],
        announce: Callable[[], str] | None = None,
        remove: Sequence[Path] = (),
    ):
        """Set up a supervisor of `stages`.

        `announce` returns the text shown once all processes run. The files in `remove` are removed at the
        end.
        """
        self.stages = stages
        self.announce = announce
        self.remove = remove
        self.started: list[list[Child]] = []  # stage by stage
        self.exit_code = 0
        self.asked_at: float | None = None
        self.stopping = False
        names = [process.name for stage in stages if not isinstance(stage, Step) for process in stage]
        self.names = names
        self.width = max(map(len, names), default=0)

    def run(self) -> int:
        return asyncio.run(self._run())

    async def _run(self) -> int:
        self.stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._asked_to_stop, number)
        allow_many_open_files()
        await self._start_guard()
        try:
            for stage in self.stages:
                await self._unless_stopped(self._run_stage(stage))
            if self.announce and not self.stop.is_set():
                self._write(self.announce())
            await self.stop.wait()
        except StartFailed as failure:
            self._fail(str(failure))
        finally:
            await self._stop_all()
            for number in STOP_SIGNALS:  # nothing runs: another Ctrl-C must not change the exit code
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)
        return self.exit_code

    # --- starting --------------------------------------------------------------------------------------

    async def _unless_stopped(self, work: Awaitable[None]) -> None:
        tasks = [asyncio.ensure_future(work), asyncio.ensure_future(self.stop.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finished = tasks[0].done()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        if finished:
            tasks[0].result()

    async def _run_stage(self, stage: Step | Sequence[Process]) -> None:
        if isinstance(stage, Step):
            try:
                await asyncio.to_thread(stage.action)
            except SystemExit as refusal:  # asyncio would end the whole program
                raise StartFailed(f"{stage.name}: {refusal}") from None
            return
        # The processes of a stage start together, in order: each spends its first second importing.
        self.started.append([])
        for process in stage:
            await self._start(process)
        await asyncio.gather(*map(self._until_ready, self.started[-1]))

    async def _start_guard(self) -> None:
        self.guard = await asyncio.create_subprocess_exec(
            *PARENT_DEATH, "guard", *map(str, self.remove), stdin=subprocess.PIPE, start_new_session=True
        )
        self.guard_watch = asyncio.create_task(self._watch_guard())

    async def _watch_guard(self) -> None:
        code = await self.guard.wait()
        if not self.stopping:
            self._fail(f"The guard process {how_it_ended(code)}.")

    def _tell_guard(self, sign: str, child: Child) -> None:
        with contextlib.suppress(OSError):
            self.guard.stdin.write(f"{sign}{child.handle.pid}\n".encode())

    async def _start(self, process: Process) -> None:
        # Our own pipe: with asyncio's, the exit would be reported only after every grandchild has closed it.
        reading, writing = os.pipe()
        try:
            handle = await asyncio.create_subprocess_exec(
                *PARENT_DEATH,
                "exec",
                str(os.getpid()),
                *process.command,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **process.env},
                start_new_session=True,
                pass_fds=process.pass_fds,
            )
        finally:
            os.close(writing)
        child = Child(process, handle, asyncio.create_task(self._pump(process.name, reading)))
        self.started[-1].append(child)
        self._tell_guard("+", child)
        child.watch = asyncio.create_task(self._watch(child))

    async def _until_ready(self, child: Child) -> None:
        process = child.process
        if process.ready is None:
            return
        try:
            async with asyncio.timeout(process.start_within):
                while not await process.ready():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise StartFailed(
                f"{process.name} was not ready within {process.start_within:g} seconds."
            ) from None

    # --- while they run --------------------------------------------------------------------------------

    async def _watch(self, child: Child) -> None:
        code = await child.handle.wait()
        # Its last output appears before our line. A grandchild that keeps the pipe open is not waited for.
        await asyncio.wait([child.pump], timeout=0.5)
        if not self.stopping:
            sentence = f"{child.process.name} {how_it_ended(code)}. Stopping the others."
            self._fail(f"{sentence} {child.process.hint}".strip(), code)
        child.ended.set()

    async def _pump(self, name: str, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
        )
        rest = b""
        try:
            while chunk := await reader.read(LINE_LIMIT):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > LINE_LIMIT:
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    self._say(name, line.decode(errors="replace"))
            if rest:
                self._say(name, rest.decode(errors="replace"))
        finally:
            transport.close()

    def _say(self, name: str, line: str) -> None:
        if not line.strip():
            return
        label = f"{name:<{self.width}} |"
        if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
            colour = COLOURS[self.names.index(name) % len(COLOURS)] if name in self.names else 1
            label = f"\x1b[{colour}m{label}\x1b[0m"
        self._write(f"{label} {line}\n")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal or the pipe is closed: the processes continue
            sys.stdout.write(text)
            sys.stdout.flush()

    def _fail(self, sentence: str, code: int = 1) -> None:
        if not self.stop.is_set():
            self._say("up", sentence)
            self.exit_code = code if code > 0 else 128 - code if code < 0 else 1
            self.stop.set()

    # --- stopping --------------------------------------------------------------------------------------

    def _asked_to_stop(self, number: int) -> None:
        now = asyncio.get_running_loop().time()
        if self.asked_at is None:
            self.asked_at = now
            if not self.stop.is_set():
                self._say("up", "Stopping. Once more kills at once.")
            self.stop.set()
        elif now - self.asked_at > DOUBLE_SIGNAL:
            self._say("up", "Killing.")
            self.exit_code = self.exit_code or 128 + number
            for child in itertools.chain(*self.started):
                child.signal(signal.SIGKILL)

    async def _stop_all(self) -> None:
        self.stopping = True
        for stage in reversed(self.started):
            for child in reversed(stage):
                child.signal(signal.SIGTERM)
            await asyncio.gather(*map(self._until_ended, stage))
        self.guard.stdin.close()
        await self.guard_watch

    async def _until_ended(self, child: Child) -> None:
        process = child.process
        try:
            await asyncio.wait_for(child.ended.wait(), process.grace)
        except TimeoutError:
            self._say("up", f"{process.name} did not stop within {process.grace:g} seconds; killed.")
        child.signal(signal.SIGKILL)  # also processes that it left in its group
        await child.ended.wait()
        self._tell_guard("-", child)


def how_it_ended(code: int) -> str:
    """Return how a process ended, as the rest of a sentence that begins with its name."""
    if code < 0:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    return f"ended by itself with exit code {code}"


def allow_many_open_files() -> None:
    """Raise the limit of open files to 65,536 or the hard limit.

    Each waiting login is an open connection, and many systems allow 1024 by default.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def port_answers(host: str, port: int) -> bool:
    """Return whether a program listens on this port."""
    try:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def http_answers(host: str, port: int, path: str, host_header: str) -> bool:
    """Return whether GET on the address answers 200."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(host, port)
            request = f"GET {path} HTTP/1.1\r\nHost: {host_header}\r\nConnection: close\r\n\r\n"
            try:
                writer.write(request.encode())
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return status.split(b" ")[1:2] == [b"200"]
