"""The world around the engine, in one thread: a clock, and processes that block without blocking.

What a process does runs in a greenlet of its own. Where it would block (a call to the upstream, a pause) it comes
back to the test, which decides what happens next: an answer, an error, a kill, or something else altogether first.
So every order of events can be had, one at a time, and the same order again.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import OperationalError, connection
from greenlet import GreenletExit, getcurrent, greenlet

from accounts import bootsteps
from accounts.bootsteps import OrphanRescuer
from accounts.lib import db_clock, db_errors, images
from accounts.logins import expire, finish, leases, popup, wait
from accounts.logins import success as logins_success
from accounts.models import Account, AccountEvent, LoginAttempt, WaitsWorker, event
from accounts.upstream import configured
from accounts.upstream.errors import OutcomeUnknown
from accounts.upstream.responses import LoggedIn
from tests.support.model_based.upstream import WAITS_FOR_PHONE, Call, Upstream

BEGINNING = datetime(2026, 3, 2, 8, tzinfo=UTC)
CLAIM_TROUBLE = "claimed, and the answer lost"
NOT_NOTED, ANSWER_LOST = "the prompt is not noted", "the prompt is noted, and the answer lost"
DIES_BEFORE, DIES_AFTER = "dies before it notes the prompt", "dies before it sends the prompt"
PROMPT_TROUBLES = (NOT_NOTED, ANSWER_LOST, DIES_BEFORE, DIES_AFTER)


class Lost(OperationalError):
    """The connection broke when something was committed that nobody repeats: others find what is left of it."""


class Clock:
    """Stands where the test put it; only a millisecond passes whenever somebody asks."""

    def __init__(self, world: "World"):
        self.world = world
        self.at = BEGINNING

    def now(self) -> datetime:
        self.at += timedelta(milliseconds=1)
        return self.at

    def monotonic(self) -> float:
        return (self.at - BEGINNING).total_seconds() + 1000

    def sleep(self, seconds: float) -> None:
        self.world.block(Pause(self.at + timedelta(seconds=seconds)))


@dataclass
class Pause:
    until: datetime


@dataclass
class Batched:
    """An answer that is written down together with others, when their batch ends."""

    item: tuple


class Process:
    """A web process or a waits worker. A silent one says no more that it lives, but may still hear answers."""

    def __init__(self, name: str):
        self.name = name
        self.silent = False
        self.holder = leases._Holder()
        # As if it had been started before: without its thread, because the test itself renews.
        self.holder.pid, self.holder.name = os.getpid(), name
        self.rescuer = OrphanRescuer(None)


class Task:
    """One thing that a process does until it ends, in a greenlet. `pending` is what it waits for now."""

    def __init__(self, process: Process, name: str, step: Callable, *args):
        self.process, self.name = process, name
        self.step, self.args = step, args
        self.greenlet = greenlet(self.run)
        self.pending: Pause | Call | Batched | None = None
        self.started = self.ended = False
        self.result = None
        self.error: Exception | None = None
        self.reported = ""

    def run(self, _got=None) -> None:
        self.started = True
        try:
            self.result = self.step(*self.args)
        except GreenletExit:
            self.reported = ""
        except Exception as error:
            self.error = error
        self.ended = True


class World:
    """Everything that is not the engine, as it is at one moment of one example."""

    def __init__(self):
        self.begin_anew()

    def begin_anew(self) -> None:
        self.clock = Clock(self)
        self.upstream = Upstream(self)
        self.web = Process("web")
        self.workers = {name: Process(name) for name in "AB"}
        self.tasks: list[Task] = []
        self.heard: list[str] = []
        self.broken: list[str] = []
        self.meanwhile: Callable[[], None] | None = None
        self.trouble = ""
        self.gathers = False
        leases._holder = self.web.holder
        expire._Reach.since = None

    # --- tasks

    def start(self, process: Process, name: str, step: Callable, *args) -> Task:
        task = self.put(process, name, step, *args)
        self.go_on(task)
        return task

    def put(self, process: Process, name: str, step: Callable, *args) -> Task:
        """Into the process's pool: it has not begun to run."""
        task = Task(process, name, step, *args)
        self.tasks.append(task)
        return task

    def go_on(self, task: Task, got: object = None) -> None:
        """The task runs on, with an answer or an exception for what it waited for, until it waits again or ends."""
        if isinstance(got, LoggedIn):
            # A prompt's login without its wId is looked for among those who are online.
            hidden = task.pending.path == "/secondLogin" and not got.profile.w_id
            task.reported = "" if hidden else task.pending.w_id
        task.pending = None
        with self.inside(task.process):
            task.greenlet.parent = getcurrent()
            task.greenlet.switch(got)
        if task.ended:
            self.tasks.remove(task)
            if isinstance(task.error, Lost):
                pass  # as any message may be
            elif task.error is not None:
                self.broken.append(f"{task.name} broke off: {task.error!r}")
            elif task.reported:
                self.heard.append(task.reported)

    def write_together(self, tasks: list[Task], trouble: str = "") -> None:
        """The answers to these are written down in one batch, as the answers are that come while others are written."""
        self.gathers = True
        for task in tasks:
            self.go_on(task, task.pending.wire)
        self.gathers, self.trouble = False, trouble
        waiting = [task for task in tasks if isinstance(task.pending, Batched)]
        try:
            results = logins_success._save_all([task.pending.item for task in waiting])
        except OperationalError as error:
            results = [error] * len(waiting)
        self.trouble = ""
        for task, result in zip(waiting, results, strict=True):
            self.go_on(task, result)

    def block(self, what: Pause | Call | Batched) -> object:
        self.running().pending = what
        got = getcurrent().parent.switch()
        if isinstance(got, BaseException):
            raise got
        return got

    def inside(self, process: Process) -> "_Inside":
        return _Inside(process.holder)

    def outside(self) -> None:
        """Called by the upstream: what has to hold whenever it is called."""
        if connection.in_atomic_block:
            self.broken.append("a call to the upstream inside a transaction")

    def running(self) -> Task:
        return next(task for task in self.tasks if task.greenlet is getcurrent())

    def listening(self) -> list[Task]:
        """Those whose call waits for a phone."""
        calls = [task for task in self.tasks if isinstance(task.pending, Call)]
        return [task for task in calls if task.pending.path in WAITS_FOR_PHONE]

    def calls(self) -> list[Call]:
        """Those that wait for a phone, each with the process that makes it."""
        found = []
        for task in self.listening():
            task.pending.process = task.process
            found.append(task.pending)
        return found

    def calls_beside_this(self, w_id: str) -> list[Call]:
        """Other calls for the wId that no silent process explains, and that nobody has cut."""
        if self.running().process.silent:
            return []
        return [call for call in self.calls() if call.w_id == w_id and not (call.cut or call.process.silent)]

    # --- processes

    def kill(self, task: Task) -> None:
        """The greenlet is killed: what it has to put in order, it does."""
        if task.started:
            self.go_on(task, GreenletExit())

    def die(self, process: Process) -> None:
        """SIGKILL: nothing is put in order. Another process starts in its place, under another name."""
        deaf = Process(process.name)
        deaf.holder.give_back = lambda lease: None
        for task in [task for task in self.tasks if task.process is process]:
            task.process = deaf
            if task.started:
                self.go_on(task, GreenletExit())
            else:
                self.tasks.remove(task)
        if process is not self.web:
            self.workers[process.name[0]] = Process(process.name + "'")

    def end(self) -> None:
        """Nothing of this example runs on, and nothing of it is written later."""
        for process in (self.web, *self.workers.values()):
            self.die(process)

    def renew(self, process: Process) -> None:
        process.silent = False
        process.holder.renew()

    def pass_time(self, seconds: float) -> None:
        """As if all that are not silent had renewed all the while. What was to end meanwhile, ends."""
        self.clock.at += timedelta(seconds=seconds)
        for process in self.workers.values():
            if not process.silent and (process.holder.works or process.holder.held):
                until = self.clock.at + leases.LEASE
                if WaitsWorker.objects.filter(name=process.name).update(alive_until=until):
                    process.holder.renewed_at = self.clock.monotonic()
        for task in list(self.tasks):
            if task in self.tasks and not task.process.silent:
                self.end_in_time(task)

    def end_in_time(self, task: Task) -> None:
        pending = task.pending
        if isinstance(pending, Call) and pending.cut:
            self.go_on(task, OutcomeUnknown("the connection broke"))
        elif isinstance(pending, Call) and pending.until <= self.clock.at:
            self.go_on(task, OutcomeUnknown("out of time"))
        elif isinstance(pending, Pause) and pending.until <= self.clock.at:
            self.go_on(task)


