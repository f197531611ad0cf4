"""One thread for a whole request."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_only_middleware


@sync_only_middleware
def one_thread(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Makes every middleware before it run as ordinary code, one after the other, in one thread.

    It does nothing itself. Without it, each of them is called from the event loop and sends its work to a
    thread and back, twice per request: a dozen changes of thread for every page.
    """
    return get_response
