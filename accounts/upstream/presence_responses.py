"""Readers of the answers about presence: `/queryLoginWx`, `/isOnline` and `/offlineReason`."""

import html
import json
import re
from codecs import getincrementaldecoder
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal

import ijson

from accounts.upstream.errors import BadAnswer
from accounts.upstream.responses import (
    DEPTH_LIMIT,
    Answer,
    clean,
    deeper_than,
    encoding_of,
    identifier,
    reason,
    succeeded,
)

# Characters read of a reason, which is text, or JSON in a string with XML in it.
REASON_LIMIT = 20_000
CONTENT = re.compile(r"<Content>(?:\s*<!\[CDATA\[)?([^<\]]{0,2000})", re.IGNORECASE)
CDATA = re.compile(r"<!\[CDATA\[([^\]]{1,2000})\]\]>")
TAG = re.compile(r"<[^<>]{0,500}>")
# Fields that may hold the sentence, the likeliest first; `message` and `msg` describe the answer, not the
# account.
INWARDS = ("reason", "errMsg", "string", "baseResponse", "data", "content", "message", "msg")


@dataclass(frozen=True, slots=True)
class Online:
    """One entry of `/queryLoginWx`: an online account and its current wId; "" stands for an ID without a value."""

    wc_id: str
    w_id: str


NOBODY = Online("", "")
# Bytes of the list without a whole value: the parser reads a value again with each chunk that continues it.
TOKEN_LIMIT = 128 * 1024
# Keys of one object, and everything outside of the list: far more than any answer has.
ENVELOPE_LIMIT = 10_000


class ListBody:
    """The body of a `/queryLoginWx` answer, read as it comes; of an entry of its list only the IDs are kept.

    Refused as by `responses.Body`: a key that an object has twice, what is nested too deep, what is no JSON.
    """

    def __init__(self, charset: str, chunks: Iterable[bytes]):
        self.size, self.around, self.error = 0, 0, None
        self.envelope, self.entries = ijson.ObjectBuilder(), None
        self.entry: dict[str, object] = {}
        self.open: list[set[str]] = []  # the keys of every object or list that is open
        self.key = self.field = ""  # of the envelope and of the entry
        try:
            self._parse(charset, chunks)
        except (ijson.JSONError, ValueError) as error:
            self.error = error

    def document(self) -> object:
        """Return the envelope, its list as Online. Raises ValueError if the body is no JSON, or nested too deep."""
        if self.error is not None:
            raise ValueError(str(self.error))
        if self.entries is not None:
            self.envelope.value["data"] = self.entries
        return self.envelope.value

    def _parse(self, charset: str, chunks: Iterable[bytes]) -> None:
        events, decoder, silent = ijson.sendable_list(), None, 0
        parser = ijson.basic_parse_coro(events)
        for chunk in chunks:
            self.size += len(chunk)
            decoder = decoder or getincrementaldecoder(encoding_of(chunk, charset))("replace")
            if text := decoder.decode(chunk):  # "" would end the document
                parser.send(text.encode("utf-8", "replace"))
            silent = 0 if events else silent + len(chunk)
            if silent > TOKEN_LIMIT:
                raise ValueError("a text without end")
            self._take(events)
        parser.close()
        self._take(events)

    def _take(self, events: list[tuple[str, object]]) -> None:
        for event, value in events:
            before = len(self.open)
            if event.startswith("start_"):
                self.open.append(set())
            elif event.startswith("end_"):
                self.open.pop()
            elif event == "map_key":
                if value in self.open[-1] or len(self.open[-1]) == ENVELOPE_LIMIT:
                    raise ValueError("a name twice in an object, or too many")
                self.open[-1].add(value)
            if len(self.open) > DEPTH_LIMIT:
                raise ValueError("nested too deep")
            if self.entries is not None and self.key == "data" and min(before, len(self.open)) > 1:
                self._take_entry(event, value, before)
            else:
                self._take_envelope(event, value)
        events.clear()

    def _take_envelope(self, event: str, value: object) -> None:
        self.around += 1
        if self.around > ENVELOPE_LIMIT:
            raise ValueError("too much around the list")
        self.envelope.event(event, float(value) if isinstance(value, Decimal) else value)
        if event == "map_key" and len(self.open) == 1:
            self.key = value
        elif event == "start_array" and len(self.open) == 2 and self.key == "data":
            self.entries = []

    def _take_entry(self, event: str, value: object, before: int) -> None:
        depth = len(self.open)
        if before == depth == 3:
            if event == "map_key":
                self.field = value
            elif self.field in ("wcId", "wId"):
                self.entry[self.field] = value
        elif depth == 2 and before == 2:
            self.entries.append(NOBODY)
        elif depth == 2:
            ids = identifier(self.entry.get("wcId")), identifier(self.entry.get("wId"))
            self.entries.append(Online(*ids) if any(ids) else NOBODY)
        elif before == 2:
            self.entry, self.field = {}, ""


def online_list(answer: Answer) -> list[Online]:
    """Return the entries of a `/queryLoginWx` answer, which a ListBody read: also those with one ID, or none.

    `data` null means that none is online (assumed, not in WKTeam's docs). Raises BadAnswer if `data` is
    neither a list nor null, or if a non-empty list has no ID at all.
    """
    entries = succeeded(answer).data
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise BadAnswer("no list of accounts", answer.code)
    if entries and not any(entry.wc_id or entry.w_id for entry in entries):
        raise BadAnswer("a list without a single account", answer.code)
    return entries


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
    return reason(clean(html.unescape(text)))
