"""The scenarios of tests/lib/test_group_commit.py in a process of greenlets, and those where one is killed: a thread cannot be.

    python -m gevent.monkey --module tests.support.group_commit_in_greenlets

It writes what came of each as JSON.
"""

import json
import random
import threading
import traceback

import gevent

from accounts.lib.group_commit import GroupCommit, Interrupted
from tests.lib import test_group_commit
from tests.lib.test_group_commit import SECONDS, Worker, is_idle, outcome, until


def spawn_callers(worker: Worker, count: int) -> list:
    """The first of them works, the others wait in a queue, in order."""
    callers = [gevent.spawn(outcome, worker.together, 1)]
    until(lambda: worker.batches)
    for number in range(1, count):
        callers.append(gevent.spawn(outcome, worker.together, number + 1))
        until(lambda number=number: len(worker.together.queue) == number)
    return callers


def results(callers: list) -> list:
    gevent.joinall(callers, timeout=SECONDS, raise_error=True)
    assert all(caller.dead for caller in callers)
    return [
        type(caller.value) if isinstance(caller.value, BaseException) else caller.value for caller in callers
    ]


def killed_one_that_waits():
    worker = Worker()
    callers = spawn_callers(worker, 4)
    callers[2].kill()
    worker.gate.set()
    assert results(callers) == [10, 20, gevent.GreenletExit, 40]
    assert worker.batches == [[1], [2, 4]]
    assert is_idle(worker)


def killed_the_next_one_that_waits():
    worker = Worker()
    callers = spawn_callers(worker, 4)
    callers[1].kill()
    worker.gate.set()
    assert results(callers) == [10, gevent.GreenletExit, 30, 40]
    assert is_idle(worker)


def killed_the_next_one_when_it_has_just_been_called():
    """It was to work for the others, and never began."""
    worker = Worker(lambda item: callers[1].kill(block=False) if item == 1 else item * 10)
    callers = spawn_callers(worker, 4)
    worker.gate.set()
    assert results(callers) == [None, gevent.GreenletExit, 30, 40]
    assert worker.batches == [[1], [3, 4]]
    assert is_idle(worker)


def killed_the_last_one_when_it_has_just_been_called():
    worker = Worker(lambda item: callers[1].kill(block=False) if item == 1 else item * 10)
    callers = spawn_callers(worker, 2)
    worker.gate.set()
    assert results(callers) == [None, gevent.GreenletExit]
    assert is_idle(worker)


def killed_one_that_works_alone():
    worker = Worker()
    callers = spawn_callers(worker, 3)
    callers[0].kill()
    worker.gate.set()
    assert results(callers) == [gevent.GreenletExit, 20, 30]
    assert is_idle(worker)


def killed_one_that_works_for_others():
    worker = Worker()
    callers = spawn_callers(worker, 4)
    gate, worker.gate = worker.gate, threading.Event()
    gate.set()
    until(lambda: len(worker.batches) == 2)
    later = gevent.spawn(outcome, worker.together, 9)
    until(lambda: worker.together.queue)
    callers[1].kill()
    worker.gate.set()
    assert results([*callers, later]) == [10, gevent.GreenletExit, Interrupted, Interrupted, 90]
    assert is_idle(worker)


def killed_one_that_others_work_for():
    """Its result is nobody's; the others have theirs."""
    worker = Worker()
    callers = spawn_callers(worker, 4)
    gate, worker.gate = worker.gate, threading.Event()
    gate.set()
    until(lambda: len(worker.batches) == 2)
    callers[2].kill()
    worker.gate.set()
    assert results(callers) == [10, 20, gevent.GreenletExit, 40]
    assert is_idle(worker)


def killed_one_whose_result_nobody_wants_then():
    dropped = []
    worker = Worker(unwanted=dropped.append)
    callers = spawn_callers(worker, 4)
    gate, worker.gate = worker.gate, threading.Event()
    gate.set()
    until(lambda: len(worker.batches) == 2)
    callers[2].kill()
    assert dropped == []
    worker.gate.set()
    assert results(callers) == [10, 20, gevent.GreenletExit, 40]
    assert dropped == [30]


def killed_one_whose_result_has_just_come():
    dropped = []
    worker = Worker(unwanted=dropped.append)
    worker.answer = lambda item: (callers[2].kill(block=False) if item == 4 else None) or item * 10
    callers = spawn_callers(worker, 4)
    worker.gate.set()
    assert results(callers) == [10, 20, gevent.GreenletExit, 40]
    assert dropped == [30]


def killed_one_that_was_not_worked_for_yet():
    dropped = []
    worker = Worker(unwanted=dropped.append)
    callers = spawn_callers(worker, 4)
    callers[2].kill()
    worker.gate.set()
    results(callers)
    assert dropped == []


class TakenLock:
    """A lock that another thread has whenever it is wanted for the n-th time."""

    def __init__(self, times: int):
        self.times = times

    def __enter__(self) -> None:
        self.times -= 1
        if not self.times:
            gevent.sleep(SECONDS)

    def __exit__(self, *_exc) -> None:
        pass


def killed_the_first_one_before_it_works():
    worker = Worker()
    worker.gate.set()
    worker.together.lock = TakenLock(2)
    callers = [gevent.spawn(outcome, worker.together, 1)]
    gevent.sleep(0)
    callers[0].kill()
    assert results(callers) == [gevent.GreenletExit]
    assert is_idle(worker)


def killed_many_at_random():
    chance = random.Random(7)

    def work(items: list) -> list:
        gevent.sleep(chance.choice([0, 0, 0.001]))
        return [item * 10 for item in items]

    dropped = []
    together = GroupCommit(work, most=5, unwanted=dropped.append)
    callers = []
    for number in range(1500):
        callers.append(gevent.spawn(outcome, together, number))
        if chance.random() < 0.3:
            chance.choice(callers[-20:]).kill(block=False)
        if chance.random() < 0.2:
            gevent.sleep(0)
    found = results(callers)
    fine = [value for number, value in enumerate(found) if value == number * 10]
    lost = [value for value in found if value in (Interrupted, gevent.GreenletExit)]
    assert len(fine) + len(lost) == 1500 and len(fine) > 500 and gevent.GreenletExit in lost
    assert not together.busy and not together.queue
    # What was worked for and is nobody's went there once, and nothing else did.
    assert len(set(dropped)) == len(dropped) > 0
    assert all(found[result // 10] is gevent.GreenletExit for result in dropped)


def main() -> None:
    scenarios = {**vars(test_group_commit), **globals()}
    found = {}
    for name, scenario in scenarios.items():
        if name.startswith(("scene_", "killed_")):
            found[name] = ""
            try:
                with gevent.Timeout(10):
                    scenario()
            except BaseException:
                found[name] = traceback.format_exc()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
