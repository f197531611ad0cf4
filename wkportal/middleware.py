"""Middleware of our own."""

import time
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.middleware.gzip import GZipMiddleware
from django.utils.decorators import sync_only_middleware

from accounts.metrics import families


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


@sync_only_middleware
def count_requests(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Count each request, and the seconds until its answer, by the name of its view."""

    def middleware(request: HttpRequest) -> HttpResponse:
        began = time.monotonic()
        response = get_response(request)
        match = request.resolver_match
        view = (match.view_name or "unnamed") if match else "none"
        method = request.method if request.method in METHODS else "other"
        families.HTTP_REQUESTS.labels(view, method, response.status_code).inc()
        families.HTTP_SECONDS.labels(view).observe(time.monotonic() - began)
        return response

    return middleware


@sync_only_middleware
def one_thread(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Make every middleware before it run synchronously, one after the other, in one thread.

    Does nothing else. Without it, the event loop calls each middleware, which sends its work to a thread and
    back twice per request: a dozen thread switches for every page.
    """
    return get_response
