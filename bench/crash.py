"""Two workers share the waits; then one of them is killed in the middle, and nothing may be lost."""

import time

from bench import gauges, rows, sides
from bench.compare import Bench, Report, ratio, table

DECIDED_WHILE_DOWN = 20
FOUND_WITHIN = 60


def two_workers(bench: Bench) -> Report:
    """The load's shares, then SIGKILL for one of the two; phones go on deciding while nobody listens to them."""
    count = bench.options.n
    report = Report(f"two workers, {count} waits, one of the workers is killed")
    gauges.wait_for_quiet(bench.options.quiet)
    rows.clear()
    upstream = bench.rig.upstream
    upstream.ask("reset")
    first, second = (sides.Worker(bench.rig, 2 * count, node=f"waits{n}") for n in (1, 2))
    with first, second:
        ids = rows.seed(count)
        began = time.monotonic()
        beginning = sides.in_a_thread(first.begin, ids, 0, False)
        sides.until(lambda: upstream.ask("state")["held"] == count, 300, "the waits did not all begin")
        all_in = time.monotonic() - began
        beginning.join()
        shares = sorted(rows.holders(ids).values())
        found = {"shares": shares, "begun_per_second": count / all_in}
        report.lines += table(
            ("the load", "the less busy", "the busier", "ratio"),
            [("waits held", str(shares[0]), str(shares[-1]), ratio(shares[-1], shares[0]))],
        )
        report.lines.append(f"  {count / all_in:.0f} logins begun per second by both together")
        found |= _kill(first, upstream, count)
        found |= _answer_all(bench, ids)
        said = second.complaints()
    report.lines += [
        f"  killed with {found['cut_off']} waits; all were held again after {found['held_again']:.1f} s",
        f"  lost {found['lost']}, asked again {found['repeated']}, at most {found['most_parallel']} call(s) for a wId at a time",
    ]
    report.lines.append(f"  {len(said)} warnings of the one that lived")
    report.lines += [f"    {line}" for line in dict.fromkeys(said[:5])]
    report.data |= found | {"complaints": said[:50]}
    return report


def _kill(worker: sides.Worker, upstream, count: int) -> dict[str, float]:
    worker.kill()
    killed = time.monotonic()
    gone = lambda: upstream.ask("state")["held"] < count  # noqa: E731
    sides.until(gone, 10, "the killed worker held nothing", every=0.005)
    time.sleep(0.2)
    cut_off = count - upstream.ask("state")["held"]
    upstream.ask("release", rate=200, count=DECIDED_WHILE_DOWN)

    def held_again() -> bool:
        state = upstream.ask("state")
        return state["held"] >= count - DECIDED_WHILE_DOWN and state["answered"] >= DECIDED_WHILE_DOWN

    try:
        sides.until(held_again, FOUND_WITHIN, "the waits of the killed worker were not taken up")
    except TimeoutError:
        return {"cut_off": cut_off, "held_again": float("inf")}
    return {"cut_off": cut_off, "held_again": time.monotonic() - killed}


def _answer_all(bench: Bench, ids: list[int]) -> dict[str, int]:
    upstream = bench.rig.upstream
    upstream.ask("release", rate=bench.options.rate)
    seen = [0, time.monotonic()]

    def written() -> bool:
        done = rows.succeeded(ids)
        if done != seen[0]:
            seen[:] = done, time.monotonic()
        return done == len(ids) or time.monotonic() - seen[1] > FOUND_WITHIN

    sides.until(written, 3600, "the logins were not written down", every=0.1)
    state = upstream.ask("state")
    return {"lost": len(ids) - rows.succeeded(ids)} | {
        name: state[name] for name in ("repeated", "most_parallel")
    }
