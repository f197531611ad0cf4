"""What live updates cost: thousands of open `/events/` streams on one web process, and logins that one browser each sees.

    python -m bench.streams [--browsers 2000] [--rate 100]

Each browser (streams/browsers.py holds all) has a user, a team, and an account with a login in progress, which moves once.
The product's web process runs on PostgreSQL and Valkey. The reference, with the same browsers and logins, is an ASGI
application that can do nothing but pass such events on (streams/reference.py).
"""

import time
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor

import psutil
import redis
import requests

from bench import report
from bench.process_metrics import CpuUsage, cpu_seconds
from bench.processes import Process, free_port, wait_for_http
from bench.services import Services, start_services

SERVERS = {"wkportal": ["manage.py", "serve", "--port"], "reference": ["-m", "bench.streams.reference"]}
WARM_UP, BROADCASTS, SETTLE_SECONDS = 50, 5, 3
PINGED_SECONDS, PAGE_EVERY, PAGE_SECONDS = 16, 0.1, 10
LOST = "lost, or heard by another browser"
AIMS = {"one sees it: p99, ms": 20, "memory for a browser, kB": 60, "connections that listen": 1, LOST: 0}
AIMS |= {"after a restart, all are live after, s": 10, "another page meanwhile: p95, ms": 300}


class Run:
    """One server with all browsers."""

    def __init__(self, services: Services, options: Namespace, browsers: Process, logins):
        self.services, self.options, self.browsers, self.logins = services, options, browsers, logins
        self.cookies = {"wkportal_session": logins.people[0]["cookie"]}

    def measure(self, name: str) -> dict[str, float]:
        port = free_port()
        command, log = [*SERVERS[name], str(port)], self.services.folder / f"{name}.log"
        with Process(command, self.services.env, log) as server:
            wait_for_http(f"http://127.0.0.1:{port}/healthz")
            figures = self.open(server, port) | self.idle(server)
            figures |= self.one_sees_it(server) | self.all_see_it()
            if name == "wkportal":
                time.sleep(PINGED_SECONDS)
                figures |= self.come_back(server, port)
            self.browsers.ask("close")
        return figures

    def come_back(self, server: Process, port: int) -> dict[str, float]:
        """Restart web under all streams, with a page a tenth of a second that somebody opens."""
        url, times, refused = f"http://127.0.0.1:{port}", [], 0
        with ThreadPoolExecutor(1) as thread:
            coming = thread.submit(self.browsers.ask, "come_back", port=port)
            server.kill()
            server.start()
            wait_for_http(f"{url}/healthz")
            began, cpu = time.time(), cpu_seconds(server.pid)
            while not coming.done() or time.time() < began + PAGE_SECONDS:
                page = requests.get(f"{url}/accounts/", cookies=self.cookies, timeout=60)
                refused += not page.ok
                times.append(page.elapsed.total_seconds() * 1000)
                time.sleep(PAGE_EVERY)
        found = coming.result()
        return {
            "after a restart, all are live after, s": max(found["live"]) - began,
            "pages that reload": len(found["reloaded"]),
            "the last has reloaded after, s": max(found["reloaded"], default=began) - began,
            "CPU for all that, s": cpu_seconds(server.pid) - cpu,
            "another page meanwhile: p95, ms": report.percentile(times, 95),
            "other pages refused, %": refused / len(times) * 100,
        }

    def open(self, server: Process, port: int) -> dict[str, float]:
        count, memory = self.options.browsers, psutil.Process(server.pid).memory_info
        self.browsers.ask("open", port=port, count=min(WARM_UP, count))
        self.browsers.ask("close")
        time.sleep(SETTLE_SECONDS)
        rss, cpu = memory().rss, cpu_seconds(server.pid)
        if refused := self.browsers.ask("open", port=port, count=count):
            raise RuntimeError(f"{refused} streams were refused: {server.log}")
        cpu = cpu_seconds(server.pid) - cpu
        time.sleep(SETTLE_SECONDS)
        rss = memory().rss - rss
        return {"memory for a browser, kB": rss / count / 1024, "CPU for a connect, ms": cpu / count * 1000}

    def idle(self, server: Process) -> dict[str, float]:
        with redis.Redis.from_url(self.services.env["REDIS_URL"]) as client:
            listening = len(client.client_list(_type="pubsub"))
        usage = CpuUsage(server=server.pid, browsers=self.browsers.pid)
        time.sleep(self.options.idle)
        share = usage.stop().used["server"] / usage.seconds * 100
        print(*usage.warning)
        return {"connections that listen": listening, "CPU while nothing happens, % of a core": share}

    def one_sees_it(self, server: Process) -> dict[str, float]:
        self.browsers.ask("forget")
        cpu = cpu_seconds(server.pid)
        committed = self.logins.move_all(self.options.rate)
        time.sleep(1)
        cpu = cpu_seconds(server.pid) - cpu
        heard, moves = self.browsers.ask("heard"), len(committed)
        wrong = sum(browser != place for browser, place, _moment in heard)
        times = [(moment - committed.pop(place, moment)) * 1000 for _browser, place, moment in heard]
        found = {LOST: len(committed) + wrong, "CPU for one event, µs": cpu / moves * 1e6}
        return report.percentiles("one sees it", times) | found

    def all_see_it(self) -> dict[str, float]:
        times = []
        for _round in range(BROADCASTS):
            self.browsers.ask("forget")
            committed = self.logins.broadcast()
            time.sleep(SETTLE_SECONDS)
            heard = self.browsers.ask("heard")
            if len(heard) != self.options.browsers:
                raise RuntimeError(f"{len(heard)} browsers heard the broadcast")
            times += [(moment - committed) * 1000 for _browser, _place, moment in heard]
        return report.percentiles("all see it", times)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--browsers", type=int, default=2000)
    parser.add_argument("--rate", type=int, default=100, help="logins that move in a second (%(default)s)")
    parser.add_argument("--idle", type=int, default=16, help="seconds in which nothing happens (%(default)s)")
    options = parser.parse_args()
    with start_services() as services:
        services.set_up_django()
        from bench.streams.logins import Logins

        logins, log = Logins(options.browsers), services.folder / "browsers.log"
        with Process(["-m", "bench.streams.browsers"], services.env, log, answers=True) as browsers:
            browsers.ask("set_people", people=logins.people)
            run = Run(services, options, browsers, logins)
            ours, reference = (run.measure(name) for name in SERVERS)
    figures = [
        report.Figure(name, value, reference.get(name), AIMS.get(name)) for name, value in ours.items()
    ]
    report.finish(figures, options)


main()
