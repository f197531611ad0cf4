"""How the product's waits worker, or the reference, logs accounts in: seeded as known, and read when they are done."""

import re
import time
from dataclasses import asdict, replace
from datetime import datetime, timedelta

from django.db import connection
from django.utils import timezone

from accounts import tasks
from accounts.lib import images, pubsub
from accounts.models import Account, AccountEvent, Avatar, LoginAttempt
from accounts.upstream.responses import Answer, login_answer
from bench import upstream_stub
from bench.processes import CpuUsage, Process, memory_kb, process_tree, until, wait_for_count
from bench.report import percentiles
from bench.services import Services

WARM_UP, SETTLE_SECONDS = 20, 2
MEASURED = {"PGAPPNAME": "measured"}  # what PostgreSQL calls the connections of these processes
CELERY = ["-W", "ignore", "-m", "celery", "-A", "wkportal", "worker", "-Q", "waits", "--without-gossip"]
CELERY += ["--without-mingle", "--without-heartbeat"]
IN_QUEUE, AT_ONCE = 200, 50  # as people click: the queue stays so short that no message in it expires
QR_TEXT = "http://weixin.qq.com/x/4f0cXwTQyZb8mJd1kE9a"
# Workers claim waits that no message brought to them, some seconds after they were handed over.
NOT_YET = timedelta(days=1)
IDS = ("id", "account_id", "attempt_id")
TABLES = "accounts_account, accounts_loginattempt, accounts_accountevent, accounts_avatar"
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
# When the success of each wId was committed, in seconds since 1970. Event rows never change, so the transaction that
# wrote the event is the one that wrote the success.
COMMITTED = """
    SELECT attempt.w_id, extract(epoch FROM pg_xact_commit_timestamp(event.xmin))::float8
    FROM accounts_accountevent event JOIN accounts_loginattempt attempt ON attempt.id = event.attempt_id
    WHERE event.happened = 'attempt_moved' AND event.to_state = 'succeeded'
"""


def execute(sql: str, *values: str) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


