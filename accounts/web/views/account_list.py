"""The account list, its parts that change while it is open, and the views that a person saved of it."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import permissions, tasks
from accounts.lib.typed_text import line
from accounts.logins import expire
from accounts.models import Account, Drop, Incident, SavedView
from accounts.models.operators.saved_view import NAME_LENGTH, QUERY_LENGTH, VIEWS_EACH
from accounts.presence import sweep
from accounts.proxies import NONE, proxy_choices
from accounts.web import selection
from accounts.web.account_list import AccountList
from accounts.web.account_rows import add_months, describe
from accounts.web.presenters import rights

SORTED_BY = ("label", "place", "urgency", "since")
INCIDENTS_SHOWN = 3


@require_GET
@never_cache
@login_required
def account_list(request: HttpRequest) -> HttpResponse:
    search = AccountList.of(request.user, request.GET)
    presence = sweep.seen()  # before the accounts: a check that ends between must not confirm those it missed
    page = search.page()
    describe(page.rows, request.user)
    add_months(page.rows)
    teams = list(search.teams())
    ctx = {
        "presence": presence,
        "search": search,
        "page": page,
        "tabs": search.tabs(),
        "sorts": {column: search.sorted_by(column) for column in SORTED_BY},
        "teams": teams,
        "team_choices": [(team.pk, team.name) for team in teams],
        "tag_choices": [(tag.name, tag.name) for tag in search.tags()],
        "rack_choices": [(rack, rack) for rack in search.racks()],
        "proxies": [choice for choice in proxy_choices() if choice[0] != NONE],
        "views": request.user.saved_views.all(),
        "incidents": _open_incidents(request),
        "selection_actions": selection.actions_of(request.user),
        **rights(request),
    }
    return render(request, "accounts/accounts.html", ctx)


@require_GET
@never_cache
@login_required
def account_counts(request: HttpRequest) -> HttpResponse:
    search = AccountList.of(request.user, request.GET)
    return render(request, "accounts/_tabs.html", {"search": search, "tabs": search.tabs()})


@require_GET
@never_cache
@login_required
def list_news(request: HttpRequest) -> HttpResponse:
    """Return what the list says besides its rows: when it was checked last, and the open incidents."""
    ctx = {"presence": sweep.seen(), "incidents": _open_incidents(request)}
    return render(request, "accounts/_list_news.html", ctx)


def _open_incidents(request: HttpRequest) -> list[Incident]:
    """Return the newest open incidents, each with how many accounts dropped and how many are back."""
    seen = Drop.objects.of(Account.objects.visible_to(request.user))
    newest = Incident.objects.filter(ended_at=None).of(Account.objects.visible_to(request.user))
    found = list(newest.order_by("-pk")[:INCIDENTS_SHOWN])
    counted = seen.filter(incident__in=found).order_by().values_list("incident")
    counts = {pk: numbers for pk, *numbers in counted.annotate(Count("pk"), Count("ended_at"))}
    for incident in found:
        incident.dropped, incident.back = counts.get(incident.pk, (0, 0))
    return found


@require_GET
@never_cache
@login_required
def account_row(request: HttpRequest, account_id: int) -> HttpResponse:
    presence = sweep.seen()
    account = permissions.account_to_see(request, account_id)
    expire.expire_on_read(account)
    describe([account], request.user)
    add_months([account])
    ctx = {"account": account, "presence": presence, **rights(request)}
    return render(request, "accounts/_account_row.html", ctx)


@require_POST
@never_cache
@login_required
def check_all(request: HttpRequest) -> HttpResponse:
    """Check now who is online. The list shows the result by itself when it comes."""
    permissions.need_check(request.user)
    sweep.check_soon()
    tasks.put_into_queue(tasks.presence)
    if request.htmx:
        return HttpResponse(status=204)
    messages.success(request, _("Checking which accounts are online. The result appears on this page."))
    return redirect("accounts")


# --- saved views ----------------------------------------------------------------------------------------


@require_POST
@never_cache
@login_required
def save_view(request: HttpRequest) -> HttpResponse:
    """Save the filters and the order under a name of this person; a view with that name is replaced."""
    query = AccountList.of(request.user, QueryDict(request.POST.get("query", "").removeprefix("?"))).query()
    name = line(request.POST.get("name", "").replace("\x00", ""))[:NAME_LENGTH]
    mine = request.user.saved_views
    if not name:
        messages.error(request, _("Enter a name for the view."))
    elif len(query) > QUERY_LENGTH:
        messages.error(request, _("These filters are too long to be saved."))
    elif mine.exclude(name=name).count() >= VIEWS_EACH:
        messages.error(request, _("You have %s saved views. Remove one first.") % VIEWS_EACH)
    else:
        SavedView.objects.update_or_create(user=request.user, name=name, defaults={"query": query})
    return redirect(_list(query))


@require_POST
@never_cache
@login_required
def remove_view(request: HttpRequest, view_id: int) -> HttpResponse:
    view = get_object_or_404(request.user.saved_views, pk=view_id)
    view.delete()
    return redirect(_list(view.query))


def _list(query: str) -> str:
    return redirect("accounts").url + query
