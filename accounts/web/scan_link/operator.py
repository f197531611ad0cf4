"""The page on which people here make, send and revoke the scan link of an account."""

from datetime import timedelta

from django import forms
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from accounts import permissions
from accounts.lib import db_clock, images
from accounts.lib.typed_text import is_key
from accounts.models import Account
from accounts.models.operators.scan_link import LinkState
from accounts.notifications import messages
from accounts.scanning import links
from accounts.web.presenters import as_data

OPENINGS_SHOWN, EARLIER_SHOWN = 20, 5


class LinkForm(forms.Form):
    hours = forms.TypedChoiceField(
        label=_("Valid for"),
        coerce=int,
        initial=8,
        choices=[(1, _("1 hour")), (8, _("8 hours")), (24, _("1 day")), (72, _("3 days"))],
    )


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def account_link(request: HttpRequest, account_id: int) -> HttpResponse:
    """Show the account's link; POST does what `do` says: create, revoke, send."""
    account = permissions.account_to_log_in(request, account_id)
    if request.method == "GET":
        return render(request, "scan_link/account_link.html", _context(request, account))
    action = _ACTIONS.get(request.POST.get("do", ""))
    if action is None:
        raise Http404
    form = action(request, account)
    if form is not None:
        ctx = _context(request, account) | {"form": form}
        return render(request, "scan_link/account_link.html", ctx, status=422)
    return redirect("account_link", account.pk)


@require_GET
@never_cache
@login_required
def account_link_live(request: HttpRequest, account_id: int) -> HttpResponse:
    account = permissions.account_to_log_in(request, account_id)
    return render(request, "scan_link/_account_link.html", _context(request, account))


def _create(request: HttpRequest, account: Account) -> LinkForm | None:
    form = LinkForm(request.POST)
    if not form.is_valid():
        return form
    if links.may_have(account):
        links.create(account, timedelta(hours=form.cleaned_data["hours"]), by=request.user)
    return None


def _revoke(request: HttpRequest, account: Account) -> None:
    for link in account.scan_links.active():
        links.end(link, LinkState.REVOKED, db_clock.now(), by=request.user)


def _send(request: HttpRequest, account: Account) -> None:
    number = request.POST.get("channel", "")
    channel = get_object_or_404(links.channels_for(account), pk=number if is_key(number) else 0)
    link = account.scan_links.active().first()
    if link is not None and settings.WK_PUBLIC_URL:
        links.send(link, channel)


_ACTIONS = {"create": _create, "revoke": _revoke, "send": _send}


def _context(request: HttpRequest, account: Account) -> dict:
    newest = list(account.scan_links.select_related("attempt").order_by("-id")[: EARLIER_SHOWN + 1])
    for link in newest[:1]:
        link.account = account
        links.settle(link)
    link = newest[0] if newest and newest[0].is_active else None
    ctx = {
        "account": account,
        "may_have_link": links.may_have(account),
        "form": LinkForm(),
        "link": link,
        "earlier": newest[1:] if link else newest[:EARLIER_SHOWN],
        "openings": newest[0].openings.order_by("-at")[:OPENINGS_SHOWN] if newest else (),
    }
    if link is not None:
        address = _address(request, link.token)
        # `token` is "" if no key decrypts it.
        ctx |= {"address": address, "address_code": address and as_data(images.code_png(address))}
        ctx["channels"] = links.channels_for(account) if settings.WK_PUBLIC_URL else ()
    return ctx


def _address(request: HttpRequest, token: str) -> str:
    if not token:
        return ""
    public = messages.link("scan_link", token)
    return public[0] if public else request.build_absolute_uri(reverse("scan_link", args=[token]))
