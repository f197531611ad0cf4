"""Pages and their fragments. The same fragment serves the first render and every live refresh."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import access, events, login, presence
from accounts.forms import AccountForm, CodeForm, StartLoginForm
from accounts.lists import AccountSearch
from accounts.models import Account, Avatar, LoginAttempt
from accounts.panels import live_account, live_attempt, panel, rights
from accounts.states import AccountState, AttemptState
from accounts.tasks import put_into_queue, wait_for_phone

# --- the list -------------------------------------------------------------------------------------------


@require_GET
@never_cache
@login_required
def accounts(request: HttpRequest) -> HttpResponse:
    search = AccountSearch.of(request)
    ctx = {
        "search": search,
        "page": search.page(),
        "tabs": search.tabs(),
        "tags": search.tags(),
        "presence": presence.seen(),
        "sorts": {column: search.sorted_by(column) for column in ("label", "state", "since")},
        **rights(request),
    }
    return render(request, "accounts/accounts.html", ctx)


@require_GET
@never_cache
@login_required
def account_counts(request: HttpRequest) -> HttpResponse:
    search = AccountSearch.of(request)
    return render(request, "accounts/_tabs.html", {"search": search, "tabs": search.tabs()})


@require_GET
@never_cache
@login_required
def account_row(request: HttpRequest, account_id: int) -> HttpResponse:
    account = access.account_to_see(request, account_id)
    login.close_read(account)
    return render(request, "accounts/_account_row.html", {"account": account, **rights(request)})


@require_GET
@never_cache
@login_required
def alarm(request: HttpRequest) -> HttpResponse:
    """What every page says while the upstream does not let us in; nothing while it does."""
    return render(request, "_alarm.html")


# --- one account ----------------------------------------------------------------------------------------


@require_GET
@never_cache
@login_required
def account(request: HttpRequest, account_id: int) -> HttpResponse:
    account = access.account_to_see(request, account_id)
    if account.joined_to:
        if Account.objects.visible_to(request.user).filter(pk=account.joined_to_id).exists():
            return redirect("account", account.joined_to_id)
        return render(request, "accounts/joined.html", {"account": account})
    return render(request, "accounts/account.html", live_account(request, account))


@require_GET
@never_cache
@login_required
def account_live(request: HttpRequest, account_id: int) -> HttpResponse:
    account = access.account_to_see(request, account_id)
    if account.joined_to:
        return HttpResponse(headers={"HX-Redirect": redirect("account", account_id).url})
    return render(request, "accounts/_account_live.html", live_account(request, account))


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def new_account(request: HttpRequest) -> HttpResponse:
    access.only(access.may_add(request.user), None)
    form = AccountForm(request.POST or None, user=request.user)
    if request.method == "POST" and form.is_valid():
        return redirect("account", form.save().pk)
    return render(request, "accounts/edit_account.html", {"form": form}, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def edit_account(request: HttpRequest, account_id: int) -> HttpResponse:
    account = access.account_to_edit(request, account_id)
    form = AccountForm(request.POST or None, instance=account, user=request.user)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, _("Saved."))
        return redirect("account", account.pk)
    ctx = {"form": form, "account": Account.objects.get(pk=account_id)}
    return render(request, "accounts/edit_account.html", ctx, status=422 if form.errors else 200)


@require_GET
@login_required
def avatar(request: HttpRequest, account_id: int) -> HttpResponse:
    account = access.account_to_see(request, account_id)
    picture = get_object_or_404(Avatar, account=account)
    response = HttpResponse(bytes(picture.png), content_type="image/png")
    response["Cache-Control"] = "private, max-age=3600"
    return response


# --- logging in -----------------------------------------------------------------------------------------


@require_POST
@never_cache
@login_required
def start_login(request: HttpRequest, account_id: int) -> HttpResponse:
    account = access.account_to_log_in(request, account_id)
    if account.joined_to_id:
        address = reverse("account", args=[account.pk])
        return HttpResponse(headers={"HX-Redirect": address}) if request.htmx else redirect(address)
    form = StartLoginForm(request.POST)
    if not form.is_valid():
        return answer(
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
        return answer(request, "accounts/start_login.html", "accounts/_start_login.html", ctx, 200)
    device_type = "mac" if form.cleaned_data["mac"] else ""
    attempt, begun = login.begin(
        account, by=request.user, proxy=form.cleaned_data["proxy"], device_type=device_type
    )
    if begun and login.fetch_code(attempt):
        put_into_queue(wait_for_phone, attempt.pk)
    if request.htmx and attempt.is_open:
        # The code first: a person waits for it. What stands around it is looked at right after.
        ctx = {"account": account, "here": request.htmx.target, **panel(request, attempt), **rights(request)}
        return render(request, "accounts/_panel.html", ctx)
    return show(request, attempt)


def answer(request: HttpRequest, page: str, fragment: str, ctx: dict, status: int) -> HttpResponse:
    """A page, or its fragment for htmx."""
    return render(request, fragment if request.htmx else page, {**ctx, **rights(request)}, status=status)


def show(request: HttpRequest, attempt: LoginAttempt, wrong: CodeForm | None = None) -> HttpResponse:
    """After something was done to an attempt: its page, or for htmx the fragment of the page that asked.

    With a form that holds what is wrong, that page is the answer, with status 422. Rights are looked at again:
    an attempt that joined another record belongs to that record's team now.
    """
    attempt = access.attempt_to_see(request, attempt.pk)
    if not request.htmx and wrong is None:
        return redirect("attempt", attempt.pk)
    status, typed = (422, {"code_form": wrong}) if wrong else (200, {})
    if request.htmx and request.htmx.target != "attempt-live":
        ctx = {**live_account(request, attempt.account), **typed}
        return render(request, "accounts/_account_live.html", ctx, status=status)
    ctx = {**live_attempt(request, attempt), **typed}
    return answer(request, "accounts/attempt.html", "accounts/_attempt_live.html", ctx, status)


@require_GET
@never_cache
@login_required
def attempt(request: HttpRequest, attempt_id: int) -> HttpResponse:
    attempt = access.attempt_to_see(request, attempt_id)
    return render(request, "accounts/attempt.html", live_attempt(request, attempt))


@require_GET
@never_cache
@login_required
def attempt_live(request: HttpRequest, attempt_id: int) -> HttpResponse:
    attempt = access.attempt_to_see(request, attempt_id)
    return render(request, "accounts/_attempt_live.html", live_attempt(request, attempt))


@require_GET
@never_cache
@login_required
def qr_png(request: HttpRequest, attempt_id: int) -> HttpResponse:
    attempt = access.attempt_to_log_in(request, attempt_id)
    if not attempt.qr_png:
        return HttpResponse(status=410 if not attempt.is_open else 404)
    response = HttpResponse(bytes(attempt.qr_png), content_type="image/png")
    response["Cache-Control"] = "no-store"
    return response


@require_POST
@never_cache
@login_required
def cancel_login(request: HttpRequest, attempt_id: int) -> HttpResponse:
    attempt = access.attempt_to_log_in(request, attempt_id)
    login.cancel(attempt, by=request.user)
    return show(request, attempt)


@require_POST
@never_cache
@login_required
def submit_code(request: HttpRequest, attempt_id: int) -> HttpResponse:
    """The number that the phone shows, or (for a check on a page) that it was passed."""
    attempt = access.attempt_to_log_in(request, attempt_id)
    if attempt.state == AttemptState.PAGE_REQUIRED:
        again = login.page_visited(attempt, by=request.user)
    else:
        form = CodeForm(request.POST)
        if not form.is_valid():
            return show(request, attempt, form)
        again = login.submit_code(attempt, form.cleaned_data["code"], by=request.user)
    if again:
        put_into_queue(wait_for_phone, attempt.pk)
    return show(request, attempt)


# --- for machines ---------------------------------------------------------------------------------------


@require_GET
def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"ok {settings.VERSION}", content_type="text/plain")


@require_GET
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """200 when the database, the broker and the upstream's host are reachable, 503 when one is not."""
    parts = {"database": _database_answers(), "broker": events.ping(), "upstream": login.client().reachable()}
    return JsonResponse(
        {name: "ok" if ok else "away" for name, ok in parts.items()},
        status=200 if all(parts.values()) else 503,
    )


def _database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    return True
