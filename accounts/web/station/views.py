"""Pages of the scan station: choose a queue, work through it one QR code after another, or many at once on the wall."""

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import permissions
from accounts.attention.groups import AccountGroup
from accounts.lib.typed_text import is_key
from accounts.models import Account, ScanRun, ScanRunItem
from accounts.models.operators.scan_run import ScanSource, ScanState
from accounts.scanning import actions, queue
from accounts.scanning.advance import Advance
from accounts.tasks import put_into_queue, wait_for_phone
from accounts.web.forms import VerificationCodeForm, verify
from accounts.web.station import presenters


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def start(request: HttpRequest) -> HttpResponse:
    """Choose a queue; POST starts it. `source` names a rule, `incident` its accounts that wait for
    a scan, `account` the accounts themselves."""
    permissions.need_log_in(request.user)
    if request.method == "POST":
        run = _start_run(request)
        if run is not None:
            return redirect("wall" if "wall" in request.POST else "station", run.pk)
    ctx = {
        "choices": presenters.choices(request.user, request.GET.get("source", "")),
        "nothing": request.method == "POST",
        "open_runs": ScanRun.objects.open().filter(person=request.user).order_by("-id")[:1],
    }
    return render(request, "station/start.html", ctx, status=422 if ctx["nothing"] else 200)


@require_GET
@never_cache
@login_required
def scan_queue(request: HttpRequest) -> HttpResponse:
    """Lead to the station with the scan queue chosen; who may not log in gets the list of these accounts."""
    if permissions.may_log_in(request.user):
        return redirect(reverse("start_station") + f"?source={ScanSource.SCAN_QUEUE}")
    return redirect(reverse("accounts") + f"?group={AccountGroup.ATTENTION}")


def _start_run(request: HttpRequest) -> ScanRun | None:
    source = request.POST.get("source", "")
    if source in presenters.RULES:
        return queue.start_run(request.user, source, queue.source_accounts(request.user, source))
    if is_key(incident := request.POST.get("incident", "")):
        mine = Account.objects.visible_to(request.user).to_scan()
        dropped = mine.filter(drops__incident=int(incident), drops__ended_at=None)
        return queue.start_run(request.user, ScanSource.SELECTION, dropped)
    ids = [int(number) for number in request.POST.getlist("account") if is_key(number)][: queue.MOST]
    chosen = Account.objects.visible_to(request.user).kept().filter(pk__in=ids)
    return queue.start_run(request.user, ScanSource.SELECTION, chosen)


def _run_of(request: HttpRequest, run_id: int) -> ScanRun:
    permissions.need_log_in(request.user)
    return get_object_or_404(ScanRun.objects.select_related("person"), pk=run_id, person=request.user)


def _stepped(run: ScanRun, places: int = 1) -> Advance:
    step = Advance(run, places)
    return step if run.ended_at is not None else _send(step.step())


def _send(step: Advance) -> Advance:
    for attempt_id in step.started:
        put_into_queue(wait_for_phone, attempt_id)
    return step


@require_GET
@never_cache
@login_required
def station(request: HttpRequest, run_id: int) -> HttpResponse:
    step = _stepped(_run_of(request, run_id))
    ctx = {**presenters.listed(step.run), **presenters.stage(request, step)}
    return render(request, "station/station.html", ctx)


@require_GET
@never_cache
@login_required
def station_live(request: HttpRequest, run_id: int) -> HttpResponse:
    step = _stepped(_run_of(request, run_id))
    return render(request, "station/_live.html", presenters.stage(request, step))


@require_GET
@never_cache
@login_required
def station_queue(request: HttpRequest, run_id: int) -> HttpResponse:
    step = _stepped(_run_of(request, run_id))
    return render(request, "station/_queue.html", presenters.listed(step.run))


