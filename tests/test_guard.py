"""A run of tests that is ended from outside leaves no process and no file behind."""

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.guard import of_run
from tests.support.processes import DEADLINE, Program, bare_environment, until

pytestmark = [pytest.mark.live, pytest.mark.database("sqlite")]


def pytest_itself(run: Program) -> psutil.Process:
    return next(child for child in psutil.Process(run.process.pid).children() if "pytest" in child.cmdline())


@pytest.mark.parametrize(
    ("sign", "who"),
    [
        (signal.SIGTERM, "tests.run"),
        pytest.param(signal.SIGKILL, "pytest", marks=pytest.mark.long),
        pytest.param(signal.SIGINT, "tests.run", marks=pytest.mark.long),
    ],
)
def test_nothing_is_left_of_a_run_that_is_ended(tmp_path, sign, who):
    ready = tmp_path / "ready"
    command = [sys.executable, "-m", "tests.run", "fast", "tests/support/held_run.py"]
    env = bare_environment(HELD_RUN=str(ready), WORKERS="1", TEST_DATABASE="sqlite")
    del env["TEST_RUN_FOLDER"]
    with Program(command, tmp_path, env, name="run") as run:
        run.until(ready.exists)
        folder = ready.read_text()
        started = " ".join(word for process in of_run(folder) for word in process.cmdline())
        for part in ("valkey", "simulator", "postgres", "celery", "serve", "beat", "manage.py up"):
            assert part in started, started
        os.kill(run.process.pid if who == "tests.run" else pytest_itself(run).pid, sign)
        assert run.process.wait(DEADLINE) != 0
        until(lambda: not of_run(folder), lambda: str(of_run(folder)))
        until(lambda: not Path(folder).exists(), run.said)
