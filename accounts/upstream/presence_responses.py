"""Readers of the answers about presence: `/queryLoginWx`, `/isOnline` and `/offlineReason`."""

import html
import json
import re
from contextlib import suppress
from dataclasses import dataclass

from accounts.upstream.errors import BadAnswer
from accounts.upstream.responses import DEPTH_LIMIT, Answer, clean, deeper_than, identifier, succeeded

# Characters read of a reason, which is text, or JSON in a string with XML in it.
REASON_LIMIT = 20_000
CONTENT = re.compile(r"<Content>(?:\s*<!\[CDATA\[)?([^<\]]{0,2000})", re.IGNORECASE)
CDATA = re.compile(r"<!\[CDATA\[([^\]]{1,2000})\]\]>")
TAG = re.compile(r"<[^<>]{0,500}>")
# Fields that may hold the sentence, the likeliest first; `message` and `msg` describe the answer, not the
# account.
INWARDS = ("reason", "errMsg", "string", "baseResponse", "data", "content", "message", "msg")
SAYS_NOTHING = frozenset({"", "success", "ok", "成功", "处理成功", "null", "none"})


@dataclass(frozen=True, slots=True)
class Online:
    """One entry of `/queryLoginWx`: an online account and its current wId; "" stands for an ID without a value."""

    wc_id: str
    w_id: str


def online_list(answer: Answer) -> list[Online]:
    """Return the entries of a `/queryLoginWx` answer: also those with one ID, or none, that can be read.

    `data` null means that none is online (assumed, not in WKTeam's docs). Raises BadAnswer if `data` is
    neither a list nor null, or if a non-empty list has no ID at all.
    """
    entries = succeeded(answer).data
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise BadAnswer("no list of accounts", answer.code)
    rows = [entry if isinstance(entry, dict) else {} for entry in entries]
    online = [Online(identifier(row.get("wcId")), identifier(row.get("wId"))) for row in rows]
    if entries and not any(entry.wc_id or entry.w_id for entry in online):
        raise BadAnswer("a list without a single account", answer.code)
    return online


def is_online(answer: Answer) -> bool | None:
    """Return `data.isOnline` of an `/isOnline` answer; None (unknown) if it is no boolean."""
    value = succeeded(answer).fields.get("isOnline")
    return value if isinstance(value, bool) else None


def offline_reason(answer: Answer, wc_id: str) -> str:
    """Return the sentence about this account in an `/offlineReason` answer.

    Returns "" if there is none, as for an online account. Entries about other accounts are skipped.
    """
    entries = succeeded(answer).data
    entries = entries if isinstance(entries, list) else [entries]
    for entry in entries:
        if isinstance(entry, dict) and entry.get("wcId") in (None, "", wc_id):
            return sentence(entry.get("reason"))
    return ""


def sentence(value: object, depth: int = 8) -> str:
    """Return the readable text in a reason, cleaned and capped, or "".

    Unpacks JSON in strings and XML, at most `depth` levels deep.
    """
    if depth <= 0:
        return ""
    if isinstance(value, str):
        return _in_text(value.strip()[:REASON_LIMIT], depth)
    if isinstance(value, dict):
        named = {str(key).lower(): inner for key, inner in value.items()}
        inner = [named[name.lower()] for name in INWARDS if name.lower() in named]
        return _first(inner, depth)
    return _first(value, depth) if isinstance(value, list) else ""


def _first(values: list, depth: int) -> str:
    found = (sentence(value, depth - 1) for value in values[:20] if isinstance(value, str | dict | list))
    return next((text for text in found if text), "")


def _in_text(text: str, depth: int) -> str:
    if text[:1] in ("{", "[", '"') and not deeper_than(text, DEPTH_LIMIT):
        with suppress(ValueError, RecursionError):
            return sentence(json.loads(text), depth - 1)
    if "<" in text:
        marked = CONTENT.search(text) or CDATA.search(text)
        text = marked[1] if marked else TAG.sub(" ", text)
    words = clean(html.unescape(text))
    return "" if words.lower() in SAYS_NOTHING else words
