"""One run of logins on one side: begin N waits, hold them, answer them, and look at what it took."""

import sys
import time
from dataclasses import asdict, dataclass, field

from bench import gauges, rows, sides
from bench.rig import Rig
from bench.sides import Side

WARM_UP = 20
SETTLE_SECONDS = 2
PLACES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1}
SLOW_SECONDS = 0.1
PATIENCE = 20  # seconds without any progress, after which the rest is lost


@dataclass
class Result:
    """Times in seconds, delivery in ms, memory in kB, processor time in ms per login."""

    name: str
    count: int
    rate: float = 0
    within: float = 0
    held: int = 0
    all_in: float = 0
    rss_idle: int = 0
    rss_hold: int = 0
    rss_peak: int = 0
    pss_idle: int = 0
    pss_hold: int = 0
    pss_children: int = 0  # of its child processes alone
    idle_percent: float = 0  # of one core, while all wait
    cpu_start: float = 0
    cpu_deliver: float = 0
    busy_deliver: float = 0  # of one core
    postgres_cpu: float = 0
    valkey_cpu: float = 0
    backends_hold: int = 0
    backends_peak: int = 0
    delivery: dict[str, float] = field(default_factory=dict)
    stalls: dict[int, float] = field(
        default_factory=dict
    )  # slowest delivery of each second that had a slow one
    last_after: float = 0  # from the first answer to the last commit
    lost: int = 0
    repeated: int = 0
    most_parallel: int = 0
    events: int = 0
    events_expected: int = 0
    looks: dict[str, object] = field(default_factory=dict)
    others: dict[str, float] = field(default_factory=dict)  # of one core, in each part of the run
    complaints: list[str] = field(default_factory=list)  # lines of its log that speak of trouble

    @property
    def starts_per_second(self) -> float:
        return self.count / self.all_in if self.all_in else 0

    @property
    def rss_each(self) -> float:
        return (self.rss_hold - self.rss_idle) / self.count

    @property
    def pss_each(self) -> float:
        return (self.pss_hold - self.pss_idle) / self.count

    @property
    def cpu(self) -> float:
        return self.cpu_start + self.cpu_deliver

    def as_dict(self) -> dict:
        named = ("starts_per_second", "rss_each", "pss_each", "cpu")
        found = asdict(self) | {name: getattr(self, name) for name in named}
        del found["looks"]
        return found


@dataclass
class Plan:
    """How many waits, and how they are answered: `rate` a second, or all `within` seconds."""

    count: int
    rate: float = 100
    within: float = 0
    idle_seconds: float = 5
    with_rows: bool = True
    shown: bool = True  # else the logins begin with asking for the code
    refill: bool = False  # for each answer another login begins, so that as many are held all the time


