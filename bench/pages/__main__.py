"""How long the pages with lists take: with 1,000 accounts, and with 100,000 accounts and 2,000,000 events.

    python -m bench.pages sqlite|postgres [--accounts 100000] [--runs 30]

Seeds two databases in --folder once. Two processes answer the same pages by turns; the times are of the processor,
PostgreSQL's included. The pages that miss an aim (AIM_RATIO where both show as many rows, AIM_P95) stand again below.
"""

import re
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import psycopg

from bench import report
from bench.pages.addresses import LAST, addresses
from bench.processes import ROOT, Process, product_env
from bench.services import start_postgres

SMALL = (1_000, 3_000, 20_000)  # accounts, attempts, events
AIM_RATIO, AIM_P95 = 1.3, 60
FOLDER = Path(tempfile.gettempdir()) / f"wkportal-bench{str(ROOT).replace('/', '-')}"
SETTINGS = {
    "SECRET_KEY": "only-for-measuring-0123456789-abcdefghijklmnopqrstuvwxyz",
    "WK_BASE_URL": "http://127.0.0.1:9",
    "WK_AUTHORIZATION": "bench",
    "WK_PROXIES": "1=广州,2=南京,3=杭州,4=上海,5=深圳,6=unused",
}
COLUMNS = ["ms", "p95", "queries"]
SIZES = ("small", "large")
HEAD = ["page", "rows", *(f"{size}: {column}" for size in SIZES for column in COLUMNS), "ratio"]


def start_renderer(vendor: str, server, folder: Path, size: tuple[int, int, int]) -> Process:
    """Start the process that renders this database; make and seed it before, if that was not done yet."""
    seeded = folder / f"{'-'.join(map(str, size))}.{vendor}"
    if server and not seeded.exists():
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{seeded.name}"')
    url = server.get_uri(database=seeded.name) if server else f"sqlite:///{seeded}.sqlite3"
    env = product_env(DATABASE_URL=url, VAR_DIR=str(folder), **SETTINGS)

    def python(*arguments: object) -> None:
        subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, env=env, check=True)

    python("manage.py", "migrate", "--verbosity", 0)
    python("manage.py", "collectstatic", "--no-input", "--verbosity", 0)
    if not seeded.exists():
        python("-m", "bench.pages.seed", *size)
        seeded.touch()
    return Process(["-m", "bench.pages.renderer"], env, folder / f"{seeded.name}.log", answers=True)


class Page:
    """One page of both databases, rendered by turns."""

    def __init__(self, renderers: list[Process], user: str, paths: list[str], runs: int):
        self.title = f"{paths[0]} as {user}"
        paths = [full(renderer, user, path) for renderer, path in zip(renderers, paths, strict=True)]
        pages = list(zip(renderers, ({"user": user, "path": path} for path in paths), strict=True))
        self.both = [renderer.ask("inspect", **page) for renderer, page in pages]
        times = [[renderer.ask("cpu_ms", **page) for renderer, page in pages] for _run in range(runs)]
        for found, values in zip(self.both, map(list, zip(*times, strict=True)), strict=True):
            found |= {"ms": statistics.median(values), "p95": report.percentile(values, 95)}
        self.ratio = self.both[1]["ms"] / self.both[0]["ms"]
        self.answered = all(found["status"] == 200 for found in self.both)

    def row(self) -> list[str]:
        rows = ", ".join(dict.fromkeys(str(found["rows"]) for found in self.both))
        cells = [f"{found[column]:.0f}" for found in self.both for column in COLUMNS]
        return [f"`{self.title}`{'' if self.answered else ' fails'}", rows, *cells, f"{self.ratio:.2f}"]

    def misses_aim(self) -> bool:
        small, large = self.both
        grows = self.ratio > AIM_RATIO or large["queries"] > AIM_RATIO * small["queries"]
        alike = abs(small["rows"] - large["rows"]) <= 4
        return (alike and grows) or large["p95"] > AIM_P95 or not self.answered


def full(renderer: Process, user: str, path: str) -> str:
    """Put the number of the last full page in the place of LAST."""
    plain = path.removesuffix(LAST)
    if plain == path:
        return path
    return f"{plain}&p={max(1, renderer.ask('inspect', user=user, path=plain)['last'] - 1)}"


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("vendor", choices=["sqlite", "postgres"])
    parser.add_argument("--accounts", type=int, default=100_000, help="of the large database (%(default)s)")
    parser.add_argument("--events", type=int, default=2_000_000, help="of the large database (%(default)s)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="%(default)s")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--only", default="", help="measure the addresses that match this expression")
    options = parser.parse_args()
    options.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    sizes, pages = (SMALL, (options.accounts, options.events * 3 // 20, options.events)), []
    with ExitStack() as stack:
        postgres = options.vendor == "postgres"
        server = stack.enter_context(start_postgres(options.folder / "pg")) if postgres else None
        prepared = [start_renderer(options.vendor, server, options.folder, size) for size in sizes]
        renderers = [stack.enter_context(renderer) for renderer in prepared]
        print(report.table(HEAD, []))
        for small, large in zip(*(addresses(renderer.ask("known")) for renderer in renderers), strict=True):
            if re.search(options.only, small[1]):
                pages.append(Page(renderers, small[0], [small[1], large[1]], options.runs))
                print(f"| {' | '.join(pages[-1].row())} |", flush=True)
    missed = sorted((page for page in pages if page.misses_aim()), key=lambda page: -page.ratio)
    title = f"{len(pages)} pages; these miss an aim ({AIM_RATIO} times, p95 {AIM_P95} ms):"
    times = [(f"{page.title}: {SIZES[n]}, ms", page.both[n]["ms"]) for page in pages for n in (0, 1)]
    figures = (report.Figure(*named) for named in times)
    report.finish(figures, options, "", title, report.table(HEAD, [page.row() for page in missed]))


if __name__ == "__main__":
    main()
