"""The product's waits worker and the reference, as processes, and how one of them logs accounts in."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import redis

from accounts import tasks
from bench.process_metrics import CpuUsage, memory_kb, process_tree
from bench.processes import Process, wait_for_count, wait_until
from bench.report import percentiles
from bench.services import Services
from bench.waits import attempts

WARM_UP, SETTLE_SECONDS = 20, 2
APPLICATION = "measured"  # what PostgreSQL calls the connections of these processes
CELERY = ["celery", "-A", "wkportal", "worker", "-Q", "waits", "--without-gossip", "--without-mingle"]
IN_QUEUE, AT_ONCE = 200, 50  # as people click: the queue stays so short that no message in it expires


class Client(Process):
    """Subclasses have `begin`, which lets the client log in the attempts of these ids."""

    def __init__(self, services: Services, arguments: list[str], answers: bool = False, **env: str):
        self.services, log = services, services.folder / f"{time.monotonic_ns()}.log"
        env = services.env | {"PGAPPNAME": APPLICATION} | env
        super().__init__(["-W", "ignore", "-m", *arguments], env, log, answers)


class Worker(Client):
    def __init__(self, services: Services, count: int, pool: str = "gevent"):
        slots = str(count if pool == "prefork" else max(2 * count, 100))
        options = ["--without-heartbeat", "-P", pool, "-c", slots, "-n", f"{time.monotonic_ns()}@bench"]
        super().__init__(services, [*CELERY, *options], WAIT_SLOTS=slots)

    def __enter__(self) -> "Worker":
        wait_until(lambda: "ready." in self.log, 60, f"the worker did not start: {self.log_file}")
        return self

    def begin(self, ids: list[int]) -> None:
        with redis.Redis.from_url(self.services.env["REDIS_URL"]) as broker:
            for start in range(0, len(ids), AT_ONCE):
                wait_until(lambda: broker.llen("waits") < IN_QUEUE, 300, "nothing is claimed", every=0.01)
                some = ids[start : start + AT_ONCE]
                attempts.hand_over(some)
                for attempt_id in some:
                    tasks.put_into_queue(tasks.wait_for_phone, attempt_id)


class Reference(Client):
    def __init__(self, services: Services):
        super().__init__(services, ["bench.waits.reference"], answers=True)

    def begin(self, ids: list[int]) -> None:
        self.ask("begin", logins=attempts.logins(ids))


class Run:
    """`count` logins of one client, answered `rate` a second or all `within` seconds.

    `refill` begins another login for each answer, so that as many are held all the time. `figures` has what was measured,
    `warnings` what casts doubt on it, `columns` what one login wrote.
    """

    def __init__(self, client: Client, count: int, rate: float, within: float = 0, refill: bool = False):
        self.client, self.count, self.rate, self.upstream = client, count, rate, client.services.upstream.ask
        self.figures: dict[str, float] = {}
        attempts.clear()
        self.upstream("reset")
        with client, ThreadPoolExecutor(1) as self.thread:
            self.warm_up()
            self.ids = attempts.seed(count, WARM_UP)
            later = attempts.seed(count, WARM_UP + count) if refill else []
            time.sleep(SETTLE_SECONDS)
            start = self.start()
            answer = self.answer({"within": within} if within else {"rate": rate}, later)
        self.figures["CPU per login, ms"] = (start.used["client"] + answer.used["client"]) / count * 1000
        self.check()
        logged = re.findall(r".*(?:WARN|ERROR|CRITICAL|Traceback|Error:).*", client.log)
        self.warnings = [*start.warning, *answer.warning, *logged[:5]]
        self.columns = attempts.columns(self.ids[0])

    def warm_up(self) -> None:
        """Let the client log in a few: what its first logins cost belongs to no wait."""
        ids = attempts.seed(WARM_UP, warm=True)
        self.client.begin(ids)
        if wait_for_count(WARM_UP, lambda: attempts.succeeded(ids))[0] < WARM_UP:
            raise TimeoutError(f"the first logins did not succeed: {self.client.log}")
        self.upstream("reset")

    def start(self) -> CpuUsage:
        memory = memory_kb(process_tree(self.client.pid))
        usage = CpuUsage(client=self.client.pid, **self.client.services.pids)
        beginning = self.thread.submit(self.client.begin, self.ids)
        held, seconds = wait_for_count(self.count, lambda: self.upstream("state")["held"], every=0.02)
        beginning.result()
        usage.stop()
        time.sleep(SETTLE_SECONDS)
        self.figures["logins begun per second"] = held / seconds
        processes = process_tree(self.client.pid)
        self.figures["memory per wait, kB"] = (memory_kb(processes) - memory) / self.count
        self.children_pss = memory_kb(processes[1:], "pss")
        return usage

    def answer(self, how: dict[str, float], later: list[int]) -> CpuUsage:
        usage = CpuUsage(client=self.client.pid, **self.client.services.pids)
        connections = [attempts.connections(APPLICATION)]

        def answered() -> int:
            connections.append(attempts.connections(APPLICATION))
            return self.upstream("state")["answered"]

        def begin_later() -> None:
            due = time.monotonic()
            for number, attempt_id in enumerate(later):
                time.sleep(max(0, due + number / self.rate - time.monotonic()))
                self.client.begin([attempt_id])

        refilling = self.thread.submit(begin_later)
        self.upstream("release", **how)
        wait_for_count(self.count, answered)
        wait_for_count(self.count, lambda: attempts.succeeded(self.ids), every=0.25)
        refilling.result()
        self.figures["PostgreSQL connections while all wait"] = connections[0]
        self.figures["PostgreSQL connections at the peak"] = max(connections)
        return usage.stop()

    def check(self) -> None:
        figures, state = self.figures, self.upstream("state")
        figures["lost"] = self.count - attempts.succeeded(self.ids)
        figures |= {"calls repeated": state["repeated"], "calls for a wId at a time": state["most_parallel"]}
        sent, committed = self.upstream("sent"), attempts.commit_times()
        late = [(committed[w_id] - moment) * 1000 for w_id, moment in sent.items() if w_id in committed]
        figures |= percentiles("answer sent to row committed", late)
        last = max(committed[w_id] for w_id in sent if w_id in committed)
        figures["first answer sent to last row committed, s"] = last - min(sent.values())