class Run:
    def __init__(self, rig: Rig, side: Side, plan: Plan, mark=lambda phase: None):
        """`mark` is told each part's name as it begins: warm, start, hold, deliver, done."""
        self.rig, self.side, self.plan, self.mark = rig, side, plan, mark
        self.result = Result(side.name, plan.count, plan.rate, plan.within)
        self.ids: list[int] = []
        self.more: list[int] = []
        self.servers: dict[str, float] = {}

    def go(self) -> Result:
        rows.clear()
        self.rig.upstream.ask("reset")
        with self.side:
            try:
                for part in (self.warm_up, self.start, self.hold, self.deliver):
                    part()
            except BaseException:
                print(self.side.log[-3000:], file=sys.stderr)
                raise
            self.result.complaints = self.side.complaints()[:50]
        return self.result

    def warm_up(self) -> None:
        """What the first logins of a process cost it once belongs to no wait."""
        self.mark("warm")
        ids = rows.seed(WARM_UP, warm=True) if self.plan.with_rows else list(range(WARM_UP))
        self.side.begin(ids, 0, True)
        answered = lambda: self.rig.upstream.ask("state")["answered"] >= WARM_UP  # noqa: E731
        sides.until(answered, PATIENCE, "the first logins were not answered")
        if self.plan.with_rows:
            sides.until(lambda: rows.succeeded(ids) == WARM_UP, 60, "the first logins were not written down")
        self.rig.upstream.ask("reset")
        count, numbers = self.plan.count, range(WARM_UP, WARM_UP + self.plan.count)
        self.ids = rows.seed(count, WARM_UP, shown=self.plan.shown) if self.plan.with_rows else list(numbers)
        time.sleep(SETTLE_SECONDS)

    def load(self) -> gauges.Load:
        servers = {"postgres": self.rig.postgres.get_pid(), "valkey": self.rig.valkey.pid}
        bench = {"upstream": self.rig.upstream.process.pid}
        return gauges.Load({name: [pid] for name, pid in {"side": self.side.pid, **servers, **bench}.items()})

    def start(self) -> None:
        result, count = self.result, self.plan.count
        result.rss_idle, result.pss_idle = gauges.memory_kb(gauges.tree(self.side.pid))
        self.mark("start")
        load, began = self.load(), time.monotonic()
        beginning = sides.in_a_thread(self.begin, self.ids)
        last = [0, began]

        def all_in() -> bool:
            held = self.rig.upstream.ask("state")["held"]
            if held != last[0]:
                last[:] = held, time.monotonic()
            return held >= count or time.monotonic() - last[1] > PATIENCE

        sides.until(all_in, 600, "the waits did not all begin", every=0.02)
        result.held, result.all_in = last[0], last[1] - began
        beginning.join()
        load.stop()
        result.cpu_start = load.used["side"] / count * 1000
        result.others["start"] = load.others
        self.servers = load.used

    def begin(self, ids: list[int], offset: int = 0) -> None:
        self.side.begin(ids, WARM_UP + offset, False)

    def begin_more(self) -> None:
        """One by one, as many a second as are answered."""
        due = time.monotonic()
        for number, attempt_id in enumerate(self.more):
            time.sleep(max(0, due - time.monotonic()))
            self.begin([attempt_id], self.plan.count + number)
            due += 1 / self.plan.rate

    def hold(self) -> None:
        result, count = self.result, self.plan.count
        self.mark("hold")
        if self.plan.refill:
            self.more = rows.seed(count, WARM_UP + count)
        time.sleep(SETTLE_SECONDS)
        load = self.load()
        time.sleep(self.plan.idle_seconds)
        load.stop()
        result.idle_percent = load.used["side"] / load.seconds * 100
        result.others["hold"] = load.others
        first, *children = gauges.tree(self.side.pid)
        result.rss_hold, result.pss_hold = gauges.memory_kb([first, *children])
        result.pss_children = gauges.memory_kb(children)[1]

    def deliver(self) -> None:
        result, plan = self.result, self.plan
        peaks = gauges.Peaks(self.side.pid, self.rig.env["DATABASE_URL"], sides.APPLICATION)
        result.backends_hold = peaks.count()
        peaks.start()
        self.mark("deliver")
        load = self.load()
        how = {"within": plan.within} if plan.within else {"rate": plan.rate}
        refilling = sides.in_a_thread(self.begin_more)
        self.rig.upstream.ask("release", **how)
        self.wait_for_the_last()
        refilling.join()
        load.stop()
        self.mark("done")
        peaks.stop()
        result.backends_peak, result.rss_peak = peaks.backends, max(peaks.resident, result.rss_hold)
        result.cpu_deliver = load.used["side"] / plan.count * 1000
        result.busy_deliver = load.used["side"] / load.seconds
        result.others["deliver"] = load.others
        both = {name: (self.servers[name] + used) / plan.count * 1000 for name, used in load.used.items()}
        result.postgres_cpu, result.valkey_cpu = both["postgres"], both["valkey"]
        self.look()

    def wait_for_the_last(self) -> None:
        count, upstream = self.plan.count, self.rig.upstream
        sides.until(
            lambda: upstream.ask("state")["answered"] >= self.result.held, 3600, "not all were answered"
        )
        if not self.plan.with_rows:
            time.sleep(1)
            return
        seen = [0, time.monotonic()]

        def written() -> bool:
            done = rows.succeeded(self.ids)
            if done != seen[0]:
                seen[:] = done, time.monotonic()
            return done == count or time.monotonic() - seen[1] > PATIENCE

        sides.until(written, 600, "the logins were not written down", every=0.25)

    def look(self) -> None:
        result, state = self.result, self.rig.upstream.ask("state")
        result.repeated, result.most_parallel = state["repeated"], state["most_parallel"]
        if not self.plan.with_rows:
            result.lost = self.plan.count - state["answered"]
            return
        result.lost = self.plan.count - rows.succeeded(self.ids)
        sent = {w_id: moments[0] for w_id, moments in self.rig.upstream.ask("sent").items()}
        committed = rows.commit_times()
        both = [(moment, committed[w_id]) for w_id, moment in sent.items() if w_id in committed]
        late = sorted((written - moment) * 1000 for moment, written in both)
        if late:
            result.delivery = {
                name: late[min(len(late) - 1, int(len(late) * p))] for name, p in PLACES.items()
            }
            began = min(sent.values())
            for moment, written in both:
                if written - moment > SLOW_SECONDS:
                    second, ms = int(moment - began), (written - moment) * 1000
                    result.stalls[second] = max(ms, result.stalls.get(second, 0))
            result.last_after = max(written for _moment, written in both) - began
        result.events = sum(rows.events(self.ids).values())
        result.events_expected = (len(rows.EVENTS_PER_LOGIN) + (not self.plan.shown)) * self.plan.count
        result.looks = rows.looks(self.ids)