def forget_all() -> None:
    """No rows; the next ones are numbered from 1 again, so that a story reads the same every time."""
    for model in (AccountEvent, LoginAttempt, Account, WaitsWorker):
        model.objects.all().delete()
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("UPDATE sqlite_sequence SET seq = 0 WHERE name LIKE 'accounts_%%'")
            return
        for model in (AccountEvent, LoginAttempt, Account):
            cursor.execute(
                "SELECT setval(pg_get_serial_sequence(%s, 'id'), 1, false)", [model._meta.db_table]
            )


class _Inside:
    """The block runs in that process."""

    def __init__(self, holder: leases._Holder):
        self.holder = holder

    def __enter__(self) -> None:
        self.before, leases._holder = leases._holder, self.holder

    def __exit__(self, *_exc) -> None:
        leases._holder = self.before


def install(world: World, monkeypatch) -> None:
    """Put the world around the engine, until the test is over."""
    written, together, claimed = event._write, logins_success._together, leases.claim

    def write(rows, *how):
        if world.trouble == "rolled back":
            world.trouble = ""
            raise OperationalError("the server was restarted")
        written(rows, *how)

    def claim(*args):
        result = claimed(*args)
        if world.trouble == CLAIM_TROUBLE:
            world.trouble = ""
            raise Lost("the server was restarted")
        return result

    def in_batch(item):
        return world.block(Batched(item)) if world.gathers else together(item)

    class Time:
        monotonic = staticmethod(lambda: world.clock.monotonic())
        sleep = staticmethod(lambda seconds: world.clock.sleep(seconds))

    monkeypatch.setattr(leases, "_holder", leases._holder)
    # All run in one thread here: who would wait for a place in it would wait for ever.
    monkeypatch.setattr(wait, "_qr_codes", contextlib.nullcontext())
    for module in (leases, db_errors, popup, wait, bootsteps, expire):
        monkeypatch.setattr(module, "time", Time)
    monkeypatch.setattr(db_clock, "now", lambda: world.clock.now())
    monkeypatch.setattr(leases, "claim", claim)
    monkeypatch.setattr(configured, "client", lambda: world.upstream)
    monkeypatch.setattr(finish, "finish_login", functools.partial(_finish, world, finish.finish_login))
    monkeypatch.setattr(
        popup, "mark_prompt_sent", functools.partial(_send_prompt, world, popup.mark_prompt_sent)
    )
    monkeypatch.setattr(logins_success, "_together", in_batch)
    monkeypatch.setattr(event, "_write", write)
    monkeypatch.setattr(images, "read_code", functools.cache(images.read_code))


