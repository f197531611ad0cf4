"""The one test of a run that tests/test_guard.py ends from outside: everything that a test may start runs in it."""

import os
import sys
import threading
from pathlib import Path

from tests.support import environment
from tests.support.processes import Program, bare_environment, reserve_port
from tests.support.services import Postgres, migrated_sqlite
from tests.support.stack import Stack


def test_everything_runs_until_the_run_is_ended(live, tmp_path):
    database = tmp_path / "migrated.sqlite3"
    migrated_sqlite(database)
    variables = {"VAR_DIR": str(tmp_path / "var"), "PORT": str(reserve_port()), "WAIT_SLOTS": "50"}
    variables["DATABASE_URL"] = f"sqlite:///{database}"
    command = [sys.executable, "manage.py", "up"]
    with (
        Stack("web", "waits"),
        Postgres(environment.FOLDER / "own-pg"),
        Program(command, tmp_path, bare_environment(**variables)) as up,
    ):
        up.until_said("Ctrl-C stops everything.")
        Path(os.environ["HELD_RUN"]).write_text(str(environment.RUN))
        threading.Event().wait()
