"""The page of one account, its form and its actions."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import permissions, tasks
from accounts.lib import db_clock
from accounts.logins import control, failure
from accounts.models import Account, Avatar
from accounts.presence import log_out, sweep
from accounts.reasons import Reason
from accounts.relogin import plan_runs
from accounts.states import AccountState
from accounts.web import forms
from accounts.web.forms import AccountForm, DueForm
from accounts.web.own_proxy import OwnProxyForm
from accounts.web.presenters import history_of_account, live_account, rights
from accounts.web.views.unmanaged import adopt_entered

# --- one account ----------------------------------------------------------------------------------------


@require_GET
@never_cache
@login_required
def account_detail(request: HttpRequest, account_id: int) -> HttpResponse:
    account = permissions.account_to_see(request, account_id)
    if account.merged_into:
        if Account.objects.visible_to(request.user).filter(pk=account.merged_into_id).exists():
            return redirect("account", account.merged_into_id)
        mine = Account.objects.filter(pk=account.pk)
        ctx = {
            "account": account,
            "merged": control.merged_by_portal(mine, db_clock.now()),
            **rights(request),
        }
        return render(request, "accounts/merged.html", ctx)
    ctx = live_account(request, account) | history_of_account(request, account)
    return render(request, "accounts/account.html", ctx)


@require_GET
@never_cache
@login_required
def account_live(request: HttpRequest, account_id: int) -> HttpResponse:
    account = permissions.account_to_see(request, account_id)
    if account.merged_into:
        return HttpResponse(headers={"HX-Redirect": redirect("account", account_id).url})
    return render(request, "accounts/_account_live.html", live_account(request, account))


@require_GET
@never_cache
@login_required
def account_history(request: HttpRequest, account_id: int) -> HttpResponse:
    account = permissions.account_to_see(request, account_id)
    if account.merged_into:
        return HttpResponse(status=204)  # the panel above leads to the other account
    ctx = history_of_account(request, account) | rights(request)
    return render(request, "accounts/_account_history.html", ctx)


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def new_account(request: HttpRequest) -> HttpResponse:
    permissions.need_add(request.user)
    form = AccountForm(request.POST or None, user=request.user)
    return _edited(request, form, OwnProxyForm(request.POST or None), None)


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def edit_account(request: HttpRequest, account_id: int) -> HttpResponse:
    account = permissions.account_to_edit(request, account_id)
    form = AccountForm(request.POST or None, instance=account, user=request.user)
    return _edited(request, form, OwnProxyForm(request.POST or None, account=account), account_id)


def _edited(
    request: HttpRequest, form: AccountForm, own_proxy: OwnProxyForm, account_id: int | None
) -> HttpResponse:
    """Save the account and its own proxy, or show the form. The proxy is checked before, outside of a transaction."""
    typed = request.method == "POST"
    if typed and form.is_valid() & own_proxy.is_valid() and own_proxy.is_checked():
        with transaction.atomic():
            account = form.save_if_free()
            if account is not None:
                own_proxy.save(account, by=request.user)
        if account is not None:
            if "wc_id" in form.changed_data:
                adopt_entered(request, {form.cleaned_data["wc_id"]})
            if account_id or own_proxy.said:
                messages.success(request, own_proxy.said or _("Saved."))
            return redirect("account", account.pk)
    ctx = {"form": form, "own_proxy": own_proxy}
    if account_id:
        ctx["account"] = Account.objects.get(pk=account_id)
    forms.focus(form, own_proxy)
    wrong = form.errors or own_proxy.errors
    return render(request, "accounts/edit_account.html", ctx, status=422 if wrong else 200)


@require_GET
@login_required
def avatar(request: HttpRequest, account_id: int) -> HttpResponse:
    account = permissions.account_to_see(request, account_id)
    picture = get_object_or_404(Avatar, account=account)
    response = HttpResponse(bytes(picture.png), content_type="image/png")
    # Pages name the version of the picture, so another picture has another address.
    kept = "max-age=31536000, immutable" if "v" in request.GET else "max-age=3600"
    response["Cache-Control"] = f"private, {kept}"
    return response


# --- actions --------------------------------------------------------------------------------------------


@require_POST
@never_cache
@login_required
def check_account(request: HttpRequest, account_id: int) -> HttpResponse:
    """Check who is online, and ask `/isOnline` about this account: its history shows a contradiction."""
    account = permissions.account_to_see(request, account_id)
    permissions.need_check(request.user)
    sweep.check_soon()
    tasks.put_into_queue(tasks.check_account, account.pk)
    if request.htmx:  # from a row of the list, which changes when the result is known
        return HttpResponse(status=204)
    messages.success(request, _("Checking the account. The result appears on this page."))
    return redirect("account", account.pk)


@require_POST
@never_cache
@login_required
def undo_merge(request: HttpRequest, account_id: int) -> HttpResponse:
    """Make a record an account of its own again that was merged because a known phone scanned its QR code."""
    account = permissions.account_to_see(request, account_id)
    permissions.need_edit(request.user)
    undone = control.undo_merge(account, by=request.user)
    permissions.need(undone, _("This merge can’t be undone, or was undone already."))
    messages.success(request, _("This account is on its own again. Log it in with another phone."))
    return redirect("account", account.pk)


@require_POST
@never_cache
@login_required
def log_out_account(request: HttpRequest, account_id: int) -> HttpResponse:
    """Log the account out at WKTeam and pause it, after a question."""
    account = permissions.account_to_log_in(request, account_id)
    permissions.only(account.state == AccountState.ONLINE and account.merged_into_id is None, account)
    if request.POST.get("sure") != "1":
        return render(request, "accounts/log_out.html", {"account": account})
    error = log_out.log_out(account, by=request.user)
    tasks.put_into_queue(tasks.presence)
    if error is None:
        messages.success(request, _("WKTeam logs the account out. The result appears on this page."))
    else:
        words = failure.words(error)["upstream_text"] or Reason(failure.why(error)).label
        messages.error(request, _("WKTeam didn’t log the account out: %s") % words)
    return redirect("account", account.pk)


@require_POST
@never_cache
@login_required
def set_relogin_time(request: HttpRequest, account_id: int) -> HttpResponse:
    """Set or clear the account's scheduled re-login. A time that has passed logs it in at once, after a question."""
    account = permissions.account_to_log_in(request, account_id)
    form = DueForm(request.POST, instance=account)
    if form.is_valid() and form.is_question:
        return render(request, "accounts/relogin_at_once.html", {"account": account, "form": form})
    if form.is_valid():
        mine = Account.objects.filter(pk=account.pk)
        plan_runs.make_due(mine, form.cleaned_data["relogin_at"], by=request.user)
        messages.success(request, _("Saved."))
    else:
        messages.error(request, forms.form_errors(form))
    return redirect("account", account.pk)
