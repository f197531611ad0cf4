"""Reports to Sentry what the log has as an error, by the rules of the log. Imported only where SENTRY_DSN is set."""

import logging
from collections.abc import Callable

import sentry_sdk
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.logging import EventHandler

from accounts.metrics import log_context
from wkportal import __version__
from wkportal.logs.redaction import Redacting

# All that is sent. Not among it: requests, breadcrumbs, variables, arguments, installed packages.
SENT = (
    "event_id",
    "timestamp",
    "platform",
    "level",
    "logger",
    "exception",
    "threads",
    "release",
    "environment",
    "sdk",
)


def handler(dsn: str, environment: str, secrets: list[str], **_options) -> logging.Handler:
    """Set Sentry up and return the handler that sends it records of ERROR and above."""
    sentry_sdk.init(
        dsn,
        environment=environment,
        release=f"wkportal@{__version__}",
        before_send=scrubber(Redacting(secrets=secrets).clean),
        # Its own hooks into Django, Celery and logging would collect what no log line has.
        default_integrations=False,
        integrations=[DedupeIntegration(), AtexitIntegration(callback=lambda _pending, _timeout: None)],
        include_local_variables=False,
        max_breadcrumbs=0,
        max_request_body_size="never",
        send_default_pii=False,
        send_client_reports=False,
    )
    return EventHandler(logging.ERROR)


def scrubber(clean: Callable[[str], str]) -> Callable[[dict, dict], dict]:
    def cleaned(value):
        if isinstance(value, str):
            return clean(value)
        if isinstance(value, dict):
            return {name: cleaned(inner) for name, inner in value.items()}
        return [cleaned(inner) for inner in value] if isinstance(value, (list, tuple)) else value

    def before_send(event: dict, hint: dict) -> dict:
        record = hint["log_record"]
        fields = {name: getattr(record, name, None) for name in log_context.FIELDS}
        kept = {name: event[name] for name in SENT if name in event}
        # The text before its arguments is what groups the events of one cause.
        kept["logentry"] = {"message": str(record.msg), "formatted": record.getMessage()}
        kept["tags"] = {name: str(value) for name, value in fields.items() if value is not None}
        return cleaned(kept) | {name: event[name] for name in ("event_id", "timestamp") if name in event}

    return before_send
