"""The last 30 days of an account as a bar with one column for each day."""

from accounts.reports.account_days import Month

HEIGHT, STEP = 16, 3


def bar(month: Month) -> dict[str, str]:
    """Draw the columns as SVG paths: red from the top for the share offline, green below it.

    `whole`: all days without a drop are one line, of which dashes make columns.
    """
    paths = {"up": "", "out": "", "none": "", "whole": ""}
    first = next((place for place, day in enumerate(month.days) if day.counted), len(month.days))
    if first:
        paths["none"] = f"M0 {HEIGHT - 1}H{STEP * first - 1}"
    if not any(day.offline for day in month.days):
        paths["whole"] = f"M{STEP * first} {HEIGHT // 2}H{STEP * len(month.days) - 1}"
        return paths
    for place, day in enumerate(month.days[first:], start=first):
        x = STEP * place + 1
        low = max(2.0, HEIGHT * day.offline / day.counted) if day.offline else 0
        if low:
            paths["out"] += f"M{x} 0V{low:.1f}"
        if low + 1 < HEIGHT:
            paths["up"] += f"M{x} {low + 1 if low else 0:.1f}V{HEIGHT}"
    return paths
