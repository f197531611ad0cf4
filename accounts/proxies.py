"""The proxy lines: codes that the upstream knows, by the names that people know."""

from django.conf import settings
from django.utils.translation import gettext as _


def proxy_name(code: int | None) -> str:
    if code is None:
        return ""
    return settings.WK_PROXIES.get(code) or _("proxy %(code)s") % {"code": code}


def proxy_choices(also: int | None = None) -> list[tuple[str | int, str]]:
    """The lines by name, and "none"; `also` is one that is kept although the settings name it no more."""
    codes = list(settings.WK_PROXIES)
    if also is not None and also not in codes:
        codes.append(also)
    return [("", _("None (chosen by WKTeam)")), *((code, f"{code} · {proxy_name(code)}") for code in codes)]
