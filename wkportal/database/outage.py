"""Responses while the database is unreachable, or rejects writes because its disk is full: 503 with a retry.

A page reports it and tries again automatically. A submitted form comes back with its input, to be sent again.
htmx gets a short text, because it leaves the page as it is.

If no connection was available within the time that a person waits, only one request for a page at a time waits
for the next one. The others get the 503 immediately: every browser tries again, and each request would block a
thread meanwhile. A form that a person submitted always waits: nobody but that person would send it again.
"""

import logging
import sys
import threading
from collections.abc import Callable

from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.decorators import sync_only_middleware
from django.views.defaults import server_error

from accounts.lib.db_errors import is_unreachable

log = logging.getLogger(__name__)

RETRY_SECONDS = 5
ALWAYS = {"/healthz", "/readyz"}  # these check the database themselves


def database_down(request: HttpRequest, error: Exception) -> HttpResponse:
    """Return a 503 with Retry-After, and `X-Away: database` for the page's script. Makes no query."""
    log.warning("%s %s: %s: %.200s", request.method, request.path, type(error).__name__, error)
    short = bool(request.headers.get("HX-Request")) or request.method == "HEAD"
    typed = [(name, value) for name, values in request.POST.lists() for value in values]
    ctx = {
        "again_after": RETRY_SECONDS,
        "sent": request.method == "POST",
        # Secrets are not written into a page.
        "typed": [] if any(value and "password" in name for name, value in typed) else typed,
        "path": request.get_full_path(),
    }
    return HttpResponse(
        render_to_string("_database_down.html" if short else "503.html", ctx),
        status=503,
        headers={"Retry-After": str(RETRY_SECONDS), "X-Away": "database", "Cache-Control": "no-store"},
    )


class _Away:
    known = False
    probe = threading.Lock()


@sync_only_middleware
def answers_without_database(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable:
    def middleware(request: HttpRequest) -> HttpResponse:
        if not _Away.known or request.path in ALWAYS or request.method not in ("GET", "HEAD"):
            return get_response(request)
        if not _Away.probe.acquire(blocking=False):
            return database_down(request, OperationalError("another request waits for a connection"))
        try:
            response = get_response(request)
        finally:
            _Away.probe.release()
        if "X-Away" not in response:
            _Away.known = False
        return response

    def process_exception(request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not is_unreachable(error):
            return None
        if type(error.__cause__).__name__ == "PoolTimeout":  # psycopg's, which is not loaded with SQLite
            _Away.known = True
        return database_down(request, error)

    middleware.process_exception = process_exception
    return middleware


def broken(request: HttpRequest) -> HttpResponse:
    """Handle a 500: an error outside of a view, as when a session is saved, may have the same cause."""
    error = sys.exc_info()[1]
    return (
        database_down(request, error)
        if error is not None and is_unreachable(error)
        else server_error(request)
    )
