"""Health checks, and what every page shows: the banner while WKTeam refuses access, the badges."""

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts.lib import pubsub
from accounts.upstream import configured
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
    """Return 200 if the database, the broker and WKTeam's host are reachable, otherwise 503."""
    parts = {
        "database": _database_answers(),
        "broker": pubsub.ping(),
        "upstream": configured.client().reachable(),
    }
    return JsonResponse(
        {name: "ok" if ok else "away" for name, ok in parts.items()},
        status=200 if all(parts.values()) else 503,
    )


def _database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    return True
