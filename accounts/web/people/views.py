"""Setting a password by a link, and the page of a person's own settings."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import PasswordResetConfirmView
from django.db import transaction
from django.forms import BaseForm
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.utils import translation
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods
from django.views.i18n import set_language

from accounts.models import Identity, Preferences, SecondFactor
from accounts.models.audit import log as audit
from accounts.models.audit.entry import AuditKind
from accounts.web import forms
from accounts.web.people import changes, preferences, sessions
from accounts.web.people.forms import NewPasswordForm, OwnPasswordForm, PreferencesForm


class SetPassword(PasswordResetConfirmView):
    """Let the person to whom the link was given set a password. The link works once, and not for a locked person."""

    template_name = "people/set_password.html"
    form_class = NewPasswordForm
    success_url = reverse_lazy("sign_in")
    token_generator = changes.link_tokens

    def get_context_data(self, **kwargs) -> dict[str, Any]:
        # With a second step, the password comes first.
        two_step = SecondFactor.objects.filter(user=self.user, confirmed=True).exists()
        provider = settings.OIDC_NAME if settings.OIDC_ISSUER and not two_step else ""
        return super().get_context_data(provider=provider, **kwargs)

    def dispatch(self, *args, **kwargs) -> HttpResponse:
        with transaction.atomic():
            return super().dispatch(*args, **kwargs)

    def get_user(self, uidb64: str):
        """Return the person, whose row no lock and no other link changes until the password is saved."""
        person = super().get_user(uidb64)
        if person is None:
            return None
        people = type(person).objects.filter(pk=person.pk, is_active=True)
        return people.select_for_update(no_key=True).first()

    def form_valid(self, form: NewPasswordForm) -> HttpResponse:
        response = super().form_valid(form)
        changes.record(self.user, changes.Change.PASSWORD, by=self.user)
        messages.success(self.request, _("Password saved. Sign in with it."))
        return response


def choose_language(request: HttpRequest) -> HttpResponse:
    """Set the language of the browser as Django does, and keep it for the person who is signed in."""
    response = set_language(request)
    language = request.POST.get("language")
    if request.user.is_authenticated and language in dict(settings.LANGUAGES):
        Preferences.objects.update_or_create(user=request.user, defaults={"language": language})
    return response


@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def me(request: HttpRequest) -> HttpResponse:
    """Show a person's own settings; POST saves what `do` says: preferences, password, end_session, end_others,
    unlink."""
    if request.method == "GET":
        return _page(request)
    action = _ACTIONS.get(request.POST.get("do", ""))
    if action is None:
        raise Http404
    with transaction.atomic():  # what the audit log can't say is not done
        return action(request)


def _save_preferences(request: HttpRequest) -> HttpResponse:
    form = PreferencesForm(request.POST)
    if not form.is_valid():
        return _page(request, preferences_form=form)
    chosen = form.save(request.user)
    response = redirect("me")
    preferences.copy_to_browser(response, chosen)
    with translation.override(chosen.language or translation.get_language()):
        messages.success(request, _("Saved."))
    return response


def _change_password(request: HttpRequest) -> HttpResponse:
    """Change the password. Every other session of this person ends with it; this one goes on."""
    form = OwnPasswordForm(request.user, request.POST)
    if not form.is_valid():
        return _page(request, password_form=form)
    form.save()
    update_session_auth_hash(request, form.user)
    changes.record(form.user, changes.Change.PASSWORD, by=form.user)
    messages.success(request, _("Password changed. You were signed out everywhere else."))
    return redirect("me")


def _end_session(request: HttpRequest) -> HttpResponse:
    if sessions.end(request.user, request.POST.get("session", ""), but=request.session.session_key):
        audit.record(AuditKind.SESSION_ENDED, about=request.user)
        messages.success(request, _("That browser is signed out."))
    return redirect("me")


def _end_others(request: HttpRequest) -> HttpResponse:
    sessions.end_all(request.user, but=request.session.session_key)
    audit.record(AuditKind.SIGNED_OUT, about=request.user)
    messages.success(request, _("You were signed out everywhere else."))
    return redirect("me")


def _may_unlink(user) -> bool:
    """Return whether the password lets the person in."""
    may_use_it = settings.LOCAL_SIGN_IN == "all" or user.is_superuser
    return may_use_it and user.has_usable_password()


def _unlink(request: HttpRequest) -> HttpResponse:
    """Unlink the person, whom the password lets in from now on."""
    if _may_unlink(request.user) and Identity.objects.filter(user=request.user).delete()[0]:
        changes.record(request.user, changes.Change.UNLINKED, by=request.user)
        messages.success(request, _("No longer linked."))
    return redirect("me")


_ACTIONS = {
    "preferences": _save_preferences,
    "password": _change_password,
    "end_session": _end_session,
    "end_others": _end_others,
    "unlink": _unlink,
}


def _page(request: HttpRequest, **wrong: BaseForm) -> HttpResponse:
    """Render the page. `wrong`: a form that was sent and has errors."""
    chosen = Preferences.objects.filter(pk=request.user.pk).values().first()
    sessions.note(request)  # the list has this one too
    ctx = {
        "preferences_form": PreferencesForm(initial=chosen),
        "password_form": OwnPasswordForm(request.user),
        "two_step": SecondFactor.objects.filter(user=request.user, confirmed=True).exists(),
        "provider": settings.OIDC_NAME if settings.OIDC_ISSUER else "",
        "linked": bool(settings.OIDC_ISSUER) and Identity.objects.filter(user=request.user).exists(),
        "may_unlink": _may_unlink(request.user),
        "sessions": sessions.alive(request.user, request.session.session_key),
        **wrong,
    }
    for form in wrong.values():
        forms.focus(form)
    return render(request, "people/me.html", ctx, status=422 if wrong else 200)
