"""Runs of the product beside runs of the reference, and what a reader wants to know of them as tables."""

import json
import os
import statistics
import tempfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from signal import SIGRTMIN

from bench import gauges, layers, sampler, sides
from bench.hold import Plan, Result, Run
from bench.rig import Rig

MORE_IS_BETTER = "logins begun per second (more is better)"
# The names, formats and readers of what is compared; "rows" against the reference with rows, "hold" without.
FIGURES: tuple[tuple[str, str, Callable[[Result], float], str], ...] = (
    (MORE_IS_BETTER, "{:.0f}", lambda r: r.starts_per_second, "rows"),
    ("all in after, s", "{:.2f}", lambda r: r.all_in, "rows"),
    ("CPU per login: start, ms", "{:.2f}", lambda r: r.cpu_start, "rows"),
    ("CPU per login: deliver, ms", "{:.2f}", lambda r: r.cpu_deliver, "rows"),
    ("CPU per login: both, ms", "{:.2f}", lambda r: r.cpu, "rows"),
    ("PostgreSQL's CPU per login, ms", "{:.2f}", lambda r: r.postgres_cpu, "rows"),
    ("Valkey's CPU per login, ms", "{:.2f}", lambda r: r.valkey_cpu, "rows"),
    ("busy while answers come, % of a core", "{:.0f}", lambda r: 100 * r.busy_deliver, "rows"),
    ("delivery p50, ms", "{:.1f}", lambda r: r.delivery.get("p50", 0), "rows"),
    ("delivery p99, ms", "{:.1f}", lambda r: r.delivery.get("p99", 0), "rows"),
    ("delivery max, ms", "{:.1f}", lambda r: r.delivery.get("max", 0), "rows"),
    ("last commit after the first answer, s", "{:.2f}", lambda r: r.last_after, "rows"),
    ("RSS idle, MB", "{:.0f}", lambda r: r.rss_idle / 1024, "hold"),
    ("RSS while all wait, MB", "{:.0f}", lambda r: r.rss_hold / 1024, "hold"),
    ("RSS at the peak, MB", "{:.0f}", lambda r: r.rss_peak / 1024, "hold"),
    ("RSS per wait, kB", "{:.1f}", lambda r: r.rss_each, "hold"),
    ("idle CPU while all wait, % of a core", "{:.2f}", lambda r: r.idle_percent, "hold"),
    ("database connections while all wait", "{:.0f}", lambda r: r.backends_hold, "rows"),
    ("database connections at the peak", "{:.0f}", lambda r: r.backends_peak, "rows"),
)


@dataclass
class Report:
    title: str
    lines: list[str] = field(default_factory=list)
    data: dict[str, object] = field(default_factory=dict)

    def add(self, results: list[Result]) -> None:
        """Keep the results, and say what makes them doubtful."""
        self.data.setdefault("results", []).extend(result.as_dict() for result in results)
        for result in results:
            if any(part > 0.2 for part in result.others.values()):
                took = ", ".join(f"{part:.2f} in {name}" for name, part in result.others.items())
                self.lines.append(f"  ! other programs took of a core during {result.name}: {took}")

    def __str__(self) -> str:
        return "\n".join([f"\n== {self.title}", *self.lines])


def middle(results: list[Result], read: Callable[[Result], float]) -> float:
    return statistics.median(read(result) for result in results)


def ratio(one: float, other: float) -> str:
    return f"{one / other:.2f}" if other > 0 else "-"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [f"  {head[0]:<42}" + "".join(f"{cell:>14}" for cell in head[1:])]
    return lines + [f"  {row[0]:<42}" + "".join(f"{cell:>14}" for cell in row[1:]) for row in rows]


