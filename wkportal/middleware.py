"""Middleware that keeps a whole request in one thread."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_only_middleware


@sync_only_middleware
def one_thread(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Make every middleware before it run synchronously, one after the other, in one thread.

    Does nothing else. Without it, the event loop calls each middleware, which sends its work to a thread and
    back twice per request: a dozen thread switches for every page.
    """
    return get_response
