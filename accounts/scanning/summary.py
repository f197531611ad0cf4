"""How far a scan run is, how long its accounts took, and which did not come online."""

from dataclasses import dataclass
from datetime import timedelta
from statistics import median

from django.db.models import Count, Q

from accounts.lib import db_clock
from accounts.models import ScanRun, ScanRunItem
from accounts.models.operators.scan_run import ENDED, ScanState

PACE_OF = 20


@dataclass(frozen=True)
class Progress:
    total: int
    ended: int
    done: int
    # Median seconds of the last accounts that came online; None before the first.
    pace: float | None

    @property
    def left(self) -> int:
        return self.total - self.ended

    @property
    def minutes_left(self) -> int | None:
        return None if self.pace is None else max(1, round(self.left * self.pace / 60))


def progress(run: ScanRun) -> Progress:
    counts = run.items.aggregate(
        total=Count("pk"),
        ended=Count("pk", filter=Q(state__in=ENDED)),
        done=Count("pk", filter=Q(state=ScanState.DONE)),
    )
    times = _times(run).order_by("-ended_at")[:PACE_OF]
    seconds = [(ended_at - shown_at).total_seconds() for shown_at, ended_at in times]
    return Progress(**counts, pace=median(seconds) if seconds else None)


def _times(run: ScanRun):
    timed = run.items.filter(state=ScanState.DONE, shown_at__isnull=False)
    return timed.values_list("shown_at", "ended_at")


@dataclass(frozen=True)
class Summary:
    median: float | None
    slowest: ScanRunItem | None
    lasted: timedelta
    failed: list[ScanRunItem]
    merged: list[ScanRunItem]  # their phones were known: the logins were saved for other accounts


def summary(run: ScanRun) -> Summary:
    """Return the seconds per account, the slowest one, and the failed ones with their reasons."""
    done = list(run.items.filter(state=ScanState.DONE, shown_at__isnull=False).select_related("account"))
    seconds = [item.seconds for item in done]
    failed = run.items.filter(state__in=(ScanState.FAILED, ScanState.SKIPPED, ScanState.QUEUED))
    return Summary(
        median=median(seconds) if seconds else None,
        slowest=max(done, key=lambda item: item.seconds, default=None),
        lasted=(run.ended_at or db_clock.now()) - run.created_at,
        failed=list(failed.select_related("account", "attempt").order_by("position")),
        merged=[item for item in done if item.account.merged_into_id],
    )
