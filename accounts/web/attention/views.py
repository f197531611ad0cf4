"""What people decide about one account: who has it, pause, silence, archive."""

from datetime import timedelta

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import permissions
from accounts.attention import archive, assignment, pausing
from accounts.lib import db_clock
from accounts.lib.lists.keyset_pagination import Order, page_of
from accounts.models import Account
from accounts.states import AccountState
from accounts.web.attention.forms import NoteForm, PauseForm, SilenceForm


def _only(account: Account) -> QuerySet[Account]:
    return Account.objects.filter(pk=account.pk, merged_into=None)


@require_POST
@never_cache
@login_required
def take_account(request: HttpRequest, account_id: int) -> HttpResponse:
    """Assign the account to the person, also from another one."""
    account = permissions.account_to_log_in(request, account_id)
    form = NoteForm(request.POST)
    assignment.take(_only(account), by=request.user, note=form.text())
    return redirect("account", account.pk)


@require_POST
@never_cache
@login_required
def release_account(request: HttpRequest, account_id: int) -> HttpResponse:
    account = permissions.account_to_log_in(request, account_id)
    assignment.release(_only(account), by=request.user)
    return redirect("account", account.pk)


@require_POST
@never_cache
@login_required
def keep_online(request: HttpRequest, account_id: int) -> HttpResponse:
    """Set keep online: `wanted` is 1 or 0. Pausing asks for a reason. A paused account is never prompted automatically.

    Pausing also removes the account from the scan queue and clears its scheduled re-login (`pause`).
    """
    account = permissions.account_to_log_in(request, account_id)
    if request.POST.get("wanted") == "1":
        pausing.resume(_only(account), by=request.user)
        return redirect("account", account.pk)
    form = PauseForm(request.POST if "reason" in request.POST else None)
    if not form.is_valid():
        ctx = {"account": account, "form": form}
        return render(request, "accounts/attention/pause.html", ctx, status=422 if form.errors else 200)
    pausing.pause(_only(account), form.cleaned_data["reason"], by=request.user)
    return redirect("account", account.pk)


@require_POST
@never_cache
@login_required
def silence_account(request: HttpRequest, account_id: int) -> HttpResponse:
    """Notify nobody about the account for some hours, after a question; 0 hours: notify again."""
    account = permissions.account_to_log_in(request, account_id)
    form = SilenceForm(request.POST if "hours" in request.POST else None)
    if not form.is_valid():
        ctx = {"account": account, "form": form}
        return render(request, "accounts/attention/silence.html", ctx, status=422 if form.errors else 200)
    hours = form.cleaned_data["hours"]
    until = db_clock.now() + timedelta(hours=hours) if hours else None
    pausing.silence(_only(account), until, by=request.user)
    return redirect("account", account.pk)


@require_POST
@never_cache
@login_required
def archive_account(request: HttpRequest, account_id: int) -> HttpResponse:
    """Archive the account, after a question. The question about an online account asks to log it out first."""
    account = permissions.account_to_edit(request, account_id)
    if request.POST.get("sure") != "1" or account.state == AccountState.ONLINE:
        ctx = {"account": account, "may_log_in": permissions.may_log_in(request.user)}
        return render(request, "accounts/attention/archive.html", ctx)
    if archive.archive(_only(account), by=request.user):
        messages.success(request, _("Archived. Its history is kept."))
    else:
        messages.warning(request, _("The account just came online or a login started. Nothing was changed."))
    return redirect("account", account.pk)


@require_POST
@never_cache
@login_required
def restore_account(request: HttpRequest, account_id: int) -> HttpResponse:
    account = permissions.account_to_restore(request, account_id)
    archive.restore(_only(account), by=request.user)
    messages.success(request, _("Restored. The account is paused until you select Resume."))
    return redirect("account", account.pk)


@require_GET
@never_cache
@login_required
def archived_accounts(request: HttpRequest) -> HttpResponse:
    archived = Account.objects.visible_to(request.user).filter(state=AccountState.ARCHIVED, merged_into=None)
    page = page_of(archived.defer("note", "search_text"), Order("label_key"), request.GET.get("page", ""))
    ctx = {"page": page, "may_edit": permissions.may_edit(request.user)}
    return render(request, "accounts/attention/archived.html", ctx)
