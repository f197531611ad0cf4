"""What the script of notifications asks for: the accounts that need attention, the runs of this person that are done.

A notification says the label of an account that its reader may see, and what it needs. Nothing else about anybody.
"""

from datetime import timedelta

from django.contrib.auth.decorators import login_required
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest, JsonResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts.attention import groups
from accounts.attention.groups import AccountGroup
from accounts.lib import db_clock
from accounts.lib.typed_text import is_key
from accounts.models import Account, BulkRun, ScanRun, ScanRunItem
from accounts.models.operators.scan_run import ScanState
from accounts.web.account_rows import describe

ACCOUNTS_MOST = 1000
# More accounts at once are one notification with their number.
EACH_MOST = 3
RUNS_MOST, DONE_WITHIN = 10, timedelta(hours=1)


@require_GET
@never_cache
@login_required
def news(request: HttpRequest) -> JsonResponse:
    """Return the IDs of the accounts that need attention, and the runs of this person that ended lately.

    `whole_from`: the list has every account from this ID on. An older one that moves up in a list that is cut is no
    news.
    """
    ids = _announced(request.user).order_by("-pk").values_list("pk", flat=True)
    first = list(ids[: ACCOUNTS_MOST + 1])
    attention = first[:ACCOUNTS_MOST]
    whole_from = attention[-1] if len(first) > ACCOUNTS_MOST else 0
    since = db_clock.now() - DONE_WITHIN
    runs = [*_bulk_runs(request.user, since), *_scan_runs(request.user, since)]
    found = {"attention": attention, "whole_from": whole_from, "runs": runs}
    return JsonResponse({"person": request.user.pk, **found})


@require_GET
@never_cache
@login_required
def of_accounts(request: HttpRequest) -> JsonResponse:
    """Return the notifications about the accounts `id`: those of them that still need attention."""
    ids = {int(key) for key in request.GET.getlist("id")[:ACCOUNTS_MOST] if is_key(key)}
    found = _announced(request.user).filter(pk__in=ids)
    number = found.count()
    if number > EACH_MOST:
        title = _("%(count)s accounts need attention") % {"count": number}
        address = f"{reverse('accounts')}?group={AccountGroup.ATTENTION}"
        notifications = [{"key": "attention", "title": title, "body": "", "url": address}]
    else:
        notifications = [
            _of_account(account) for account in describe(list(found.with_open_attempt()), request.user)
        ]
    return JsonResponse({"notifications": notifications})


def _announced(user) -> QuerySet[Account]:
    """Return the accounts that need attention, without those that somebody silenced."""
    silenced = Q(silenced_until__gt=db_clock.now())
    return groups.needing_attention(Account.objects.visible_to(user).kept()).exclude(silenced)


def _of_account(account: Account) -> dict:
    return {
        "key": f"account-{account.pk}",
        "title": account.label or _("An account"),
        "body": str(groups.Need(account.need).label) if account.need else "",
        "url": reverse("account", args=[account.pk]),
    }


def _bulk_runs(user, since) -> list[dict]:
    """Return the bulk runs that came to their end. That of a login of many ends with its scan run."""
    ended = BulkRun.objects.filter(person=user, ended_at__gt=since, cancelled_at=None, scan_run=None)
    return [
        {
            "key": f"bulk-{run.pk}",
            "title": _("Bulk run done: %(action)s") % {"action": run.get_action_display()},
            "body": "",
            "url": reverse("bulk_run", args=[run.pk]),
        }
        for run in ended.order_by("-pk")[:RUNS_MOST]
    ]


def _scan_runs(user, since) -> list[dict]:
    """Return the scan runs that came to their end: nothing is left in the queue, as after leaving one."""
    left = ScanRunItem.objects.filter(run=OuterRef("pk"), state=ScanState.QUEUED)
    ended = ScanRun.objects.filter(~Exists(left), person=user, ended_at__gt=since)
    return [
        {
            "key": f"station-{run.pk}",
            "title": _("Scan run done"),
            "body": "",
            "url": reverse("station", args=[run.pk]),
        }
        for run in ended.order_by("-pk")[:RUNS_MOST]
    ]
