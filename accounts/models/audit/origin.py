"""Where an action comes from: by what, from which address, for which person.

A request, a task and a command say it once, at their beginning. What runs inside them asks `current()`.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path

from celery.signals import task_postrun, task_prerun
from django.db import models
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

QUERY_LENGTH = 500


class Way(models.TextChoices):
    PAGE = "page", _("Page")
    ADMIN = "admin", _("Django admin")
    LINK = "link", _("Scan link")
    COMMAND = "command", _("Command")
    JOB = "job", _("Job")


@dataclass(frozen=True, slots=True)
class Origin:
    """`name`: of the view, the command or the task. `person`: returns who is signed in. `link`: ID of the scan link."""

    way: str
    name: str
    address: str | None = None
    query: str = ""
    link: int | None = None
    person: Callable = field(default=lambda: None)


def _of_process() -> Origin:
    """Return the origin of what no request and no task does: somebody runs a command, such as `shell`."""
    by_manage = Path(sys.argv[0]).name == "manage.py" and len(sys.argv) > 1
    return Origin(Way.COMMAND, sys.argv[1] if by_manage else Path(sys.argv[0]).name)


# A request stays one until somebody asks: its view is not known before, and its session need not be read.
_current: ContextVar[Origin | HttpRequest | None] = ContextVar("audit_origin", default=None)


def current() -> Origin:
    bound = _current.get()
    return _of_request(bound) if isinstance(bound, HttpRequest) else bound or _of_process()


def _of_request(request: HttpRequest) -> Origin:
    match = request.resolver_match
    return Origin(
        Way.ADMIN if match and match.app_name == "admin" else Way.PAGE,
        (match.view_name or "") if match else "",
        request.META.get("REMOTE_ADDR") or None,
        request.GET.urlencode()[:QUERY_LENGTH],  # written one way: a name in it can be found, to be erased
        person=lambda: request.user if request.user.is_authenticated else None,
    )


@contextmanager
def bound(origin: Origin | HttpRequest) -> Iterator[None]:
    token = _current.set(origin)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def of_link(link_id: int) -> Iterator[None]:
    """Bind it for the page of a scan link. A person who is signed in there acts as the owner of the phone."""
    with bound(replace(current(), way=Way.LINK, link=link_id)):
        yield


@task_prerun.connect
def begin_task(task, **_signal) -> None:
    _current.set(Origin(Way.JOB, task.name.rpartition(".")[2]))


@task_postrun.connect
def end_task(**_signal) -> None:
    _current.set(None)
