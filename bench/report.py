"""Figures of a run: percentiles, tables in Markdown, and a JSON file that `bench.compare` reads."""

import json
import signal
import statistics
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

NONE: Mapping = MappingProxyType({})


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


def figures(values: dict, reference: Mapping = NONE, aims: Mapping = NONE, title: str = "") -> list[Figure]:
    """All by the names of the figures, which `title` is put before."""
    return [
        Figure(title + name, value, reference.get(name), aims.get(name), "per second" in name)
        for name, value in values.items()
    ]


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if values[1:] else values[0]


def percentiles(times: list[float], title: str = "") -> dict[str, float]:
    """Median and 99th percentile of times in ms, by the name of the figure."""
    return {f"{title}median, ms": percentile(times, 50), f"{title}p99, ms": percentile(times, 99)}


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"


def table(head: list[str], rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def comparison(figures: Iterable[Figure]) -> str:
    """The product beside its reference."""
    rows = [[f.name, *map(number, (f.value, f.reference, f.ratio, f.aim))] for f in figures]
    return table(["what", "wkportal", "reference", "ratio", "aim"], rows)


def parser(description: str, **options: object) -> ArgumentParser:
    """With these options, by their defaults, and the one that every table has. SIGTERM ends what a run started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    made = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    for name, default in options.items():
        dashes = "-" if len(name) == 1 else "--"
        made.add_argument(dashes + name, type=type(default), default=default, help="%(default)s if not given")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    return made


def finish(figures: list[Figure], options: Namespace) -> None:
    """Print the table and write the file."""
    print(comparison(figures))
    if options.json:
        options.json.write_text(json.dumps([asdict(figure) for figure in figures], ensure_ascii=False))
