"""Figures of a run: percentiles, tables in Markdown, and a JSON file that `bench.compare` reads."""

import json
import signal
import statistics
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass
class Figure:
    """One measured value. `reference` is that of another program, measured in the same run."""

    name: str
    value: float
    reference: float | None = None
    aim: float | None = None
    more_is_better: bool = False

    @property
    def ratio(self) -> float | None:
        return self.value / self.reference if self.reference else None


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if values[1:] else values[0]


def percentiles(title: str, times: list[float]) -> dict[str, float]:
    """Median and 99th percentile of times in ms, by the name of the figure."""
    named = {"median": 50, "p99": 99}
    return {f"{title}: {name}, ms": percentile(times, percent) for name, percent in named.items()}


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def comparison(figures: Iterable[Figure]) -> str:
    """The product beside its reference."""
    rows = [[f.name, *map(number, (f.value, f.reference, f.ratio, f.aim))] for f in figures]
    return table(["what", "wkportal", "reference", "ratio", "aim"], rows)


def parser(description: str) -> ArgumentParser:
    """The options that every table has. SIGTERM ends what a run started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    options = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    return options


def finish(figures: Iterable[Figure], options: Namespace, *tables: str) -> None:
    """Print the tables, by default that of the figures, and write the file."""
    figures = list(figures)
    print(*(tables or [comparison(figures)]), sep="\n\n")
    if options.json:
        options.json.write_text(json.dumps([asdict(figure) for figure in figures], ensure_ascii=False))
