"""Context of the scan station and of the wall."""

from django.conf import settings
from django.db.models import Exists, OuterRef
from django.http import HttpRequest

from accounts import permissions
from accounts.lib import db_clock
from accounts.models import ScanRun, ScanRunItem
from accounts.models.operators.scan_run import ENDED, ScanSource, ScanState
from accounts.reasons import Reason
from accounts.scanning import queue, summary
from accounts.scanning.advance import RENEWALS, SHOWS_END, Advance
from accounts.states import AttemptState, Method
from accounts.web.presenters import panel

# Accounts of the queue that the page lists; those that have ended are the newest ones.
LISTED, ENDED_LISTED = 300, 8
RULES = (ScanSource.SCAN_QUEUE, ScanSource.NEW, ScanSource.FAILED_LOGIN)
GRIDS = {"2x2": (2, 2), "3x2": (3, 2), "4x3": (4, 3), "6x4": (6, 4)}
GRID = "4x3"
_MODES = {
    AttemptState.PREPARING: "asking",
    AttemptState.WAITING: "waiting",
    AttemptState.CODE_REQUIRED: "code",
    AttemptState.PAGE_REQUIRED: "page",
}


def choices(user, chosen: str = "") -> list[dict]:
    """Return the queues that can be started, each with the number of its accounts. One of them is the first choice."""
    found = [
        {"source": source, "count": queue.source_accounts(user, source).order_by().count()}
        for source in RULES
    ]
    wanted = [choice for choice in found if choice["source"] == chosen]
    first = next((choice for choice in [*wanted, *found] if choice["count"]), None)
    return [{**choice, "first": choice is first} for choice in found]


def stage(request: HttpRequest, step: Advance) -> dict:
    """Return the context of the station after a step: the account that is shown, what comes next, the progress."""
    run = step.run
    progress = summary.progress(run)
    ctx = {"run": run, "progress": progress, "look_in": step.look_in, "renewals_most": RENEWALS}
    if run.ended_at is not None:
        return {**ctx, "mode": "summary", "summary": summary.summary(run), "position": progress.total}
    item = run.items.filter(state=ScanState.SHOWN, slot=0).select_related(
        "account", "attempt__asked_by", "attempt__other_account", "attempt__account"
    ).first()  # fmt: skip
    last = (
        run.items.ended()
        .filter(shown_at__isnull=False)
        .select_related("account")
        .order_by("-ended_at")
        .first()
    )
    if item is None and last is not None and not (run.automatic_next or run.next_wanted):
        item = last
    ctx |= {
        "item": item,
        "last": last if last != item else None,
        "mode": _mode(run, item),
        "next": _next(run, item),
    }
    ctx["position"] = min(progress.total, progress.ended + (0 if item is not None and item.is_ended else 1))
    if item is None:
        return ctx
    attempt = item.attempt
    if attempt is not None:
        attempt.account = item.account
    return {**ctx, "account": item.account, **panel(request, attempt), "may_log_in": True}


def _mode(run: ScanRun, item: ScanRunItem | None) -> str:
    """Return what the stage shows: the template _stage_MODE."""
    if item is None:
        return "paused" if run.paused_at else "busy"
    attempt = item.attempt
    if item.state in ENDED:
        return "done" if item.state == ScanState.DONE else "failed"
    if attempt is not None and attempt.reason == Reason.WRONG_ACCOUNT:
        return "wrong"
    if attempt is not None and attempt.state in (AttemptState.CODE_REQUIRED, AttemptState.PAGE_REQUIRED):
        return _MODES[attempt.state]
    if run.paused_at is not None:
        return "paused"
    if attempt is not None and attempt.is_open and attempt.method == Method.POPUP:
        return "popup"
    return _MODES.get(attempt.state, "asking") if attempt is not None else "asking"


def _next(run: ScanRun, item: ScanRunItem | None) -> ScanRunItem | None:
    coming = run.items.filter(state__in=(ScanState.READY, ScanState.QUEUED)).select_related(
        "account", "attempt"
    )
    # "ready" sorts after "queued".
    return coming.defer("attempt__qr_png").order_by("-state", "position").first()


def listed(run: ScanRun) -> dict:
    """Return the context of the queue: the newest ended items, then those to come, and who else has one of them."""
    ended = run.items.ended().select_related("account", "attempt").order_by("-ended_at")
    coming = run.items.exclude(state__in=ENDED).select_related("account", "attempt")
    others = ScanRunItem.objects.claimed().filter(account=OuterRef("account")).exclude(run=run)
    coming = coming.annotate(held=Exists(others)).prefetch_related("account__tags")
    items = list(coming.defer(*_LIGHT).order_by("position")[:LISTED])
    held = ScanRunItem.objects.claimed().filter(account__in=[item.account_id for item in items if item.held])
    holders = {
        other.account_id: other.run.person.get_username()
        for other in held.exclude(run=run).select_related("run__person")
    }
    for item in items:
        item.holder = holders.get(item.account_id, "")
        tags = [f"#{tag.name}" for tag in item.account.tags.all()]
        item.find = " ".join([item.account.search_text, item.account.note, *tags]).lower()
    return {
        "run": run,
        "ended": list(ended.defer(*_LIGHT)[:ENDED_LISTED])[::-1],
        "items": items,
        "never_logged_in": queue.source_accounts(run.person, ScanSource.NEW)
        .exclude(pk__in=run.items.values("account"))
        .count(),
    }


_LIGHT = ("attempt__qr_png", "attempt__qr_text")


def wall(request: HttpRequest, step: Advance, grid: str) -> dict:
    """Return the context of the wall: one entry for each tile, and what has stepped aside."""
    run, now = step.run, db_clock.now()
    items = run.items.select_related("account", "attempt").defer(*_LIGHT)
    tiles: list[ScanRunItem | None] = [None] * step.places
    for item in items.ended().filter(shown_at__isnull=False, ended_at__gt=now - SHOWS_END):
        if item.slot < step.places:
            tiles[item.slot] = item
    for item in items.filter(state=ScanState.SHOWN, slot__lt=step.places):
        tiles[item.slot] = item
    for item in filter(None, tiles):
        item.mode = _mode(run, item)
        item.seconds_left = item.attempt.seconds_left(now) if item.attempt else 0
    failed = items.filter(state__in=(ScanState.FAILED, ScanState.SKIPPED))
    return {
        "run": run,
        "grid": grid,
        "grids": GRIDS,
        "tiles": tiles,
        "progress": summary.progress(run),
        "look_in": step.look_in,
        "wait_seconds": settings.WK_LOGIN_WAIT_SECONDS,
        "done": items.filter(state=ScanState.DONE).order_by("-ended_at")[:12],
        "failed": failed.order_by("-ended_at")[:12],
        "failed_count": failed.count(),
        "may_log_in": permissions.may_log_in(request.user),
    }
