"""What stands in the cells of the admin's tables: links to other pages of it, and that there is nothing."""

from django.db.models import QuerySet
from django.urls import reverse
from django.utils.html import format_html

from accounts.models import AccountEvent
from accounts.states import AccountState, AttemptState

NOTHING = "-"  # the admin prints None as it is


def link_to(model: str, key: int | None, text: object) -> str:
    """A link to the page of that row of one of our models, by its text; NOTHING where there is no row."""
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