class Bench:
    def __init__(self, rig: Rig, options: Namespace):
        self.rig, self.options = rig, options

    # --- the sides ---------------------------------------------------------------------------------------

    def product(self, plan: Plan, **how) -> Result:
        gauges.wait_for_quiet(self.options.quiet)
        worker = sides.Worker(self.rig, slots=max(2 * plan.count, 100), **how)
        return Run(self.rig, worker, plan).go()

    def reference(self, plan: Plan, mode: str) -> Result:
        gauges.wait_for_quiet(self.options.quiet)
        plan = replace(plan, with_rows=mode == "rows")
        return Run(self.rig, sides.Bare(self.rig, mode), plan).go()

    # --- the runs ----------------------------------------------------------------------------------------

    def hold(self) -> Report:
        """N waits begun, held and answered, by the product and by both references, in turn."""
        plan = Plan(self.options.n, self.options.rate)
        report = Report(f"{plan.count} waits, answered at {plan.rate:.0f} a second")
        product, written, held = [], [], []
        for _round in range(self.options.rounds):
            product.append(self.product(plan))
            written.append(self.reference(plan, "rows"))
            held.append(self.reference(plan, "hold"))
        report.lines += self.compared(product, written, held)
        report.lines += self.soundness(product, written)
        report.add(product + written + held)
        return report

    def compared(
        self,
        product: list[Result],
        written: list[Result],
        held: list[Result],
        of: tuple[str, ...] = ("",),
    ) -> list[str]:
        """A line for each figure whose name begins with one `of` these."""
        rows = []
        for name, form, read, against in FIGURES:
            if not name.startswith(of):
                continue
            compared = written if against == "rows" else held or written
            ours, other = middle(product, read), middle(compared, read)
            best = max if name == MORE_IS_BETTER else min
            top = (best(map(read, product)), best(map(read, compared)))
            rows.append((name, form.format(ours), form.format(other), ratio(ours, other), ratio(*top)))
        return table(("median of the rounds", "product", "reference", "ratio", "of the best"), rows)

    def soundness(self, product: list[Result], written: list[Result]) -> list[str]:
        """What has no degrees: nothing lost, nothing asked twice, and the same rows on both sides."""
        lines = [
            f"  {side[0].name}: lost {sum(r.lost for r in side)}, asked again {sum(r.repeated for r in side)}, "
            f"at most {max(r.most_parallel for r in side)} call(s) for a wId at a time, events "
            f"{sum(r.events for r in side)} of {sum(r.events_expected for r in side)}, "
            f"{sum(len(r.complaints) for r in side)} warnings"
            for side in (product, written)
        ]
        said = dict.fromkeys(line for r in product + written for line in r.complaints)
        lines += [f"    {line}" for line in list(said)[:5]]
        ours, other = product[0].looks, written[0].looks
        differing = [name for name in ours.keys() | other.keys() if ours.get(name) != other.get(name)]
        lines.append(f"  columns that differ between the two sides: {', '.join(sorted(differing)) or 'none'}")
        return lines

    def steady(self) -> Report:
        """N waits held all the time: for each that is answered another begins. Long pauses of a side show here."""
        plan = Plan(self.options.n, self.options.rate, refill=True)
        report = Report(
            f"{plan.count} waits held, {plan.rate:.0f} answered and {plan.rate:.0f} begun a second"
        )
        product, written = [], []
        for _round in range(self.options.rounds):
            product.append(self.product(plan))
            written.append(self.reference(plan, "rows"))
        report.lines += self.compared(product, written, [], ("delivery", "RSS", "database", "busy"))
        report.lines += self.soundness(product, written)
        report.add(product + written)
        return report

    def burst(self) -> Report:
        """All answers at once: a database that takes too few, or a worker that chokes, shows here."""
        plan = Plan(self.options.n, within=self.options.within)
        report = Report(f"{plan.count} answers within {plan.within} s")
        product, written = [], []
        for _round in range(self.options.rounds):
            product.append(self.product(plan))
            written.append(self.reference(plan, "rows"))
        report.lines += self.compared(product, written, [])
        report.lines += self.soundness(product, written)
        report.add(product + written)
        return report

    def starts(self) -> Report:
        """How logins begin: told by a message each, found in the database, and with their code still to be asked for."""
        count, rate = self.options.n, self.options.rate
        report = Report(f"{count} logins begun in three ways")
        ways = {
            "by message": (Plan(count, rate), True),
            "from rows": (Plan(count, rate), False),
            "with code": (Plan(count, rate, shown=False), True),
        }
        found: dict[str, list[Result]] = {way: [] for way in ways}
        for _round in range(self.options.rounds):
            for way, (plan, messages) in ways.items():
                found[way].append(self.product(plan, messages=messages))
        rows = [
            (name, *(form.format(middle(results, read)) for results in found.values()))
            for name, form, read, _against in FIGURES
            if name.startswith(("logins", "all in", "CPU", "PostgreSQL"))
        ]
        report.lines += table(("median of the rounds", *ways), rows)
        for way, results in found.items():
            lost, events = sum(r.lost for r in results), sum(r.events for r in results)
            expected, said = sum(r.events_expected for r in results), sum(len(r.complaints) for r in results)
            report.lines.append(f"  {way}: lost {lost}, events {events} of {expected}, {said} warnings")
            report.add(results)
        return report

    def prefork(self) -> Report:
        """Celery's default pool holds one wait in each child process."""
        plan = Plan(self.options.children, rate=50)
        report = Report(
            f"memory per wait: {plan.count} children of prefork against {self.options.n} waits of gevent"
        )
        gauges.wait_for_quiet(self.options.quiet)
        worker = sides.Worker(self.rig, slots=plan.count, pool="prefork")
        forked = Run(self.rig, worker, plan).go()
        gevent = self.product(Plan(self.options.n, rate=500))
        each, ours = forked.pss_children / plan.count, gevent.rss_each
        report.lines += table(
            ("kB per wait", "prefork", "gevent", "ratio"),
            [("PSS of a child / RSS of a wait", f"{each:.0f}", f"{ours:.1f}", ratio(each, ours))],
        )
        both = f"{forked.pss_hold / 1024:.0f} MB PSS, {forked.rss_hold / 1024:.0f} MB RSS"
        report.lines.append(f"  {plan.count} children and their parent: {both}; lost {forked.lost}")
        report.data |= {"pss_per_child": each, "rss_per_wait": ours, "ratio": each / ours}
        report.add([forked, gevent])
        return report

    def growth(self) -> Report:
        """What a wait costs among few and among many."""
        sizes = self.options.sizes
        report = Report("what a wait costs among few and among many")
        product, written, held = {}, {}, {}
        for count in sizes:
            plan = Plan(count, self.options.rate)
            product[count] = [self.product(plan)]
            written[count] = [self.reference(plan, "rows")]
            held[count] = [self.reference(Plan(count, 500), "hold")]
        sides_of_it = {"product": product, "reference with rows": written, "reference, hold only": held}
        for title, found in sides_of_it.items():
            rows = [
                (name, *map(form.format, each), ratio(each[-1], each[0]))
                for name, form, read, _against in FIGURES
                if any(each := [middle(found[count], read) for count in sizes])
            ]
            report.lines += table((title, *map(str, sizes), "last/first"), rows)
            results = [result for each in found.values() for result in each]
            lost, again = sum(r.lost for r in results), sum(r.repeated for r in results)
            report.lines.append(f"  lost {lost}, asked again {again}")
            report.add(results)
        return report

    def profile(self) -> Report:
        """Where a login's processor time goes, by layer; the profiler itself takes a tenth or so."""
        plan = Plan(self.options.n, self.options.rate)
        report = Report(f"profile of {plan.count} logins, answered at {plan.rate:.0f} a second")
        gauges.wait_for_quiet(self.options.quiet)
        worker = sides.Worker(self.rig, slots=2 * plan.count)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "samples.json"
            worker.sampled(file)

            def mark(part: str) -> None:
                os.kill(worker.pid, SIGRTMIN + sampler.PARTS.index(part))
                if part == "done":
                    sides.until(file.exists, 60, "the profiler wrote nothing")

            result = Run(self.rig, worker, plan, mark).go()
            samples = json.loads(file.read_text())
        times = {"start": result.cpu_start, "deliver": result.cpu_deliver}
        report.lines.append(layers.report(samples, times))
        report.data["layers"] = {
            part: dict(layers.shares(samples.get(part, []), layers.in_whose_code)) for part in times
        }
        report.add([result])
        return report
