"""Measure a table in two checkouts by turns, and compare their figures.

Each round runs `.venv/bin/python -m bench.TABLE` in both checkouts, in the other order each time. "Change" is that of the
medians, and after it, where a table measures a reference in the same run, that of the ratios to the reference. A figure is
worse if one of them changed by more than a tenth, and every round after is worse than every round before.
"""

import json
import subprocess
import sys
import tempfile
from argparse import REMAINDER, ArgumentParser, RawDescriptionHelpFormatter
from math import inf
from pathlib import Path
from statistics import median

from bench.processes import ROOT
from bench.report import Figure, number, table


def measure(checkout: Path, table: str, options: list[str]) -> list[Figure]:
    with tempfile.NamedTemporaryFile() as file:
        python = checkout.resolve() / ".venv/bin/python"
        command = [python, "-m", f"bench.{table}", *options, "--json", file.name]
        subprocess.run(command, cwd=checkout, check=True, stdout=sys.stderr)
        return [Figure(**figure) for figure in json.load(file)]


def costs(figures: list[Figure], by_ratio: bool) -> list[float]:
    """What is compared of each round: less is better."""
    values = [figure.ratio if by_ratio else figure.value for figure in figures]
    return [1 / value if value else inf for value in values] if figures[0].more_is_better else values


def compare(before: list[Figure], after: list[Figure]) -> tuple[float, list[str]]:
    """Return how much more one figure is after, and its row in the table."""
    changes, verdict = [], ""
    for by_ratio in (False, True)[: 1 + all(figure.ratio for figure in before + after)]:
        old, new = costs(before, by_ratio), costs(after, by_ratio)
        changes.append(median(new) / median(old) if median(old) else inf if median(new) else 1.0)
        if changes[-1] > 1.1 and verdict != "worse":
            verdict = "worse" if min(new) > max(old) else "within the spread"
    values = [[figure.value for figure in figures] for figures in (before, after)]
    cells = [f"{number(median(v))} ({number(min(v))} to {number(max(v))})" for v in values]
    return max(changes), [before[0].name, *cells, " / ".join(f"{change:.2f}" for change in changes), verdict]


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="a checkout with its own .venv")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("table", choices=("latency", "waits", "streams", "presence", "pages"))
    parser.add_argument("options", nargs=REMAINDER)
    asked = parser.parse_args()
    found: dict[str, tuple[list[Figure], list[Figure]]] = {}
    for round_ in range(asked.rounds):
        for side in (0, 1) if round_ % 2 == 0 else (1, 0):
            for figure in measure((asked.before, ROOT)[side], asked.table, asked.options):
                found.setdefault(figure.name, ([], []))[side].append(figure)
    rows = sorted((compare(*figures) for figures in found.values() if all(figures)), reverse=True)
    print(table(["what", "before", "after", "change", ""], [row for _change, row in rows]))
    worse = sum(row[-1] == "worse" for _change, row in rows)
    print(f"\n{len(rows)} figures, {worse} worse; {len(found) - len(rows)} others only in one checkout")
    sys.exit(worse > 0)


if __name__ == "__main__":
    main()
