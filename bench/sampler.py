"""Runs a module under a sampling profiler: where its processor time goes, stack by stack.

    python -m bench.sampler celery -A wkportal worker ...

A timer that runs with the processor time interrupts the main thread every few milliseconds, whatever greenlet it
is in, and counts the stack it finds. SIGRTMIN+k begins part k of PARTS; at `done` the counts are written to the
file that SAMPLES names: `{part: [[[function, file, line], ...] from the outermost, count], ...}`.
"""

import collections
import json
import os
import runpy
import signal
import sys

EVERY = 0.004
PARTS = ("warm", "start", "hold", "deliver", "done")

Stack = tuple[tuple[str, str], ...]
counts: dict[str, collections.Counter[Stack]] = collections.defaultdict(collections.Counter)
part = "warm"


def sample(_number, frame) -> None:
    stack = []
    while frame is not None:
        code = frame.f_code
        stack.append((code.co_qualname, code.co_filename))
        frame = frame.f_back
    counts[part][tuple(reversed(stack))] += 1


def next_part(number, _frame) -> None:
    global part
    part = PARTS[number - signal.SIGRTMIN]
    if part == "done":
        signal.setitimer(signal.ITIMER_PROF, 0)  # a sample now would change what is being written
        path = os.environ["SAMPLES"]
        with open(path + ".part", "w") as file:
            json.dump({name: list(found.items()) for name, found in counts.items()}, file)
        os.replace(path + ".part", path)


def main() -> None:
    for number in range(len(PARTS)):
        signal.signal(signal.SIGRTMIN + number, next_part)
    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
