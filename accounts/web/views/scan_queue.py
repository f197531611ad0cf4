"""The scan queue: accounts that need a person with the phone."""

from django.contrib.auth.decorators import login_required
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts import permissions
from accounts.models import Account, Drop

SHOWN_MOST, INCIDENTS_SHOWN = 100, 50


@require_GET
@never_cache
@login_required
def scan_queue(request: HttpRequest) -> HttpResponse:
    """Show the accounts in the scan queue, longest first.

    A QR code is requested when someone opens the account.
    """
    waiting = Account.objects.visible_to(request.user).to_scan()
    count = waiting.count()
    accounts = list(_with_drop(waiting)[:SHOWN_MOST])
    ctx = {
        "accounts": accounts,
        # An account that another person has opened is not the next one.
        "next": next((account for account in accounts if account.open_attempt is None), None),
        "count": count,
        "more": max(0, count - SHOWN_MOST),
        "may_log_in": permissions.may_log_in(request.user),
    }
    return render(request, "accounts/scan_queue.html", ctx)


def _with_drop(accounts: QuerySet) -> QuerySet:
    """Prefetch what each row shows: the attempt in progress and the open drop."""
    open_drops = Prefetch("drops", Drop.objects.open(), to_attr="open_drops")
    return accounts.with_open_attempt().prefetch_related(open_drops)
