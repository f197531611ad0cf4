"""A week of two hundred accounts, or two days of some, run by a clock that jumps from one thing to the next.

The engine is the real one, with its rows in the real database: presence, recovery, plans, incidents, messages, and
the waits. In place of the upstream stand the phones: who is online there, who taps a prompt, and everything that they
were asked, with the time. People scan what is on the list "To scan" in working hours.
"""

import heapq
import json
import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from zoneinfo import ZoneInfo

from accounts.lib import db_clock, db_errors
from accounts.logins import expire, leases, popup, start, wait
from accounts.models import Account, Channel, Plan, RecoveryPolicy, Rule, Tag
from accounts.models.plan import PlanMethod
from accounts.notifications import dispatch
from accounts.presence import offline
from accounts.presence import sweep as presence_sweep
from accounts.proxies import OwnProxy
from accounts.relogin import plan_runs, recover
from accounts.states import AccountState, NotificationKind
from accounts.upstream import configured
from accounts.upstream.errors import Unreachable
from accounts.upstream.presence_responses import Online
from accounts.upstream.responses import Ending, LoggedIn, LoginCode, NotLoggedIn, Profile
from tests.support.model_based.upstream import picture
from tests.support.model_based.world import Process
from tests.support.undue_steps import check_undue_steps

ZONE = ZoneInfo("Asia/Shanghai")
BEGINNING = datetime(2026, 3, 2, tzinfo=ZONE).astimezone(UTC)  # a Monday
DAY = timedelta(days=1)
PHONE_HOURS = (time(8), time(22))
PLAN_TIME = time(12, 30)  # on one day nothing runs then
MASS_PROXY = 3
CHECKED_EVERY = 70  # seconds


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return BEGINNING + timedelta(days=day, hours=hour, minutes=minute)


@dataclass(frozen=True)
class Course:
    """How long it takes, for whom, and what happens when."""

    days: int
    established: int
    newcomers: int
    mass: int  # so many drop together
    mass_drop: datetime
    down: tuple[datetime, datetime]  # nothing of the product runs
    outage: tuple[datetime, datetime]  # the upstream does not answer
    last_drops: datetime  # half an hour after the people have gone
    days_online: float  # of an account, on average
    drops_at_once: float = 0.03  # of all logins
    step: timedelta = timedelta(minutes=15)  # by day; four times as long at night
    pace: int = 10  # prompts a minute, of which a step has one

    @property
    def end(self) -> datetime:
        return at(self.days, 0)

    @property
    def people_go(self) -> datetime:
        return self.last_drops - timedelta(minutes=30)

    @property
    def on_mass_proxy(self) -> int:
        """Of every second one of so many accounts, the proxy is MASS_PROXY."""
        return self.established * 7 // 9


SEVEN_DAYS = Course(
    7, 180, 20, 60, at(3, 15), (at(4, 12), at(4, 14)), (at(5, 2), at(5, 4)), at(6, 10, 30), days_online=5
)
TWO_DAYS = Course(
    *(2, 60, 8, 20, at(0, 15), (at(0, 12), at(0, 14)), (at(1, 2), at(1, 4)), at(1, 14, 30)),
    days_online=1,
    drops_at_once=0.1,
    step=timedelta(minutes=40),
    pace=20,
)


@dataclass
class Phones:
    """In place of `login.client()`."""

    week: "Week"
    there: dict[str, str] = field(default_factory=dict)
    taps: set[str] = field(default_factory=set)  # of these accounts, prompts are tapped
    no_prompt: set[str] = field(default_factory=set)  # after a first-day drop a prompt does not help
    codes: dict[str, str] = field(default_factory=dict)
    prompts: list[tuple[datetime, str]] = field(default_factory=list)
    asked_why: list[tuple[datetime, str]] = field(default_factory=list)
    numbers: count = field(default_factory=lambda: count(1))

    def online(self, _seconds: float | None = None) -> list[Online]:
        if self.week.course.outage[0] <= self.week.at < self.week.course.outage[1]:
            raise Unreachable("outage")
        return [Online(wc_id, w_id) for wc_id, w_id in self.there.items()]

    def is_online(self, w_id: str) -> bool:
        return w_id in self.there.values()

    def offline_reason(self, wc_id: str) -> str:
        self.asked_why.append((self.week.at, wc_id))
        return "登录出现错误，请你重新登录。"

    def second_login(self, wc_id: str, _seconds: float, _call=None) -> LoggedIn | NotLoggedIn:
        self.prompts.append((self.week.at, wc_id))
        self.week.pass_time(8)
        if wc_id in self.no_prompt:
            return NotLoggedIn(Ending.REFUSED, "1001", "系统失败,请重试")
        if wc_id not in self.taps:
            return NotLoggedIn(Ending.RUN_OUT, "1001", "操作超时")
        return self.logs_in(wc_id)

    def fetch_qr_code(self, wc_id: str, _proxy: int | None, _own: OwnProxy | None) -> LoginCode:
        w_id = f"w{next(self.numbers)}"
        self.codes[w_id] = wc_id
        return LoginCode(w_id, "https://upstream.example/code.png", "")

    def fetch_picture(self, _url: str, _hosts: list[str]) -> bytes:
        return picture()

    def wait_for_login(self, w_id: str, _code: str, _seconds: float, _call=None) -> LoggedIn:
        self.week.pass_time(12)
        return self.logs_in(self.codes.pop(w_id) or f"wxid_first_{w_id}", w_id)

    def logs_in(self, wc_id: str, w_id: str = "") -> LoggedIn:
        w_id = w_id or f"w{next(self.numbers)}"
        first = wc_id.startswith("wxid_first_") and wc_id not in self.week.first_nights
        self.there[wc_id] = w_id
        self.week.will_drop(wc_id, first)
        return LoggedIn(Profile(wc_id=wc_id, w_id=w_id, nickname="Phone"), "1000", "成功")


