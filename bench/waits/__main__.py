"""What it costs to hold thousands of waits, and how soon an answer is in the database.

hold: N waits, answered one after another; steady: as many begun as answered; burst: all answered within 0.3 s;
prefork: with Celery's prefork pool; two: two workers, one is killed; growth: hold with several numbers of waits.
"""

import time
from collections import Counter

from bench import report
from bench.processes import until, wait_for_count
from bench.report import Figure
from bench.services import start_services

parser = report.parser(__doc__, n=1000, rate=100.0)
parser.add_argument("runs", nargs="+", choices=("hold", "steady", "burst", "prefork", "two", "growth"))
parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 3000, 10_000], help="of growth")
options = parser.parse_args()
services = start_services()

from accounts.models import LoginAttempt
from bench.waits import logins
from bench.waits.logins import Reference, Run, Worker

CHILDREN, DECIDED_WHILE_DOWN = 20, 20


def compare(name: str, count: int, **how: float) -> list[Figure]:
    how = {"rate": options.rate} | how
    product, reference = Run(Worker(services, count), count, **how), Run(Reference(services), count, **how)
    different = {name for name, _value in product.columns.items() ^ reference.columns.items()}
    title = f"{name}, {count} waits"
    print(f"{title}; columns that differ: {', '.join(sorted(different)) or 'none'}.")
    print(*product.warnings, *reference.warnings, sep="\n", flush=True)
    return report.figures(product.figures, reference.figures, title=f"{title}: ")


def prefork() -> list[Figure]:
    """Memory per wait, beside a child of Celery's default pool, which holds one."""
    child = Run(Worker(services, CHILDREN, pool="prefork"), CHILDREN, rate=50).children_pss / CHILDREN
    wait = Run(Worker(services, options.n), options.n, rate=500).figures["memory per wait, kB"]
    return [Figure("prefork: memory per wait, kB", wait, child)]


def two() -> list[Figure]:
    """Two workers share the waits; one is killed while phones go on deciding, and nothing may be lost."""
    count, ask = options.n, services.upstream.ask
    logins.clear(services)
    with Worker(services, count) as first, Worker(services, count):
        ids = logins.seed(count)
        first.begin(ids)
        wait_for_count(count, lambda: ask("state")["held"])
        holders = LoginAttempt.objects.exclude(lease_owner="").values_list("lease_owner", flat=True)
        fewer, more = sorted(Counter(holders).values())
        first.kill()
        killed, rest = time.monotonic(), count - DECIDED_WHILE_DOWN
        until(lambda: ask("state")["held"] < count, "the killed worker held nothing")
        ask("release", rate=200, count=DECIDED_WHILE_DOWN)
        until(lambda: ask("state")["answered"] >= DECIDED_WHILE_DOWN, "answered waits are lost")
        until(lambda: ask("state")["held"] >= rest, "the other waits are not held again")
        held_again = time.monotonic() - killed
        ask("release", rate=options.rate)
        done, _seconds = wait_for_count(count, lambda: logins.succeeded(ids))
    return [
        Figure("two workers: waits of the busier, and of the other", more, fewer),
        Figure("two workers: held again after one was killed, s", held_again, aim=15),
        Figure("two workers: lost", count - done, aim=0),
        Figure("two workers: calls for a wId at a time", ask("state")["most_parallel"], aim=1),
    ]


def measure(name: str) -> list[Figure]:
    if name in ("prefork", "two"):
        return {"prefork": prefork, "two": two}[name]()
    how = {"steady": {"refill": True}, "burst": {"within": 0.3}}.get(name, {})
    sizes = options.sizes if name == "growth" else [options.n]
    return [figure for size in sizes for figure in compare(name, size, **how)]


report.finish([figure for name in options.runs for figure in measure(name)], options)
