"""WKTeam callback: what WKTeam posts to the portal. It is not trusted and only triggers a presence check.

WKTeam sends everything to the one address of the developer account, including every message of every chat,
and gives up after 6 s. So the view does not query the database, and its answer does not wait until the task
is published. If a callback is lost, the next presence check finds the drop.
"""

import json
import logging
import secrets
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qsl

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponseNotAllowed, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from accounts.tasks import offline_callback, put_into_queue
from accounts.upstream.responses import DEPTH_LIMIT, deeper_than, identifier

log = logging.getLogger(__name__)

# More than any offline callback has: a longer body is a chat message.
BODY_LIMIT = 64 * 1024
FIELDS_LIMIT = 20
# Newer API generations send the text, the oldest sends the number.
OFFLINE = frozenset({"30000", "4"})

_publisher = ThreadPoolExecutor(1, "callbacks")


@csrf_exempt
def wkteam(request: HttpRequest, secret: str) -> HttpResponseBase:
    """Answer a POST of any body with 200 and `{"code": "1000"}`.

    A wrong secret gives 404, like an unknown URL.
    """
    if not settings.WK_CALLBACK_SECRET or not secrets.compare_digest(
        secret.encode(), settings.WK_CALLBACK_SECRET.encode()
    ):
        raise Http404
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    found = offline_in(request.read(BODY_LIMIT + 1))
    if found is not None:
        _publisher.submit(publish_task, *found)
    return JsonResponse({"code": "1000", "message": "ok", "data": None})


def publish_task(w_id: str, wc_id: str) -> None:
    log.info("callback: wId %s, wcId %s is offline", w_id or "unknown", wc_id or "unknown")
    try:
        put_into_queue(offline_callback, w_id, wc_id)
    except Exception:
        log.exception("the task for a callback was not published; the next presence check finds the drop")


def offline_in(body: bytes) -> tuple[str, str] | None:
    """Return (wId, wcId) of a callback that reports a login as offline; one of them may be "".

    None for everything else. What cannot be read is logged, without its content.

    `{"messageType": "30000" | 4, "wcId", "account", "data": {"wId"}}`: messageType and one of the IDs are
    required. The IDs may stand in either object, `data` may be JSON in a text, and all of it may be a form.
    """
    if len(body) > BODY_LIMIT:
        return None
    text = _text(body)
    document = _object(text) or _form(text)
    if document is None:
        log.warning("callback: neither a JSON object nor a form (%s bytes)", len(body))
        return None
    kind, data = document.get("messageType"), document.get("data")
    if isinstance(kind, bool) or not isinstance(kind, str | int) or str(kind).strip() not in OFFLINE:
        return None
    inner = data if isinstance(data, dict) else _object(data if isinstance(data, str) else "") or {}
    w_id = identifier(inner.get("wId")) or identifier(document.get("wId"))
    wc_id = identifier(document.get("wcId")) or identifier(inner.get("wcId"))
    if not w_id and not wc_id:
        log.warning("callback: an account is offline, but neither its wId nor its wcId can be read")
        return None
    return w_id, wc_id


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except ValueError:
        return body.decode("gb18030", "replace")


def _object(text: str) -> dict | None:
    """Return the JSON object in a text, also if it stands in a JSON text once more."""
    for _again in range(2):
        try:
            found = None if deeper_than(text, DEPTH_LIMIT) else json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, str):
            return found if isinstance(found, dict) else None
        text = found
    return None


def _form(text: str) -> dict | None:
    """Return the fields of a form, or the JSON object in one of them."""
    try:
        fields = dict(parse_qsl(text, max_num_fields=FIELDS_LIMIT))
    except ValueError:
        return None
    if "messageType" in fields:
        return fields
    return next(filter(None, map(_object, fields.values())), None)
