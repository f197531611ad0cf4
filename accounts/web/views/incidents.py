"""Incidents: many accounts dropped at once."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import permissions
from accounts.attention import assignment
from accounts.attention.incident_progress import Part, Progress, progress_of, ways_back
from accounts.bulk import actions, runs
from accounts.models import Account, Drop, Incident
from accounts.models.audit import log as audit
from accounts.models.audit.entry import AuditKind
from accounts.models.drop import IncidentNoteKind
from accounts.models.operators.bulk_run import BulkAction
from accounts.relogin import recover
from accounts.web.attention.forms import IncidentNoteForm, NoteForm
from accounts.web.overview.incident_timeline import timeline
from accounts.web.visible_accounts import VisibleAccounts

INCIDENTS_SHOWN = 50


@require_GET
@never_cache
@login_required
def incident_list(request: HttpRequest) -> HttpResponse:
    seen = Account.objects.visible_to(request.user)
    few = VisibleAccounts(request.user).few
    if few is None:
        found = Incident.objects.of(seen)
    else:
        found = Incident.objects.filter(pk__in=Drop.objects.filter(account__in=few).values("incident"))
    rows = list(found.order_by("-pk")[:INCIDENTS_SHOWN])
    drops = Drop.objects.of(seen).filter(incident__in=rows).order_by().values("incident")
    counted = drops.annotate(seen=Count("pk"), still_open=Count("pk", filter=Q(ended_at=None)))
    counts = {count["incident"]: (count["seen"], count["still_open"]) for count in counted}
    for incident in rows:
        incident.drops_seen, incident.open_seen = counts.get(incident.pk, (0, 0))
    return render(request, "accounts/incidents.html", {"incidents": rows})


@require_GET
@never_cache
@login_required
def incident_detail(request: HttpRequest, incident_id: int) -> HttpResponse:
    """Show the accounts of an incident that the user may see, by what they wait for; 404 if there are none."""
    return render(request, "accounts/incident.html", _detail(request, incident_id))


def _detail(request: HttpRequest, incident_id: int, form: IncidentNoteForm | None = None) -> dict:
    found, drops = _incident(request, incident_id)
    progress, notes = progress_of(drops), list(found.notes.all())
    groups = _groups(progress)
    return {
        "incident": found,
        "progress": progress,
        "groups": groups,
        "bar": sorted(groups, key=lambda group: group["part"] != Part.BACK),
        "notes": [note for note in notes if note.kind == IncidentNoteKind.NOTE],
        "timeline": timeline(found, drops, progress, notes),
        "ways_back": _ways_back(drops) if found.ended_at else {},
        "form": form or IncidentNoteForm(),
        "may_log_in": permissions.may_log_in(request.user),
        "change_proxy": _without_proxy(request.user, found, drops),
    }


def _without_proxy(user, incident: Incident, drops: QuerySet) -> list[int]:
    """Return the accounts to which a bulk run would give another proxy: those that are not back, if they share one."""
    if incident.shares != "proxy" or not actions.may(user, BulkAction.PROXY):
        return []
    return list(drops.open().order_by("account").values_list("account", flat=True)[: runs.MOST])


# The chip and the fill of each part, in the colors of the states.
LOOKS = {
    Part.SCAN: ("due", "f-due"),
    Part.FAILED: ("failed", "f-out"),
    Part.PHONE: ("waiting", "f-wait"),
    Part.QUEUED: ("", ""),
    Part.PAUSED: ("", "hollow"),
    Part.BACK: ("online", "f-up"),
}


def _groups(progress: Progress) -> list[dict]:
    """Return the parts that have accounts, those that need a person first. One of them asks recovery to go on."""
    groups = [
        {"part": part, "number": number, "drops": progress.rows[part], "chip": chip, "fill": fill}
        for part, (chip, fill) in LOOKS.items()
        if (number := progress.numbers[part])
    ]
    for group in [group for group in groups if group["part"] in (Part.FAILED, Part.QUEUED)][:1]:
        group["recovers"] = True
    return groups


def _ways_back(drops: QuerySet) -> dict[str, int]:
    return {method or "other": number for method, number in ways_back(drops).items()}


def _incident(request: HttpRequest, incident_id: int) -> tuple[Incident, QuerySet]:
    found = get_object_or_404(Incident, pk=incident_id)
    drops = found.drops.of(Account.objects.visible_to(request.user))
    return permissions.only(drops.exists(), found), drops


@require_POST
@never_cache
@login_required
def recover_incident(request: HttpRequest, incident_id: int) -> HttpResponse:
    found, drops = _incident(request, incident_id)
    permissions.need_log_in(request.user)
    with transaction.atomic():
        count = recover.ask(drops.open(), by=request.user)
        audit.record(AuditKind.RECOVERY_ASKED, about=found, name=f"#{found.pk}", number=count)
    messages.success(request, _paced(count))
    return redirect("incident", found.pk)


def _paced(count: int) -> str:
    return ngettext(
        "Recovering %(n)s account within the limits of its recovery policy.",
        "Recovering %(n)s accounts one by one, within the limits of their recovery policies.",
        count,
    ) % {"n": count}


# --- people ----------------------------------------------------------------------------------------------


@require_POST
@never_cache
@login_required
def take_incident(request: HttpRequest, incident_id: int) -> HttpResponse:
    """Assign the incident to the person, also from another one."""
    found, _drops = _incident(request, incident_id)
    permissions.need_log_in(request.user)
    assignment.take_incident(found, by=request.user, note=NoteForm(request.POST).text())
    return redirect("incident", found.pk)


@require_POST
@never_cache
@login_required
def release_incident(request: HttpRequest, incident_id: int) -> HttpResponse:
    found, _drops = _incident(request, incident_id)
    permissions.need_log_in(request.user)
    assignment.release_incident(found, by=request.user)
    return redirect("incident", found.pk)


@require_POST
@never_cache
@login_required
def add_note(request: HttpRequest, incident_id: int) -> HttpResponse:
    found, _drops = _incident(request, incident_id)
    permissions.need_log_in(request.user)
    form = IncidentNoteForm(request.POST)
    if not form.is_valid():
        return render(request, "accounts/incident.html", _detail(request, incident_id, form), status=422)
    assignment.add_note(found, form.cleaned_data["text"], by=request.user)
    return redirect("incident", found.pk)
