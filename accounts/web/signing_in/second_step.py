"""The second step of signing in: who has to take it, which sessions have, and checking what is typed."""

import math
from collections.abc import Callable
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.contrib.auth import SESSION_KEY, get_user_model
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import Resolver404, resolve, reverse
from django.utils import timezone
from django.utils.decorators import sync_only_middleware
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import permissions
from accounts.models import SecondFactor
from accounts.models.signing_in.second_factor import TAKEN

# What a session may open that has yet to take the step: taking it, leaving, and what needs no sign-in.
OPEN_VIEWS = {
    "second_step", "two_step", "sign_in", "provider", "provider_callback", "sign_out", "set_language", "set_password", "scan_link", "scan_link_live",
    "scan_link_do", "callback", "healthz", "readyz",
}  # fmt: skip


class CodeForm(forms.Form):
    code = forms.CharField(
        label=gettext_lazy("One-time code"),
        max_length=100,
        widget=forms.TextInput(
            attrs={
                "autocomplete": "one-time-code",
                "inputmode": "numeric",
                "autocapitalize": "none",
                "spellcheck": "false",
                "class": "field mono",
            }
        ),
    )

    def check(self, factor: SecondFactor) -> bool:
        """Return whether the code is right, and add an error if it is not. The row has to be locked."""
        if not self.is_valid():
            return False
        allowed, why = factor.verify_is_allowed()
        if allowed and factor.verify_token(self.cleaned_data["code"]):
            return True
        if allowed:
            wrong = _("This code is wrong, expired, or was used already. Enter the next one.")
            self.add_error("code", forms.ValidationError(wrong, code="wrong"))
        else:
            seconds = math.ceil((why["locked_until"] - timezone.now()).total_seconds())
            wait = _("Too many wrong codes. Try again in {seconds} s.")
            self.add_error("code", wait.format(seconds=max(1, seconds)))
        return False


class RecoveryCodeForm(CodeForm):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["code"].label = _("Recovery code")
        self.fields["code"].widget.attrs |= {"autocomplete": "off", "inputmode": "text"}


def of_person(person) -> SecondFactor | None:
    """Return what the person set up, None if there is nothing that counts."""
    return SecondFactor.objects.filter(user=person, confirmed=True).first()


def locked(person, *, confirmed: bool = True) -> SecondFactor | None:
    """Return it so that no other request uses a code meanwhile. Call it in a transaction."""
    return SecondFactor.objects.select_for_update().filter(user=person, confirmed=confirmed).first()


def is_required(person) -> bool:
    """Return whether this person has to have a second step, by REQUIRE_TWO_STEP."""
    if settings.REQUIRE_TWO_STEP == "admins":
        return person.is_superuser or person.is_staff or permissions.may_manage_people(person)
    return settings.REQUIRE_TWO_STEP == "all"


def is_missing(request: HttpRequest) -> bool:
    """Return whether this session has to take the step before it opens any page."""
    return TAKEN not in request.session and request.user.is_authenticated and is_required(request.user)


@sync_only_middleware
def ask_for_second_step(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Let a session that has yet to take the step open no other page, whenever it began."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if settings.REQUIRE_TWO_STEP == "off":
            return get_response(request)
        name = _view_name(request)
        # An address that is none gets its answer as ever: it shows nothing.
        if name in OPEN_VIEWS or SESSION_KEY not in request.session or not is_missing(request):
            return get_response(request)
        if name == "events":
            return HttpResponse(status=403)
        came_for = f"?{urlencode({'next': request.get_full_path()})}" if request.method == "GET" else ""
        return redirect(reverse("second_step") + came_for)

    return middleware


def _view_name(request: HttpRequest) -> str:
    try:
        return resolve(request.path_info).view_name
    except Resolver404:
        return ""


def lock_person(person) -> None:
    """Let nobody else sign in as this person, or set up its second step, before the transaction ends."""
    assert transaction.get_connection().in_atomic_block
    list(get_user_model().objects.select_for_update(no_key=True).filter(pk=person.pk).values_list("pk"))