def clear(services: Services) -> None:
    execute(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE")
    services.valkey.flushall()
    services.upstream.ask("reset")


def seed(count: int, first: int = 0, warm: bool = False) -> list[int]:
    """Create attempts numbered from `first` and return their ids; what the upstream will say of the accounts is known."""
    now, qr_png = timezone.now(), images.code_png(QR_TEXT)
    w_ids = [upstream_stub.w_id(number, warm) for number in range(first, first + count)]
    accounts = Account.objects.bulk_create(map(known_account, w_ids), batch_size=1000)
    avatars = [Avatar(account=account, png=qr_png, source_url=account.avatar_url) for account in accounts]
    Avatar.objects.bulk_create(avatars, batch_size=1000)
    row = {"state": "waiting", "qr_text": QR_TEXT, "qr_png": qr_png, "seq": 1, "proxy": 1}
    row |= {"sent_at": now, "qr_shown_at": now, "queued_at": now + NOT_YET, "deadline_at": now + NOT_YET}
    attempts = [LoginAttempt(account=account, w_id=account.label, **row) for account in accounts]
    LoginAttempt.objects.bulk_create(attempts, batch_size=1000)
    execute(f"ANALYZE {TABLES}")
    return [attempt.pk for attempt in attempts]


def known_account(w_id: str) -> Account:
    known = replace(login_answer(Answer("1000", "", upstream_stub.profile(w_id))).profile, w_id="")
    return Account(label=w_id, state="offline", login_seq=1, proxy=1, **asdict(known))


def succeeded(ids: list[int]) -> int:
    return LoginAttempt.objects.filter(pk__range=(ids[0], ids[-1]), state="succeeded").count()


def columns(attempt_id: int) -> dict[str, object]:
    """What one login wrote, by column; of times and ids only whether they are set."""
    attempt = LoginAttempt.objects.filter(pk=attempt_id).values().get()
    rows = {"attempt": attempt, "account": Account.objects.filter(pk=attempt["account_id"]).values().get()}
    rows |= {event["happened"]: event for event in AccountEvent.objects.filter(attempt=attempt_id).values()}
    return {
        f"{title}.{name}": value is not None if isinstance(value, datetime) or name in IDS else value
        for title, row in rows.items()
        for name, value in row.items()
    }


class Worker(Process):
    def __init__(self, services: Services, count: int, pool: str = "gevent"):
        self.services, name = services, f"{time.monotonic_ns()}@bench"
        slots = str(count if pool == "prefork" else max(2 * count, 100))
        command = [*CELERY, "-P", pool, "-c", slots, "-n", name]
        env = services.env | MEASURED | {"WAIT_SLOTS": slots}
        super().__init__(command, env, services.folder / f"{name}.log")

    def start(self) -> None:
        super().start()
        until(lambda: "ready." in self.log.read_text(), f"the worker did not start: {self.log}")

    def begin(self, ids: list[int]) -> None:
        """As the web process does: a row that says that it is queued, then the message."""
        for start in range(0, len(ids), AT_ONCE):
            until(lambda: pubsub.broker("waits").queues["waits"] < IN_QUEUE, "nothing is claimed")
            some = ids[start : start + AT_ONCE]
            LoginAttempt.objects.filter(pk__in=some).update(queued_at=timezone.now())
            for attempt_id in some:
                tasks.put_into_queue(tasks.wait_for_phone, attempt_id)


class Reference(Process):
    def __init__(self, services: Services):
        self.services, log = services, services.folder / f"{time.monotonic_ns()}.log"
        super().__init__(["-m", "bench.waits.reference"], services.env | MEASURED, log, answers=True)

    def begin(self, ids: list[int]) -> None:
        found = LoginAttempt.objects.filter(pk__in=ids).order_by("pk")
        self.ask("begin", logins=list(found.values_list("pk", "account_id", "w_id")))


class Run:
    """`count` logins of one client, answered `rate` a second or all `within` seconds; `refill` begins more meanwhile."""

    def __init__(self, client: Process, count: int, rate: float, within: float = 0, refill: bool = False):
        self.client, self.count, self.upstream = client, count, client.services.upstream.ask
        self.figures: dict[str, float] = {}
        clear(client.services)
        with client:
            self.warm_up()
            self.ids = seed(count, WARM_UP)
            self.later = seed(count, WARM_UP + count) if refill else []
            time.sleep(SETTLE_SECONDS)
            usages = [self.start(), self.answer({"within": within} if within else {"rate": rate})]
        self.figures["CPU per login, ms"] = sum(usage.used["client"] for usage in usages) / count * 1000
        self.check()
        logged = re.findall(r".*(?:WARN|ERROR|CRITICAL|Traceback|Error:).*", client.log.read_text())
        # What casts doubt on the figures.
        self.warnings = [*usages[0].warning, *usages[1].warning, *logged[:5]]
        self.columns = columns(self.ids[0])

    def warm_up(self) -> None:
        """Let the client log in a few: what its first logins cost belongs to no wait."""
        ids = seed(WARM_UP, warm=True)
        self.client.begin(ids)
        until(lambda: succeeded(ids) == WARM_UP, self.client.log.read_text)
        self.upstream("reset")

    def usage(self) -> CpuUsage:
        return CpuUsage(client=self.client.pid, **self.client.services.pids)

    def start(self) -> CpuUsage:
        memory, usage, began = memory_kb(process_tree(self.client.pid)), self.usage(), time.monotonic()
        self.client.begin(self.ids)
        begun = time.monotonic() - began
        held, seconds = wait_for_count(self.count, lambda: self.upstream("state")["held"], every=0.02)
        usage.stop()
        time.sleep(SETTLE_SECONDS)
        processes = process_tree(self.client.pid)
        self.figures["logins begun per second"] = held / (begun + seconds)
        self.figures["memory per wait, kB"] = (memory_kb(processes) - memory) / self.count
        self.children_pss = memory_kb(processes[1:], "pss")
        return usage

    def answer(self, how: dict[str, float]) -> CpuUsage:
        usage, connections = self.usage(), []

        def answered() -> int:
            connections.append(execute(CONNECTIONS, *MEASURED.values())[0][0])
            answers = self.upstream("state")["answered"]
            if more := self.later[: answers + len(self.later) - self.count]:
                self.client.begin(more)
                del self.later[: len(more)]
            return answers

        answered()
        self.upstream("release", **how)
        wait_for_count(self.count, answered)
        wait_for_count(self.count, lambda: succeeded(self.ids), every=0.25)
        self.figures["PostgreSQL connections while all wait"] = connections[0]
        self.figures["PostgreSQL connections at the peak"] = max(connections)
        return usage.stop()

    def check(self) -> None:
        figures, state = self.figures, self.upstream("state")
        figures["lost"] = self.count - succeeded(self.ids)
        figures |= {"calls repeated": state["repeated"], "calls for a wId at a time": state["most_parallel"]}
        sent, committed = self.upstream("sent"), dict(execute(COMMITTED))
        late = [(committed[w_id] - moment) * 1000 for w_id, moment in sent.items() if w_id in committed]
        figures |= percentiles(late, "answer sent to row committed: ")
        last = max(committed[w_id] for w_id in sent if w_id in committed)
        figures["first answer sent to last row committed, s"] = last - min(sent.values())
