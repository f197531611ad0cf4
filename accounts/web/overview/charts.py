"""The charts of the overview as SVG paths."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from accounts.reports.figures import Bar, Day, Scan

HEIGHT, STEP = 84, 10


@dataclass(frozen=True, slots=True)
class Paths:
    """The `d` attributes of one chart by the classes of their paths, its width, and the highest value."""

    width: int
    parts: dict[str, str]
    top: int


def stacked_days(days: list[Day]) -> Paths:
    """Draw a column for each day: logins that succeeded, those that did not on top of them."""
    top = max((day.succeeded + day.other for day in days), default=0)
    good = ((n, 0, day.succeeded) for n, day in enumerate(days))
    bad = ((n, day.succeeded, day.succeeded + day.other) for n, day in enumerate(days))
    return Paths(STEP * len(days), {"col": _columns(good, top), "col out": _columns(bad, top)}, top)


def lines(days: list[Scan]) -> Paths:
    top = max((day.p90 or 0 for day in days), default=0)
    parts = {
        "l90": _line([day.p90 for day in days], top),
        "l50": _line([day.p50 for day in days], top),
    }
    return Paths(STEP * len(days), parts, top)


def hours(bars: list[Bar]) -> Paths:
    top = max((bar.drops for bar in bars), default=0)
    plain = ((n, 0, bar.drops) for n, bar in enumerate(bars) if bar.times is None)
    out = ((n, 0, bar.drops) for n, bar in enumerate(bars) if bar.times is not None)
    return Paths(STEP * len(bars), {"col plain": _columns(plain, top), "col out": _columns(out, top)}, top)


def _y(value: float, top: int) -> float:
    return round(HEIGHT - HEIGHT * value / top, 1) if top else HEIGHT


def _columns(values: Iterable[tuple[int, int, int]], top: int) -> str:
    return "".join(
        f"M{STEP * n + STEP // 2} {_y(low, top):g}V{_y(high, top):g}" for n, low, high in values if high > low
    )


def _line(values: list[int | None], top: int) -> str:
    """Draw a line that is broken where there is no value. A value alone is a short line."""
    points = [
        None if value is None else (STEP * n + STEP // 2, _y(value, top)) for n, value in enumerate(values)
    ]
    text = ""
    for is_gap, run in groupby(points, key=lambda point: point is None):
        run = [] if is_gap else list(run)
        if len(run) == 1:
            text += f"M{run[0][0] - 3} {run[0][1]:g}h6"
        elif run:
            text += "M" + "L".join(f"{x} {y:g}" for x, y in run)
    return text
