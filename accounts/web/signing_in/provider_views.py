"""Signing in and out at the company's OpenID Connect provider, and linking a person to it."""

import re
from urllib.parse import urlencode

from axes.models import AccessFailureLog
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import AbstractUser
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.generic import View
from mozilla_django_oidc.views import OIDCAuthenticationCallbackView, OIDCAuthenticationRequestView

from accounts.web.people import preferences
from accounts.web.signing_in import provider, second_step
from accounts.web.signing_in.provider_people import LINKING, Refused, invited
from accounts.web.signing_in.views import HALFWAY, HALFWAY_FOR

# {provider} and {name}, of the person, are filled in.
REFUSALS = {
    "down": gettext_lazy("{provider} is not responding. Try again in a minute, or sign in with a password."),
    "unusable": gettext_lazy(
        "The answer of {provider} can’t be used. Try again. If it keeps happening, contact an admin: the log says why."
    ),
    "again": gettext_lazy("Signing in took too long, or was begun in another browser. Try again."),
    "cancelled": gettext_lazy("Signing in was cancelled at {provider}."),
    "locked": gettext_lazy("You are locked. Ask an admin to unlock you."),
    "no_role": gettext_lazy(
        "You have no role in the portal, so there is nothing you could see. Ask an admin for one."
    ),
    "taken": gettext_lazy(
        "Somebody has the username {name} here already. If it is you, sign in with your password and link {provider} "
        "under Your settings. If not, ask an admin."
    ),
    "linked": gettext_lazy("Somebody else is linked to this account of {provider}. Nothing was changed."),
}
STATUS = {"down": 503, "unusable": 502}  # 403 for all others
RECORDED = ("locked", "no_role")


class OfProvider(View):
    """A page that asks the provider. Each fault of it gets a page with one sentence."""

    get_settings = staticmethod(provider.setting)

    @method_decorator(never_cache)
    def dispatch(self, request: HttpRequest) -> HttpResponse:
        try:
            with provider.refusing_what_is_wrong():
                return super().dispatch(request)
        except Refused as refusal:
            return _refuse(request, refusal)


def _refuse(request: HttpRequest, refusal: Refused) -> HttpResponse:
    if refusal.why in RECORDED and refusal.name:
        AccessFailureLog.objects.create(
            username=refusal.name,
            ip_address=request.META.get("REMOTE_ADDR") or None,
            user_agent=request.headers.get("User-Agent", "")[:255],
            path_info=request.path,
        )
    why = REFUSALS[refusal.why].format(provider=settings.OIDC_NAME, name=refusal.name)
    groups = sorted({group for group, _gives in settings.OIDC_GROUPS}) if refusal.why == "no_role" else []
    ctx = {"why": why, "groups": groups}
    return render(request, "signing_in/refused.html", ctx, status=STATUS.get(refusal.why, 403))


class Start(OfProvider, OIDCAuthenticationRequestView):
    """Send the browser to the provider; POST: to link the person who is signed in, or who has a password link."""

    http_method_names = ["get", "post"]
    OIDC_OP_AUTH_ENDPOINT = property(lambda self: provider.setting("OIDC_OP_AUTHORIZATION_ENDPOINT"))
    OIDC_RP_CLIENT_ID = property(lambda self: settings.OIDC_CLIENT_ID)

    def __init__(self, **kwargs):
        """Ask nothing: a fault here would find no page."""

    def get(self, request: HttpRequest) -> HttpResponse:
        if request.user.is_authenticated:
            return redirect("overview")
        request.session.pop(LINKING, None)  # which somebody began and gave up in this browser
        request.session.set_expiry(HALFWAY_FOR)
        return super().get(request)

    def post(self, request: HttpRequest) -> HttpResponse:
        person = request.user if request.user.is_authenticated else _of_password_link(request)
        if person is None:
            return redirect("sign_in")
        request.session[LINKING] = person.pk
        return _leave(request, super().get(request).url)


def _of_password_link(request: HttpRequest) -> AbstractUser | None:
    """Return the person whose link to set a password is open in this browser."""
    number = request.POST.get("person", "")
    return invited(request, int(number)) if re.fullmatch(r"[0-9]{1,18}", number) else None


def _leave(request: HttpRequest, address: str) -> HttpResponse:
    """Lead to the provider by a page: what a form of ours is answered with may not redirect to another host."""
    ctx = {"address": address, "provider": settings.OIDC_NAME}
    return render(request, "signing_in/leave.html", ctx)


class Callback(OfProvider, OIDCAuthenticationCallbackView):
    """Take what the provider's redirect brings."""

    def get(self, request: HttpRequest) -> HttpResponse:
        if request.GET.get("error"):
            raise Refused("cancelled")
        return super().get(request)

    def login_failure(self) -> HttpResponse:
        raise Refused("again")

    def login_success(self) -> HttpResponse:
        if self.request.user == self.user:  # who was signed in before
            messages.success(self.request, _("Linked. From now on you can sign in there too."))
            return redirect("me")
        self.request.session.pop(HALFWAY, None)
        response = super().login_success()
        # The provider asked for what the company wants: no second step here.
        self.request.session[second_step.TAKEN] = True
        preferences.sign_in(response, self.user)
        return response


def sign_out(request: HttpRequest, id_token: str) -> HttpResponse | None:
    """Lead a browser that is signed out here to the provider's page for that, None if there is none."""
    address = _end_session_address()
    if not address:
        return None
    back = request.build_absolute_uri(resolve_url(settings.LOGOUT_REDIRECT_URL))
    asked = {
        "id_token_hint": id_token,
        "client_id": settings.OIDC_CLIENT_ID,
        "post_logout_redirect_uri": back,
    }
    return _leave(request, f"{address}?{urlencode(asked)}")


def _end_session_address() -> str:
    try:
        with provider.refusing_what_is_wrong():
            return provider.endpoints().get("end_session_endpoint", "")
    except Refused:
        return ""
