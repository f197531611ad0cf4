"""Incidents: many accounts dropped at once."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import permissions
from accounts.models import Account, Drop, Incident
from accounts.relogin import recover
from accounts.web.account_list import VisibleAccounts
from accounts.web.views.scan_queue import INCIDENTS_SHOWN, SHOWN_MOST


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
    """Show the accounts of an incident that the user may see; 404 if there are none."""
    found, drops = _incident(request, incident_id)
    rows = drops.select_related("account").order_by("ended_at", "pk")
    ctx = {
        "incident": found,
        "drops": rows[:SHOWN_MOST],
        "count": drops.count(),
        "open_count": drops.open().count(),
        "may_log_in": permissions.may_log_in(request.user),
    }
    return render(request, "accounts/incident.html", ctx)


def _incident(request: HttpRequest, incident_id: int) -> tuple[Incident, QuerySet]:
    found = get_object_or_404(Incident, pk=incident_id)
    drops = found.drops.of(Account.objects.visible_to(request.user))
    return permissions.only(drops.exists(), found), drops


@require_POST
@never_cache
@login_required
def recover_incident(request: HttpRequest, incident_id: int) -> HttpResponse:
    permissions.only(permissions.may_log_in(request.user), None)
    found, drops = _incident(request, incident_id)
    count = recover.ask(drops.open(), by=request.user)
    messages.success(request, _paced(count))
    return redirect("incident", found.pk)


def _paced(count: int) -> str:
    return ngettext(
        "Recovering %(n)s account within the limits of its recovery policy.",
        "Recovering %(n)s accounts one by one, within the limits of their recovery policies.",
        count,
    ) % {"n": count}
