"""For admins: whether the portal works, and what to do where it does not."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts import permissions
from accounts.lib import db_clock
from accounts.status import facts, runbook
from accounts.status.facts import State


@require_GET
@never_cache
@login_required
def status(request: HttpRequest) -> HttpResponse:
    permissions.only(permissions.may_see_status(request.user), None)
    return render(request, "status/status.html", _facts())


@require_GET
@never_cache
@login_required
def status_now(request: HttpRequest) -> HttpResponse:
    permissions.only(permissions.may_see_status(request.user), None)
    return render(request, "status/_facts.html", _facts())


@require_GET
@never_cache
@login_required
def show_runbook(request: HttpRequest) -> HttpResponse:
    permissions.only(permissions.may_see_status(request.user), None)
    found = runbook.sections()
    return render(request, "status/runbook.html", {"sections": permissions.only(bool(found), found)})


def _facts() -> dict:
    """Provide the facts, the worst first."""
    found = sorted(facts.collect(), key=lambda fact: -fact.state)
    wrong = sum(fact.state != State.OK for fact in found)
    return {"facts": found, "wrong": wrong, "read_at": db_clock.now()}
