"""What live updates cost: thousands of open `/events/` streams on one web process, and logins that one browser each sees.

Each browser has a user, a team, and an account with a login in progress, which moves once. The reference, with the same
browsers and logins, is an ASGI application that can do nothing but pass such events on.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psutil
import requests

from bench import report
from bench.processes import CpuUsage, Process, Server, cpu_seconds
from bench.services import start_services

options = report.parser(__doc__, browsers=2000).parse_args()
services = start_services()

from django.db import transaction
from django.utils import timezone

from accounts.models import Account, LoginAttempt, Team, WaitsWorker
from accounts.models.event import record
from tests.support.factories import make_people, session_key

WKPORTAL = ["manage.py", "serve", "--port={port}"]
REFERENCE = ["-m", "uvicorn", "bench.streams.reference:application", "--port={port}", "--lifespan=off"]
REFERENCE += ["--log-level=warning"]
RATE, WARM_UP, BROADCASTS = 100, 50, 5
SETTLE_SECONDS, IDLE_SECONDS, PINGED_SECONDS = 3, 16, 16
PAGE_EVERY, PAGE_SECONDS = 0.1, 10
NEXT = {"waiting": "code_required", "code_required": "waiting"}
LOST = "lost, or heard by another browser"
AIMS = {"one sees it: p99, ms": 20, "memory for a browser, kB": 60, "connections that listen": 1, LOST: 0}
AIMS |= {"after a restart, all are live after, s": 10, "another page meanwhile: p95, ms": 300}


class Logins:
    """One of an account of each browser's team, whose wait a worker holds; and an account that all see."""

    def __init__(self):
        names = ["Everybody", *(f"Team {number:05}" for number in range(options.browsers))]
        everybody, *teams = Team.objects.bulk_create(Team(name=name) for name in names)
        now, tomorrow = timezone.now(), timezone.now() + timedelta(days=1)
        WaitsWorker.objects.create(name="worker", alive_until=tomorrow)
        self.seen_by_all = Account.objects.create(label="Seen by all", team=everybody)
        accounts = Account.objects.bulk_create(Account(label=team.name, team=team) for team in teams)
        row = {"seq": 1, "state": "waiting", "qr_shown_at": now, "deadline_at": tomorrow}
        row |= {"lease_owner": "worker", "lease_epoch": 1}
        attempts = (LoginAttempt(account=account, **row) for account in accounts)
        self.attempts = LoginAttempt.objects.bulk_create(attempts)
        users = make_people([(f"of {team}", "operator", team) for team in teams], superusers=set())
        everybody.user_set.add(*users)
        self.people = []  # each with the cookie of a session, teams, and the attempt that this browser sees
        for user, team, attempt in zip(users, teams, self.attempts, strict=True):
            self.people.append((session_key(user), (team.pk, everybody.pk), attempt.pk))


def commit(change: Callable, *arguments) -> float:
    """Return when the change was committed: a moment before its event is published."""
    moments = []
    with transaction.atomic():
        transaction.on_commit(lambda: moments.append(time.time()))
        change(*arguments)
    return moments[0]


class Run:
    """One server with all browsers."""

    def __init__(self, server: Server, browsers: Process, logins: Logins):
        self.server, self.browsers, self.ask, self.logins = server, browsers, browsers.ask, logins

    def measure(self) -> dict[str, float]:
        return self.open() | self.idle() | self.one_sees_it() | self.all_see_it()

    def open(self) -> dict[str, float]:
        port, pid, count = self.server.port, self.server.pid, options.browsers
        memory = psutil.Process(pid).memory_info
        self.ask("open", port=port, count=min(WARM_UP, count))
        self.ask("close")
        time.sleep(SETTLE_SECONDS)
        rss, cpu = memory().rss, cpu_seconds(pid)
        refused = self.ask("open", port=port, count=count)
        assert not refused, f"{refused} streams were refused: {self.server.log.read_text()}"
        cpu = (cpu_seconds(pid) - cpu) * 1000 / count
        time.sleep(SETTLE_SECONDS)
        rss = (memory().rss - rss) / 1024 / count
        return {"memory for a browser, kB": rss, "CPU for a connect, ms": cpu}

    def idle(self) -> dict[str, float]:
        listening = len(services.valkey.client_list(_type="pubsub"))
        usage = CpuUsage(server=self.server.pid, browsers=self.browsers.pid)
        time.sleep(IDLE_SECONDS)
        share = usage.stop().used["server"] / usage.seconds * 100
        print(*usage.warning)
        return {"connections that listen": listening, "CPU while nothing happens, % of a core": share}

    def one_sees_it(self) -> dict[str, float]:
        self.ask("heard")
        cpu = cpu_seconds(self.server.pid)
        committed, began = {}, time.monotonic()  # by the place of the browser that sees it
        for place, attempt in enumerate(self.logins.attempts):
            time.sleep(max(0.0, began + place / RATE - time.monotonic()))
            committed[place] = commit(attempt.move, NEXT[attempt.state])
        time.sleep(1)
        cpu = (cpu_seconds(self.server.pid) - cpu) * 1e6 / options.browsers
        heard = self.ask("heard")
        wrong = sum(browser != place for browser, place, _moment in heard)
        times = [(moment - committed.pop(place, moment)) * 1000 for _browser, place, moment in heard]
        found = {LOST: len(committed) + wrong, "CPU for one event, µs": cpu}
        return report.percentiles(times, "one sees it: ") | found

    def all_see_it(self) -> dict[str, float]:
        times = []
        for _round in range(BROADCASTS):
            committed = commit(record, self.logins.seen_by_all, "changed")
            time.sleep(SETTLE_SECONDS)
            heard = self.ask("heard")
            assert len(heard) == options.browsers, f"{len(heard)} browsers heard the broadcast"
            times += [(moment - committed) * 1000 for _browser, _place, moment in heard]
        return report.percentiles(times, "all see it: ")

    def come_back(self) -> dict[str, float]:
        """Restart web under all streams, with a page a tenth of a second that somebody opens."""
        server, pages, cookies = self.server, [], {"wkportal_session": self.logins.people[0][0]}
        time.sleep(PINGED_SECONDS)
        with ThreadPoolExecutor(1) as thread:
            coming = thread.submit(self.ask, "come_back", port=server.port)
            server.kill()
            server.start()
            began, cpu = time.time(), cpu_seconds(server.pid)
            while not coming.done() or time.time() < began + PAGE_SECONDS:
                pages.append(requests.get(f"{server.url}/accounts/", cookies=cookies, timeout=60))
                time.sleep(PAGE_EVERY)
        (live, reloads), times = coming.result(), [page.elapsed.total_seconds() * 1000 for page in pages]
        return {
            "after a restart, all are live after, s": max(live) - began,
            "pages that reload": reloads,
            "CPU for all that, s": cpu_seconds(server.pid) - cpu,
            "another page meanwhile: p95, ms": report.percentile(times, 95),
            "other pages refused, %": sum(not page.ok for page in pages) / len(pages) * 100,
        }


def main() -> None:
    env, folder, logins = services.env, services.folder, Logins()
    with Process(["-m", "bench.streams.browsers"], env, folder / "browsers.log", answers=True) as browsers:
        browsers.ask("set_people", people=logins.people)
        with Server(WKPORTAL, env, folder / "web.log") as server:
            run = Run(server, browsers, logins)
            ours = run.measure() | run.come_back()
            browsers.ask("close")
        with Server(REFERENCE, env, folder / "reference.log") as server:
            reference = Run(server, browsers, logins).measure()
    report.finish(report.figures(ours, reference, AIMS), options)


main()
