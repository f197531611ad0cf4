"""What stands in the cells of the admin's tables: links to other pages of it, and that there is nothing."""

from django.urls import reverse
from django.utils.html import format_html

NOTHING = "-"  # the admin prints None as it is


def link_to(model: str, key: int | None, text: object) -> str:
    """A link to the page of that row of one of our models, by its text; NOTHING where there is no row."""
    if key is None:
        return NOTHING
    return format_html('<a href="{}">{}</a>', reverse(f"admin:accounts_{model}_change", args=[key]), text)
