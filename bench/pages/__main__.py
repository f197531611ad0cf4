"""How long the pages with lists take: with 1,000 accounts, and with 100,000 accounts and 2,000,000 events.

Two processes answer the same pages by turns; the times are of the processor, PostgreSQL's included. The reference is the
small database. --accounts and --events are of the large one; addresses have to match --only.
"""

import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import report
from bench.pages.addresses import addresses
from bench.processes import ROOT, Process, product_env
from bench.services import start_postgres
from tests.support.services import create_database, database_names

SMALL = (1_000, 3_000, 20_000)  # accounts, attempts, events
AIM_RATIO, AIM_P95 = 1.3, 60
FOLDER = Path(tempfile.gettempdir()) / f"wkportal-bench{str(ROOT).replace('/', '-')}"
SECRET_KEY = "only-for-measuring-0123456789-abcdefghijklmnopqrstuvwxyz"
SETTINGS = {"SECRET_KEY": SECRET_KEY, "WK_BASE_URL": "http://127.0.0.1:9", "WK_AUTHORIZATION": "bench"}
SETTINGS["WK_PROXIES"] = "1=广州,2=南京,3=杭州,4=上海,5=深圳,6=unused"


def start_renderer(server, folder: Path, size: tuple[int, int, int]) -> Process:
    """Start the process that renders the pages of a database of that size; seed it before, where it is new."""
    name = "-".join(map(str, size))
    url = f"sqlite:///{folder / name}.sqlite3"
    if server:
        url = server.get_uri(database=name)
        if name not in database_names(server.get_uri()):
            create_database(server.get_uri(), name, "template1")
    env = product_env(DATABASE_URL=url, VAR_DIR=str(folder), **SETTINGS)
    seed = [sys.executable, "-m", "bench.pages.seed", *map(str, size)]
    subprocess.run(seed, cwd=ROOT, env=env, check=True)
    renderer = Process(["-m", "bench.pages.renderer"], env, folder / f"{name}.log", answers=True)
    renderer.start()
    return renderer


def measure(renderers: list[Process], user: str, paths: tuple[str, str], runs: int) -> list[report.Figure]:
    """One page of both databases, rendered by turns."""
    asked = [(each.ask, {"user": user, "path": path}) for each, path in zip(renderers, paths, strict=True)]
    both = [ask("inspect", **page) for ask, page in asked]
    times = [[ask("cpu_ms", **page) for ask, page in asked] for _run in range(runs)]
    for found, values in zip(both, map(list, zip(*times, strict=True)), strict=True):
        found |= {"ms": statistics.median(values), "p95, ms": report.percentile(values, 95)}
    small, large = both
    aims = {"status": 200, "p95, ms": AIM_P95}
    if abs(small["rows"] - large["rows"]) <= 4:
        aims |= {name: AIM_RATIO * small[name] for name in ("ms", "queries")}
    return report.figures(large, small, aims, title=f"{paths[0]} as {user}: ")


def main() -> None:
    parser = report.parser(__doc__, accounts=100_000, events=2_000_000, folder=FOLDER, runs=30, only="")
    parser.add_argument("database", choices=["sqlite", "postgres"])
    options = parser.parse_args()
    options.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    server = start_postgres(options.folder / "pg") if options.database == "postgres" else None
    sizes, figures = (SMALL, (options.accounts, options.events * 3 // 20, options.events)), []
    renderers = [start_renderer(server, options.folder, size) for size in sizes]
    for (user, small), (_, large) in zip(*(addresses(each.ask("known")) for each in renderers), strict=True):
        if re.search(options.only, small):
            figures += measure(renderers, user, (small, large), options.runs)
            print(figures[-1], file=sys.stderr)
    report.finish(figures, options)
    missed = [figure for figure in figures if figure.aim is not None and figure.value > figure.aim]
    print(f"\nThese miss their aim:\n\n{report.comparison(missed)}")


main()
