"""What the upstream posts to us. It is not believed: a notice only has us look at once.

The upstream sends everything to the one address of the developer account, every message of every chat among it, and
gives up after six seconds. So nothing here asks the database, and the answer does not wait for the queue either: it is
given before the notice is handed over. A notice that gets lost is one that the next sweep does not need.
"""

import json
import logging
import secrets
from concurrent.futures import ThreadPoolExecutor

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponseNotAllowed, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from accounts.tasks import offline_notice, put_into_queue
from accounts.upstream.responses import DEPTH_LIMIT, deeper_than, identifier

log = logging.getLogger(__name__)

# More than any notice has; a longer body is a message that somebody sent.
BODY_LIMIT = 64 * 1024
# The newer generations send the text, the oldest one the number.
OFFLINE = frozenset({"30000", "4"})

_hands = ThreadPoolExecutor(1, "notices")


@csrf_exempt
def wkteam(request: HttpRequest, secret: str) -> HttpResponseBase:
    """POST of any body: 200 and `{"code": "1000"}`. A wrong secret: 404, as for an address that is none."""
    if not settings.WK_CALLBACK_SECRET or not secrets.compare_digest(
        secret.encode(), settings.WK_CALLBACK_SECRET.encode()
    ):
        raise Http404
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    found = offline_in(request.read(BODY_LIMIT + 1))
    if found is not None:
        _hands.submit(hand_over, *found)
    return JsonResponse({"code": "1000", "message": "ok", "data": None})


def hand_over(w_id: str, wc_id: str) -> None:
    log.info("the upstream says that wId %s is offline", w_id)
    try:
        put_into_queue(offline_notice, w_id, wc_id)
    except Exception:
        log.exception("a notice was not handed over; the next sweep finds out")


def offline_in(body: bytes) -> tuple[str, str] | None:
    """wId and wcId ("" where it has none) of a notice that an instance is offline; None for everything else.

    `{"messageType": "30000" | 4, "wcId", "account", "data": {"wId"}}`: all but the type and the wId may be missing.
    """
    if len(body) > BODY_LIMIT:
        return None
    try:
        text = body.decode("utf-8-sig")
        document = None if deeper_than(text, DEPTH_LIMIT) else json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    kind, data = document.get("messageType"), document.get("data")
    if isinstance(kind, bool) or not isinstance(kind, str | int) or str(kind).strip() not in OFFLINE:
        return None
    w_id = identifier(data.get("wId")) if isinstance(data, dict) else ""
    return (w_id, identifier(document.get("wcId"))) if w_id else None
