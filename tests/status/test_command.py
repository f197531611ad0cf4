"""`manage.py status`: its exit codes, and what it prints for people and programs."""

import json
import os
import subprocess
import sys

import pytest
from django.core.management import call_command

from accounts.models import WaitsWorker
from tests.status.test_facts import broker, well  # noqa: F401 - fixtures
from tests.support.processes import ROOT, reserve_port
from wkportal import __version__


def status(capsys, *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        call_command("status", *arguments)
    return end.value.code, capsys.readouterr().out


def test_everything_ok_is_0_and_one_fault_is_1_with_its_section(well, capsys):  # noqa: F811
    code, text = status(capsys)
    assert code == 0
    assert [line[:8] for line in text.splitlines()] == ["ok      "] * 14
    WaitsWorker.objects.all().delete()
    code, text = status(capsys)
    assert code == 1
    first, where = (line.split() for line in text.splitlines()[:2])
    assert first == ["fault", "Workers", "0", "running", "·", "0", "slots", "free"]
    assert where == ["docs/operations.md#wkportalwaitsworkers"]


def test_programs_get_states_numbers_and_sections(well, capsys):  # noqa: F811
    code, text = status(capsys, "--json")
    found = json.loads(text)
    assert (code, found["version"], found["state"]) == (0, __version__, "ok")
    workers = next(fact for fact in found["facts"] if fact["name"] == "workers")
    assert workers["numbers"]["waits_workers"] == 1
    assert workers["runbook"] == "docs/operations.md#wkportalwaitsworkers"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "why"),
    [("sqlite:////nowhere/none.sqlite3", "unable to open"), ("postgres://u@127.0.0.1:{}/n", "refused")],
)
def test_without_a_database_it_says_why_and_that_it_does_not_know(url, why):
    env = os.environ | {"DATABASE_URL": url.format(reserve_port())}
    command = [sys.executable, "manage.py", "status", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    found = json.loads(done.stdout)
    assert found["state"] == "unknown"
    (database,) = found["facts"]
    assert why in database["value"] and database["runbook"] == "docs/operations.md#wkportaldatabase"
