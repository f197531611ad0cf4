"""Pages and actions of one login, from its start to its end."""

import contextvars
from collections.abc import Callable

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import permissions, tasks
from accounts.logins import control, start
from accounts.models import LoginAttempt
from accounts.models.audit import shown
from accounts.models.audit.entry import AuditKind
from accounts.states import AccountState, Method
from accounts.tasks import put_into_queue, wait_for_phone
from accounts.web.forms import StartLoginForm, VerificationCodeForm, verify
from accounts.web.presenters import live_account, live_attempt, panel, rights


@require_POST
@never_cache
@login_required
def start_login(request: HttpRequest, account_id: int) -> HttpResponse:
    account = permissions.account_to_log_in(request, account_id)
    if account.merged_into_id:
        address = reverse("account", args=[account.pk])
        return HttpResponse(headers={"HX-Redirect": address}) if request.htmx else redirect(address)
    form = StartLoginForm(request.POST)
    if not form.is_valid():
        return _page_or_fragment(
            request,
            "accounts/start_login.html",
            "accounts/_start_login.html",
            {"account": account, "form": form},
            422,
        )
    if (
        account.state == AccountState.ONLINE
        and not form.cleaned_data["sure"]
        and account.open_attempt is None
    ):
        ctx = {"account": account, "form": form, "proxy": form.cleaned_data["proxy"]}
        return _page_or_fragment(request, "accounts/start_login.html", "accounts/_start_login.html", ctx, 200)
    device_type = "mac" if form.cleaned_data["mac"] else ""
    attempt, begun = start.start_login(
        account, by=request.user, proxy=form.cleaned_data["proxy"], device_type=device_type
    )
    return _with_qr_code(request, attempt, begun)


def _with_qr_code(request: HttpRequest, attempt: LoginAttempt, begun: bool) -> HttpResponse:
    """Answer with the attempt; request its QR code first if it was begun for this request."""
    waits = begun and start.fetch_qr_code(attempt)
    if request.htmx and attempt.is_open:
        # The QR code first, because a person waits for it. The rest of the page is refreshed right after.
        ctx = {"account": attempt.account, "here": request.htmx.target}
        response = render(request, "accounts/_panel.html", ctx | panel(request, attempt) | rights(request))
    else:
        response = _attempt_page(request, attempt)
    if waits:
        _once_sent(response, put_into_queue, wait_for_phone, attempt.pk)
    return response


def _once_sent(response: HttpResponse, call: Callable, *args: object) -> None:
    """Call it after the response was sent: nobody needs a second to scan. If that fails, a worker finds the row."""
    close, context = response.close, contextvars.copy_context()  # the log's request ID

    def call_and_close() -> None:
        try:
            context.run(call, *args)
        finally:
            close()

    response.close = call_and_close


def _page_or_fragment(request: HttpRequest, page: str, fragment: str, ctx: dict, status: int) -> HttpResponse:
    """Render a page, or its fragment for htmx."""
    return render(request, fragment if request.htmx else page, {**ctx, **rights(request)}, status=status)


def _attempt_page(
    request: HttpRequest, attempt: LoginAttempt, wrong: VerificationCodeForm | None = None
) -> HttpResponse:
    """Answer after an action on an attempt: redirect to its page, or for htmx return the fragment that asked.

    `wrong`: a form with errors; the answer is then that page with status 422. Rights are checked again,
    because an attempt merged into another record belongs to that record's team.
    """
    attempt = permissions.attempt_to_see(request, attempt.pk)
    if not request.htmx and wrong is None:
        return redirect("attempt", attempt.pk)
    status, typed = (422, {"code_form": wrong}) if wrong else (200, {})
    if request.htmx and request.htmx.target != "attempt-live":
        ctx = {**live_account(request, attempt.account), **typed}
        return render(request, "accounts/_account_live.html", ctx, status=status)
    ctx = {**live_attempt(request, attempt), **typed}
    return _page_or_fragment(request, "accounts/attempt.html", "accounts/_attempt_live.html", ctx, status)


@require_GET
@never_cache
@login_required
def attempt(request: HttpRequest, attempt_id: int) -> HttpResponse:
    attempt = permissions.attempt_to_see(request, attempt_id)
    return render(request, "accounts/attempt.html", live_attempt(request, attempt))


@require_GET
@never_cache
@login_required
def attempt_live(request: HttpRequest, attempt_id: int) -> HttpResponse:
    attempt = permissions.attempt_to_see(request, attempt_id)
    return render(request, "accounts/_attempt_live.html", live_attempt(request, attempt))


@require_GET
@never_cache
@login_required
def qr_png(request: HttpRequest, attempt_id: int) -> HttpResponse:
    attempt = permissions.attempt_to_log_in(request, attempt_id)
    if not attempt.qr_png:
        return HttpResponse(status=410 if not attempt.is_open else 404)
    shown.record(attempt, AuditKind.CODE_SHOWN)
    response = HttpResponse(bytes(attempt.qr_png), content_type="image/png")
    response["Cache-Control"] = "no-store"
    return response


@require_POST
@never_cache
@login_required
def cancel_login(request: HttpRequest, attempt_id: int) -> HttpResponse:
    attempt = permissions.attempt_to_log_in(request, attempt_id)
    control.cancel(attempt, by=request.user)
    return _attempt_page(request, attempt)


@require_POST
@never_cache
@login_required
def scan_instead(request: HttpRequest, attempt_id: int) -> HttpResponse:
    """Withdraw a phone prompt and show a QR code in its place."""
    prompt = permissions.attempt_to_log_in(request, attempt_id)
    permissions.only(prompt.method == Method.POPUP and prompt.account.merged_into_id is None, None)
    return _with_qr_code(request, *start.scan_instead(prompt, by=request.user))


@require_POST
@never_cache
@login_required
def take_as_meant(request: HttpRequest, attempt_id: int) -> HttpResponse:
    """Merge the record into the account that scanned instead, because it is the one meant."""
    attempt = permissions.attempt_to_log_in(request, attempt_id)
    permissions.need_edit(request.user)
    if attempt.account.merged_into_id is None:
        permissions.account_to_see(request, attempt.other_account_id or 0)
        permissions.only(control.take_as_meant(attempt, by=request.user) is not None, None)
    return redirect("account", attempt.account_id)


@require_POST
@never_cache
@login_required
def submit_verification_code(request: HttpRequest, attempt_id: int) -> HttpResponse:
    """Submit the verification code, or report that the verification page was passed."""
    attempt = permissions.attempt_to_log_in(request, attempt_id)
    wrong, again = verify(request.POST, attempt, by=request.user)
    if again:
        put_into_queue(wait_for_phone, attempt.pk)
    return _attempt_page(request, attempt, wrong)


@require_POST
@never_cache
@login_required
def send_prompt(request: HttpRequest, account_id: int) -> HttpResponse:
    """Start a login by phone prompt: no scan, the phone owner confirms."""
    account = permissions.account_to_log_in(request, account_id)
    permissions.only(account.merged_into_id is None and account.wc_id is not None, None)
    attempt, begun = start.start_login(account, by=request.user, method=Method.POPUP, queued=True)
    if begun:
        tasks.put_into_queue(tasks.wait_for_phone, attempt.pk)
    return redirect("attempt", attempt.pk)
