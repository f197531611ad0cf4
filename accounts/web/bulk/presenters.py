"""What the pages of bulk runs show."""

from django.db.models import Count
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from accounts.bulk import actions, runs
from accounts.lib.lists.keyset_pagination import Order, page_of
from accounts.models import Account, BulkItem, BulkRun, RecoveryPolicy, Team
from accounts.models.operators.bulk_run import BulkAction, BulkState
from accounts.proxies import proxy_name

# As chips have them.
KINDS = {
    BulkState.WAITING: "new",
    BulkState.STARTED: "waiting",
    BulkState.DONE: "online",
    BulkState.FAILED: "failed",
    BulkState.LEFT_OUT: "expired",
    BulkState.CANCELLED: "expired",
}
# Fills of the bar.
FILLS = {BulkState.DONE: "f-up", BulkState.STARTED: "f-wait", BulkState.FAILED: "f-out"}


def value_words(action: str, value: dict) -> str:
    """Return what the action writes, as people read it; "" if it needs no value."""
    if not value:
        return ""
    if "tags" in value:
        return ", ".join(value["tags"])
    if "proxy" in value:
        return proxy_name(value["proxy"]) or pgettext("no proxy", "None")
    if "team" in value:
        return str(Team.objects.filter(pk=value["team"]).first() or _("Admins only"))
    if "policy" in value:
        return str(RecoveryPolicy.objects.filter(pk=value["policy"]).first() or _("Default policy"))
    if action == BulkAction.DUE:
        at = actions.moment(value)
        return date_format(timezone.localtime(at), "SHORT_DATETIME_FORMAT") if at else "—"
    return value.get("reason") or value.get("place") or "—"


def with_counts(rows: list[BulkRun]) -> list[BulkRun]:
    """Add `number`, `done` and `failed` to the runs: how many accounts each has, and how many with these results."""
    found = BulkItem.objects.filter(run__in=rows).order_by().values_list("run", "state").annotate(Count("pk"))
    numbers: dict[int, dict[str, int]] = {}
    for run, state, number in found:
        numbers.setdefault(run, {})[state] = number
    for run in rows:
        mine = numbers.get(run.pk, {})
        run.number, run.done = sum(mine.values()), mine.get(BulkState.DONE, 0)
        run.failed = mine.get(BulkState.FAILED, 0)
    return rows


def run_page(request: HttpRequest, run: BulkRun) -> dict:
    counts = runs.counts(run)
    state = request.GET.get("state", "")
    state = state if state in BulkState else ""
    items = run.items.select_related("account", "attempt").defer("attempt__qr_png", "attempt__qr_text")
    items = items.filter(state=state) if state else items
    page = page_of(items, Order("id"), request.GET.get("page", ""))
    seen = Account.objects.visible_to(request.user).filter(pk__in=[item.account_id for item in page.rows])
    seen = set(seen.values_list("pk", flat=True))
    for item in page.rows:
        item.kind, item.is_seen = KINDS[item.state], item.account_id in seen
    total = sum(counts.values())
    parts = [{"state": one, "kind": KINDS[one], "number": counts[one]} for one in BulkState if counts[one]]
    for part in parts:
        part["fill"], part["width"] = FILLS.get(part["state"], ""), 100 * part["number"] / total
    may = actions.may(request.user, run.action)
    scans = run.scan_run is not None and run.scan_run.ended_at is None
    live = f"{reverse('bulk_run_live', args=[run.pk])}?{request.GET.urlencode()}"
    return {
        "run": run,
        "live": live if run.is_open else "",
        "value": value_words(run.action, run.value),
        "total": total,
        "done": counts[BulkState.DONE],
        "parts": parts,
        "state": state,
        "page": page,
        "may_cancel": may
        and run.is_open
        and run.cancelled_at is None
        and (scans or counts[BulkState.WAITING]),
        "again": runs.unsuccessful(run) if may and not run.is_open else [],
    }
