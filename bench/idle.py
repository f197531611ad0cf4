"""What the processes of `make run` use while nothing happens: accounts are online, and no browser is open."""

import time

import requests

from bench import report
from bench.processes import CpuUsage, memory_kb, process_tree
from bench.services import start_portal

options = report.parser(__doc__, accounts=100, seconds=120.0).parse_args()
portal = start_portal()

from django.conf import settings
from django.utils import timezone

from accounts.models import Account

REST = 45
NAMES = {name: name for name in ("valkey", "simulator", "waits", "jobs", "beat")} | {"web": "serve"}


def measure() -> dict[str, float]:
    """Of each process, known by a word of its command: a page that several have in memory is divided among them."""
    commands = {process.pid: " ".join(process.cmdline()) for process in process_tree(portal.pid)[1:]}
    pids = {name: pid for name in NAMES for pid, command in commands.items() if NAMES[name] in command}
    usage = CpuUsage(all=portal.pid, **pids)
    time.sleep(options.seconds)
    used = usage.stop().used
    figures = {}
    for name, pid in (pids | {"all": portal.pid}).items():
        figures[f"{name}: % of a core"] = used[name] / usage.seconds * 100
        figures[f"{name}: memory, MB"] = memory_kb(process_tree(pid), "pss") / 1024
    for what in ("% of a core", "memory, MB"):
        others = sum(figures[f"{name}: {what}"] for name in pids)
        figures[f"up: {what}"] = round(figures[f"all: {what}"] - others, 3)
    return figures


def main() -> None:
    for number in range(options.accounts):
        person = {"wcId": f"wxid_idle{number}", "online": True}
        answer = requests.post(f"{settings.WK_BASE_URL}/control/people", json=person, timeout=30).json()
        row = {"w_id": answer["wId"], "state": "online", "state_since": timezone.now()}
        Account.objects.create(label=person["wcId"], wc_id=person["wcId"], **row)
    time.sleep(REST)
    report.finish(report.figures(measure()), options)


main()
