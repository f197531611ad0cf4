"""A child of `bench.pages`: answers pages in-process, without a network. Its functions are the requests."""

import functools
import re
import sys
import time
from datetime import timedelta
from pathlib import Path

from wkportal import asgi  # noqa: F401 - sets Django up first, and the process as one that serves pages

# isort: split
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Account, Incident, LoginAttempt, Tag
from bench.pages.addresses import LAST
from bench.processes import answer_requests

ROW = re.compile(r'<tr (?:id="row-|data-)|<th class="field-')


@functools.cache
def client(user: str) -> Client:
    found = Client(HTTP_HOST="localhost")
    backend = "django.contrib.auth.backends.ModelBackend"
    found.force_login(get_user_model().objects.get(username=user), backend=backend)
    return found


@functools.cache
def address(user: str, path: str) -> str:
    """Put the number of the last full page in the place of LAST."""
    plain = path.removesuffix(LAST)
    if plain == path:
        return path
    pages = re.findall(r"[?&]p=(\d+)", client(user).get(plain).content.decode())
    return f"{plain}&p={max([2, *map(int, pages)]) - 1}"


def inspect(user: str, path: str) -> dict[str, int]:
    """What is the same each time. What is read once only is read now."""
    client(user).get(address(user, path))
    with CaptureQueriesContext(connection) as queries:
        answer = client(user).get(address(user, path))
    rows = len(ROW.findall(answer.content.decode()))
    return {"queries": len(queries), "rows": rows, "status": answer.status_code}


def cpu_ms(user: str, path: str) -> float:
    path, began = address(user, path), cpu_seconds()
    client(user).get(path)
    return (cpu_seconds() - began) * 1000


def known() -> dict[str, str]:
    """What addresses need to know of the rows."""
    accounts, incidents = Account.objects.order_by("label"), Incident.objects.order_by("pk")
    until_day = timezone.localdate() - timedelta(days=180)
    values = {
        "wc_id": accounts.get(pk=500).wc_id,
        "middle": accounts[accounts.count() // 2].pk,
        "attempt": LoginAttempt.objects.filter(account=1).order_by("-id")[19].pk,
        "team": Group.objects.get(name="Team of most").pk,
        "operator": get_user_model().objects.get(username="operator03").pk,
        "incident": incidents[1].pk,
        "newest_incident": incidents.last().pk,
        "from_day": until_day - timedelta(days=30),
        "until_day": until_day,
        **{name.replace(" ", "_"): pk for name, pk in Tag.objects.values_list("name", "pk")},
    }
    return {name: str(value) for name, value in values.items()}


def cpu_seconds() -> float:
    """Of this process, and of PostgreSQL's process for its connection, as the scheduler counts it in ns."""
    seconds = time.process_time()
    if connection.vendor == "postgresql":
        backend = Path(f"/proc/{connection.connection.info.backend_pid}/schedstat")
        seconds += int(backend.read_text().split()[0]) / 1e9
    return seconds


if __name__ == "__main__":
    answer_requests(sys.modules[__name__])