class Mailbox(ThreadingHTTPServer):
    """Receives notifications over HTTP."""

    daemon_threads = True

    def __init__(self):
        self.messages: list[dict] = []
        super().__init__(("127.0.0.1", 0), _Letter)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"json://127.0.0.1:{self.server_port}/"


class _Letter(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.messages.append(json.loads(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_args) -> None:
        pass


class Week:
    def __init__(self, course: Course, seed: int):
        self.course = course
        self.at = BEGINNING
        self.dice = random.Random(seed)
        self.phones = Phones(self)
        self.process = Process("week")
        self.events: list[tuple[datetime, int, str, str]] = []  # when, turn, wcId, wId
        self.turns = count()
        self.first_nights: set[str] = set()
        self.dropped: Counter = Counter()
        self.operator = None
        self.is_even = False  # every other time what is not due is looked at before the work, else after it

    # --- time

    def now(self) -> datetime:
        self.at += timedelta(microseconds=50)
        return self.at

    def monotonic(self) -> float:
        return (self.at - BEGINNING).total_seconds() + 1000

    def pass_time(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    def local(self, at: datetime) -> datetime:
        return at.astimezone(ZONE)

    # --- what happens to phones

    def will_drop(self, wc_id: str, first: bool = False) -> None:
        if first:
            self.first_nights.add(wc_id)
            after = timedelta(hours=self.dice.uniform(2, 23))
        elif self.dice.random() < self.course.drops_at_once:
            after = timedelta(seconds=self.dice.uniform(20, 45))
        else:
            after = timedelta(days=self.dice.expovariate(1 / self.course.days_online))
        at = self.at + after
        if at < self.course.last_drops - timedelta(hours=2):
            self.happens(at, wc_id)

    def happens(self, at: datetime, wc_id: str) -> None:
        heapq.heappush(self.events, (at, next(self.turns), wc_id, self.phones.there[wc_id]))

    def drop(self, wc_id: str, w_id: str) -> None:
        if self.phones.there.get(wc_id) != w_id:
            return  # a login came in between
        del self.phones.there[wc_id]
        self.dropped[wc_id] += 1
        once = wc_id in self.first_nights and self.dropped[wc_id] == 1
        (self.phones.no_prompt.add if once else self.phones.no_prompt.discard)(wc_id)
        called_back = self.dice.random() < 0.5 and not self.is_down
        if called_back and presence_sweep.callback_received(w_id, wc_id):
            self.sweep()

    @property
    def is_day(self) -> bool:
        return PHONE_HOURS[0] <= self.local(self.at).time() < PHONE_HOURS[1]

    @property
    def is_down(self) -> bool:
        return self.course.down[0] <= self.at < self.course.down[1]

    # --- what the product's processes do

    def sweep(self) -> None:
        presence_sweep.check_if_due()

    def work(self) -> None:
        """Everything that the tasks and the workers do within a few seconds, twice: what is begun goes on."""
        # Two checks that miss an account take it offline, long before the next step.
        self.sweep()
        self.pass_time(CHECKED_EVERY)
        self.sweep()
        self.process.holder.renew()
        if offline.reasons_are_due():
            offline.ask_reasons()
        if self.is_even:
            check_undue_steps(self.now())
        for _again in range(2):
            offline.end_drops()
            recover.tick()
            plan_runs.tick()
            self.pass_time(3)
            for lease in leases.claim_orphaned():
                wait.wait_with_lease(lease)
        if not self.is_even:
            check_undue_steps(self.now())
        self.is_even = not self.is_even
        for channel_id in dispatch.tick():
            dispatch.send(channel_id)
        expire.end_overdue()

    def people_scan(self) -> None:
        local = self.local(self.at)
        if not (time(9) <= local.time() < time(18)) or self.at > self.course.people_go:
            return
        for account in list(Account.objects.to_scan()[:6]):
            attempt, begun = start.start_login(account, by=self.operator)
            if begun and start.fetch_qr_code(attempt):
                wait.wait_for_phone(attempt.pk)

    def run(self) -> None:
        mass = last = False
        while self.at < self.course.end:
            until = self.at + self.course.step * (1 if self.is_day else 4)
            while self.events and self.events[0][0] <= until:
                at, _turn, wc_id, w_id = heapq.heappop(self.events)
                self.at = max(self.at, at)
                self.drop(wc_id, w_id)
            self.at = max(self.at, until)
            if not mass and self.at >= self.course.mass_drop:
                mass = self.many_drop(self.course.mass, MASS_PROXY)
            if not last and self.at >= self.course.last_drops:
                last = self.many_drop(8, None)
            if not self.is_down:
                self.work()
                self.people_scan()

    def many_drop(self, most: int, line: int | None) -> bool:
        rows = Account.objects.filter(state=AccountState.ONLINE, keep_online=True)
        rows = rows.filter(proxy=line).order_by("pk") if line else rows.order_by("-pk")
        for wc_id, w_id in list(rows.values_list("wc_id", "w_id")[:most]):
            if self.phones.there.get(wc_id) == w_id:
                del self.phones.there[wc_id]
                self.phones.no_prompt.discard(wc_id)
                self.dropped[wc_id] += 1
        return True

    # --- before it begins

    def people(self, users, team) -> None:
        self.operator = users.create_user("operator")
        policy = RecoveryPolicy.objects.filter(is_default=True).first() or RecoveryPolicy(is_default=True)
        policy.name, policy.prompts_a_day, policy.prompts_a_minute = "Default", 3, self.course.pace
        policy.hours_from, policy.hours_until = PHONE_HOURS
        policy.time_zone = ZONE.key
        policy.save()
        only_scan = RecoveryPolicy.objects.create(name="Only scanned", popup=False)
        nightly = Tag.objects.create(name="renewed daily")
        for n in range(self.course.established):
            self.established(n, team, only_scan if n % 18 == 5 else None, nightly if n % 12 == 7 else None)
        for n in range(self.course.newcomers):
            due = BEGINNING + timedelta(hours=9, minutes=10 * n)
            Account.objects.create(label=f"New {n}", team=team, proxy=1, relogin_at=due, state_since=self.at)
        plan = Plan(name="Renew", state="", at=PLAN_TIME, weekdays="1,2,3,4,5,6,7", time_zone=ZONE.key)
        plan.method, plan.most_a_minute = PlanMethod.POPUP, self.course.pace
        plan.save()
        plan.tags.add(nightly)

    def established(self, n: int, team, policy, tag) -> None:
        wc_id, w_id = f"wxid_old_{n:03}", f"w{next(self.phones.numbers)}"
        self.phones.there[wc_id] = w_id
        if n % 2:
            self.phones.taps.add(wc_id)
        account = Account.objects.create(
            label=f"Shop {n}", team=team, wc_id=wc_id, w_id=w_id, state=AccountState.ONLINE, policy=policy,
            state_since=self.at - 9 * DAY, first_login_at=self.at - 30 * DAY, last_login_at=self.at - 9 * DAY,
            proxy=MASS_PROXY if n % 2 == 0 and n < self.course.on_mass_proxy else 1 + n % 2, keep_online=n % 18 != 0,
        )  # fmt: skip
        if n % 36 == 11:
            account.hours_from, account.hours_until, account.time_zone = time(12), time(13), "Asia/Urumqi"
            account.save()
        if tag:
            account.tags.add(tag)
        self.will_drop(wc_id)


def make_channel(mailbox: Mailbox) -> Channel:
    channel = Channel.objects.create(name="Desk", url=mailbox.address, language="en")
    kinds = [
        NotificationKind.OFFLINE,
        NotificationKind.TO_SCAN,
        NotificationKind.BACK,
        NotificationKind.INCIDENT,
    ]
    Rule.objects.create(
        channel=channel, kinds=[*kinds, NotificationKind.INCIDENT_OVER, NotificationKind.PLAN]
    )
    return channel


def install(week: Week, monkeypatch) -> None:
    class Time:
        monotonic = staticmethod(lambda: week.monotonic())
        sleep = staticmethod(lambda seconds: week.pass_time(seconds))

    for module in (leases, db_errors, popup, wait, offline):
        monkeypatch.setattr(module, "time", Time)
    monkeypatch.setattr(db_clock, "now", lambda: week.now())
    monkeypatch.setattr(leases, "_holder", week.process.holder)
    monkeypatch.setattr(configured, "client", lambda: week.phones)
    monkeypatch.setattr(configured, "client_for", lambda _attempt: week.phones)
    for module in (presence_sweep, recover, dispatch):
        monkeypatch.setattr(module, "random", random.Random(week.dice.random()))
