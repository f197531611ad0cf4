"""What a presence check of 10,000 accounts costs beside one of 1,000; and what callbacks cost while checks run.

    python -m bench.presence postgres|sqlite [--accounts 10000] [--reference 1000] [--sweeps 20] [--posts 3200]

After the ordinary checks a tenth of the accounts is missing: the second check that misses them writes their drops. Then
they are online with other wIds. Of the callbacks one in ten reports a drop; the others are messages.
"""

import statistics
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import requests

from bench import report
from bench.process_metrics import CpuUsage, cpu_seconds
from bench.processes import Process, free_port, wait_for_http
from bench.report import Figure, number, percentiles
from bench.services import Services, start_services

SECRET = "only-for-measuring-0123456789"
CLIENTS, RATE = 8, 160  # at once; callbacks a second


def ids(account: int, login: int = 0) -> tuple[str, str]:
    """wcId and wId."""
    return f"wxid_bench{account:08}", str(uuid.UUID(int=login * 10**9 + account))


def seed(accounts: range) -> None:
    from django.db import connection
    from django.utils import timezone

    from accounts.models import Account

    times = ("state_since", "checked_at", "first_login_at", "last_login_at")
    row = {"state": "online", "proxy": 1, **dict.fromkeys(times, timezone.now() - timedelta(days=9))}
    rows = (Account(label=wc_id, wc_id=wc_id, w_id=w_id, **row) for wc_id, w_id in map(ids, accounts))
    Account.objects.bulk_create(rows, batch_size=1000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def check() -> float:
    """Run one presence check; return its time in ms."""
    from accounts.presence import sweep

    began = time.perf_counter()
    result = sweep.check()
    assert result.known, result.unknown_why
    return (time.perf_counter() - began) * 1000


def measure(services: Services, count: int, checks: int) -> dict[str, float]:
    ask, accounts = services.upstream.ask, range(count)
    ask("online", accounts=[ids(account) for account in accounts])
    check()
    calls, usage = ask("state")["presence_checks"], CpuUsage(postgres=services.pids["postgres"])
    times = [check() for _ in range(checks)]
    figures = {"CPU, PostgreSQL's included, ms": sum(usage.stop().used.values()) / checks * 1000}
    figures |= {"median, ms": statistics.median(times), "slowest, ms": max(times)}
    figures["upstream calls"] = (ask("state")["presence_checks"] - calls) / checks
    ask("online", accounts=[ids(account) for account in accounts[count // 10 :]])
    figures |= {"a tenth is missing, ms": check(), "a tenth drops, ms": check()}
    ask("online", accounts=[ids(account, login=account < count // 10) for account in accounts])
    return figures | {"a tenth was logged in elsewhere, ms": check()}


def measure_callbacks(services: Services, count: int) -> dict[str, float]:
    """Post to a web process while this one runs checks."""
    port, over = free_port(), threading.Event()
    url = f"http://127.0.0.1:{port}"

    def keep_checking() -> None:
        while not over.wait(1):
            check()

    def post(number: int) -> float:
        time.sleep(max(0.0, began + number / RATE - time.perf_counter()))
        wc_id, w_id = ids(number % 1000)
        told = {"wId": w_id} | ({} if number % 10 == 0 else {"content": "今天也要好好吃饭", "self": False})
        kind = "30000" if number % 10 == 0 else "60001"
        body = {"account": "bench", "wcId": wc_id, "messageType": kind, "data": told}
        answer = session.post(f"{url}/callbacks/wkteam/{SECRET}/", json=body, timeout=10)
        answer.raise_for_status()
        return answer.elapsed.total_seconds() * 1000

    command, log = ["manage.py", "serve", "--port", str(port)], services.folder / "web.log"
    with Process(command, services.env, log) as web, requests.Session() as session:
        wait_for_http(f"{url}/healthz")
        cpu, began = cpu_seconds(web.pid), time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as clients, ThreadPoolExecutor(1) as thread:
            checking = thread.submit(keep_checking)
            times = list(clients.map(post, range(count)))
            over.set()
            checking.result()
        cpu = (cpu_seconds(web.pid) - cpu) * 1000 / len(times)
    title = f"{RATE} callbacks a second"
    return percentiles(title, times) | {f"{title}: slowest, ms": max(times), f"{title}: CPU of each, ms": cpu}


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("database", choices=["sqlite", "postgres"])
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--reference", type=int, default=1_000, help="accounts measured first (%(default)s)")
    parser.add_argument("--sweeps", type=int, default=20, help="presence checks of each (%(default)s)")
    parser.add_argument("--posts", type=int, default=3_200)
    options = parser.parse_args()
    with start_services(WK_CALLBACK_SECRET=SECRET, LOG_LEVEL="ERROR") as services:
        if options.database == "sqlite":
            services.env["DATABASE_URL"] = f"sqlite:///{services.folder}/bench.sqlite3"
        services.set_up_django()
        seed(range(options.reference))
        small = measure(services, options.reference, options.sweeps)
        seed(range(options.reference, options.accounts))
        large = measure(services, options.accounts, options.sweeps)
        callbacks = measure_callbacks(services, options.posts)
    measured = {f"{options.reference:,} accounts": small, f"{options.accounts:,} accounts": large}
    rows = [[name, number(value), number(large[name])] for name, value in small.items()]
    figures = [Figure(name, value) for name, value in callbacks.items()]
    tables = [report.table(["what", *measured], rows), report.comparison(figures)]
    for size, found in measured.items():
        figures += [Figure(f"{size}: {name}", value) for name, value in found.items()]
    report.finish(figures, options, *tables)


if __name__ == "__main__":
    main()
