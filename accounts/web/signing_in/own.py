"""A person's own second step: setting it up, new recovery codes, removing it."""

from urllib.parse import quote, urlencode

import segno
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AnonymousUser
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from accounts.models import SecondFactor
from accounts.web import forms
from accounts.web.people import changes, sessions
from accounts.web.people.changes import Change
from accounts.web.signing_in import second_step
from accounts.web.signing_in.second_step import CodeForm
from accounts.web.signing_in.views import next_page

ISSUER = "wkportal"


@sensitive_post_parameters("code")
@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def two_step(request: HttpRequest) -> HttpResponse:
    """Show what is set up, or what the app has to scan; POST does what `do` says: set_up, codes, remove."""
    factor = second_step.of_person(request.user)
    if factor is not None and second_step.TAKEN not in request.session:
        return redirect("second_step")  # first of all it is asked for
    if request.method == "GET":
        return _page(request, factor)
    action = _ACTIONS.get(request.POST.get("do", ""))
    if action is None:
        raise Http404
    form = CodeForm(request.POST)
    with transaction.atomic():
        second_step.lock_person(request.user)
        locked = second_step.locked(request.user, confirmed=action is not _set_up)
        if locked is None:  # another browser of the person was faster
            return redirect("two_step")
        if form.check(locked):
            return action(request, locked)
    return _page(request, factor, form)


def _set_up(request: HttpRequest, factor: SecondFactor) -> HttpResponse:
    codes = factor.renew_recovery_codes()
    factor.confirmed = True
    factor.save(update_fields=["confirmed", "recovery_codes"])
    request.session[second_step.TAKEN] = True
    request.session.cycle_key()
    _end_others(request, Change.FACTOR_ADDED)
    return _page(request, factor, codes=codes)


def _renew_codes(request: HttpRequest, factor: SecondFactor) -> HttpResponse:
    codes = factor.renew_recovery_codes()
    factor.save(update_fields=["recovery_codes"])
    changes.record(request.user, Change.RECOVERY_CODES, by=request.user)
    return _page(request, factor, codes=codes)


def _remove(request: HttpRequest, factor: SecondFactor) -> HttpResponse:
    factor.delete()
    del request.session[second_step.TAKEN]
    _end_others(request, Change.FACTOR_REMOVED)
    messages.success(request, _("Two-step sign-in removed. You were signed out everywhere else."))
    return redirect("me")


_ACTIONS = {"set_up": _set_up, "codes": _renew_codes, "remove": _remove}


def _end_others(request: HttpRequest, change: Change) -> None:
    changes.record(request.user, change, by=request.user)
    sessions.end_all(request.user, but=request.session.session_key)


def _picture(request: HttpRequest, key: str) -> str:
    """Return the QR code that sets up the app, as a data URI: it is drawn here, and no address leads to it."""
    label = quote(f"{ISSUER}:{request.user.get_username()}@{request.get_host()}")
    address = f"otpauth://totp/{label}?{urlencode({'secret': key, 'issuer': ISSUER})}"
    return segno.make_qr(address, error="m").svg_data_uri(scale=5, border=4, light="#fff")


def _page(
    request: HttpRequest,
    factor: SecondFactor | None,
    form: CodeForm | None = None,
    codes: list[str] | None = None,
) -> HttpResponse:
    """Render the page. `codes`: new recovery codes, which no page shows again. `form`: one that was sent and is wrong."""
    has_to = second_step.is_missing(request)
    ctx = {
        "factor": factor,
        "form": form or CodeForm(),
        "codes": codes,
        "has_to": has_to,
        "next": next_page(request),
        "is_required": second_step.is_required(request.user),
    }
    if factor is None:
        key = SecondFactor.to_confirm(request.user).key
        ctx |= {"key": " ".join(key[at : at + 4] for at in range(0, len(key), 4))}
        ctx |= {"qr_code": _picture(request, key)}
    if has_to:
        ctx["user"] = AnonymousUser()  # the frame of somebody who is not in yet
    forms.focus(ctx["form"])
    return render(request, "signing_in/two_step.html", ctx, status=422 if form else 200)