@contextlib.contextmanager
def _only_by_its_holder(
    world: World, attempt: LoginAttempt, epoch: int, success: bool = False
) -> Iterator[None]:
    """Nothing but a success moves the attempt, where this wait is not the newest."""
    row = LoginAttempt.objects.filter(pk=attempt.pk).values_list("lease_epoch", "state")
    newest, state = row.get()
    try:
        yield
    finally:
        if newest != epoch and not success and row.get()[1] != state:
            world.broken.append("a move of who had lost the wait")


def _finish(world: World, finished: Callable, attempt: LoginAttempt, answer: object, **how):
    """As the engine's own, with the trouble that the test wants. What it wrote has to be its own to write."""
    with _only_by_its_holder(world, attempt, how["epoch"], success=isinstance(answer, LoggedIn)):
        result = finished(attempt, answer, **how)
    trouble, world.trouble = world.trouble, ""
    if trouble == "committed, and the answer lost":
        raise OperationalError("the server was restarted")
    if trouble == "the process dies right after":
        _die()
    if trouble == "killed right after":
        raise GreenletExit
    return result


def _send_prompt(world: World, noted: Callable, attempt: LoginAttempt, epoch: int) -> bool:
    with _only_by_its_holder(world, attempt, epoch):
        return _noted(world, functools.partial(noted, attempt, epoch))


def _noted(world: World, noted: Callable[[], bool]) -> bool:
    if world.trouble not in PROMPT_TROUBLES:
        return noted()
    trouble, world.trouble = world.trouble, ""
    if trouble == DIES_BEFORE:
        _die()
    if trouble == NOT_NOTED:
        world.trouble = "rolled back"
    try:
        result = noted()
    except OperationalError as error:
        raise Lost("the server was restarted") from error
    world.trouble = ""
    if trouble == ANSWER_LOST:
        raise Lost("the server was restarted")
    if trouble == DIES_AFTER:
        _die()
    return result


def _die() -> None:
    """This process puts nothing in order any more."""
    leases._holder.give_back = lambda lease: None
    raise GreenletExit
