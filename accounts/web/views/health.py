"""Health checks, and the banner that tells when WKTeam refuses the developer account."""

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts.lib import pubsub
from accounts.upstream import configured


@require_GET
@never_cache
@login_required
def alarm(request: HttpRequest) -> HttpResponse:
    """What every page says while the upstream does not let us in; nothing while it does."""
    return render(request, "_wkteam_alert.html")


# --- for machines ---------------------------------------------------------------------------------------


@require_GET
def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"ok {settings.VERSION}", content_type="text/plain")


@require_GET
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """200 when the database, the broker and the upstream's host are reachable, 503 when one is not."""
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
