"""The page of a scan link, for the owner of a phone: one account, no sign-in.

It tells the account's label and who asked, nothing else. Its address is a secret: it is in no referrer and no log.
"""

from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts.lib import db_clock
from accounts.models import LoginAttempt, ScanLink
from accounts.models.audit import origin
from accounts.models.operators.scan_link import LinkState
from accounts.reasons import Reason
from accounts.scanning import links
from accounts.states import AttemptState, Method
from accounts.tasks import put_into_queue, wait_for_phone
from accounts.web.forms import VerificationCodeForm, verify
from accounts.web.presenters import code_data, page_data

# Addresses that name no link, from one client within MISSES_WITHIN seconds, in one process.
MOST_MISSES, MISSES_WITHIN = 30, 60


def of_link(view):
    """Give the view its link. One that was revoked, or that never was, is answered alike."""

    @never_cache
    @wraps(view)
    def found(request: HttpRequest, token: str) -> HttpResponse:
        link = None if _misses(request) >= MOST_MISSES else links.find(token)
        if link is None:
            _count_miss(request)
        try:
            if link is None or link.state in (LinkState.REVOKED, LinkState.EXPIRED):
                response = _gone(request, link)
            else:
                with origin.of_link(link.pk):
                    response = view(request, link)
        except links.TooOften:
            response = _page(request, link, "too_often", 429)
        # Without any a browser sends no Origin, which forms need.
        response["Referrer-Policy"] = "strict-origin"
        response["X-Robots-Tag"] = "noindex"
        return response

    return found


def _misses_key(request: HttpRequest) -> str:
    return f"scan-link-misses-{request.META['REMOTE_ADDR']}"


def _misses(request: HttpRequest) -> int:
    return cache.get(_misses_key(request), 0)


def _count_miss(request: HttpRequest) -> None:
    cache.set(_misses_key(request), _misses(request) + 1, MISSES_WITHIN)


def _gone(request: HttpRequest, link: ScanLink | None) -> HttpResponse:
    expired = link is not None and link.state == LinkState.EXPIRED
    return _page(request, link if expired else None, "expired" if expired else "revoked", 410)


def _page(
    request: HttpRequest, link: ScanLink | None, mode: str, status: int = 200, **ctx: Any
) -> HttpResponse:
    """Render the page, or its part for htmx. Somebody who is signed in here sees the page that the owner sees."""
    token = request.resolver_match.kwargs["token"]
    own = reverse("scan_link", args=[token])
    ctx |= {
        "user": AnonymousUser(),
        "link": link,
        "mode": mode,
        "token": token,
        "address": request.build_absolute_uri(own),
        "language_next": own,
        "asked_by": link and (link.account.team or link.created_by_name),
    }
    if request.htmx:  # which leaves the page as it is for a status of an error
        return render(request, "scan_link/_owner.html", ctx, status=status if status == 422 else 200)
    return render(request, "scan_link/owner.html", ctx, status=status)


@require_GET
@of_link
def page(request: HttpRequest, link: ScanLink) -> HttpResponse:
    links.opened(link, request.META.get("REMOTE_ADDR"))
    return _shown(request, link)


@require_GET
@of_link
def live(request: HttpRequest, link: ScanLink) -> HttpResponse:
    """Answer 204 if nothing changed since the version `seen`, so that a field keeps what is typed."""
    _queue(links.renew(link))
    return _shown(request, link, seen=request.GET.get("seen", ""))


@require_POST
@of_link
def act(request: HttpRequest, link: ScanLink) -> HttpResponse:
    wrong = None
    match request.POST.get("do"):
        case "code":
            _queue(links.ask(link, Method.QR))
        case "prompt":
            _queue(links.ask(link, Method.POPUP))
        case "verify":
            wrong = _verify(request, links.attempt_of(link))
        case _:
            raise Http404
    if wrong is None and not request.htmx:
        return redirect("scan_link", request.resolver_match.kwargs["token"])
    return _shown(request, link, wrong=wrong)


def _verify(request: HttpRequest, attempt: LoginAttempt | None) -> VerificationCodeForm | None:
    """Send the verification code, or say that the verification page was passed. Return a form with errors."""
    if attempt is None:
        return None
    wrong, again = verify(request.POST, attempt)
    if again:
        _queue(attempt.pk)
    return wrong


def _queue(attempt_id: int | None) -> None:
    if attempt_id is not None:
        put_into_queue(wait_for_phone, attempt_id)


def _shown(
    request: HttpRequest,
    link: ScanLink,
    *,
    seen: str | None = None,
    wrong: VerificationCodeForm | None = None,
) -> HttpResponse:
    links.settle(link)
    attempt = links.attempt_of(link)
    mode = _mode(link, attempt)
    version = f"{mode}-{attempt.pk}-{attempt.codes_tried}-{attempt.is_queued:d}" if attempt else mode
    if seen == version:
        return HttpResponse(status=204)
    ctx: dict[str, Any] = {
        "version": version,
        "attempt": attempt,
        "code_form": wrong or VerificationCodeForm(),
    }
    if attempt is not None and attempt.is_open:
        ctx |= {
            "seconds_left": attempt.seconds_left(db_clock.now()),
            "wait_seconds": settings.WK_LOGIN_WAIT_SECONDS,
            "qr_data": code_data(attempt),
            "page_code": page_data(attempt),
        }
    return _page(request, link, mode, 422 if wrong else 200, **ctx)


_OPEN_MODES = {
    AttemptState.PREPARING: "preparing",
    AttemptState.CODE_REQUIRED: "verify",
    AttemptState.PAGE_REQUIRED: "visit",
}


def _mode(link: ScanLink, attempt: LoginAttempt | None) -> str:
    """Return which of its views the page shows."""
    if not link.is_active:
        return link.state
    if attempt is None:
        return "ask" if link.account.is_confirmed else "first"
    if attempt.is_open:
        shown = "prompt" if attempt.method == Method.POPUP else "code"
        return _OPEN_MODES.get(attempt.state, shown)
    if attempt.reason in (Reason.WRONG_ACCOUNT, Reason.DECLINED):
        return attempt.reason
    return "ran_out" if attempt.state == AttemptState.EXPIRED else "failed"
