"""A schedule of faults, drawn from a seed: what is killed, stopped, emptied or cut off, after which pause, in which order.

The same seed gives the same schedule, and the same answers of the phones; what meets what depends on the machine.
"""

import random
import signal
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psycopg

from tests.support.services import Postgres, Valkey
from tests.support.stack import Stack

PAUSES = (0.2, 2.0)  # seconds between two faults
SLEEPS = (1.0, 13.0)  # for how long a process is stopped: also past its lease
DOWN_FOR = (0.2, 4.0)  # for how long Redis or PostgreSQL is unreachable


@dataclass(frozen=True)
class Fault:
    what: str
    pause: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.what} ({self.seconds:.1f} s)"


def schedule(seed: int) -> Iterator[Fault]:
    """Faults without end."""
    dice = random.Random(seed)
    kinds = {
        "kill waits-1": 4, "kill waits-2": 4, "replace waits-1": 2, "replace waits-2": 2,
        "stop waits-1": 2, "stop waits-2": 2, "kill both": 1, "kill jobs": 1, "kill beat": 1, "kill web": 1,
        "redis dies": 2, "redis forgets": 1, "redis is cut off": 1, "redis swallows": 1,
        "postgres crashes": 2, "postgres is cut off": 2, "postgres goes silent": 2, "a commit is cut off": 3,
        "rows are held": 2, "a table is held": 1,
    }  # fmt: skip
    while True:
        (what,) = dice.choices(list(kinds), list(kinds.values()))
        span = SLEEPS if what.startswith("stop") else DOWN_FOR
        yield Fault(what, dice.uniform(*PAUSES), dice.uniform(*span))


@dataclass
class Kills:
    """Runs a schedule in a thread of its own while the block runs; everything works again behind it."""

    stack: Stack
    valkey: Valkey
    postgres: Postgres
    seed: int
    done: Counter = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    def __enter__(self) -> "Kills":
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, name="kills")
        self.thread.start()
        return self

    def __exit__(self, *_exc) -> None:
        self.over.set()
        self.thread.join()
        if self.valkey.process is None:
            self.valkey.start()
        if not self.postgres.alive:
            self.postgres.start()
        self.valkey.proxy.heal()
        self.postgres.proxy.heal()
        self.stack.complete()

    def run(self) -> None:
        for fault in schedule(self.seed):
            if self.over.wait(fault.pause):
                return
            try:
                self.acts(fault)(fault.seconds)
            except Exception:  # told at the end: a fault that could not be made is a fault of the test
                self.failed.append(f"{fault}: {traceback.format_exc()}")
            self.done[fault.what] += 1

    def acts(self, fault: Fault) -> Callable[[float], None]:
        verb, _, name = fault.what.partition(" ")
        if verb in ("kill", "replace", "stop"):
            return lambda seconds: getattr(self, verb)(name, seconds)
        return getattr(self, fault.what.replace(" ", "_"))

    # --- processes

    def kill(self, name: str, _seconds: float) -> None:
        names = ("waits-1", "waits-2") if name == "both" else (name,)
        for each in names:
            self.stack.kill(each)
        for each in names:
            self.stack.start(each)

    def replace(self, name: str, seconds: float) -> None:
        """As a hasty deployment does it."""
        self.stack.stop(name, grace=seconds)
        self.stack.start(name)

    def stop(self, name: str, seconds: float) -> None:
        self.stack.send(name, signal.SIGSTOP)
        self.over.wait(seconds)
        self.stack.send(name, signal.SIGCONT)

    # --- Redis

    def redis_dies(self, seconds: float) -> None:
        self.valkey.kill()
        self.over.wait(seconds)
        self.valkey.start()

    def redis_forgets(self, _seconds: float) -> None:
        self.valkey.say("FLUSHALL")

    def redis_is_cut_off(self, seconds: float) -> None:
        self.valkey.proxy.refuse()
        self.over.wait(seconds)
        self.valkey.proxy.accept()

    def redis_swallows(self, seconds: float) -> None:
        self.valkey.proxy.swallow(new=True)
        self.over.wait(seconds)
        self.valkey.proxy.heal()

    # --- PostgreSQL

    def postgres_crashes(self, seconds: float) -> None:
        self.postgres.stop()
        self.over.wait(seconds)
        self.postgres.start()

    def postgres_is_cut_off(self, seconds: float) -> None:
        self.postgres.proxy.refuse()
        self.over.wait(seconds)
        self.postgres.proxy.accept()

    def postgres_goes_silent(self, seconds: float) -> None:
        """What is connected hears nothing any more; new connections work."""
        self.postgres.proxy.swallow()
        self.over.wait(seconds)
        self.postgres.proxy.heal()

    def rows_are_held(self, seconds: float) -> None:
        """As by a process that froze in the middle of a transaction: of every login in progress."""
        self.held(
            "SELECT 1 FROM accounts_loginattempt WHERE ended_at IS NULL FOR NO KEY UPDATE SKIP LOCKED",
            seconds,
        )

    def a_table_is_held(self, seconds: float) -> None:
        """As by a hand at a database console: nobody can ask who is online."""
        self.held("LOCK TABLE accounts_upstreamaccess", seconds)

    def held(self, statement: str, seconds: float) -> None:
        with psycopg.connect(self.postgres.direct_url("kills")) as other:
            other.execute(statement)
            self.over.wait(seconds)

    def a_commit_is_cut_off(self, seconds: float) -> None:
        """The transaction is written, and the writer does not hear of it."""
        self.postgres.proxy.cut_at(b"COMMIT", after=b"accounts_").wait(seconds)
