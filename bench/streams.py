"""What the live updates cost: thousands of open `/events/` streams on one web process, and moves that one of them sees.

    python -m bench.streams [--browsers 2000] [--seconds 20]

The product's own web process (`manage.py serve`) on PostgreSQL and Valkey, with a team, a user, a session, an
account and an open login for each browser. One small process holds all streams; another moves logins by the product's
own door, 100 a second, each of a team that exactly one browser is in. Printed are, beside the same figures of two
servers that can do nothing else (bench/streams_floor.py), in the same run with the same browsers and the same moves:

- latency: from the moment the row was committed until that browser has read the event; for a broadcast, one event
  that all see, until each of them has read it
- memory: how much the web process grew, divided by the streams; before it, some streams were opened and closed
- CPU for one connect, and while nothing happens (looks at rights and keep-alives included)
- connections to Valkey that listen
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import redis
import requests

from bench.gauges import Load, wait_for_quiet
from bench.rig import ROOT, Rig, free_port

WARM_UP = 50
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
SETTLE = 3
BROADCASTS = 5
TARGETS = {"p99": 20, "memory": 60, "listeners": 1}


class Part:
    """A process of this run; those that talk do so by lines of JSON."""

    def __init__(self, stack: ExitStack, command: list[str], env: dict[str, str], log: IO[bytes]):
        self.process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        )  # fmt: skip
        stack.callback(self.stop)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.process.stdin.close()
        self.process.stdout.close()

    def ask(self, **wish):
        self.process.stdin.write(json.dumps(wish).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    @property
    def cpu(self) -> float:
        """Seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def memory(self) -> float:
        """Resident, in kB."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE / 1000

    @property
    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))


def until_it_answers(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if requests.get(url, timeout=2).status_code < 500:
                return
        except requests.RequestException:
            time.sleep(0.05)
    sys.exit(f"{url} does not answer")


def measure(server: Part, crowd: Part, mover: Part, redis_url: str, port: int, asked) -> dict[str, float]:
    """All figures of one server; the streams are closed again at the end."""
    crowd.ask(do="open", port=port, count=min(WARM_UP, asked.browsers))
    crowd.ask(do="close")
    time.sleep(SETTLE)
    memory, cpu = server.memory, server.cpu
    opened = crowd.ask(do="open", port=port, count=asked.browsers)
    if opened["refused"]:
        sys.exit(f"{opened['refused']} streams were refused")
    found = {"connect": (server.cpu - cpu) / asked.browsers * 1000}
    time.sleep(SETTLE)
    found["memory"] = (server.memory - memory) / asked.browsers
    found["threads"] = server.threads
    with redis.Redis.from_url(redis_url) as client:
        found["listeners"] = len(client.client_list(_type="pubsub"))
    cpu, began = server.cpu, time.monotonic()
    time.sleep(asked.idle)
    found["idle"] = (server.cpu - cpu) / (time.monotonic() - began) * 100
    found |= targeted(server, crowd, mover, asked)
    found |= broadcast(crowd, mover, asked)
    crowd.ask(do="close")
    return found


def targeted(server: Part, crowd: Part, mover: Part, asked) -> dict[str, float]:
    crowd.ask(do="forget")
    cpu = server.cpu
    moves = mover.ask(do="move", count=asked.seconds * asked.rate, rate=asked.rate)
    time.sleep(1)
    used = server.cpu - cpu
    heard = crowd.ask(do="heard")
    at = {(attempt, number): moment for attempt, number, moment in numbered(moves)}
    latencies, wrong = [], 0
    for browser, attempt, number, moment in numbered_by_browser(heard):
        wrong += browser != attempt
        latencies.append((moment - at.pop((attempt, number), moment)) * 1000)
    return {
        "lost": len(at) + wrong,
        "p50": statistics.median(latencies),
        "p99": percentile(latencies),
        "max": max(latencies),
        "message": used / len(moves) * 1e6,
    }


def numbered(moves: list[list]) -> Iterator[tuple[int, int, float]]:
    """Each move with its number among those of its attempt; attempts are named by the place of their browser."""
    seen: Counter = Counter()
    for attempt, moment in moves:
        yield attempt, seen[attempt], moment
        seen[attempt] += 1


def numbered_by_browser(heard: list[list]) -> Iterator[tuple[int, int, int, float]]:
    seen: Counter = Counter()
    for browser, attempt, moment in heard:
        yield browser, attempt, seen[browser, attempt], moment
        seen[browser, attempt] += 1


def broadcast(crowd: Part, mover: Part, asked) -> dict[str, float]:
    latencies = []
    for _round in range(BROADCASTS):
        crowd.ask(do="forget")
        committed = mover.ask(do="broadcast")
        time.sleep(SETTLE)
        heard = crowd.ask(do="heard")
        if len(heard) != asked.browsers:
            sys.exit(f"{len(heard)} of {asked.browsers} browsers heard the broadcast")
        latencies += [(moment - committed) * 1000 for _browser, _attempt, moment in heard]
    return {
        "all_p50": statistics.median(latencies),
        "all_p99": percentile(latencies),
        "all_max": max(latencies),
    }


def percentile(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


SERVERS = {
    "wkportal": ["manage.py", "serve", "--port"],
    "asgi": ["-m", "bench.streams_floor", "asgi"],
    "sockets": ["-m", "bench.streams_floor", "sockets"],
}
ROWS = {
    "p50": "one sees it: median, ms",
    "p99": "one sees it: p99, ms",
    "max": "one sees it: max, ms",
    "lost": "moves lost, or heard by another",
    "message": "CPU for one of them, µs",
    "all_p50": "all see it: median, ms",
    "all_p99": "all see it: p99, ms",
    "all_max": "all see it: max, ms",
    "memory": "memory for a browser, kB",
    "connect": "CPU for a connect, ms",
    "idle": "CPU while nothing happens, %",
    "listeners": "connections that listen",
    "threads": "threads of the process",
    "others": "what others took of a core meanwhile, %",
}


def table(found: dict[str, dict[str, float]]) -> str:
    lines = [
        "| | wkportal | bare ASGI app | ratio | bare sockets | ratio | target |",
        "|---|---|---|---|---|---|---|",
    ]
    for row, title in ROWS.items():
        ours, *others = [figures[row] for figures in found.values()]
        cells = [f"{other:.4g} | {ours / other:.1f}" if other else f"{other:.4g} | " for other in others]
        target = f"≤ {TARGETS[row]}" if row in TARGETS else ""
        lines.append(f"| {title} | {ours:.4g} | {' | '.join(cells)} | {target} |")
    return "\n".join(lines)


def run(asked, rig: Rig, log: IO[bytes], stack: ExitStack) -> dict[str, dict[str, float]]:
    people = rig.folder / "people.json"
    mover = Part(stack, ["-m", "bench.streams_moves", str(people), str(asked.browsers)], rig.env, log)
    mover.ask(do="seed")
    crowd = Part(stack, ["-m", "bench.streams_crowd", str(people)], rig.env, log)
    found = {}
    for name in asked.only:
        port = free_port()
        with ExitStack() as own:
            server = Part(own, [*SERVERS[name], str(port)], rig.env, log)
            until_it_answers(f"http://127.0.0.1:{port}/healthz")
            wait_for_quiet(asked.patience)
            roots = {"postgres": [rig.postgres.get_pid()], "valkey": [rig.valkey.pid]}
            parts = {"server": server, "crowd": crowd, "mover": mover}
            load = Load(roots | {part: [process.process.pid] for part, process in parts.items()})
            found[name] = measure(server, crowd, mover, rig.env["REDIS_URL"], port, asked)
            found[name]["others"] = load.stop().others * 100
        print(f"{name}: {json.dumps({k: round(v, 2) for k, v in found[name].items()})}", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--browsers", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=20, help="of moves that one sees (%(default)s)")
    parser.add_argument("--rate", type=int, default=100, help="of such moves in a second (%(default)s)")
    parser.add_argument("--idle", type=int, default=16, help="seconds in which nothing happens (%(default)s)")
    parser.add_argument(
        "--only", nargs="*", choices=SERVERS, default=list(SERVERS), help="measure these servers"
    )
    parser.add_argument(
        "--patience", type=int, default=120, help="wait so long for a quiet machine (%(default)s)"
    )
    parser.add_argument(
        "--nice", type=int, default=0, help="e.g. -10, on a machine that others use too (%(default)s)"
    )
    asked = parser.parse_args()
    os.nice(asked.nice)
    with Rig() as rig, ExitStack() as stack:
        log = stack.enter_context((rig.folder / "log").open("w+b"))
        try:
            found = run(asked, rig, log, stack)
        except BaseException:
            log.seek(0)
            print(log.read()[-3000:].decode(), file=sys.stderr)
            raise
    if len(found) == len(SERVERS):
        print(
            f"{asked.browsers} browsers, {asked.rate} moves a second for {asked.seconds} s\n\n{table(found)}"
        )


if __name__ == "__main__":
    main()
