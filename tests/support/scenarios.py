"""Pieces of the scenarios that fault tests play: logins that wait, who waits for them, and how they end."""

import http.client
import json
import os
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from django.utils import timezone

from accounts.models import Account, LoginAttempt, WaitsWorker
from tests.support.environment import DATABASE
from tests.support.factories import fresh
from tests.support.processes import DEADLINE, until
from tests.support.simulator import Simulator
from tests.support.stack import Operator, Stack

# Of the long form: how often a fault is repeated, and how many logins it meets.
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))
LIMIT = pytest.mark.timeout(300)
# Nothing is timed; this is where a click that hangs is told from one that is answered.
HANGS = 20
TWO_WORKERS = ("web", "waits-1", "waits-2", "jobs", "beat")


def marks(short_on: str = "sqlite postgres") -> list[pytest.MarkDecorator]:
    """For a module of fault tests: in the short form it runs on these databases only, in the long one on both."""
    short = DATABASE in short_on.split()
    return [pytest.mark.live, pytest.mark.faults, LIMIT, *([] if short else [pytest.mark.long])]


def running_stack(*names: str, kind: type[Stack] = Stack, **env: str):
    """A module's fixture `running`: these processes, for all of its tests."""

    @pytest.fixture(scope="module")
    def running(django_db_setup, django_db_blocker):
        with django_db_blocker.unblock(), kind(*names, **env) as stack:
            yield stack

    return running


def waiting(operator: Operator, upstream: Simulator, account: Account) -> LoginAttempt:
    """A login whose code is shown and for whose phone a worker waits."""
    attempt = operator.log_in(account)
    assert attempt.state == "waiting", (attempt.state, attempt.reason, attempt.upstream_text)
    upstream.wait(wId=attempt.w_id, step3_now=1)
    return attempt


def ends(attempt: LoginAttempt, state: str = "succeeded", seconds: float = 40) -> LoginAttempt:
    """The attempt, once it is in that state; it fails if it ends in another one."""
    until(
        lambda: not fresh(attempt).is_open or fresh(attempt).state == state,
        f"{attempt.pk} does not end",
        seconds=seconds,
    )
    attempt = fresh(attempt)
    assert attempt.state == state, (attempt.pk, attempt.state, attempt.reason, attempt.upstream_text)
    return attempt


def all_end(attempts: Iterable[LoginAttempt], state: str = "succeeded", seconds: float = 60) -> None:
    for attempt in attempts:
        ends(attempt, state, seconds)


def answered(click):
    """What a click gave; it fails when nothing comes."""
    found = []
    thread = threading.Thread(target=lambda: found.append(click()), daemon=True)
    thread.start()
    thread.join(HANGS)
    assert found, "no answer"
    return found[0]


def holder(stack: Stack, attempt: LoginAttempt) -> str:
    """The name of the process that holds the lease now; "" when none does."""
    row = fresh(attempt)
    living = WaitsWorker.objects.filter(name=row.lease_owner, alive_until__gt=timezone.now())
    if not row.lease_owner or not living.exists():
        return ""
    pid = int(row.lease_owner.split(":")[1])
    return next((name for name, process in stack.processes.items() if process.pid == pid), "")


def held_by_another(stack: Stack, attempt: LoginAttempt, than: str, seconds: float = 40) -> str:
    """Who holds it, once that is another process than the one named."""
    return until(
        lambda: (name := holder(stack, attempt)) not in ("", than) and name,
        f"no worker resumed {attempt.pk} from {than}",
        seconds=seconds,
    )


def other(name: str) -> str:
    return {"waits-1": "waits-2", "waits-2": "waits-1"}[name]


class Listener:
    """An open event stream of somebody's browser: `received` is what it received so far, as (event, data)."""

    def __init__(self, operator: Operator, last_id: str = ""):
        address = urlsplit(operator.url)
        headers = {"Cookie": "; ".join(f"{cookie.name}={cookie.value}" for cookie in operator.http.cookies)}
        self.call = http.client.HTTPConnection(address.hostname, address.port)
        self.call.request(
            "GET", "/events/", headers=headers | ({"Last-Event-ID": last_id} if last_id else {})
        )
        self.sock = self.call.sock
        self.answer = self.call.getresponse()
        self.received: list[tuple[str, dict]] = []
        self.ended = threading.Event()
        threading.Thread(target=self.listen, daemon=True).start()

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_exc) -> None:
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.ended.wait(DEADLINE)
        self.answer.close()
        self.call.close()
        self.sock.close()

    def listen(self) -> None:
        event = ""
        with suppress(OSError, http.client.HTTPException, ValueError, AttributeError):
            while line := self.answer.readline().decode():
                name, _colon, value = line.strip().partition(": ")
                if name == "event":
                    event = value
                elif name == "data":
                    self.received.append((event, json.loads(value)))
        self.ended.set()

    def hears(self, event: str, seconds: float = 20, **like: object) -> dict:
        """The data of the first such message, once there is one."""
        found = lambda: [  # noqa: E731
            data for name, data in self.received if name == event and like.items() <= data.items()
        ]
        return until(found, f"no {event} {like}, but {self.received}", seconds=seconds)[0]
