"""Keep connections that others choose the target of away from this host and its private networks.

The address is checked when a socket connects, by Python's audit event for it, whatever library connects: a name
that resolves to a private address, now or the second time, and a redirect change nothing.
"""

import ipaddress
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies

NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass
class Guard:
    """The connections of one context: addresses allowed in spite of being private, and those that were refused."""

    allowed: frozenset[str] = frozenset()
    refused: list[str] = field(default_factory=list)


class PrivateAddress(OSError):
    """Raised in place of a connection to a private address."""


_guard: ContextVar[Guard | None] = ContextVar("guard", default=None)


def is_public(address: str) -> bool:
    """Return whether a numeric address is one of the Internet: not private, loopback, link-local or multicast."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if found.version == 6:
        inner = found.ipv4_mapped or found.sixtofour
        if found in NAT64:
            inner = ipaddress.ip_address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast


@contextmanager
def public_only() -> Iterator[Guard]:
    """Refuse connections to private addresses in this context, also in threads that run in a copy of it.

    HTTP proxies that the environment names are allowed: they decide themselves what is reached through them.
    """
    _watch()
    guard = Guard(_proxies())
    token = _guard.set(guard)
    try:
        yield guard
    finally:
        _guard.reset(token)


@cache
def _watch() -> None:
    """Add the audit hook, once: it stays as long as the process."""
    sys.addaudithook(_check)


def _check(event: str, args: tuple) -> None:
    if event != "socket.connect" or (guard := _guard.get()) is None:
        return
    address = args[1][0] if isinstance(args[1], tuple) else ""  # a path of a local socket is a text
    if address not in guard.allowed and not is_public(address):
        guard.refused.append(address)
        raise PrivateAddress("the address is private")


def _proxies() -> frozenset[str]:
    hosts = {urlsplit(proxy).hostname for name, proxy in getproxies().items() if name != "no"}
    return frozenset(address for host in hosts if host for address in addresses(host))


def addresses(host: str) -> set[str]:
    """Return the numeric addresses of a host, none if its name does not resolve."""
    try:
        return {found[4][0] for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return set()
