"""Pages about keeping accounts online: what has to be scanned, what dropped together, whom nobody here knows, and
the buttons that look, ask the phone, pause and recover.
"""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Count, Prefetch, Q, QuerySet
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import access, login, presence, recovery, schedule, tasks
from accounts.finding import Seen
from accounts.forms import AdoptForm, DueForm
from accounts.history import record
from accounts.models import Account, Discovered, Drop, Incident
from accounts.states import Happened, Method

SHOWN_MOST, INCIDENTS_SHOWN = 100, 50


# --- to scan --------------------------------------------------------------------------------------------


@require_GET
@never_cache
@login_required
def to_scan(request: HttpRequest) -> HttpResponse:
    """Who waits for a person with the phone, the longest first. A code is asked for when somebody opens it."""
    waiting = Account.objects.visible_to(request.user).to_scan()
    count = waiting.count()
    accounts = list(_with_drop(waiting)[:SHOWN_MOST])
    ctx = {
        "accounts": accounts,
        # What somebody else has opened is not the next one for who presses the key.
        "next": next((account for account in accounts if account.open_attempt is None), None),
        "count": count,
        "more": max(0, count - SHOWN_MOST),
        "may_log_in": access.may_log_in(request.user),
    }
    return render(request, "accounts/to_scan.html", ctx)


def _with_drop(accounts: QuerySet) -> QuerySet:
    """With what each row shows: the open login, and the drop that the account is in."""
    open_drops = Prefetch("drops", Drop.objects.open(), to_attr="open_drops")
    return accounts.with_open_attempt().prefetch_related(open_drops)


# --- incidents ------------------------------------------------------------------------------------------


@require_GET
@never_cache
@login_required
def incidents(request: HttpRequest) -> HttpResponse:
    seen = Account.objects.visible_to(request.user)
    few = Seen(request.user).few
    if few is None:
        found = Incident.objects.of(seen)
    else:
        found = Incident.objects.filter(pk__in=Drop.objects.filter(account__in=few).values("incident"))
    rows = list(found.order_by("-pk")[:INCIDENTS_SHOWN])
    drops = Drop.objects.of(seen).filter(incident__in=rows).order_by().values("incident")
    counted = drops.annotate(seen=Count("pk"), still_open=Count("pk", filter=Q(ended_at=None)))
    counts = {count["incident"]: (count["seen"], count["still_open"]) for count in counted}
    for incident in rows:
        incident.drops_seen, incident.open_seen = counts.get(incident.pk, (0, 0))
    return render(request, "accounts/incidents.html", {"incidents": rows})


@require_GET
@never_cache
@login_required
def incident(request: HttpRequest, incident_id: int) -> HttpResponse:
    """The accounts of an incident that the user may see; 404 where that is none of them."""
    found, drops = _incident(request, incident_id)
    rows = drops.select_related("account").order_by("ended_at", "pk")
    ctx = {
        "incident": found,
        "drops": rows[:SHOWN_MOST],
        "count": drops.count(),
        "open_count": drops.open().count(),
        "may_log_in": access.may_log_in(request.user),
    }
    return render(request, "accounts/incident.html", ctx)


def _incident(request: HttpRequest, incident_id: int) -> tuple[Incident, QuerySet]:
    found = get_object_or_404(Incident, pk=incident_id)
    drops = found.drops.of(Account.objects.visible_to(request.user))
    return access.only(drops.exists(), found), drops


@require_POST
@never_cache
@login_required
def recover_incident(request: HttpRequest, incident_id: int) -> HttpResponse:
    access.only(access.may_log_in(request.user), None)
    found, drops = _incident(request, incident_id)
    count = recovery.recover_now(drops.open(), by=request.user)
    messages.success(request, _paced(count))
    return redirect("incident", found.pk)


def _paced(count: int) -> str:
    return ngettext(
        "Recovering %(n)s account within the limits of its recovery policy.",
        "Recovering %(n)s accounts one by one, within the limits of their recovery policies.",
        count,
    ) % {"n": count}


