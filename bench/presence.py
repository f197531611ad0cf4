"""What it costs to know who is online: a sweep over 10,000 accounts beside the same of 1,000, and the upstream's posts.

    .venv/bin/python -m bench.presence postgres
    .venv/bin/python -m bench.presence sqlite --accounts 10000 --reference 1000

For each size: calls to the upstream and queries of one sweep; its median, slowest, and processor time in ms, the
upstream's answer (its list of everybody) included; then the two sweeps after which a tenth has dropped. The fewest
queries are those of a sweep in which nothing changed. Then a web process of its own is posted what the upstream
posts, nine messages for each notice, by eight senders at once, while sweeps go on: the time of its answers.
"""

# ruff: noqa: PLC0415 - Django is set up for the database that is made first
import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.rig import ROOT, Rig, free_port

SECRET = "only-for-measuring-0123456789"
SENDERS, A_SECOND = 8, 20


class Lister:
    """The upstream: `/queryLoginWx` lists whom it is told to; `calls` counts what it was asked."""

    def __init__(self):
        self.body, self.calls = b"", 0
        lister = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # noqa: N802 - the library's name
                self.rfile.read(int(self.headers["Content-Length"]))
                lister.calls += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(lister.body)))
                self.end_headers()
                self.wfile.write(lister.body)

            def log_message(self, *_words) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def list(self, pairs: list[tuple[str, str]]) -> None:
        data = [{"wcId": wc_id, "wId": w_id} for wc_id, w_id in pairs]
        self.body = json.dumps({"code": "1000", "message": "成功", "data": data}).encode()


def pair(number: int) -> tuple[str, str]:
    return f"wxid_bench{number:08}", str(uuid.UUID(int=number))


