"""Faults in answers: chosen per path, for a number of calls, one after another.

A fault is ``{"path", "kind", ...}``; README.md lists the kinds. Every kind takes ``times`` (default: no
limit), ``skip`` (calls to let pass first), ``after`` (seconds before it acts) and ``effect`` (do the call's
work first, although its answer is lost).
"""

import asyncio
import base64
import binascii
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields
from typing import Any

from aiohttp import web

from simulator import wire

Real = Callable[[], Awaitable[web.Response]]

HTML = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr>nginx</body></html>"
GATEWAY = {502: "502 Bad Gateway", 503: "503 Service Unavailable", 504: "504 Gateway Time-out"}
# Kinds that change the real answer: what to set, what to leave out.
TWISTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "code_int": lambda answer: answer | {"code": int(answer["code"])},
    "code_str": lambda answer: answer | {"code": str(answer["code"])},
    "code_float": lambda answer: answer | {"code": float(answer["code"])},
    "code_null": lambda answer: answer | {"code": None},
    "data_list": lambda answer: answer | {"data": [answer["data"]]},
    "data_string": lambda answer: answer | {"data": "data"},
    "data_null": lambda answer: answer | {"data": None},
    "msg_only": lambda answer: {"msg": _text(answer)} | _without(answer, "message", "msg"),
    "no_message": lambda answer: _without(answer, "message", "msg"),
}
KINDS = (
    *("delay", "late", "refuse", "reset", "cut", "drip", "hang", "empty", "garbage", "html", "redirect"),
    *("huge", "gzip_bomb", "endless", "rewrite", "bom", "charset", "raw"),
    *TWISTS,
)

NUMBERS = {"times", "skip", "after", "seconds", "status", "size"}


class BadFault(ValueError):
    """A fault's description is invalid."""


@dataclass
class Fault:
    """One fault as described; README.md says which field belongs to which kind."""

    path: str
    kind: str
    times: int | None = None
    skip: int = 0
    after: float = 0
    effect: bool = False
    seconds: float = 1
    status: int | None = None
    location: str = "http://169.254.169.254/"
    size: int = 1 << 30
    charset: str = "gb18030"
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    body_base64: str | None = None
    json: Any = None
    set: dict[str, Any] = field(default_factory=dict)
    data_set: dict[str, Any] = field(default_factory=dict)
    unset: list[str] = field(default_factory=list)
    data_unset: list[str] = field(default_factory=list)
    hits: int = 0

    def matches(self, path: str) -> bool:
        if self.path.endswith("*"):
            return path.startswith(self.path[:-1])
        return path == self.path

    def content(self) -> bytes:
        """Return the body given to a ``raw``, ``cut``, ``drip`` or ``html`` fault."""
        if self.body_base64 is not None:
            return base64.b64decode(self.body_base64)
        return self.body.encode() if self.json is None else json.dumps(self.json).encode()

    async def play(self, request: web.Request, real: Real) -> web.StreamResponse:
        """Answer the request with this fault."""
        if self.after:
            await asyncio.sleep(self.after)
        if self.kind == "refuse":
            return await wire.reset(request)
        if self.kind == "delay":
            await asyncio.sleep(self.seconds)
            return await real()
        if self.kind in ("late", "cut", "drip", "rewrite", "bom", "charset") or self.kind in TWISTS:
            return await self._spoil(request, real)
        if self.effect:
            await real()
        return await self._replace(request)

    async def _spoil(self, request: web.Request, real: Real) -> web.StreamResponse:
        """Return the real answer with one thing wrong."""
        given = self.content()
        answer = web.Response(body=given, content_type="application/json") if given else await real()
        body = bytes(answer.body)
        headers = {"Content-Type": answer.headers["Content-Type"]} | self.headers
        match self.kind:
            case "late":
                await asyncio.sleep(self.seconds)
                return answer
            case "cut":
                return await wire.cut(request, body, headers)
            case "drip":
                return await wire.drip(request, body, self.seconds, headers)
            case "bom":
                return _json(b"\xef\xbb\xbf" + body, answer.status)
            case "charset":
                return _json(body.decode().encode(self.charset), answer.status, self.charset)
        envelope = json.loads(body)
        changed = TWISTS[self.kind](envelope) if self.kind in TWISTS else self._rewritten(envelope)
        return _json(json.dumps(changed, ensure_ascii=False).encode("utf-8", "surrogatepass"), answer.status)

    def _rewritten(self, envelope: dict[str, Any]) -> dict[str, Any]:
        if isinstance(envelope.get("data"), dict):
            envelope["data"] = _without(envelope["data"] | self.data_set, *self.data_unset)
        return _without(envelope | self.set, *self.unset)

    async def _replace(self, request: web.Request) -> web.StreamResponse:
        """Return something other than the real answer."""
        match self.kind:
            case "reset":
                return await wire.reset(request)
            case "hang":
                return await wire.for_ever()
            case "empty":
                return web.Response(status=self.status or 200, body=b"")
            case "garbage":
                return _json(random.randbytes(min(self.size, 4096)), self.status or 200)
            case "html":
                status = self.status or 502
                page = self.content() or HTML.format(GATEWAY.get(status, GATEWAY[502])).encode()
                return web.Response(status=status, body=page, content_type="text/html")
            case "redirect":
                return web.Response(status=self.status or 302, headers={"Location": self.location})
            case "huge":
                return await wire.huge(request, self.size, self.headers)
            case "gzip_bomb":
                return await wire.gzip_bomb(request, self.size, self.headers)
            case "endless":
                return await wire.endless(request, self.headers)
        headers = {"Content-Type": "application/json;charset=UTF-8"} | self.headers
        return web.Response(status=self.status or 200, body=self.content(), headers=headers)


