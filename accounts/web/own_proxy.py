"""The own SOCKS5 proxy of an account: its form, and what can be checked of it from here.

WKTeam has no call that tests a proxy. Its docs leave that to the caller, and say that some proxies accept WKTeam's
server only. So the portal makes the first steps of a SOCKS5 connection itself (RFC 1928, RFC 1929), without a request
through it; a proxy that does not take them may be saved all the same.
"""

import ipaddress
import re
import socket
import time
from contextlib import nullcontext

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from accounts.models import Account
from accounts.models.event import record
from accounts.notifications import egress
from accounts.proxies import OwnProxy
from accounts.states import EventType
from accounts.web.fields import CodeField, LineField

ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9](?:[\w.-]{0,251}[A-Za-z0-9])?)):(\d{1,5})/?")
SCHEME = re.compile(r"(\w[\w+.-]*)://")
CHECK_SECONDS = 6
MOST_BYTES = 255  # of a user name or a password, by RFC 1929
NO_LOGIN, BY_PASSWORD, SUCCESS = 0, 2, 0

UNANSWERED = _("The proxy does not answer the portal.")
NO_SOCKS5 = _("The proxy answers, but not as a SOCKS5 proxy.")
WANTS_LOGIN = _("The proxy requires a user name and a password.")
REFUSED = _("The proxy refuses the user name or the password.")
PRIVATE = _("This address is in a private network, which WKTeam can’t reach.")


class NotTaken(Exception):
    """The proxy did not take the first steps of a connection. The argument is a sentence for people."""


def check(proxy: OwnProxy) -> None:
    """Connect to the proxy and sign in there. Raises NotTaken, PrivateAddress for a host in a private network."""
    host, _colon, port = proxy.address.rpartition(":")
    deadline = time.monotonic() + CHECK_SECONDS
    guard = nullcontext() if settings.WK_PRIVATE_TARGETS else egress.public_only()
    try:
        with guard, socket.create_connection((host.strip("[]"), int(port)), CHECK_SECONDS) as sock:
            _greet(sock, proxy, deadline)
    except egress.PrivateAddress:
        raise
    except (OSError, UnicodeError):
        raise NotTaken(UNANSWERED) from None


def _greet(sock: socket.socket, proxy: OwnProxy, deadline: float) -> None:
    methods = bytes([NO_LOGIN, BY_PASSWORD] if proxy.user else [NO_LOGIN])
    version, method = _asked(sock, bytes([5, len(methods)]) + methods, deadline)
    if version != 5 or method not in (*methods, 0xFF):
        raise NotTaken(NO_SOCKS5)
    if method == 0xFF:
        raise NotTaken(REFUSED if proxy.user else WANTS_LOGIN)
    if method == BY_PASSWORD:
        user, password = proxy.user.encode(), proxy.password.encode()
        words = bytes([1, len(user)]) + user + bytes([len(password)]) + password
        if _asked(sock, words, deadline)[1] != SUCCESS:
            raise NotTaken(REFUSED)


def _asked(sock: socket.socket, words: bytes, deadline: float) -> bytes:
    """Send the words and return the two bytes of the answer."""
    sock.sendall(words)
    answer = b""
    while len(answer) < 2:
        sock.settimeout(max(0.01, deadline - time.monotonic()))
        if not (some := sock.recv(2 - len(answer))):
            raise NotTaken(NO_SOCKS5 if answer else UNANSWERED)
        answer += some
    return answer


