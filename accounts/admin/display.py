"""Cells of admin tables: links to other admin pages, and the mark for an empty cell."""

from datetime import datetime
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import mark_safe
from django.utils.translation import gettext

from accounts.lib.typed_text import is_key
from accounts.models import AccountEvent, Incident
from accounts.proxies import proxy_name
from accounts.states import AccountState, AttemptState

NOTHING = mark_safe('<span class="nothing">-</span>')  # noqa: S308  # narrow lists leave out cells that have nothing


def link_to(model: str, key: int | None, text: object) -> str:
    """Return a link to the admin page of a row of one of our models; NOTHING without a row."""
    if key is None:
        return NOTHING
    return format_html('<a href="{}">{}</a>', reverse(f"admin:accounts_{model}_change", args=[key]), text)


def link_to_list(model: str, text: object, **filters) -> str:
    """Return a link to the list of a model's rows, filtered."""
    address = f"{reverse(f'admin:accounts_{model}_changelist')}?{urlencode(filters)}"
    return format_html('<a href="{}">{}</a>', address, text)


def moment_in(moment: datetime, zone: ZoneInfo | None = None) -> str:
    """Return the time, with the zone if it is another one than the page's."""
    here = timezone.get_current_timezone()
    named = f" ({zone.key})" if zone is not None and str(zone) != str(here) else ""
    return date_format(moment.astimezone(zone or here), "DATETIME_FORMAT") + named


def in_common(incident: Incident) -> str:
    """Return what the drops of an incident have in common, "" if that is only the time."""
    if incident.shares == "proxy" and is_key(incident.shared):
        return proxy_name(int(incident.shared))
    return incident.shared


def duration(begin: datetime, end: datetime | None) -> str:
    """Return how long it took, with the two largest units that it has; NOTHING without an end."""
    if end is None:
        return NOTHING
    seconds = max(0.0, (end - begin).total_seconds())
    if seconds < 60:
        return gettext("%(seconds)s s") % {"seconds": f"{seconds:.1f}"}
    minutes = round(seconds / 60)
    if seconds < 3600:
        return gettext("%(minutes)s min %(seconds)s s") % {
            "minutes": int(seconds // 60),
            "seconds": int(seconds % 60),
        }
    if minutes < 24 * 60:
        return gettext("%(hours)s h %(minutes)s min") % {"hours": minutes // 60, "minutes": minutes % 60}
    return gettext("%(days)s d %(hours)s h") % {"days": minutes // 1440, "hours": minutes % 1440 // 60}


LATEST = 50
STATE_TITLES = {**dict(AccountState.choices), **dict(AttemptState.choices)}


def state_change(event: AccountEvent) -> str:
    return " → ".join(
        str(STATE_TITLES.get(code, code)) for code in (event.from_state, event.to_state) if code
    )


def timeline(events: QuerySet) -> list[dict]:
    return [{"event": event, "moved": state_change(event)} for event in events[:LATEST]]
