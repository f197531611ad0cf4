"""Who signed in or was refused and who is locked out now, for admins and auditors. Admins let them try again."""

from datetime import datetime
from heapq import merge
from ipaddress import ip_address
from itertools import islice

from axes.models import AccessFailureLog, AccessLog
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts import permissions
from accounts.lib.typed_text import code
from accounts.models import SignInUnlock
from accounts.web.fields import FIRST_YEAR, LAST_YEAR
from accounts.web.people.sessions import browser_of
from wkportal import sign_in_limits

PER_PAGE = 50


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def sign_ins(request: HttpRequest) -> HttpResponse:
    """List sign-ins, the newest first, and who is locked out; POST lets one of those try again."""
    permissions.only(permissions.may_see_sign_ins(request.user), None)
    may_manage = permissions.may_manage_people(request.user)
    if request.method == "POST":
        permissions.need(may_manage, _("Only admins can unlock. Ask an admin."))
        if sign_in_limits.unlock(request.POST.get("lockout", ""), by=request.user):
            messages.success(request, _("Unlocked."))
        return redirect("sign_ins")
    asked = code(request.GET.get("q", ""))[:150]
    rows, older = _page(asked, _moment(request.GET.get("before", "")))
    lockouts = sign_in_limits.lockouts()
    known = _known({row.username for row in rows} | {lockout.username for lockout in lockouts})
    for row in rows:
        row.person = known.get(row.username)
    named = [(lockout, known.get(lockout.username)) for lockout in lockouts]
    ctx = {"rows": rows, "older": older, "lockouts": named, "q": asked, "may_manage": may_manage}
    ctx["provider"] = settings.OIDC_NAME
    return render(request, "people/sign_ins.html", ctx)


def _moment(text: str) -> datetime | None:
    try:
        found = parse_datetime(text)
    except ValueError:
        return None
    usable = found and timezone.is_aware(found) and FIRST_YEAR <= found.year <= LAST_YEAR
    return found if usable else None


def _known(names: set[str | None]) -> dict:
    """Return the people by username. Other names are not shown: people type passwords there by mistake."""
    return {
        person.username: person for person in get_user_model().objects.filter(username__in=names - {None, ""})
    }


def _page(asked: str, before: datetime | None) -> tuple[list, datetime | None]:
    """Return the rows of a page with `at`, `result` and `browser`, and the time before which the next page begins."""
    newest = (
        _newest(AccessLog, "attempt_time", "signed_in", asked, before),
        _newest(AccessFailureLog, "attempt_time", "refused", asked, before),
        _newest(SignInUnlock, "at", "unlocked", asked, before),
    )
    rows = list(islice(merge(*newest, key=lambda row: row.at, reverse=True), PER_PAGE + 1))
    return rows[:PER_PAGE], rows[PER_PAGE - 1].at if len(rows) > PER_PAGE else None


def _newest(model: type, column: str, result: str, asked: str, before: datetime | None) -> list:
    rows: QuerySet = model.objects.order_by(f"-{column}", "-pk")
    if before:
        rows = rows.filter(**{f"{column}__lt": before})
    if asked:
        rows = rows.filter(**_condition(asked))
    found = list(rows[: PER_PAGE + 1])
    for row in found:
        row.at, row.result = getattr(row, column), result
        row.browser = browser_of(row.user_agent) if result != "unlocked" else ""
    return found


def _condition(asked: str) -> dict[str, str]:
    try:
        return {"ip_address": str(ip_address(asked))}
    except ValueError:
        return {"username__iexact": asked}
