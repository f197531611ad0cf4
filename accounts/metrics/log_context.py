"""What each log line says beside its message: the request, the person, the account and the login it is about.

The request's ID goes with a task's message, in its headers: one search finds all that a click caused.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token

from celery.signals import before_task_publish, task_postrun, task_prerun

# In the order in which a line on a terminal shows them.
FIELDS = ("account", "attempt", "user", "request_id")
HEADER = "wkportal_log"
# A value may be a function: who makes a request is known only once a view has asked.
_fields: ContextVar[dict] = ContextVar("log_fields", default={})  # noqa: B039 - never changed in place


def known() -> dict[str, int | str]:
    """Return the fields that have a value now."""
    found = {name: value() if callable(value) else value for name, value in _fields.get().items()}
    return {name: value for name, value in found.items() if value is not None}


def bind(**fields) -> Token:
    return _fields.set({**_fields.get(), **fields})


@contextmanager
def bound(**fields) -> Iterator[None]:
    token = bind(**fields)
    try:
        yield
    finally:
        _fields.reset(token)


class Context(logging.Filter):
    """Add the fields to a record. Those that a record was given itself stay."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in known().items():
            record.__dict__.setdefault(name, value)
        return True


@before_task_publish.connect
def send_along(headers: dict, **_signal) -> None:
    kept = {name: value for name, value in known().items() if name in ("request_id", "user")}
    if kept:
        headers[HEADER] = kept


@task_prerun.connect
def begin_task(task, **_signal) -> None:
    """A message from a process of the version before has no such header. Threads are used again: nothing is left over."""
    _fields.set(task.request.get(HEADER) or {})


@task_postrun.connect
def end_task(**_signal) -> None:
    _fields.set({})
