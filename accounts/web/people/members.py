"""The list of people, adding one, and the page on which one gets role and teams, is locked, or gets a link.

Admins manage everybody, team leads the people of their own teams.
"""

from datetime import timedelta

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import Group
from django.db import IntegrityError
from django.db.models import Prefetch
from django.db.models.functions import Lower
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from accounts import permissions
from accounts.lib.typed_text import is_key
from accounts.models import SecondFactor
from accounts.roles import RoleCode
from accounts.web import forms
from accounts.web.people import changes
from accounts.web.people.forms import USERNAME_TAKEN, NewPersonForm, PersonForm


def _people(user):
    groups = Prefetch("groups", Group.objects.select_related("role").order_by("name"))
    people = permissions.managed_people(user)
    return people.select_related("last_visit", "identity").prefetch_related(groups)


def _described(people, user) -> list:
    """Add what the pages show: `role_name`, `teams`, `seen_at` (last sign-in or look at the overview), `is_new`.

    `teams`: those that this user manages. Of others it learns nothing.
    """
    known = None if permissions.may_manage_people(user) else set(permissions.managed_teams(user))
    return [_describe(person, known) for person in people]


def _describe(person, known: set | None):
    visit = getattr(person, "last_visit", None)
    seen = [moment for moment in (person.last_login, visit and visit.seen_at) if moment]
    person.role = changes.role_of(person)
    person.role_name = RoleCode(person.role).label if person.role else ""
    person.teams = [group for group in person.groups.all() if not hasattr(group, "role")]
    if known is not None:
        person.teams = [team for team in person.teams if team in known]
    person.seen_at = max(seen, default=None)
    person.is_new = not (person.has_usable_password() or hasattr(person, "identity"))
    return person


def of_team(user, team) -> list:
    """The members of a team that the user manages, each with `may_remove`."""
    found = _described(_people(user).filter(groups=team).order_by("-is_active", Lower("username")), user)
    removable = set(permissions.with_no_more_rights(team.user_set.all(), user).values_list("pk", flat=True))
    for person in found:
        person.may_remove = person.pk in removable
    return found


@require_GET
@never_cache
@login_required
def people(request: HttpRequest) -> HttpResponse:
    permissions.only(permissions.may_manage_members(request.user), None)
    found = _people(request.user).order_by("-is_active", Lower("username"))
    ctx = {"people": _described(found, request.user)}
    ctx["may_see_sign_ins"] = permissions.may_see_sign_ins(request.user)
    return render(request, "people/people.html", ctx)


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def new_person(request: HttpRequest) -> HttpResponse:
    """Add a person, and show the link with which that person sets a password."""
    permissions.only(permissions.may_manage_members(request.user), None)
    team = request.GET.get("team", "")
    initial = {"teams": [team] if is_key(team) else []}
    form = NewPersonForm(request.POST or None, user=request.user, initial=initial)
    if form.is_valid():
        chosen = form.cleaned_data
        try:
            person = changes.add(chosen["username"], chosen["role"], chosen["teams"], by=request.user)
        except IntegrityError:
            form.add_error("username", USERNAME_TAKEN)
        except changes.MoreRights:
            form.refuse_more_rights()
        else:
            return _page(request, person.pk, link=_link(request, person))
    forms.focus(form)
    ctx = {"form": form}
    return render(request, "people/new_person.html", ctx, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def person(request: HttpRequest, person_id: int) -> HttpResponse:
    """Show a person; POST does what `do` says: groups, lock, unlock, link, sign_out, reset_two_step."""
    found = get_object_or_404(permissions.managed_people(request.user), pk=person_id)
    if request.method == "GET":
        return _page(request, person_id)
    action = _ACTIONS.get(request.POST.get("do", ""))
    permissions.only(action is not None and permissions.may_manage(request.user, found), None)
    try:
        return action(request, found)
    except changes.NoAdminLeft:
        messages.error(request, _("Nothing was changed: nobody else could manage people afterwards."))
        return redirect("person", person_id)


def _set_groups(request: HttpRequest, person) -> HttpResponse:
    form = PersonForm(request.POST, user=request.user, role=changes.role_of(person))
    if not form.is_valid():
        return _page(request, person.pk, form=form)
    try:
        changes.set_groups(person, form.cleaned_data["role"], form.cleaned_data["teams"], by=request.user)
    except changes.MoreRights:
        form.refuse_more_rights()
        return _page(request, person.pk, form=form)
    messages.success(request, _("Saved."))
    # Who took the own role or team may not see this page any more.
    own = get_user_model().objects.get(pk=request.user.pk)
    seen = permissions.managed_people(own).filter(pk=person.pk).exists()
    return redirect("person", person.pk) if seen else redirect("overview")


def _lock(request: HttpRequest, person) -> HttpResponse:
    if person == request.user:
        messages.error(request, _("You can’t lock yourself."))
    else:
        changes.lock(person, by=request.user)
        messages.success(request, _("Locked and signed out everywhere."))
    return redirect("person", person.pk)


def _unlock(request: HttpRequest, person) -> HttpResponse:
    changes.unlock(person, by=request.user)
    messages.success(request, _("Unlocked."))
    return redirect("person", person.pk)


def _sign_out(request: HttpRequest, person) -> HttpResponse:
    if person == request.user:  # keeps the browser in which this is asked
        return redirect("me")
    changes.sign_out(person, by=request.user)
    messages.success(request, _("Signed out everywhere."))
    return redirect("person", person.pk)


def _reset_two_step(request: HttpRequest, person) -> HttpResponse:
    if person == request.user:  # removes it with a code
        return redirect("two_step")
    if changes.reset_two_step(person, by=request.user):
        messages.success(request, _("Two-step sign-in reset, and signed out everywhere."))
    return redirect("person", person.pk)


def _new_link(request: HttpRequest, person) -> HttpResponse:
    return _page(request, person.pk, link=_link(request, person))


_ACTIONS = {
    "groups": _set_groups,
    "lock": _lock,
    "unlock": _unlock,
    "link": _new_link,
    "sign_out": _sign_out,
    "reset_two_step": _reset_two_step,
}


def _link(request: HttpRequest, person) -> str:
    try:
        token, uid = changes.password_link(person, by=request.user)
    except get_user_model().DoesNotExist as locked:
        raise Http404 from locked
    return request.build_absolute_uri(reverse("set_password", args=[token, uid]))


def _page(
    request: HttpRequest, person_id: int, link: str = "", form: PersonForm | None = None
) -> HttpResponse:
    """Render a person's page. `link`: a new one, which no page shows again. `form`: one that was sent and is wrong."""
    [person] = _described(_people(request.user).filter(pk=person_id), request.user)
    initial = {"role": person.role, "teams": [team.pk for team in person.teams]}
    may_manage = permissions.may_manage(request.user, person)
    ctx = {
        "person": person,
        "form": form or PersonForm(initial=initial, user=request.user, role=person.role),
        "link": link,
        "link_days": timedelta(seconds=settings.PASSWORD_RESET_TIMEOUT).days,
        "two_step": SecondFactor.objects.filter(user=person, confirmed=True).exists(),
        "may_manage": may_manage,
        "may_see_sign_ins": permissions.may_see_sign_ins(request.user),
        "has_more_rights": not permissions.has_no_more_rights(person, request.user),
        # It names teams.
        "history": changes.history(person, request.user)
        if permissions.may_manage_people(request.user) or may_manage
        else [],
    }
    return render(request, "people/person.html", ctx, status=422 if form else 200)
