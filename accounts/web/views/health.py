"""Health checks, and what every page shows: the banner while WKTeam refuses access, the badges."""

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts.status import readiness
from accounts.web import context_processors


@require_GET
@never_cache
@login_required
def alarm(request: HttpRequest) -> HttpResponse:
    """Return the banner that every page shows while WKTeam refuses access; empty otherwise."""
    return render(request, "_wkteam_alert.html")


@require_GET
@never_cache
@login_required
def waiting(request: HttpRequest) -> JsonResponse:
    """Return the counts that every page shows as badges."""
    return JsonResponse(context_processors.waiting(request.user))


# --- health checks --------------------------------------------------------------------------------------


@require_GET
def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"ok {settings.VERSION}", content_type="text/plain")


@require_GET
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """Return 200 if this process may get requests: the database answers and is migrated. Otherwise 503.

    Asks nothing else: without WKTeam or Redis, pages still say what is known.
    """
    problem = readiness.database_problem()
    return JsonResponse({"database": problem or "ok"}, status=503 if problem else 200)
