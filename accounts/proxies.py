"""The proxies: WKTeam's codes and the names from the settings."""

from django.conf import settings
from django.utils.translation import gettext as _


def proxy_name(code: int | None) -> str:
    if code is None:
        return ""
    return settings.WK_PROXIES.get(code) or _("proxy %(code)s") % {"code": code}


def proxy_choices(also: int | None = None) -> list[tuple[str | int, str]]:
    """Return the form choices: "none", then every proxy of the settings.

    `also`: a proxy code to include although the settings no longer name it, None for none.
    """
    codes = list(settings.WK_PROXIES)
    if also is not None and also not in codes:
        codes.append(also)
    return [("", _("None (chosen by WKTeam)")), *((code, f"{code} · {proxy_name(code)}") for code in codes)]
