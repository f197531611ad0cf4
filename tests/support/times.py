"""How long each test took, for the table at the end of a make target: lines of TEST_TIMES, a pytest plugin."""

import os
from collections import Counter
from pathlib import Path

import pytest

seconds: Counter = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    seconds[report.nodeid.partition("@tests/")[0]] += report.duration  # behind it: see keep_together


def pytest_sessionfinish() -> None:
    file, database = os.environ.get("TEST_TIMES"), os.environ.get("TEST_DATABASE", "sqlite")
    if file and not os.environ.get("PYTEST_XDIST_WORKER"):
        with Path(file).open("a") as times:
            times.writelines(f"{took:.3f} {test} ({database})\n" for test, took in seconds.items())
