"""Bulk actions: what one would do, its start, and the pages of its run."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import permissions, tasks
from accounts.bulk import actions, runs
from accounts.lib.typed_text import is_key
from accounts.models import Account, BulkRun
from accounts.models.operators.bulk_run import BulkAction
from accounts.web import selection
from accounts.web.bulk import presenters
from accounts.web.bulk.forms import FORMS, form_for
from accounts.web.forms import focus

RUNS_SHOWN = 50


@require_POST
@never_cache
@login_required
def choose(request: HttpRequest) -> HttpResponse:
    """Choose what to do with the selected accounts."""
    accounts = _chosen(request)
    choices = [action for action in BulkAction if actions.may(request.user, action)]
    permissions.only(choices, None)
    ids = list(accounts.values_list("pk", flat=True)[: runs.MOST + 1])
    return render(request, "bulk/choose.html", {"choices": choices, "ids": _joined(ids), "number": len(ids)})


@require_POST
@never_cache
@login_required
def prepare(request: HttpRequest, action: str) -> HttpResponse:
    """Show what the action would do to the selected accounts and ask what it needs; with `start`, start it."""
    permissions.only(action in BulkAction, None)
    _need(request, action)
    starts = request.POST.get("start") == "1"
    again = _again(request)
    form = form_for(action, request.user, request.POST if starts and again is None else None)
    value = again.value if again else form.value() if form.is_valid() else {}
    asks = action in FORMS and again is None
    try:
        if starts and (again or form.is_valid()):
            return _started(request, runs.start(request.user, action, value, _chosen(request)))
        found = None if asks else runs.look(action, value, _chosen(request))
    except runs.TooMany:
        most = {"limit": runs.most(action)}
        messages.error(request, _("At most %(limit)s accounts at a time. Nothing was started.") % most)
        return redirect("accounts")
    if asks:
        focus(form)
    ids = list(_chosen(request).values_list("pk", flat=True)[: runs.MOST + 1])
    ctx = {"action": BulkAction(action), "form": form, "asks": asks, "found": found, "again": again}
    ctx |= {"ids": _joined(ids), "number": len(ids), "value": presenters.value_words(action, value)}
    return render(request, "bulk/prepare.html", ctx, status=422 if starts else 200)


def _started(request: HttpRequest, run: BulkRun) -> HttpResponse:
    tasks.put_into_queue(tasks.bulk_run, run.pk)
    return redirect("station", run.scan_run_id) if run.scan_run_id else redirect("bulk_run", run.pk)


def _chosen(request: HttpRequest) -> QuerySet[Account]:
    """Return the accounts that the request means: the selection of the list, or `ids` as the pages here name them."""
    if "ids" not in request.POST:
        return selection.chosen(request.user, request.POST)
    ids = [int(pk) for pk in request.POST["ids"].split(",")[: runs.MOST + 1] if is_key(pk)]
    return runs.visible_to(request.user, ids)


def _joined(ids: list[int]) -> str:
    return ",".join(map(str, ids))


def _again(request: HttpRequest) -> BulkRun | None:
    """Return the run that is done again, with what it wrote; None for a new one."""
    pk = request.POST.get("again", "")
    return get_object_or_404(runs.visible_runs(request.user), pk=int(pk)) if is_key(pk) else None


# --- runs -------------------------------------------------------------------------------------------------


@require_GET
@never_cache
@login_required
def run_list(request: HttpRequest) -> HttpResponse:
    rows = list(runs.visible_runs(request.user).order_by("-pk")[:RUNS_SHOWN])
    return render(request, "bulk/runs.html", {"runs": presenters.with_counts(rows)})


@require_GET
@never_cache
@login_required
def run_detail(request: HttpRequest, run_id: int) -> HttpResponse:
    return render(request, "bulk/run.html", presenters.run_page(request, _run(request, run_id)))


@require_GET
@never_cache
@login_required
def run_live(request: HttpRequest, run_id: int) -> HttpResponse:
    return render(request, "bulk/_run.html", presenters.run_page(request, _run(request, run_id)))


@require_POST
@never_cache
@login_required
def cancel_run(request: HttpRequest, run_id: int) -> HttpResponse:
    """Start nothing more. What a phone shows already stays there."""
    run = _run(request, run_id)
    _need(request, run.action)
    runs.cancel(run)
    return redirect("bulk_run", run.pk)


def _need(request: HttpRequest, action: str) -> None:
    if action == BulkAction.CHECK:
        return permissions.need_check(request.user)
    why = _("Viewers can’t do this to accounts. Operators and admins can. Ask an admin for permission.")
    return permissions.need(actions.may(request.user, action), why)


def _run(request: HttpRequest, run_id: int) -> BulkRun:
    run = runs.visible_runs(request.user).select_related("scan_run").filter(pk=run_id).first()
    if run is None:
        raise Http404
    return run
