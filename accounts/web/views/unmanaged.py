"""Unmanaged accounts: online under the developer account and without a record here."""

import logging
from collections.abc import Iterable

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.db.models import Case, When
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import permissions
from accounts.lib.rows import in_batches
from accounts.models import Account, UnmanagedAccount
from accounts.models.audit import log as audit
from accounts.models.audit.entry import AuditKind
from accounts.presence import reconcile, sweep
from accounts.web import forms
from accounts.web.forms import AdoptForm

SHOWN_MOST, READ_AT_ONCE = 100, 500

log = logging.getLogger(__name__)


@require_GET
@never_cache
@login_required
def unmanaged_accounts(request: HttpRequest) -> HttpResponse:
    permissions.need_adopt(request.user)
    unmanaged = list(UnmanagedAccount.objects.filter(ignored=False)[:SHOWN_MOST])
    claims = Account.objects.filter(merged_into=None, wc_id__in=[found.wc_id for found in unmanaged])
    by_wc_id = {account.wc_id: account for account in claims.select_related("team")}
    for found in unmanaged:
        found.record = by_wc_id.get(found.wc_id)
    ctx = {
        "unmanaged": unmanaged,
        "ignored": UnmanagedAccount.objects.filter(ignored=True)[:SHOWN_MOST],
        "form": AdoptForm(user=request.user),
        "presence": sweep.seen(),
    }
    return render(request, "accounts/unmanaged.html", ctx)


@require_POST
@never_cache
@login_required
def adopt(request: HttpRequest, unmanaged_id: int) -> HttpResponse:
    permissions.need_adopt(request.user)
    found = UnmanagedAccount.objects.filter(pk=unmanaged_id).first()
    if found is None:
        return _gone(request)
    form = AdoptForm(request.POST, user=request.user)
    if not form.is_valid():
        messages.error(request, forms.form_errors(form))
        return redirect("unmanaged")
    account = reconcile.adopt(found, by=request.user, **form.cleaned_data)
    return redirect("account", account.pk)


@require_POST
@never_cache
@login_required
def ignore(request: HttpRequest, unmanaged_id: int) -> HttpResponse:
    """Ignore an unmanaged account, or stop ignoring it."""
    permissions.need_adopt(request.user)
    # One statement: a presence check may delete the row at any time.
    other = Case(When(ignored=True, then=False), default=True)
    with transaction.atomic():
        if not UnmanagedAccount.objects.filter(pk=unmanaged_id).update(ignored=other):
            return _gone(request)
        found = UnmanagedAccount.objects.get(pk=unmanaged_id)
        audit.record(
            AuditKind.IGNORED, about=found, name=found.wc_id, detail="ignored" if found.ignored else "shown"
        )
    return redirect("unmanaged")


def _gone(request: HttpRequest) -> HttpResponse:
    messages.warning(request, _("This account is not unmanaged any more. Nothing was changed."))
    return redirect("unmanaged")


def adopt_entered(request: HttpRequest, wc_ids: Iterable[str]) -> None:
    """Adopt the unmanaged accounts with wcIds that were just saved, if this person may adopt.

    What is saved stays saved if an account can't be adopted: that is logged and said.
    """
    if not permissions.may_adopt(request.user):
        return
    failed = 0
    for some in in_batches(wc_ids, READ_AT_ONCE):
        for found in UnmanagedAccount.objects.filter(wc_id__in=some):
            try:
                reconcile.adopt(found, by=request.user)
            except Exception:
                log.exception("unmanaged account %s was not adopted", found.pk)
                failed += 1
    if failed:
        said = ngettext(
            "%(number)s account that is online already could not be adopted. Adopt it under “Unmanaged”.",
            "%(number)s accounts that are online already could not be adopted. Adopt them under “Unmanaged”.",
            failed,
        )
        messages.warning(request, said % {"number": failed})
