"""What processes take, read from /proc: processor time, memory, and who else uses the machine."""

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import psutil
import psycopg

TICK = os.sysconf("SC_CLK_TCK")
BACKENDS = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND backend_type = 'client backend'"
)


def tree(*roots: int) -> list[int]:
    """The processes and all below them."""
    found = []
    for root in roots:
        try:
            process = psutil.Process(root)
            found += [root, *(child.pid for child in process.children(recursive=True))]
        except psutil.NoSuchProcess:
            continue
    return found


def _stat(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def processor_seconds(pids: Iterable[int], ended_children: bool = False) -> float:
    """User and system time; with `ended_children` also that of children that have ended."""
    last = 15 if ended_children else 13
    return sum(sum(map(int, _stat(pid)[11:last])) for pid in pids) / TICK


def memory_kb(pids: Iterable[int]) -> tuple[int, int]:
    """Resident and proportional set size, in kB."""
    sizes = {"Rss": 0, "Pss": 0}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                for line in file:
                    name, _, rest = line.partition(":")
                    if name in sizes:
                        sizes[name] += int(rest.split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return sizes["Rss"], sizes["Pss"]


def resident_kb(pids: Iterable[int]) -> int:
    """As `memory_kb`, without walking the pages: for a look many times a second."""
    page = os.sysconf("SC_PAGE_SIZE") // 1024
    return sum(int(stat[21]) * page for pid in pids if (stat := _stat(pid)))


def machine_seconds() -> tuple[float, float]:
    """(used, stolen) processor time of the whole machine since its start."""
    with open("/proc/stat") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    user, nice, system, _idle, _wait, irq, softirq, steal = ticks
    return (user + nice + system + irq + softirq) / TICK, steal / TICK


@dataclass
class Load:
    """Over a stretch of time: seconds of processor for each of ours by name, and what others took of a core."""

    roots: dict[str, list[int]]
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0
    used: dict[str, float] = field(default_factory=dict)
    others: float = 0  # of one core
    stolen: float = 0

    def __post_init__(self):
        self.first, self.machine = self._now(), machine_seconds()

    def _now(self) -> dict[str, float]:
        # What a server's ended children took is the server's; a worker has none that end.
        found = {
            name: processor_seconds(tree(*pids), ended_children=name == "postgres")
            for name, pids in self.roots.items()
        }
        return found | {"bench": processor_seconds([os.getpid()])}

    def stop(self) -> "Load":
        now, machine = self._now(), machine_seconds()
        self.seconds = max(time.monotonic() - self.began, 0.001)
        self.used = {name: value - self.first[name] for name, value in now.items()}
        ours = sum(self.used.values())
        self.others = max(0.0, machine[0] - self.machine[0] - ours) / self.seconds
        self.stolen = (machine[1] - self.machine[1]) / self.seconds
        return self


def wait_for_quiet(seconds: float, share: float = 0.15) -> float:
    """Wait until others use less than that share of a core, `seconds` at most; returns what they use now."""
    end = time.monotonic() + seconds
    while True:
        load = Load({})
        time.sleep(2)
        others = load.stop().others
        if others < share or time.monotonic() > end:
            return others


class Peaks(threading.Thread):
    """The most memory and database connections that were seen, looked at every 50 ms until `stop`."""

    def __init__(self, root: int, database: str, application: str):
        super().__init__(daemon=True)
        self.root, self.application = root, application
        self.backends = self.resident = 0
        self.stopped = threading.Event()
        self.connection = psycopg.connect(database, autocommit=True)

    def run(self) -> None:
        pids, looks = tree(self.root), 0
        while not self.stopped.wait(0.05):
            looks += 1
            if looks % 20 == 0:
                pids = tree(self.root)
            self.resident = max(self.resident, resident_kb(pids))
            self.backends = max(self.backends, self.count())

    def count(self) -> int:
        return self.connection.execute(BACKENDS, (self.application,)).fetchone()[0]

    def stop(self) -> None:
        self.stopped.set()
        self.join()
        self.connection.close()
