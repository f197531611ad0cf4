"""What the upstream says about who is online, and why somebody is not: answers of `/queryLoginWx`, `/isOnline` and
`/offlineReason`, read into frozen values."""

import html
import json
import re
from contextlib import suppress
from dataclasses import dataclass

from accounts.upstream.errors import BadAnswer
from accounts.upstream.responses import DEPTH_LIMIT, Answer, clean, deeper_than, identifier, succeeded

# A reason comes as text, or as JSON in a string with XML in it: no more of it is looked at than this.
REASON_LIMIT = 20_000
CONTENT = re.compile(r"<Content>(?:\s*<!\[CDATA\[)?([^<\]]{0,2000})", re.IGNORECASE)
CDATA = re.compile(r"<!\[CDATA\[([^\]]{1,2000})\]\]>")
TAG = re.compile(r"<[^<>]{0,500}>")
# Where the sentence lies, the likeliest first; `message` and `msg` speak of the answer, not of the account.
INWARDS = ("reason", "errMsg", "string", "baseResponse", "data", "content", "message", "msg")
SAYS_NOTHING = frozenset({"", "success", "ok", "成功", "处理成功", "null", "none"})


@dataclass(frozen=True, slots=True)
class Online:
    """One entry of `/queryLoginWx`: an account that is online, and its current instance ("" where it says none)."""

    wc_id: str
    w_id: str


def online_list(answer: Answer) -> list[Online]:
    """Who is online, by `/queryLoginWx`; `data` is a list, or null when nobody is. Other shapes: BadAnswer."""
    entries = succeeded(answer).data
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise BadAnswer("no list of accounts", answer.code)
    pairs = [(identifier(e.get("wcId")), identifier(e.get("wId"))) for e in entries if isinstance(e, dict)]
    online = [Online(wc_id, w_id) for wc_id, w_id in pairs if wc_id]
    if entries and not online:
        raise BadAnswer("a list without a single account", answer.code)
    return online


def is_online(answer: Answer) -> bool | None:
    """True or False as `data.isOnline` says; None (not known) for every other shape."""
    value = succeeded(answer).fields.get("isOnline")
    return value if isinstance(value, bool) else None


def offline_reason(answer: Answer, wc_id: str) -> str:
    """The sentence of `/offlineReason` about this account; "" when it gives none, as for one that is online."""
    entries = succeeded(answer).data
    entries = entries if isinstance(entries, list) else [entries]
    for entry in entries:
        if isinstance(entry, dict) and entry.get("wcId") in (None, "", wc_id):
            return sentence(entry.get("reason"))
    return ""


def sentence(value: object, depth: int = 8) -> str:
    """The words for people in a reason: unpacked from JSON in strings and from XML, cleaned and capped; or ""."""
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
