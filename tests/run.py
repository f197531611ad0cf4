"""Runs the tests of a make target: `python -m tests.run fast|all|faults [ARGUMENTS OF PYTEST]`.

Every step runs, also after one that failed; then comes what each of them said, the ten slowest tests and the total.
WORKERS is how many tests run beside each other. TERM and INT go to the step that runs, and are its end and ours;
when we are killed it ends too.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from wkportal.local.supervisor import PARENT_DEATH

ROOT = Path(__file__).resolve().parent.parent
PYTEST = [sys.executable, "-m", "pytest", "--dist", "loadgroup", "--no-loadscope-reorder"]
CORES = os.cpu_count() or 1
SLOWEST = 10
BIN = Path(sys.executable).parent
STYLE = [
    ("ruff check", [f"{BIN}/ruff", "check", "."], {}),
    ("ruff format", [f"{BIN}/ruff", "format", "--check", "--quiet", "."], {}),
    ("djlint", [f"{BIN}/djlint", "--check", "--lint", "--quiet", "templates", "simulator/templates"], {}),
    ("deno fmt", [f"{BIN}/deno", "fmt", "--check", "--quiet"], {}),
    ("deno lint", [f"{BIN}/deno", "lint", "--quiet"], {}),
]


def tests_on(
    database: str, marks: str, workers: int, **variables: str
) -> tuple[str, list[str], dict[str, str]]:
    name = {"sqlite": "tests on SQLite", "postgres": "tests on PostgreSQL"}[database]
    count = os.environ.get("WORKERS") or str(workers)
    return name, [*PYTEST, "-n", count, "-m", marks, *sys.argv[2:]], {"TEST_DATABASE": database, **variables}


def steps(target: str) -> list[tuple[str, list[str], dict[str, str]]]:
    # One more worker than there are cores: some tests only wait.
    if target == "fast":
        return [tests_on("sqlite", "not (slow or live or browser or faults or long)", CORES + 1)]
    if target == "all":
        return STYLE + [tests_on(database, "not long", CORES + 1) for database in ("sqlite", "postgres")]
    logins, rounds = os.environ.get("FAULT_LOGINS", "1000"), os.environ.get("FAULT_ROUNDS", "4")
    # One after the other: each takes the machine for itself.
    return [
        tests_on("postgres", "faults or long", 1, FAULT_LOGINS=logins, FAULT_ROUNDS=rounds),
        tests_on("sqlite", "faults or long", 1, FAULT_LOGINS="100", FAULT_ROUNDS=rounds),
    ]


def run(command: list[str], variables: dict[str, str]) -> int:
    """The exit code. A signal to us is passed on."""
    tied = [*PARENT_DEATH, "exec", str(os.getpid()), *command]
    with subprocess.Popen(tied, cwd=ROOT, env=os.environ | variables) as step:
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, lambda number, _frame: step.send_signal(number))
        code = step.wait()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, signal.SIG_DFL)
    if code in (-signal.SIGTERM, -signal.SIGINT, 2):  # 2: pytest after Ctrl-C
        sys.exit(128 + abs(code))
    return code


def main() -> int:
    began, results = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder) / "times"
        for name, command, variables in steps(sys.argv[1]):
            print(f"\n== {name}", flush=True)
            start = time.monotonic()
            code = run(command, variables | {"TEST_TIMES": str(times)})
            results.append((name, code, time.monotonic() - start))
        lines = times.read_text().splitlines() if times.exists() else []
    report(results, [(float(line.partition(" ")[0]), line.partition(" ")[2]) for line in lines])
    print(f"{time.monotonic() - began:7.1f} s in all")
    return int(any(code for _name, code, _seconds in results))


def report(results: list[tuple[str, int, float]], times: list[tuple[float, str]]) -> None:
    if times:
        print(f"\nThe slowest of {len(times)}, with what was made ready for them:")
    for seconds, test in sorted(times, reverse=True)[:SLOWEST]:
        print(f"{seconds:7.1f} s {test}")
    print()
    for name, code, seconds in results:
        print(f"{seconds:7.1f} s {name}: {f'FAILED (exit code {code})' if code else 'passed'}")


if __name__ == "__main__":
    sys.exit(main())
