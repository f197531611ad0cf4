"""Cells of admin tables: links to other admin pages, and the mark for an empty cell."""

from django.db.models import QuerySet
from django.urls import reverse
from django.utils.html import format_html

from accounts.models import AccountEvent
from accounts.states import AccountState, AttemptState

NOTHING = "-"  # the admin prints None unchanged


def link_to(model: str, key: int | None, text: object) -> str:
    """Return a link to the admin page of a row of one of our models; NOTHING without a row."""
    if key is None:
        return NOTHING
    return format_html('<a href="{}">{}</a>', reverse(f"admin:accounts_{model}_change", args=[key]), text)


LATEST = 50
STATE_TITLES = {**dict(AccountState.choices), **dict(AttemptState.choices)}


def state_change(event: AccountEvent) -> str:
    return " → ".join(
        str(STATE_TITLES.get(code, code)) for code in (event.from_state, event.to_state) if code
    )


def timeline(events: QuerySet) -> list[dict]:
    return [{"event": event, "moved": state_change(event)} for event in events[:LATEST]]
