"""Ends a test run's processes when the run has ended, however it ended: `python guard.py FOLDER`, its stdin a pipe.

Only pytest's first process has the other end of the pipe, so that the kernel closes it with that process. What belongs
to the run is what has TEST_RUN_FOLDER=FOLDER in its environment, or works in that folder. The folder goes last.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil

PATIENCE = 5  # seconds, for PostgreSQL to give back its shared memory


def of_run(folder: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            named = process.environ().get("TEST_RUN_FOLDER") == folder
            if process.pid != os.getpid() and (named or Path(process.cwd()).is_relative_to(folder)):
                found.append(process)
    return found


def send(sign: signal.Signals, processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(sign)


def postmasters(processes: list[psutil.Process]) -> list[psutil.Process]:
    """PostgreSQL's first processes: their own children end with them."""
    pids = {process.pid for process in processes if name_of(process) == "postgres"}
    return [process for process in processes if process.pid in pids and parent_of(process) not in pids]


def name_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return process.name()
    return ""


def parent_of(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return process.ppid()
    return 0


def end(folder: str) -> None:
    found = of_run(folder)
    servers = postmasters(found)
    backends = [process for process in found if name_of(process) == "postgres"]
    send(signal.SIGKILL, [process for process in found if process not in backends])
    send(signal.SIGQUIT, servers)
    psutil.wait_procs(servers, timeout=PATIENCE)
    while found := of_run(folder):  # what began in between, too
        send(signal.SIGKILL, found)
        psutil.wait_procs(found, timeout=PATIENCE)


def remove(folder: str) -> None:
    mounted = [disk.mountpoint for disk in psutil.disk_partitions(all=True)]
    for place in mounted:
        if Path(place).is_relative_to(folder):
            subprocess.run(["umount", "--lazy", place], check=False)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.read()
    end(sys.argv[1])
    remove(sys.argv[1])
