"""What the processes of `make run` use while nothing happens.

    python -m bench.idle [--accounts 100] [--seconds 120]

Starts the product as `make run` does, with so many accounts online, waits until the processes have come to rest, and reads
their processor time and memory from the system. No browser is open.
"""

import subprocess
import sys
import time

import psutil
import requests

from bench import report
from bench.process_metrics import memory_kb, process_tree
from bench.processes import ROOT, start_portal

REST = 45
ADD = """
import sys
from django.contrib.auth.models import Group
from django.utils import timezone
from accounts.models import Account
from accounts.states import AccountState
online = [line.split() for line in sys.stdin]
Account.objects.bulk_create([
    Account(label=wc_id, wc_id=wc_id, w_id=w_id, state=AccountState.ONLINE, state_since=timezone.now())
    for wc_id, w_id in online
])
"""


def name_of(process: psutil.Process) -> str:
    words = process.cmdline()
    for name in ("valkey", "simulator", "serve", "waits", "jobs", "beat"):
        if any(name in word for word in words):
            return {"serve": "web"}.get(name, name)
    return "up"


def measure(pid: int, seconds: float) -> dict[str, tuple[float, float]]:
    """By process: its share of a core in percent, its memory in MB (pages that several share divided among them)."""

    def used() -> dict[str, float]:
        found: dict[str, float] = {}
        for process in process_tree(pid):
            name = name_of(process)
            found[name] = found.get(name, 0) + sum(process.cpu_times()[:2])
        return found

    before, began = used(), time.monotonic()
    time.sleep(seconds)
    after, passed = used(), time.monotonic() - began
    memory: dict[str, float] = {}
    for process in process_tree(pid):
        memory[name_of(process)] = memory.get(name_of(process), 0) + memory_kb([process], "pss") / 1024
    return {name: ((after[name] - before[name]) / passed * 100, memory[name]) for name in after}


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--accounts", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=120)
    options = parser.parse_args()
    with start_portal() as portal:
        lines = []
        for number in range(options.accounts):
            body = {"wcId": f"wxid_idle{number}", "online": True}
            answer = requests.post(f"{portal.upstream}/control/people", json=body, timeout=30).json()
            lines.append(f"{body['wcId']} {answer['wId']}")
        add = [sys.executable, "manage.py", "shell", "-c", ADD]
        subprocess.run(add, cwd=ROOT, env=portal.env, input="\n".join(lines), text=True, check=True)
        time.sleep(REST)
        found = measure(portal.pid, options.seconds)
    found["all"] = tuple(map(sum, zip(*found.values(), strict=True)))
    figures = [report.Figure(f"{name}: % of a core", share) for name, (share, _memory) in found.items()]
    figures += [report.Figure(f"{name}: memory, MB", memory) for name, (_share, memory) in found.items()]
    rows = [[name, report.number(share), report.number(memory)] for name, (share, memory) in found.items()]
    report.finish(figures, options, report.table(["process", "% of a core", "memory, MB"], rows))


if __name__ == "__main__":
    main()