def seed(first: int, last: int) -> None:
    from django.db import connection
    from django.utils import timezone

    from accounts.models import Account
    from accounts.states import AccountState

    since = timezone.now() - timedelta(days=9)
    times = {"first_login_at": since, "last_login_at": since, "state_since": since, "verified_at": since}
    rows = [(f"Shop {number}", *pair(number)) for number in range(first, last)]
    Account.objects.bulk_create(
        [
            Account(label=label, wc_id=wc_id, w_id=w_id, state=AccountState.ONLINE, proxy=1, **times)
            for label, wc_id, w_id in rows
        ],
        batch_size=1000,
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def measured(lister: Lister, sweeps: int) -> dict[str, float]:
    """Of so many sweeps one after the other."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from accounts.presence import sweep

    walls, cpus, calls, found = [], [], lister.calls, None
    for _ in range(sweeps):
        began, worked = time.perf_counter(), cpu_seconds()
        found = sweep.check()
        walls.append((time.perf_counter() - began) * 1000)
        cpus.append((cpu_seconds() - worked) * 1000)
    calls = (lister.calls - calls) / sweeps
    with CaptureQueriesContext(connection) as queries:
        last = sweep.check()
    assert found.known and last.known, found.unknown_why
    return {
        "calls": calls,
        "queries": len(queries),
        "median": statistics.median(walls),
        "slowest": max(walls),
        "cpu": statistics.median(cpus),
    }


def cpu_seconds() -> float:
    """Of this process, and of PostgreSQL's for its connection."""
    from django.db import connection

    seconds = time.process_time()
    if connection.vendor == "postgresql":
        connection.ensure_connection()
        seconds += of_process(connection.connection.info.backend_pid)
    return seconds


def of_process(pid: int) -> float:
    return (
        sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    )


def of_size(lister: Lister, count: int, sweeps: int) -> None:
    from accounts.presence import sweep

    everybody = [pair(number) for number in range(count)]
    lister.list(everybody)
    sweep.check()
    told = measured(lister, sweeps)
    print(
        f"{count:>7,} accounts: {told['calls']:g} call, {told['queries']} queries; median {told['median']:.0f} ms, "
        f"slowest {told['slowest']:.0f} ms, processor {told['cpu']:.0f} ms; list of {len(lister.body) / 1024:.0f} kB"
    )
    lister.list(everybody[count // 10 :])
    for expected in ("absent", "offline"):
        began = time.perf_counter()
        swept = sweep.check()
        milliseconds = (time.perf_counter() - began) * 1000
        print(f"{'':>17} {len(getattr(swept, expected)):,} {expected}: {milliseconds:.0f} ms")
    lister.list(everybody)
    began = time.perf_counter()
    swept = sweep.check()
    print(
        f"{'':>17} {len(swept.back):,} back, logged in elsewhere: {(time.perf_counter() - began) * 1000:.0f} ms"
    )


def posts(lister: Lister, env: dict[str, str], count: int) -> None:
    """Answers of a web process to what the upstream posts, while sweeps go on in this one."""
    from accounts.presence import sweep

    port = free_port()
    command = [sys.executable, "manage.py", "serve", "--port", str(port)]
    web = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    over = threading.Event()

    def sweep_on() -> None:
        while not over.wait(1):
            sweep.check()

    try:
        until_up(port)
        worked = of_process(web.pid)
        sweeping = threading.Thread(target=sweep_on)
        sweeping.start()
        with ThreadPoolExecutor(SENDERS) as senders:
            shares = [senders.submit(post_many, port, n, count // SENDERS) for n in range(SENDERS)]
            took = sorted(ms for share in shares for ms in share.result())
        worked = (of_process(web.pid) - worked) * 1000 / len(took)
        over.set()
        sweeping.join()
    finally:
        over.set()
        web.kill()
        web.wait()
    p50, p99 = (took[int(len(took) * part)] for part in (0.5, 0.99))
    print(
        f"{len(took):>7,} posts, {SENDERS * A_SECOND} a second: median {p50:.1f} ms, p99 {p99:.1f} ms, slowest {took[-1]:.1f} ms, "
        f"processor {worked:.1f} ms"
    )


def until_up(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        wire = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            wire.request("GET", "/healthz")
            if wire.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.05)
        finally:
            wire.close()
    raise RuntimeError("the web process did not start")


def post_many(port: int, sender: int, count: int) -> list[float]:
    wire, took = http.client.HTTPConnection("127.0.0.1", port, timeout=10), []
    start = time.perf_counter() + sender / SENDERS / A_SECOND
    for number in range(count):
        time.sleep(max(0.0, start + number / A_SECOND - time.perf_counter()))
        wc_id, w_id = pair(sender * 1000 + number % 1000)
        kind, data = (
            "60001",
            {"wId": w_id, "content": "今天也要好好吃饭", "fromUser": "wxid_x", "self": False},
        )
        if number % 10 == 0:
            kind, data = "30000", {"wId": w_id}
        body = json.dumps({"account": "bench", "wcId": wc_id, "messageType": kind, "data": data}).encode()
        began = time.perf_counter()
        wire.request("POST", f"/callbacks/wkteam/{SECRET}/", body, {"Content-Type": "application/json"})
        answer = wire.getresponse()
        answer.read()
        took.append((time.perf_counter() - began) * 1000)
        assert answer.status == 200, answer.status
    wire.close()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("database", choices=["sqlite", "postgres"])
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--reference", type=int, default=1_000)
    parser.add_argument("--sweeps", type=int, default=20)
    parser.add_argument("--posts", type=int, default=3_200)
    options = parser.parse_args()
    with Rig() as rig:
        lister = Lister()
        env = rig.env | {"WK_BASE_URL": lister.url, "WK_CALLBACK_SECRET": SECRET, "LOG_LEVEL": "ERROR"}
        if options.database == "sqlite":
            env["DATABASE_URL"] = f"sqlite:///{rig.folder}/bench.sqlite3"
        os.environ.update(env)

        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connection

        call_command("migrate", verbosity=0)
        seed(0, options.reference)
        of_size(lister, options.reference, options.sweeps)
        seed(options.reference, options.accounts)
        of_size(lister, options.accounts, options.sweeps)
        posts(lister, env, options.posts)
        connection.close()


if __name__ == "__main__":
    main()
