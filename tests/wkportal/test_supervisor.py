"""The supervisor with small real processes: what starts, stops and dies in which order, and what stays."""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.processes import DEADLINE, ROOT, Program, alive, bare_environment, until
from wkportal.local.supervisor import Process, with_metrics_ports

pytestmark = pytest.mark.slow
# Each child writes to one journal, so that the order can be read there.
CHILD = """
import os, signal, sys, time
name, journal, behaviour = sys.argv[1:]
def write(word):
    with open(journal, "a") as file:
        file.write(f"{name} {word} {os.getpid()}\\n")
def stop(*args):
    write("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "stubborn" else stop)
if behaviour == "parent":
    import subprocess
    subprocess.Popen([sys.executable, __file__, name + "-child", journal, "stubborn"])
print("hello from", name, flush=True)
write("started")
if behaviour == "ends":
    sys.exit(0)
while True:
    time.sleep(60)
"""
SUPERVISOR = """
import json, sys
from functools import partial
from pathlib import Path
sys.path.insert(0, {root!r})
from wkportal.local.supervisor import Process, Step, Supervisor
journal = Path({journal!r})
async def wrote(name):
    return f"{{name}} started" in (journal.read_text() if journal.exists() else "")
def process(name, behaviour, **more):
    command = [sys.executable, {child!r}, name, str(journal), behaviour]
    return Process(name, command, ready=partial(wrote, name), **more)
def fail():
    raise SystemExit("it failed")
async def never():
    return False
stages = {stages}
sys.exit(Supervisor(stages, announce=lambda: "all run\\n", remove=[Path({remove!r})]).run())
"""


class Supervised(Program):
    """A supervisor in a process of its own, and the journal of its children."""

    def __init__(self, folder: Path, stages: str):
        self.journal, self.remove = folder / "journal", folder / "removed.txt"
        child, script = folder / "child.py", folder / "supervise.py"
        self.remove.write_text("gone at the end")
        child.write_text(CHILD)
        places = {"root": ROOT, "journal": self.journal, "child": child, "remove": self.remove}
        script.write_text(
            SUPERVISOR.format(stages=stages, **{name: str(place) for name, place in places.items()})
        )
        super().__init__([sys.executable, script], folder, bare_environment())

    def entries(self, word: str) -> list[str]:
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        return [line.split()[0] for line in lines if line.split()[1] == word]

    def pids(self) -> dict[str, int]:
        lines = [line.split() for line in self.journal.read_text().splitlines()]
        return {name: int(pid) for name, word, pid in lines if word == "started"}

    def ends(self) -> int:
        return self.process.wait(DEADLINE)


@pytest.fixture
def supervise(tmp_path):
    with contextlib.ExitStack() as running:
        yield lambda stages: running.enter_context(Supervised(tmp_path, stages))


TWO_STAGES = '[[process("first", "")], [process("second", ""), process("third", "")]]'


def test_it_starts_in_order_and_stops_in_reverse_order(supervise):
    running = supervise(TWO_STAGES)
    running.until_said("all run")
    assert running.entries("started")[0] == "first"
    running.process.send_signal(signal.SIGINT)
    assert running.ends() == 0
    assert running.entries("stopped")[-1] == "first"
    assert sorted(running.entries("stopped")) == ["first", "second", "third"]
    assert not running.remove.exists()


def test_it_shows_what_each_process_says_with_its_name(supervise):
    running = supervise(TWO_STAGES)
    running.until_said("all run")
    assert "second | hello from second\n" in running.said()
    assert "first  | hello from first\n" in running.said()
    running.process.terminate()
    assert running.ends() == 0


@pytest.mark.parametrize(
    ("how", "words", "code"),
    [
        (signal.SIGKILL, "second was killed by signal 9 (SIGKILL)", 137),
        (signal.SIGTERM, "second ended by itself with exit code 0", 1),
    ],
)
def test_one_dying_stops_all_with_its_name_and_a_code_that_is_not_zero(supervise, how, words, code):
    running = supervise(TWO_STAGES)
    running.until_said("all run")
    os.kill(running.pids()["second"], how)
    assert running.ends() == code
    assert words in running.said()
    assert [name for name, pid in running.pids().items() if alive(pid)] == []


def test_it_does_not_wait_for_the_readiness_of_a_process_that_is_gone(supervise):
    running = supervise(
        '[[Process("short", [sys.executable, "-c", "print(\'my last words\')"], ready=never)]]'
    )
    assert running.ends() == 1
    output = running.said()
    assert "short | my last words\n" in output
    assert "short ended by itself with exit code 0." in output
    assert "all run" not in output


def test_it_names_a_process_that_does_not_become_ready(supervise):
    running = supervise(
        '[[process("good", "")], [Process("slow", ["sleep", "60"], ready=never, start_within=0.2)]]'
    )
    assert running.ends() == 1
    assert "slow was not ready within 0.2 seconds." in running.said()
    assert running.entries("stopped") == ["good"]


def test_it_names_a_program_that_cannot_be_started(supervise):
    running = supervise('[[Process("odd", ["/no/such/program"], ready=never)]]')
    assert running.ends() == 1
    assert "odd | /no/such/program cannot be started: No such file or directory." in running.said()


def test_a_failing_step_stops_what_runs(supervise):
    running = supervise('[[process("first", "")], Step("step", fail), [process("never", "")]]')
    assert running.ends() == 1
    assert "step: it failed" in running.said()
    assert running.entries("started") == ["first"]
    assert running.entries("stopped") == ["first"]


def test_it_kills_what_does_not_stop_within_its_grace(supervise):
    running = supervise('[[process("polite", "")], [process("stubborn", "stubborn", grace=0.3)]]')
    running.until_said("all run")
    running.process.terminate()
    assert running.ends() == 0
    assert "stubborn did not stop within 0.3 seconds; killed." in running.said()
    assert running.entries("stopped") == ["polite"]
    assert not alive(running.pids()["stubborn"])


def test_a_second_ctrl_c_kills_at_once(supervise):
    running = supervise('[[process("stubborn", "stubborn", grace=600)]]')
    running.until_said("all run")
    running.process.send_signal(signal.SIGINT)

    def killed() -> bool:
        running.process.send_signal(signal.SIGINT)  # those that follow at once are the same key press
        return running.process.poll() is not None

    until(killed, running.said)
    assert running.ends() == 130
    assert not alive(running.pids()["stubborn"])


def test_it_stops_grandchildren_too(supervise):
    running = supervise('[[process("parent", "parent", grace=0.3)]]')
    running.until_said("all run")
    running.until(lambda: "parent-child" in running.pids())
    running.process.terminate()
    assert running.ends() == 0
    until(lambda: not alive(running.pids()["parent-child"]), lambda: "the grandchild stayed")


def test_nothing_is_left_when_the_supervisor_is_killed(supervise):
    running = supervise('[[process("parent", "parent")], [process("stubborn", "stubborn")]]')
    running.until_said("all run")
    running.until(lambda: "parent-child" in running.pids())
    running.process.kill()
    running.ends()
    until(lambda: not any(map(alive, running.pids().values())), lambda: json.dumps(running.pids()))
    until(lambda: not running.remove.exists(), lambda: "the file stayed")


def test_each_process_gets_a_port_of_its_own_for_metrics():
    processes = [Process(name, ["true"]) for name in ("web", "waits", "jobs")]
    assert with_metrics_ports(None, processes) == processes
    given = [process.env for process in with_metrics_ports(9464, processes)]
    assert given == [{"METRICS_PORT": "9464"}, {"METRICS_PORT": "9465"}, {"METRICS_PORT": "9466"}]
