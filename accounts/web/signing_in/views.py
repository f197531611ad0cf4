"""Signing in: the page with the password, then the page with the one-time code if the person has set that up."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from axes.handlers.proxy import AxesProxyHandler
from axes.helpers import get_credentials
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth import get_user_model, login, user_login_failed
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.views import LoginView, LogoutView, redirect_to_login
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from accounts.models import SecondFactor
from accounts.permissions import need
from accounts.web import forms
from accounts.web.people import preferences
from accounts.web.signing_in import second_step

# Key in a session: who gave the right password and has yet to give a code. Nobody is signed in by it.
HALFWAY = "halfway"
HALFWAY_FOR = timedelta(minutes=10)
FEW_CODES = 3


class PasswordForm(AuthenticationForm):
    def confirm_login_allowed(self, user) -> None:
        super().confirm_login_allowed(user)
        if settings.LOCAL_SIGN_IN == "superusers" and not user.is_superuser:
            credentials = {"username": user.get_username()}
            user_login_failed.send(__name__, credentials=credentials, request=self.request)
            why = _("People sign in with {provider} here. The password is for emergencies.")
            raise ValidationError(why.format(provider=settings.OIDC_NAME))


class SignIn(LoginView):
    template_name = "accounts/sign_in.html"
    authentication_form = PasswordForm
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs) -> dict[str, Any]:
        provider = settings.OIDC_NAME if settings.OIDC_ISSUER else ""
        folded = settings.LOCAL_SIGN_IN == "superusers"
        return super().get_context_data(provider=provider, folded=folded, **kwargs)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        person = form.get_user()
        with transaction.atomic():
            # Setting up a second step ends all sessions: it has to find this one, or this one has to find it.
            second_step.lock_person(person)
            if second_step.of_person(person) is None:
                response = super().form_valid(form)
                preferences.sign_in(response, person)
                self.request.session.save()
                return response
        self.request.session.set_expiry(HALFWAY_FOR)
        self.request.session[HALFWAY] = {
            "person": person.pk,
            "backend": person.backend,
            "password": person.get_session_auth_hash(),
            "at": int(timezone.now().timestamp()),
            "next": self.get_redirect_url(),
        }
        return redirect("second_step")


def _halfway(request: HttpRequest):
    """Return who gave the right password here a moment ago, None if nobody did."""
    left = request.session.get(HALFWAY)
    if left is None or timezone.now().timestamp() - left["at"] > HALFWAY_FOR.total_seconds():
        return None
    person = get_user_model().objects.filter(pk=left["person"], is_active=True).first()
    same = person is not None and constant_time_compare(person.get_session_auth_hash(), left["password"])
    return person if same else None


@sensitive_post_parameters("code")
@require_http_methods(["GET", "POST"])
@never_cache
def take_second_step(request: HttpRequest) -> HttpResponse:
    """Ask for a code of the app, or for a recovery code, and sign in the person who gave the password before.

    A person who is signed in gets here too, with a session that began before a second step was needed.
    """
    signed_in = request.user.is_authenticated
    if signed_in and second_step.TAKEN in request.session:
        return redirect("overview")
    person = request.user if signed_in else _halfway(request)
    if person is None:
        return redirect("sign_in")
    if second_step.of_person(person) is None:  # set up first, or just reset
        return redirect(_with_next(request, "two_step") if signed_in else "sign_in")
    is_recovery = "recovery" in request.GET
    form = (second_step.RecoveryCodeForm if is_recovery else second_step.CodeForm)(request.POST or None)
    if request.method == "POST":
        if not AxesProxyHandler.is_allowed(request, get_credentials(person.get_username())):
            request.axes_locked_out = True  # the middleware of axes replaces the answer
            return HttpResponse(status=429)
        with transaction.atomic():
            factor = second_step.locked(person)
            if factor is not None and form.check(factor):
                return _let_in(request, person, factor)
        if form.has_error("code", "wrong"):
            credentials = {"username": person.get_username()}
            user_login_failed.send(__name__, credentials=credentials, request=request)
    forms.focus(form)
    ctx = {"form": form, "recovery": is_recovery, "query": _with_next(request), "user": AnonymousUser()}
    return render(request, "signing_in/second_step.html", ctx, status=422 if form.errors else 200)


def _let_in(request: HttpRequest, person, factor: SecondFactor) -> HttpResponse:
    halfway = request.session.pop(HALFWAY, {})
    if request.user.is_authenticated:
        request.session.cycle_key()
    else:
        login(request, person, backend=halfway["backend"])
    request.session[second_step.TAKEN] = True
    left = len(factor.recovery_codes)
    if left <= FEW_CODES:
        warning = ngettext(
            "You have {count} recovery code left. Make new ones under Your settings.",
            "You have {count} recovery codes left. Make new ones under Your settings.",
            left,
        )
        messages.warning(request, warning.format(count=left))
    response = redirect(halfway.get("next") or next_page(request) or settings.LOGIN_REDIRECT_URL)
    preferences.sign_in(response, person)
    return response


def next_page(request: HttpRequest) -> str:
    """Return the page for which somebody came, "" if there is none or it is not ours."""
    wanted = request.GET.get("next", "")
    safe = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, request.is_secure())
    return wanted if safe else ""


def _with_next(request: HttpRequest, view: str = "") -> str:
    wanted = next_page(request)
    return (reverse(view) if view else "") + (f"?{urlencode({'next': wanted})}" if wanted else "")


PROVIDER = "accounts.web.signing_in.provider_views"


def provider_page(request: HttpRequest, page: str) -> HttpResponse:
    """Serve a page of the sign-in provider. What it needs is loaded where there is a provider."""
    if not settings.OIDC_ISSUER:
        raise Http404
    return import_string(f"{PROVIDER}.{page}").as_view()(request)


class SignOut(LogoutView):
    """End the session here, and then at the provider that began it, if it has a page for that."""

    def post(self, request: HttpRequest, *args, **kwargs) -> HttpResponse:
        id_token = request.session.get("oidc_id_token")
        response = super().post(request, *args, **kwargs)
        if not (id_token and settings.OIDC_ISSUER):
            return response
        return import_string(f"{PROVIDER}.sign_out")(request, id_token) or response


@never_cache
def admin_login(request: HttpRequest) -> HttpResponse:
    """Send people of Django admin to the one page on which one signs in, with its second step."""
    if admin.site.has_permission(request):
        return redirect("admin:index")
    need(not request.user.is_authenticated, _("You can’t open Admin. Ask an admin for permission."))
    return redirect_to_login(next_page(request) or reverse("admin:index"), resolve_url(settings.LOGIN_URL))
