"""Middleware of our own."""

import logging
import re
import time
import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.middleware.gzip import GZipMiddleware
from django.utils.decorators import sync_only_middleware

from accounts.metrics import families, log_context
from accounts.models.audit import origin

log = logging.getLogger("wkportal.access")


class CompressPages(GZipMiddleware):
    """Compress pages, and nothing else: pictures gain nothing, and an event stream must never wait in a buffer.

    The size of a compressed page can tell a secret that stands beside what a stranger put into the address (BREACH).
    Django masks the CSRF token differently in each page and adds random bytes to each compressed answer, and the
    session cookie is not sent with requests that other sites make in the background.
    """

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if response.streaming or not response.get("Content-Type", "").startswith("text/html"):
            return response
        return super().process_response(request, response)


# Methods with a meaning here. A client may send any word: each would be a label for ever.
METHODS = {"GET", "HEAD", "POST"}
# Asked every few seconds: as long as all is well, a line carries no information.
HEALTH_CHECKS = {"healthz", "readyz"}
# A proxy's ID is taken over, so that its log and ours can be searched together. Any other text stays out of the log.
REQUEST_ID = re.compile(r"[\w-]{8,64}", re.ASCII)


@sync_only_middleware
def observe_requests(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Count each request, and the seconds until its answer, by the name of its view, and log it.

    The log has no path and no query: they may contain secrets.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        began = time.monotonic()
        given = request.headers.get("X-Request-ID", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        # Of a request that needs no session, nobody asks whose it is: neither does the log.
        with log_context.bound(request_id=request_id, user=lambda: user_if_read(request)):
            response = get_response(request)
            observe(request, response, time.monotonic() - began)
        response["X-Request-ID"] = request_id
        return response

    return middleware


def user_if_read(request: HttpRequest) -> int | None:
    return getattr(getattr(request, "_cached_user", None), "pk", None)


def observe(request: HttpRequest, response: HttpResponse, seconds: float) -> None:
    match = request.resolver_match
    view = (match.view_name or "unnamed") if match else "none"
    method = request.method if request.method in METHODS else "other"
    families.HTTP_REQUESTS.labels(view, method, response.status_code).inc()
    families.HTTP_SECONDS.labels(view).observe(seconds)
    milliseconds = round(seconds * 1000, 1)
    fields = {"method": method, "route": view, "status": response.status_code, "ms": milliseconds}
    ids = match.kwargs if match else {}
    fields |= {name: ids[f"{name}_id"] for name in ("account", "attempt") if f"{name}_id" in ids}
    level = logging.DEBUG if view in HEALTH_CHECKS and response.status_code == 200 else logging.INFO
    log.log(level, "%s %s %s, %s ms", method, view, response.status_code, milliseconds, extra=fields)


@sync_only_middleware
def know_origin(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Tell the audit log what an action comes from."""

    def middleware(request: HttpRequest) -> HttpResponse:
        with origin.bound(request):
            return get_response(request)

    return middleware


@sync_only_middleware
def one_thread(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Make every middleware before it run synchronously, one after the other, in one thread.

    Does nothing else. Without it, the event loop calls each middleware, which sends its work to a thread and
    back twice per request: a dozen thread switches for every page.
    """
    return get_response
