"""Runs the tests of a make target: `python -m tests.run fast|all|faults [ARGUMENTS OF PYTEST]`.

Every step runs, also after one that failed; then comes what each of them said, the ten slowest tests and the total.
Steps of one stage run beside each other, so that one computes while the other only waits; the first one's output is
seen at once, each other's when those before it have ended. WORKERS is how many tests of a step run beside each other.
TERM and INT go to the steps that run, and are their end and ours; when we are killed they end too.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wkportal.local.supervisor import PARENT_DEATH

ROOT = Path(__file__).resolve().parent.parent
PYTEST = [sys.executable, "-m", "pytest", "--dist", "loadgroup", "--no-loadscope-reorder"]
CORES = os.cpu_count() or 1
SLOWEST = 10
SIGNALS = (signal.SIGTERM, signal.SIGINT)
Step = tuple[str, list[str], dict[str, str]]  # name, command, variables of its environment
BIN = Path(sys.executable).parent
STYLE = [
    ("ruff check", [f"{BIN}/ruff", "check", "."], {}),
    ("ruff format", [f"{BIN}/ruff", "format", "--check", "--quiet", "."], {}),
    ("djlint", [f"{BIN}/djlint", "--check", "--lint", "--quiet", "templates", "simulator/templates"], {}),
    ("deno fmt", [f"{BIN}/deno", "fmt", "--check", "--quiet"], {}),
    ("deno lint", [f"{BIN}/deno", "lint", "--quiet"], {}),
]


def tests_on(database: str, marks: str, workers: int, **variables: str) -> Step:
    name = {"sqlite": "tests on SQLite", "postgres": "tests on PostgreSQL"}[database]
    count = os.environ.get("WORKERS") or str(workers)
    return name, [*PYTEST, "-n", count, "-m", marks, *sys.argv[2:]], {"TEST_DATABASE": database, **variables}


def stages(target: str) -> list[list[Step]]:
    # More workers than there are cores: some tests only wait.
    if target == "fast":
        return [[tests_on("sqlite", "not (slow or live or browser or faults or long)", CORES + 1)]]
    if target == "all":
        workers = CORES // 2 + 2
        return [[*(tests_on(database, "not long", workers) for database in ("sqlite", "postgres")), *STYLE]]
    logins, rounds = os.environ.get("FAULT_LOGINS", "1000"), os.environ.get("FAULT_ROUNDS", "4")
    # One after the other: each takes the machine for itself.
    return [
        [tests_on("postgres", "faults or long", 1, FAULT_LOGINS=logins, FAULT_ROUNDS=rounds)],
        [tests_on("sqlite", "faults or long", 1, FAULT_LOGINS="100", FAULT_ROUNDS=rounds)],
    ]


def run(stage: list[Step], folder: Path) -> list[tuple[str, int, float]]:
    """Name, exit code and seconds of each. A signal to us is passed on to all."""
    began, running = time.monotonic(), []
    for sign in SIGNALS:
        signal.signal(sign, lambda number, _frame: [step.send_signal(number) for step in running])
    outputs = [None, *((folder / f"output-{number}").open("w+b") for number in range(1, len(stage)))]
    for (name, command, variables), output in zip(stage, outputs, strict=True):
        tied = [*PARENT_DEATH, "exec", str(os.getpid()), *command]
        env = os.environ | variables | {"TEST_TIMES": str(folder / f"times of {name}")}
        running.append(subprocess.Popen(tied, cwd=ROOT, env=env, stdout=output, stderr=output))
    with ThreadPoolExecutor(len(stage)) as waiting:
        ends = [
            waiting.submit(lambda step: (step.wait(), time.monotonic() - began), step) for step in running
        ]
        for (name, _command, _variables), output, end in zip(stage, outputs, ends, strict=True):
            print(f"\n== {name}", flush=True)
            end.result()
            if output:
                output.seek(0)
                shutil.copyfileobj(output, sys.stdout.buffer)
                output.close()
    for sign in SIGNALS:
        signal.signal(sign, signal.SIG_DFL)
    results = [(name, *end.result()) for (name, _command, _variables), end in zip(stage, ends, strict=True)]
    for _name, code, _seconds in results:
        if code in (-signal.SIGTERM, -signal.SIGINT, 2):  # 2: pytest after Ctrl-C
            sys.exit(128 + abs(code))
    return results


def main() -> int:
    began, results = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        for stage in stages(sys.argv[1]):
            results += run(stage, Path(folder))
        lines = [line for file in Path(folder).glob("times *") for line in file.read_text().splitlines()]
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
