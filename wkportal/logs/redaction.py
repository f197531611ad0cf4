"""Writes log records without secrets, as text or as JSON: every text, tracebacks included, is cleaned before it is written.

This is the second protection. The first is that no code logs a secret. This one catches secrets that a
library puts into an exception text.
"""

import json
import logging
import re
from datetime import datetime
from urllib.parse import quote, quote_plus, unquote

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from accounts.metrics import log_context

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

# What libraries add to their records, beside the message.
LIBRARIES_OWN = ("request", "status_code", "server_time", "data", "color_message")


def forms(secret: str) -> set[str]:
    """Return the ways to write a secret (in an address, in JSON, in a repr) of at least 6 characters."""
    found = set()
    for text in (secret, unquote(secret)):
        inner = json.dumps(text)[1:-1]
        found |= {text, quote(text), quote(text, safe=""), quote_plus(text), inner, json.dumps(inner)[1:-1]}
        found |= {json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1], repr(text.encode())[2:-1]}
    return {form for form in found if len(form) >= 6}


class Redacting(logging.Formatter):
    """Hides `secrets` anywhere in a text, and everything that is written like a secret.

    Secrets under 6 characters are ignored. Control characters are escaped.
    """

    def __init__(self, *args, secrets: list[str] = (), **kwargs):
        super().__init__(*args, **kwargs)
        known = {form for secret in secrets if len(secret) >= 6 for form in forms(secret)}
        self.known = re.compile("|".join(map(re.escape, sorted(known, key=len, reverse=True))) or r"(?!)")

    def clean(self, text: str) -> str:
        text = NAMED.sub(rf"\g<1>{MASK}", self.known.sub(MASK, text))
        text = SECRET_ADDRESS.sub(MASK, ADDRESS.sub(rf"\g<1>{MASK}", text))
        return TOKEN.sub(MASK, text).translate(CONTROL)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")


class RedactingFormatter(Redacting):
    """One line of text for a message, with what is known of its account, login, person and request at its end."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's own name)
        found = [(name, getattr(record, name, None)) for name in log_context.FIELDS]
        context = "".join(f" {name}={value}" for name, value in found if value is not None)
        return f"{super().formatMessage(record)}{context}".translate(LINE_ENDS)

    def format(self, record: logging.LogRecord) -> str:
        return self.clean(super().format(record))


class RedactingJsonFormatter(Redacting, JsonFormatter):
    """One JSON object a record. Its values are cleaned one by one, so that it stays JSON."""

    def __init__(self, **options):
        names = {"asctime": "time", "levelname": "level", "processName": "process", "name": "logger"}
        super().__init__(
            [*names, "message"],
            rename_fields=names,
            reserved_attrs=[*RESERVED_ATTRS, *LIBRARIES_OWN],
            json_ensure_ascii=False,
            **options,
        )

    def process_log_record(self, log_data: dict) -> dict:
        # All at once first: most lines hide nothing.
        written = "\n".join([f"{name}={value}" for name, value in log_data.items()])
        if self.clean(written) == written:
            return {
                name: value if isinstance(value, (int, float)) else str(value)
                for name, value in log_data.items()
            }
        return {name: self.cleaned(name, value) for name, value in log_data.items()}

    def cleaned(self, name: str, value) -> int | float | str:
        if isinstance(value, (int, float)) and not NAMED.search(f"{name}=1"):
            return value
        return self.clean(f"{name}={value}").removeprefix(f"{name}=")

    def serialize_log_record(self, log_data: dict) -> str:
        return super().serialize_log_record(log_data).translate(LINE_ENDS)
