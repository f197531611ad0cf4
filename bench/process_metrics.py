"""What processes use of the machine: processor time, memory, and what other programs use beside them."""

import contextlib
import time

import psutil


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