class OwnProxyForm(forms.Form):
    """The own proxy of an account. What is set is never shown, so all fields are empty at first."""

    own_proxy = CodeField(
        label=_("Host and port"),
        required=False,
        max_length=300,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text=_("For example 203.0.113.7:1080."),
    )
    own_proxy_user = LineField(
        label=_("User name"),
        required=False,
        max_length=MOST_BYTES,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    own_proxy_password = forms.CharField(
        label=_("Password"),
        required=False,
        max_length=MOST_BYTES,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    own_proxy_unchecked = forms.BooleanField(
        label=_("Save even if the check fails"),
        required=False,
        help_text=_(
            "WKTeam has no call that tests a proxy. The portal connects to it and signs in there; a proxy that accepts "
            "only WKTeam’s server fails that check and may work."
        ),
    )
    own_proxy_remove = forms.BooleanField(label=_("Remove the own proxy"), required=False)

    def __init__(self, *args, account: Account | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.said = ""
        if account is None or not account.has_own_proxy:
            del self.fields["own_proxy_remove"]

    def clean_own_proxy(self) -> str:
        typed = self.cleaned_data["own_proxy"]
        if not typed:
            return ""
        scheme = SCHEME.match(typed)
        if scheme and scheme[1].lower() not in ("socks5", "socks5h", "socks"):
            raise forms.ValidationError(_("WKTeam takes SOCKS5 proxies only."))
        address = typed[scheme.end() :] if scheme else typed
        if "@" in address:
            raise forms.ValidationError(_("Enter user name and password in their own fields."))
        parts = ADDRESS.fullmatch(address)
        if not parts or not 0 < int(parts[3]) < 65536 or (parts[1] and not _is_number(parts[1])):
            raise forms.ValidationError(_("Enter host and port, for example 203.0.113.7:1080."))
        host = (parts[1] or parts[2]).lower()
        if not settings.WK_PRIVATE_TARGETS and _is_private(host):
            raise forms.ValidationError(PRIVATE)
        return f"[{host}]:{int(parts[3])}" if parts[1] else f"{host}:{int(parts[3])}"

    def clean(self) -> dict:
        cleaned = super().clean()
        if self.errors:
            return cleaned
        user, password = cleaned["own_proxy_user"], cleaned["own_proxy_password"]
        if (user or password) and not cleaned["own_proxy"]:
            self.add_error(
                "own_proxy", _("Enter host and port too: nothing is kept of the proxy set before.")
            )
        if bool(user) != bool(password):
            self.add_error("own_proxy_password", _("Enter both user name and password, or neither."))
        if max(len(user.encode()), len(password.encode())) > MOST_BYTES:
            self.add_error("own_proxy_password", _("User name and password have at most 255 bytes each."))
        if cleaned.get("own_proxy_remove") and cleaned["own_proxy"]:
            self.add_error("own_proxy_remove", _("Either remove the own proxy or enter another one."))
        return cleaned

    @property
    def proxy(self) -> OwnProxy | None:
        names = ("own_proxy", "own_proxy_user", "own_proxy_password")
        values = [self.cleaned_data[name] for name in names]
        return OwnProxy(*values) if values[0] else None

    def is_checked(self) -> bool:
        """Check the proxy that was entered, if one was. Return whether it may be saved. Makes an outside call."""
        if self.proxy is None:
            return True
        try:
            check(self.proxy)
        except egress.PrivateAddress:
            self.add_error("own_proxy", PRIVATE)
        except NotTaken as error:
            if not self.cleaned_data["own_proxy_unchecked"]:
                self.add_error("own_proxy", error.args[0])
            else:
                self.said = _(
                    "Saved. The own proxy failed the portal’s check; the next login by QR code tests it."
                )
        else:
            self.said = _(
                "Saved. The own proxy takes the portal’s connection; the next login by QR code uses it."
            )
        return not self.errors

    def save(self, account: Account, *, by) -> None:
        """Store what was entered, and record that it changed, in the caller's transaction."""
        if self.proxy is None and not self.cleaned_data.get("own_proxy_remove"):
            return
        account.own_proxy = self.proxy.stored() if self.proxy else None
        account.save(update_fields=["own_proxy"])
        record(account, EventType.CHANGED, detail="own_proxy", by=by)


def _is_number(host: str) -> bool:
    try:
        return ipaddress.ip_address(host) is not None
    except ValueError:
        return False


def _is_private(host: str) -> bool:
    name = host.rstrip(".")
    return (
        name == "localhost"
        or name.endswith(".localhost")
        or (_is_number(host) and not egress.is_public(host))
    )
