"""docs/operations.md for the portal's own pages: in a container nobody has the file at hand."""

import re
from dataclasses import dataclass

from django.conf import settings
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

HEADING = re.compile(r"^(#{2,3}) (.+)$", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True)
class Section:
    anchor: str
    title: str
    level: int
    blocks: tuple[SafeString, ...]


def sections() -> list[Section]:
    """Return the sections of the runbook, [] if this installation has no docs."""
    path = settings.BASE_DIR / "docs" / "operations.md"
    if not path.exists():
        return []
    _before, *parts = HEADING.split(path.read_text(encoding="utf-8"))
    return [
        Section(anchor_of(title), title, len(signs), tuple(map(_block, text.strip("\n").split("\n\n"))))
        for signs, title, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    ]


def anchor_of(title: str) -> str:
    """Return the anchor that Markdown readers give a heading."""
    return re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")


def _block(text: str) -> SafeString:
    """Return a paragraph with its code marked; tables, lists and commands as they stand in the file."""
    if re.match(r"[|`\d*-]", text) and not re.match("`[^`]", text):
        return format_html('<pre tabindex="0">{}</pre>', text)
    parts = [(part, place % 2) for place, part in enumerate(CODE.split(text))]
    return format_html(
        "<p>{}</p>",
        format_html_join(
            "", "{}", ((format_html("<code>{}</code>", p) if is_code else p,) for p, is_code in parts)
        ),
    )
