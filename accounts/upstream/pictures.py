"""Pictures that WKTeam names: by an address, relative or whole, or as base64 text; and what is safe to fetch.

An address may lead to the upstream's own host and port, or to a host that the settings name, also by at most
REDIRECTS redirects. An error says which part was wrong, never the whole address, which is a secret.
"""

import base64
import re
from urllib.parse import urljoin, urlsplit

from accounts.upstream import transport
from accounts.upstream.errors import PictureAddress, PictureHost, PictureUnavailable, UpstreamError
from accounts.upstream.responses import web_address
from accounts.upstream.transport import DIRECT, LOOPBACK, PICTURE_LIMIT, Route

REDIRECTS = 2
REDIRECT = frozenset({301, 302, 303, 307, 308})
# Of a picture in base64: 4 characters stand for 3 bytes.
TEXT_LIMIT = PICTURE_LIMIT // 3 * 4
ADDRESS_LIMIT = 2000
BASE64 = re.compile(r"[A-Za-z0-9+/\s]{100,}={0,2}\s*")
BEGINNINGS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM")
DEFAULT_PORTS = {"http": 80, "https": 443}


def inline(address: str) -> bytes | None:
    """Return the picture that the text itself holds, None if it is an address. Raises PictureAddress."""
    text = address.strip()
    if text[:5].lower() != "data:":
        content = _decoded(text) if BASE64.fullmatch(text) else b""
        return content if content.startswith(BEGINNINGS) else None
    head, _comma, encoded = text.partition(",")
    if "svg" in head.lower():
        raise PictureAddress("an SVG image")
    content = _decoded(encoded) if head.lower().endswith(";base64") else b""
    if not content.startswith(BEGINNINGS):
        raise PictureAddress("a data address without an image")
    return content


def fetch(address: str, base_url: str, hosts: list[str], seconds: float, route: Route = DIRECT) -> bytes:
    """Return the bytes at an address of WKTeam's, or in it. They may be no picture.

    `hosts`: hosts besides the upstream's own, each for all ports, or with the one port that it names.
    `seconds`: time limit of each request. Raises PictureAddress, PictureHost or PictureUnavailable.
    """
    found = inline(address)
    if found is not None:
        return found
    url = absolute(address, base_url)
    for _redirect in range(REDIRECTS + 1):
        host = checked_host(url, base_url, hosts)
        try:
            headers = {"Accept": "image/*"}
            body = transport.exchange("GET", url, seconds, PICTURE_LIMIT, route=route, headers=headers)
        except UpstreamError as error:
            raise PictureUnavailable(f"{host}: {error.text}") from None
        if body.status == 200:
            return body.content
        if body.status not in REDIRECT or not body.location:
            raise PictureUnavailable(f"{host}: HTTP {body.status}")
        url = absolute(body.location, url)
    raise PictureUnavailable(f"{host}: more than {REDIRECTS} redirects")


def absolute(address: str, base_url: str) -> str:
    """Return the whole http or https address. Raises PictureAddress."""
    text = address.strip()
    if not text:
        raise PictureAddress("no address")
    if len(text) > ADDRESS_LIMIT:
        raise PictureAddress(f"more than {ADDRESS_LIMIT} characters")
    try:
        scheme = urlsplit(text).scheme
        url = text if scheme else urljoin(base_url.rstrip("/") + "/", text)
    except ValueError:
        raise PictureAddress("no web address") from None
    if scheme not in ("", "http", "https"):
        raise PictureAddress(f"the scheme {scheme[:20]}:")
    if not web_address(url):
        raise PictureAddress("no web address")
    return url


def checked_host(url: str, base_url: str, hosts: list[str]) -> str:
    """Return the host of the address, with its port unless that is the scheme's. Raises PictureHost."""
    host, port, is_default = _place(url)
    own, own_port, own_is_default = _place(base_url)
    named = f"[{host}]" if ":" in host else host
    is_own = host == own or {host, own} <= LOOPBACK
    if is_own and (port == own_port or (is_default and own_is_default)):
        return named
    if host not in hosts and f"{named}:{port}" not in hosts:
        raise PictureHost(named if is_default else f"{named}:{port}")
    return named if is_default else f"{named}:{port}"


def _place(url: str) -> tuple[str, int, bool]:
    parts = urlsplit(url)
    usual = DEFAULT_PORTS[parts.scheme]
    port = parts.port or usual
    return parts.hostname or "", port, port == usual


def _decoded(text: str) -> bytes:
    if len(text) > TEXT_LIMIT:
        raise PictureAddress("an image that is too large")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        return b""


def described(content: bytes) -> str:
    """Return what bytes that are no picture seem to be, for a message."""
    if content.startswith(BEGINNINGS):
        return "an image that is damaged or too large"
    start = content[:1000].lstrip().lower()
    if b"<svg" in start:
        return "an SVG image"
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    return f"{len(content)} bytes that are no image" if content else "nothing"
