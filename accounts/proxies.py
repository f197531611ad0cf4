"""The proxies: WKTeam's codes with their names from the settings, and an account's own SOCKS5 proxy."""

import json
from contextlib import suppress
from dataclasses import astuple, dataclass, field

from django.conf import settings
from django.utils.translation import gettext as _

# Stands for the account's own proxy in logins and drops. WKTeam's codes have at most four digits.
OWN = 32767
# What forms send for "no proxy, WKTeam chooses". An empty value says that nothing was chosen.
NONE = "none"
# Stands for NONE where an account's proxy would be used otherwise.
NO_PROXY = -1


@dataclass(frozen=True, slots=True)
class OwnProxy:
    """A SOCKS5 proxy that WKTeam does not list. `address` is host:port. User and password are both "" without them."""

    address: str = field(repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, stored: str | None) -> "OwnProxy | None":
        """Return what `stored()` wrote; None for anything else, such as "" where no key decrypts it."""
        with suppress(ValueError, TypeError):
            return cls(*json.loads(stored or ""))
        return None

    def stored(self) -> str:
        return json.dumps(astuple(self))

    @property
    def body(self) -> dict[str, str]:
        """The fields of `/iPadLogin`. WKTeam's docs: they take the place of `proxy`, which they require all the same."""
        fields = {"proxyIp": self.address, "proxyUser": self.user, "proxyPassword": self.password}
        return {name: value for name, value in fields.items() if value}

    @property
    def secrets(self) -> tuple[str, ...]:
        """The parts that a WKTeam message could repeat; shorter ones would hide ordinary words."""
        host = self.address.rpartition(":")[0].strip("[]")
        return tuple(part for part in (self.address, host, self.user, self.password) if len(part) > 3)


def proxy_name(code: int | None) -> str:
    if code is None:
        return ""
    if code == OWN:
        return _("own proxy")
    return settings.WK_PROXIES.get(code) or _("proxy %(code)s") % {"code": code}


def listed(code: int | None) -> int | None:
    """Return the code if it is one of WKTeam's."""
    return None if code == OWN else code


def proxy_choices(also: int | None = None) -> list[tuple[str | int, str]]:
    """Return the form choices: "none", then every proxy of the settings.

    `also`: a proxy code to include although the settings no longer name it, None for none.
    """
    codes = list(settings.WK_PROXIES)
    if also is not None and also not in codes:
        codes.append(also)
    return [(NONE, choice(None)), *((code, choice(code)) for code in codes)]


def choice(code: int | None) -> str:
    """Return how forms show a proxy."""
    return _("None (chosen by WKTeam)") if code is None else f"{code} · {proxy_name(code)}"
