"""Removes secrets from log records: the finished text, traceback included, is cleaned before it is written.

This is the second protection. The first is that no code logs a secret. This one catches secrets that a
library puts into an exception text.
"""

import json
import logging
import re
from urllib.parse import quote, quote_plus, unquote

MASK = "[hidden]"
# name = value, in headers, JSON (also JSON within a string), reprs of dicts and pairs, cookies and query
# strings.
NAMED = re.compile(
    r"""(?ix)
    ( (?: authorization | password | passwd | verify_?code | (?:qr_?code|page|picture)_?url | secret_?key
        | proxy_?(?:ip|user) | sessionid | [_-]session | [_-]csrf | csrf_?token | token | (?<=[?&])(?:x-amz-)?signature )
      (?: \\*["']\s*[:=,] | \s*[:=] ) \s* (?:b(?=["']))? )
    (?: "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | (\\+["']).*?(?<!\\)\2
      | (?:(?:bearer|basic|digest|token)\s+)? [^\s,;&}\]]+ )"""
)
# user:password@ in an address. Text that begins like a port and a path is not a password.
ADDRESS = re.compile(r"(?<=://)([^\s/:@]{0,100}:)(?!\d{1,5}[/?#])\S{1,300}(?=@)")
# Addresses of the WKTeam callback, of a scan link and of a link to set a password: anyone who knows their next part can
# post too, log in the account or sign in, and a wrong one may be nearly right.
SECRET_ADDRESS = re.compile(r"(?:(?<=/callbacks/wkteam/)|(?<=/scan/)|(?<=/password/))[^\s/?#\"']+")
TOKEN = re.compile(r"(?<![\w-])eyJ[\w-]{8,}(?:\.[\w-]*){0,2}")
# The name of an account must not be able to start a new line in the log, or to move a terminal's cursor.
CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}
LINE_ENDS = {0x0A: "\\n", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def forms(secret: str) -> set[str]:
    """Return the ways to write a secret (in an address, in JSON, in a repr) of at least 6 characters."""
    found = set()
    for text in (secret, unquote(secret)):
        inner = json.dumps(text)[1:-1]
        found |= {text, quote(text), quote(text, safe=""), quote_plus(text), inner, json.dumps(inner)[1:-1]}
        found |= {json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1], repr(text.encode())[2:-1]}
    return {form for form in found if len(form) >= 6}


class RedactingFormatter(logging.Formatter):
    """Hide `secrets` anywhere in a record, and everything that is written like a secret.

    Secrets under 6 characters are ignored. Control characters are escaped.
    """

    def __init__(self, *args, secrets: list[str] = (), **kwargs):
        super().__init__(*args, **kwargs)
        known = {form for secret in secrets if len(secret) >= 6 for form in forms(secret)}
        self.known = re.compile("|".join(map(re.escape, sorted(known, key=len, reverse=True))) or r"(?!)")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's own name)
        return super().formatMessage(record).translate(LINE_ENDS)

    def format(self, record: logging.LogRecord) -> str:
        line = self.known.sub(MASK, super().format(record))
        line = NAMED.sub(rf"\g<1>{MASK}", line)
        line = SECRET_ADDRESS.sub(MASK, ADDRESS.sub(rf"\g<1>{MASK}", line))
        return TOKEN.sub(MASK, line).translate(CONTROL)