class Faults:
    """The active faults: each call gets the first one that matches its path and has times left."""

    def __init__(self) -> None:
        self.queue: list[Fault] = []

    def take(self, path: str) -> Fault | None:
        for fault in self.queue:
            if not fault.matches(path) or fault.times == 0:
                continue
            if fault.skip:
                fault.skip -= 1
                return None
            if fault.times is not None:
                fault.times -= 1
            fault.hits += 1
            return fault
        return None

    def clear(self, path: str | None = None) -> None:
        self.queue = [fault for fault in self.queue if path is not None and fault.path != path]

    def add(self, described: dict[str, Any], append: bool = False) -> Fault:
        """Activate a fault, in place of the path's others unless ``append``. Raises BadFault."""
        known = {entry.name for entry in fields(Fault)} - {"hits"}
        unknown = sorted(set(described) - known)
        if unknown:
            raise BadFault(f"a fault has no {unknown[0]!r}; known: {', '.join(sorted(known))}")
        if not isinstance(described.get("path"), str) or described.get("kind") not in KINDS:
            raise BadFault(f"a fault needs a path and a kind, one of {', '.join(KINDS)}")
        for name in NUMBERS & set(described):
            if described[name] is not None and not isinstance(described[name], int | float):
                raise BadFault(f"{name} must be a number, not {described[name]!r}")
        fault = Fault(**described)
        try:
            fault.content()
            "".encode(fault.charset)
        except (binascii.Error, TypeError, LookupError, AttributeError) as error:
            raise BadFault(f"the body or charset of the fault cannot be used: {error}") from error
        if not append:
            self.clear(fault.path)
        self.queue.append(fault)
        return fault

    def as_list(self) -> list[dict[str, Any]]:
        """Return the faults with their hits so far, without their bodies."""
        names = ("path", "kind", "times", "skip", "hits")
        return [{name: getattr(fault, name) for name in names} for fault in self.queue]


def _json(body: bytes, status: int, charset: str = "UTF-8") -> web.Response:
    return web.Response(
        status=status, body=body, headers={"Content-Type": f"application/json;charset={charset}"}
    )


def _text(answer: dict[str, Any]) -> Any:
    return answer.get("message", answer.get("msg"))


def _without(answer: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in names}