# --- accounts that nobody here knows --------------------------------------------------------------------


@require_GET
@never_cache
@login_required
def discovered(request: HttpRequest) -> HttpResponse:
    access.only(access.may_adopt(request.user), None)
    ctx = {
        "discovered": Discovered.objects.filter(ignored=False)[:SHOWN_MOST],
        "ignored": Discovered.objects.filter(ignored=True)[:SHOWN_MOST],
        "form": AdoptForm(user=request.user),
        "presence": presence.seen(),
    }
    return render(request, "accounts/discovered.html", ctx)


@require_POST
@never_cache
@login_required
def adopt(request: HttpRequest, discovered_id: int) -> HttpResponse:
    access.only(access.may_adopt(request.user), None)
    found = get_object_or_404(Discovered, pk=discovered_id)
    form = AdoptForm(request.POST, user=request.user)
    if not form.is_valid():
        messages.error(request, _complaints(form))
        return redirect("discovered")
    account = presence.adopt(found, by=request.user, **form.cleaned_data)
    return redirect("account", account.pk)


@require_POST
@never_cache
@login_required
def ignore(request: HttpRequest, discovered_id: int) -> HttpResponse:
    """Not to be offered again, or to be offered again after all."""
    access.only(access.may_adopt(request.user), None)
    found = get_object_or_404(Discovered, pk=discovered_id)
    found.ignored = not found.ignored
    found.save(update_fields=["ignored"])
    return redirect("discovered")


# --- one account ----------------------------------------------------------------------------------------


@require_POST
@never_cache
@login_required
def check_all(request: HttpRequest) -> HttpResponse:
    _look_soon()
    messages.success(request, _("Checking which accounts are online. The result appears on this page."))
    return redirect("accounts")


@require_POST
@never_cache
@login_required
def check_account(request: HttpRequest, account_id: int) -> HttpResponse:
    account = access.account_to_see(request, account_id)
    _look_soon()
    messages.success(request, _("Checking the account. The result appears on this page."))
    return redirect("account", account.pk)


def _look_soon() -> None:
    presence.ask_soon()
    tasks.put_into_queue(tasks.presence)


@require_POST
@never_cache
@login_required
def ask_phone(request: HttpRequest, account_id: int) -> HttpResponse:
    """A login by a prompt on the phone: nothing is scanned, its owner taps."""
    account = access.account_to_log_in(request, account_id)
    access.only(account.joined_to_id is None and account.wc_id is not None, None)
    attempt, begun = login.begin(account, by=request.user, method=Method.POPUP, queued=True)
    if begun:
        tasks.put_into_queue(tasks.wait_for_phone, attempt.pk)
    return redirect("attempt", attempt.pk)


@require_POST
@never_cache
@login_required
def keep_online(request: HttpRequest, account_id: int) -> HttpResponse:
    """Pause an account, or want it online again: `wanted` is 1 or 0. A paused one is never prompted by itself."""
    account = access.account_to_log_in(request, account_id)
    wanted = request.POST.get("wanted") == "1"
    changed = Account.objects.filter(pk=account.pk, keep_online=not wanted).update(
        keep_online=wanted, **({} if wanted else {"to_scan_since": None, "relogin_at": None})
    )
    if changed:
        record(account, Happened.CHANGED, detail="keep_online", by=request.user)
    return redirect("account", account.pk)


@require_POST
@never_cache
@login_required
def due(request: HttpRequest, account_id: int) -> HttpResponse:
    """Set or clear when the account is to be logged in again."""
    account = access.account_to_log_in(request, account_id)
    form = DueForm(request.POST, instance=account)
    if form.is_valid():
        mine = Account.objects.filter(pk=account.pk)
        schedule.make_due(mine, form.cleaned_data["relogin_at"], by=request.user)
        messages.success(request, _("Saved."))
    else:
        messages.error(request, _complaints(form))
    return redirect("account", account.pk)


def _complaints(form: BaseForm) -> str:
    """What is wrong with what was typed, as one line."""
    return " ".join(sum(form.errors.values(), []))