@require_POST
@never_cache
@login_required
def act(request: HttpRequest, run_id: int) -> HttpResponse:
    """Do what a button of the station says (`do`). `item`: the one it was about; one that has ended is left alone."""
    run = _run_of(request, run_id)
    step, do = Advance(run), request.POST.get("do", "")
    on_screen = {item.slot: item for item in run.items.filter(state=ScanState.SHOWN).with_attempt()}
    current, wrong = on_screen.get(0), None
    if do == "again_for_failed" and run.ended_at is not None:
        again = queue.start_run(run.person, ScanSource.AGAIN, queue.failed_of(run))
        return _moved(request, _page_of(request, again or run))
    if run.ended_at is None:
        if do in _ON_ITEM:
            for item in on_screen.values():
                if str(item.pk) == request.POST.get("item"):
                    item.run = run
                    wrong = _ON_ITEM[do](request, step, item)
        elif do in _ON_RUN:
            _ON_RUN[do](request, step, current)
        else:
            raise Http404
        # The wall takes the next step itself, for all its places.
        _send(step if "wall" in request.POST else step.step())
    if not request.htmx:
        return redirect(_page_of(request, run))
    if "wall" in request.POST:
        return HttpResponse(status=204)  # the page refreshes after every form of its own
    ctx = presenters.stage(request, step) | ({"code_form": wrong} if wrong else {})
    return render(request, "station/_live.html", ctx, status=422 if wrong else 200)


def _page_of(request: HttpRequest, run: ScanRun) -> str:
    """Return the address of the run's page that the person was on: the station, or the wall in its size."""
    grid = request.POST.get("wall", "")
    if grid in presenters.GRIDS:
        return f"{reverse('wall', args=[run.pk])}?grid={grid}"
    return reverse("station", args=[run.pk])


def _moved(request: HttpRequest, address: str) -> HttpResponse:
    return HttpResponse(headers={"HX-Redirect": address}) if request.htmx else redirect(address)


def _join(request: HttpRequest, step: Advance, item: ScanRunItem) -> None:
    permissions.need_edit(request.user)
    permissions.account_to_see(request, item.attempt.other_account_id or 0)
    permissions.only(actions.join(step, item), None)


def _verify(request: HttpRequest, step: Advance, item: ScanRunItem) -> VerificationCodeForm | None:
    """Send the verification code, or say that the verification page was passed. Returns a form with errors."""
    if item.attempt is None:
        return None
    wrong, again = verify(request.POST, item.attempt, by=request.user)
    if again:
        step.started.append(item.attempt.pk)
    return wrong


def _chosen(request: HttpRequest, step: Advance) -> ScanRunItem:
    number = request.POST.get("item", "")
    return get_object_or_404(step.run.items.with_attempt(), pk=number if is_key(number) else 0)


_ON_ITEM = {
    "skip": lambda _request, step, item: actions.skip(step, item),
    "scan": lambda _request, step, item: actions.scan_again(step, item),
    "prompt": lambda _request, step, item: actions.send_prompt(step, item),
    "join": _join,
    "code": _verify,
}
_ON_RUN = {
    "back": lambda _request, step, current: actions.back(step, current),
    "show": lambda request, step, current: actions.show(step, _chosen(request, step), current),
    "take": lambda request, step, current: actions.take_over(step, _chosen(request, step), current),
    "next": lambda _request, step, _current: step.set_run(next_wanted=True),
    "pause": lambda _request, step, _current: step.pause(),
    "resume": lambda _request, step, _current: actions.resume(step),
    "automatic": lambda _request, step, _current: step.set_run(
        automatic_next=not step.run.automatic_next, next_wanted=True
    ),
    "add_new": lambda _request, step, _current: queue.add(
        step.run, queue.source_accounts(step.run.person, ScanSource.NEW)
    ),
    "again_for_failed": lambda _request, step, _current: actions.requeue_failed(step),
    "end": lambda _request, step, _current: queue.end_run(step.run),
}


def _grid(request: HttpRequest) -> str:
    grid = request.GET.get("grid", "")
    return grid if grid in presenters.GRIDS else presenters.GRID


@require_GET
@never_cache
@login_required
def wall(request: HttpRequest, run_id: int) -> HttpResponse:
    return _wall(request, run_id, "station/wall.html")


@require_GET
@never_cache
@login_required
def wall_live(request: HttpRequest, run_id: int) -> HttpResponse:
    return _wall(request, run_id, "station/_wall_live.html")


def _wall(request: HttpRequest, run_id: int, template: str) -> HttpResponse:
    run, grid = _run_of(request, run_id), _grid(request)
    columns, rows = presenters.GRIDS[grid]
    step = _stepped(run, columns * rows)
    return render(request, template, presenters.wall(request, step, grid))
