"""The last wall between a secret and a log: the finished line, traceback included, is cleaned before it is written.

The first wall is that no code logs a secret. This one catches what a library puts into an exception text.
"""

import logging
import re
from urllib.parse import quote

MASK = "[hidden]"
PATTERNS = [
    # name = value, in headers, JSON, dict reprs and query strings
    re.compile(
        r"""(?ix)(["']?\b(?:authorization|password|passwd|verify_?code|qr_?code_?url|secret_?key|sessionid|csrftoken)\b["']?
        \s*[:=]\s*)(?:"[^"]*"|'[^']*'|[^\s,;&}\]]+)"""
    ),
    # user:password@ in an address
    re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/@]+(?=@)"),
]
TOKENS = re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*")


class RedactingFormatter(logging.Formatter):
    """A formatter that hides `secrets` wherever they stand, and everything that is written like one."""

    def __init__(self, *args, secrets: list[str] = (), **kwargs):
        super().__init__(*args, **kwargs)
        known = {form for secret in secrets if len(secret) >= 6 for form in (secret, quote(secret, safe=""))}
        self.known = re.compile("|".join(map(re.escape, sorted(known, key=len, reverse=True))) or r"(?!)")

    def format(self, record: logging.LogRecord) -> str:
        line = self.known.sub(MASK, super().format(record))
        for pattern in PATTERNS:
            line = pattern.sub(rf"\g<1>{MASK}", line)
        return TOKENS.sub(MASK, line)
