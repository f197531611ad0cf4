"""Batches: who comes while one is worked on is in the next one; no caller hangs, even if another is killed.

The scenarios run with threads here, and once more with greenlets in a process of their own.
"""

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from accounts.lib.group_commit import GroupCommit, Interrupted
from tests.support.processes import DEADLINE, until

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = 30


class Killed(BaseException):
    """As GreenletExit and SystemExit: no Exception."""


class Worker:
    """The work of a Together: it stops before each batch until the test lets it go on."""

    def __init__(self, answer=lambda item: item * 10, **limits):
        self.batches: list[list] = []
        self.answer = answer
        self.gate = threading.Event()
        self.together = GroupCommit(self.work, **limits)

    def work(self, items: list) -> list:
        self.batches.append(items)
        assert self.gate.wait(SECONDS)
        return [self.answer(item) for item in items]


def outcome(together, item):
    """What a caller gets: the result, or the exception."""
    try:
        return together(item)
    except BaseException as error:
        return error


def all_at_once(worker: Worker, first, others: list) -> list:
    """One calls; when it works, the others call, one after the other; then all go on. What each of them gets."""
    with ThreadPoolExecutor(1 + len(others)) as pool:
        calls = [pool.submit(outcome, worker.together, first)]
        until(lambda: worker.batches)
        for number, item in enumerate(others, 1):
            calls.append(pool.submit(outcome, worker.together, item))
            until(lambda number=number: len(worker.together.queue) == number)
        worker.gate.set()
        return [call.result(SECONDS) for call in calls]


def is_idle(worker: Worker) -> bool:
    """Nobody waits, and who comes next works at once."""
    before = len(worker.batches)
    return worker.together(5) == 50 and worker.batches[before:] == [[5]] and not worker.together.queue


# --- scenarios, for threads and for greenlets ---------------------------------------------------------------


def scene_batches_form_while_one_runs():
    worker = Worker()
    assert all_at_once(worker, 1, [2, 3, 4]) == [10, 20, 30, 40]
    assert worker.batches == [[1], [2, 3, 4]]
    assert is_idle(worker)


def scene_no_batch_is_larger_than_allowed():
    worker = Worker(most=2)
    assert all_at_once(worker, 1, [2, 3, 4, 5, 6]) == [10, 20, 30, 40, 50, 60]
    assert worker.batches == [[1], [2, 3], [4, 5], [6]]
    assert is_idle(worker)


def scene_an_exception_for_one_is_raised_at_that_one():
    worker = Worker(lambda item: ValueError(item) if item == 3 else item * 10)
    first, second, third, fourth = all_at_once(worker, 1, [2, 3, 4])
    assert (first, second, fourth) == (10, 20, 40)
    assert (type(third), third.args) == (ValueError, (3,))
    assert is_idle(worker)


def scene_an_exception_of_the_work_is_raised_at_all_of_its_batch():
    def answer(item):
        if item in (2, 3):
            raise ValueError("the database is unreachable")
        return item * 10

    worker = Worker(answer, most=2)
    first, second, third, fourth = all_at_once(worker, 1, [2, 3, 4])
    assert (first, fourth) == (10, 40)
    assert [type(second), type(third)] == [ValueError, ValueError]
    assert is_idle(worker)


def scene_the_first_is_killed_while_it_works():
    def answer(item):
        if item == 1:
            raise Killed
        return item * 10

    worker = Worker(answer)
    first, *others = all_at_once(worker, 1, [2, 3])
    assert (type(first), others) == (Killed, [20, 30])
    assert is_idle(worker)


def scene_who_works_for_others_is_killed():
    """The others get an error: the outcome is unknown."""

    def answer(item):
        if item == 2:
            raise Killed
        return item * 10

    worker = Worker(answer, most=2)
    first, second, third, fourth = all_at_once(worker, 1, [2, 3, 4])
    assert (first, fourth) == (10, 40)
    assert (type(second), type(third)) == (Killed, Interrupted)
    assert is_idle(worker)


def scene_many_for_a_long_time():
    """Each gets its own result, each is worked on once, and no two batches run at a time."""
    running, most_at_once, seen = 0, 0, []

    def work(items: list) -> list:
        nonlocal running, most_at_once
        running += 1
        most_at_once = max(most_at_once, running)
        seen.extend(items)
        time.sleep(0.0005)
        running -= 1
        return [item * 10 for item in items]

    together = GroupCommit(work, most=7)
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(together, range(2000)))
    assert results == [item * 10 for item in range(2000)]
    assert sorted(seen) == list(range(2000))
    assert most_at_once == 1
    assert not together.busy


def scene_first_come_first_served():
    worker = Worker(most=3)
    all_at_once(worker, 1, list(range(2, 13)))
    assert [item for batch in worker.batches for item in batch] == list(range(1, 13))


SCENES = [name for name in globals() if name.startswith("scene_")]


@pytest.mark.parametrize("scene", SCENES)
def test_threads(scene):
    globals()[scene]()


def test_idle_is_what_it_was():
    worker = Worker()
    worker.gate.set()
    assert [worker.together(item) for item in (1, 2, 3)] == [10, 20, 30]
    assert worker.batches == [[1], [2], [3]]


@pytest.fixture(scope="module")
def in_greenlets() -> dict[str, str]:
    """What came of each scene in a process of greenlets: "" or the traceback."""
    patched = [sys.executable, "-m", "gevent.monkey", "--module", "tests.support.group_commit_in_greenlets"]
    run = subprocess.run(patched, cwd=ROOT, timeout=DEADLINE, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES)
def test_greenlets(in_greenlets, scene):
    assert in_greenlets[scene] == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "scene",
    [
        "one_that_waits",
        "the_next_one_that_waits",
        "the_next_one_when_it_has_just_been_called",
        "the_last_one_when_it_has_just_been_called",
        "one_that_works_alone",
        "one_that_works_for_others",
        "one_that_others_work_for",
        "one_whose_result_nobody_wants_then",
        "one_whose_result_has_just_come",
        "one_that_was_not_worked_for_yet",
        "the_first_one_before_it_works",
        "many_at_random",
    ],
)
def test_killed_greenlets(in_greenlets, scene):
    assert in_greenlets[f"killed_{scene}"] == ""
