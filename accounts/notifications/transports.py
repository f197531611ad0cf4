"""Send one message to one address, through apprise.

Apprise's own log is discarded, since it contains addresses. What apprise logs about a message is in that
message's answer, with every part of the address hidden.
"""

import re
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from urllib.parse import unquote
from urllib.request import getproxies

from apprise import Apprise, NotifyFormat
from django.conf import settings

from accounts.notifications import addresses, egress
from accounts.notifications.addresses import UnusableAddress
from accounts.notifications.robots import Robot, refuses

TOTAL_SECONDS = 20
CONNECT_SECONDS, READ_SECONDS = 5, 10
STATUS = re.compile(r"\b(?:error|code|status)\W{0,3}(\d{3})\b", re.IGNORECASE)
HIDDEN = "…"


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of sending a message.

    `refused`: the service rejected it, and will reject it again. `unusable`: the address is invalid for any
    message. `unknown`: no answer in time; the message may have arrived. `words`: text for people, without the
    address.
    """

    ok: bool = False
    refused: bool = False
    unusable: bool = False
    unknown: bool = False
    words: str = ""


def deliver(url: str, title: str, body: str) -> Answer:
    """Send one message and wait at most TOTAL_SECONDS for the answer. Raises nothing."""
    if not url:
        return Answer(words="key")
    try:
        found = addresses.parsed(url)
        plugin = addresses.plugin_of(found)
    except UnusableAddress as error:
        return Answer(unusable=True, refused=True, words=error.code)
    if not settings.WK_PRIVATE_TARGETS and _is_private(found):
        return Answer(refused=True, words="private")
    plugin.socket_connect_timeout, plugin.socket_read_timeout = CONNECT_SECONDS, READ_SECONDS
    with _guarded() as guard:
        answer = _notify(plugin, url, title, body)
    return Answer(refused=True, words="private") if guard and guard.refused and not answer.ok else answer


def _guarded() -> AbstractContextManager[egress.Guard | None]:
    return nullcontext() if settings.WK_PRIVATE_TARGETS else egress.public_only()


def _is_private(found: dict) -> bool:
    """Return whether the address names a private host. A name is resolved only where an HTTP proxy connects for us."""
    if addresses.is_private_host(found):
        return True
    host = addresses.host_of(found)
    return bool(host and getproxies()) and not all(map(egress.is_public, egress.addresses(host)))


def _notify(plugin, url: str, title: str, body: str) -> Answer:
    caller = Apprise(asset=plugin.asset)
    caller.add(plugin)
    began = time.monotonic()
    result = caller.notify(body=body, title=title, body_format=NotifyFormat.TEXT, timeout=TOTAL_SECONDS)
    if result:
        return Answer(ok=True)
    words = " ".join(entry.message for entry in result.logs())
    if isinstance(plugin, Robot) and plugin.said:
        return Answer(refused=plugin.refuses, unknown=plugin.unknown, words=hidden(plugin.said, url))
    status = STATUS.search(words)
    # An unreachable service fails at once. A service that accepted the message and sent no answer takes until
    # the timeout.
    silent = status is None and time.monotonic() - began >= CONNECT_SECONDS - 1
    refused = status is not None and refuses(int(status[1]))
    return Answer(refused=refused, unknown=silent, words=hidden(words, url) or "no answer in time")


def hidden(words: str, url: str) -> str:
    """Return what a service or apprise said, without any part of the address.

    The result is one line of at most 300 characters.
    """
    rest = url.partition("://")[2]
    parts = {part for text in (rest, unquote(rest)) for part in re.split(r"[/:@?&=+,;#%\s]+", text)}
    for part in sorted((part for part in parts if len(part) >= 5), key=len, reverse=True):
        words = re.sub(re.escape(part), HIDDEN, words, flags=re.IGNORECASE)
    words = re.sub(r"\b[a-z]{2,12}://\S+", HIDDEN, words)
    return " ".join(words.split())[:300]
