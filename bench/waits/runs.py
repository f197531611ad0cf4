"""The runs of `bench.waits`: each prints its table and returns its figures."""

import time
from argparse import Namespace
from collections.abc import Iterator

from bench.processes import wait_for_count, wait_until
from bench.report import Figure
from bench.services import Services
from bench.waits import attempts
from bench.waits.clients import Reference, Run, Worker

CHILDREN, DECIDED_WHILE_DOWN = 20, 20


def run(services: Services, options: Namespace) -> Iterator[Figure]:
    count, rate = options.n, options.rate
    plans = {
        "hold": [{"count": count, "rate": rate}],
        "steady": [{"count": count, "rate": rate, "refill": True}],
        "burst": [{"count": count, "rate": 0, "within": 0.3}],
        "growth": [{"count": size, "rate": rate} for size in options.sizes],
    }
    for name in options.runs:
        if name in plans:
            for plan in plans[name]:
                yield from compare(f"{name}, {plan['count']} waits", services, plan)
        else:
            yield from {"prefork": prefork, "two": two}[name](services, options)


def compare(title: str, services: Services, plan: dict) -> list[Figure]:
    product, reference = Run(Worker(services, plan["count"]), **plan), Run(Reference(services), **plan)
    different = {name for name, _value in product.columns.items() ^ reference.columns.items()}
    print(f"{title}; columns that differ: {', '.join(sorted(different)) or 'none'}.")
    print(*product.warnings, *reference.warnings, sep="\n", flush=True)
    return [
        Figure(f"{title}: {name}", value, reference.figures[name], more_is_better="per second" in name)
        for name, value in product.figures.items()
    ]


def prefork(services: Services, options: Namespace) -> list[Figure]:
    """Memory per wait, beside a child of Celery's default pool, which holds one."""
    child = Run(Worker(services, CHILDREN, pool="prefork"), CHILDREN, rate=50).children_pss / CHILDREN
    wait = Run(Worker(services, options.n), options.n, rate=500).figures["memory per wait, kB"]
    return [Figure("prefork: memory per wait, kB", wait, child)]


def two(services: Services, options: Namespace) -> list[Figure]:
    """Two workers share the waits; one is killed while phones go on deciding, and nothing may be lost."""
    count, ask = options.n, services.upstream.ask
    attempts.clear()
    ask("reset")
    with Worker(services, count) as first, Worker(services, count):
        ids = attempts.seed(count)
        first.begin(ids)
        wait_for_count(count, lambda: ask("state")["held"])
        fewer, more = attempts.waits_per_worker(ids)
        first.kill()
        killed, rest = time.monotonic(), count - DECIDED_WHILE_DOWN
        wait_until(lambda: ask("state")["held"] < count, 10, "the killed worker held nothing", every=0.005)
        ask("release", rate=200, count=DECIDED_WHILE_DOWN)
        wait_until(lambda: ask("state")["answered"] >= count - rest, 60, "answered waits are lost")
        wait_until(lambda: ask("state")["held"] >= rest, 60, "the other waits are not held again")
        held_again = time.monotonic() - killed
        ask("release", rate=options.rate)
        done, _seconds = wait_for_count(count, lambda: attempts.succeeded(ids))
    return [
        Figure("two workers: waits of the busier, and of the other", more, fewer),
        Figure("two workers: held again after one was killed, s", held_again, aim=15),
        Figure("two workers: lost", count - done, aim=0),
        Figure("two workers: calls for a wId at a time", ask("state")["most_parallel"], aim=1),
    ]
