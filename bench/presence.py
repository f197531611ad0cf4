"""What a presence check of 10,000 accounts costs beside one of 1,000; and what callbacks cost while checks run."""

import statistics
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import requests

from bench import report
from bench.processes import CpuUsage, Server, cpu_seconds
from bench.services import start_services

SECRET = "only-for-measuring-0123456789"
parser = report.parser(__doc__, accounts=10_000, reference=1_000, sweeps=20, posts=3_200)
parser.add_argument("database", choices=["sqlite", "postgres"])
options = parser.parse_args()
services = start_services(options.database, WK_CALLBACK_SECRET=SECRET, LOG_LEVEL="ERROR")

from django.db import connection
from django.utils import timezone

from accounts.models import Account
from accounts.presence import sweep

CLIENTS, RATE = 8, 160  # at once; callbacks a second


def ids(account: int, login: int = 0) -> tuple[str, str]:
    """wcId and wId."""
    return f"wxid_bench{account:08}", str(uuid.UUID(int=login * 10**9 + account))


def seed(accounts: range) -> None:
    times = ("state_since", "checked_at", "first_login_at", "last_login_at")
    row = {"state": "online", "proxy": 1, **dict.fromkeys(times, timezone.now() - timedelta(days=9))}
    rows = (Account(label=wc_id, wc_id=wc_id, w_id=w_id, **row) for wc_id, w_id in map(ids, accounts))
    Account.objects.bulk_create(rows, batch_size=1000)
    connection.cursor().execute("ANALYZE")


def check() -> float:
    """Run one presence check; return its time in ms."""
    began = time.perf_counter()
    result = sweep.check()
    assert result.known, result.unknown_why
    return (time.perf_counter() - began) * 1000


def measure(count: int) -> dict[str, float]:
    ask, accounts, checks = services.upstream.ask, range(count), options.sweeps
    ask("online", accounts=list(map(ids, accounts)))
    check()
    calls, usage = ask("state")["presence_checks"], CpuUsage(postgres=services.pids["postgres"])
    times = [check() for _ in range(checks)]
    figures = {"CPU, PostgreSQL's included, ms": sum(usage.stop().used.values()) / checks * 1000}
    figures |= {"median, ms": statistics.median(times), "slowest, ms": max(times)}
    figures["upstream calls"] = (ask("state")["presence_checks"] - calls) / checks
    ask("online", accounts=list(map(ids, accounts[count // 10 :])))
    # The second check that misses them writes their drops.
    figures |= {"a tenth is missing, ms": check(), "a tenth drops, ms": check()}
    ask("online", accounts=[ids(account, login=account < count // 10) for account in accounts])
    return figures | {"a tenth was logged in elsewhere, ms": check()}


def measure_callbacks(count: int) -> dict[str, float]:
    """Post to a web process while this one runs checks: one in ten reports a drop, the others are messages."""

    def post(number: int) -> float:
        time.sleep(max(0.0, began + number / RATE - time.perf_counter()))
        wc_id, w_id = ids(number % 1000)
        head, data = {"account": "bench", "wcId": wc_id}, {"wId": w_id}
        said = {"messageType": "60001", "data": data | {"content": "今天也要好好吃饭", "self": False}}
        body = head | (said if number % 10 else {"messageType": "30000", "data": data})
        answer = session.post(f"{web.url}/callbacks/wkteam/{SECRET}/", json=body, timeout=10)
        answer.raise_for_status()
        return answer.elapsed.total_seconds() * 1000

    command, log = ["manage.py", "serve", "--port={port}"], services.folder / "web.log"
    with Server(command, services.env, log) as web, requests.Session() as session:
        cpu, began = cpu_seconds(web.pid), time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as clients:
            posts = [clients.submit(post, number) for number in range(count)]
            while not posts[-1].done():
                time.sleep(1)
                check()
            times = [done.result() for done in posts]
        cpu = (cpu_seconds(web.pid) - cpu) * 1000 / count
    found = {"slowest, ms": max(times), "CPU of each, ms": cpu}
    return report.percentiles(times) | found


def main() -> None:
    seed(range(options.reference))
    small = measure(options.reference)
    seed(range(options.reference, options.accounts))
    large = measure(options.accounts)
    figures = report.figures(large, small, title=f"{options.accounts:,} accounts: ")
    figures += report.figures(measure_callbacks(options.posts), title=f"{RATE} callbacks a second: ")
    report.finish(figures, options)


main()
