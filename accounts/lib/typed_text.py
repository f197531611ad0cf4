"""Text as people type or paste it: without what nobody sees, and IDs without what only an input method adds."""

import re
import unicodedata
from functools import lru_cache

# Fillers and blanks that Unicode calls letters or symbols.
BLANK = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
# In these, joiners and variation selectors change what is seen: Arabic and Indic scripts, symbols and emoji.
JOINED = re.compile(
    "[\u0600-\u109f\u1780-\u18af\u2190-\u2bff\U0001f000-\U0001fbff][\u200c\u200d\ufe0e\ufe0f]+"
)
# A flag of a region, such as Scotland: a black flag and the letters of its code.
FLAG = re.compile("\U0001f3f4[\U000e0061-\U000e007a]+\U000e007f")
QUOTES = "\"'`´‘’‚‛“”„‟«»‹›「」『』《》"


def line(text: str, limit: int | None = None) -> str:
    """Return the text as one line of at most `limit` characters; "" if nothing in it can be seen.

    Removes invisible characters, except where they shape an emoji or a script. Line ends, tabs and other control
    characters count as spaces, and several spaces as one.
    """
    as_shown = {ord(char): _as_shown(char) for char in set(text)}
    parts, end = [], 0
    for start, stop in _shaping(text):
        parts += [text[end:start].translate(as_shown), text[start:stop]]
        end = stop
    shown = "".join([*parts, text[end:].translate(as_shown)])
    return " ".join(unicodedata.normalize("NFC", shown).split())[:limit].rstrip()


def code(text: str) -> str:
    """Return an ID, a setting or another text of ASCII: also without full-width forms and quotes around it."""
    return line(unicodedata.normalize("NFKC", line(text)).strip(QUOTES + " "))


def digits(text: str) -> str:
    """Return a number that is typed in groups, such as `123 456`, without what parts them."""
    return code(re.sub(r"[\s-]", "", code(text)))


def is_key(text: str) -> bool:
    """Return whether this may be the ID of a row, as somebody wrote it."""
    return text.isascii() and text.isdigit() and len(text) < 19


def is_character(char: str) -> bool:
    """Return False for lone surrogates and for code points that Unicode will never assign.

    Code points that this Python does not know yet, such as new emoji, are characters.
    """
    number = ord(char)
    return not (0xD800 <= number <= 0xDFFF or 0xFDD0 <= number <= 0xFDEF or number & 0xFFFE == 0xFFFE)


def is_control(char: str) -> bool:
    """Return whether it is a line end, a tab or another control character."""
    return unicodedata.category(char) in ("Cc", "Zl", "Zp")


def _shaping(text: str) -> list[tuple[int, int]]:
    """Return where, first and behind, the text has invisible characters that shape what stands before them."""
    found = [flag.span() for flag in FLAG.finditer(text)]
    found += [(base.start() + 1, base.end()) for base in JOINED.finditer(text) if _as_shown(base[0][0])]
    return sorted(found)


@lru_cache(4096)
def _as_shown(char: str) -> str:
    if is_control(char):
        return " "
    return "" if unicodedata.category(char) == "Cf" or _is_invisible(char) else char


def _is_invisible(char: str) -> bool:
    number = ord(char)
    return (
        char in BLANK
        or not is_character(char)
        or number == 0x034F  # grapheme joiner
        or 0x180B <= number <= 0x180F
        or 0xFE00 <= number <= 0xFE0F
        or 0xE0000 <= number <= 0xE0FFF
    )
