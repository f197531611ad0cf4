"""Teams with their members and accounts: all of them for admins, their own for team leads.

Roles are groups too, but have no page here.
"""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import IntegrityError, transaction
from django.db.models import Count, Q
from django.db.models.functions import Lower
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts import permissions
from accounts.attention.changes import change
from accounts.lib.typed_text import is_key
from accounts.models import Account, Plan, Rule, SavedView, Team
from accounts.states import EventType
from accounts.web import forms
from accounts.web.people import changes, members
from accounts.web.people.forms import MORE_RIGHTS, TEAM_TAKEN, MemberForm, TeamForm

ACCOUNTS_SHOWN = 50
# The history of each account says that it lost its team, in the transaction of the deletion. With more events than
# PUBLISHED_MOST, pages reload instead.
ACCOUNTS_AT_ONCE, PUBLISHED_MOST = 1000, 100


def _team(request: HttpRequest, team_id: int) -> Team:
    return get_object_or_404(permissions.managed_teams(request.user), pk=team_id)


def _save(form: TeamForm, change: str, by) -> bool:
    """Save the team of the form. False, and an error of the field, if another request has just taken the name."""
    team = form.team or Team()
    before, team.name = team.name, form.cleaned_data["name"]
    try:
        with transaction.atomic():
            team.save()
            changes.record(team, change, before, by=by)
    except IntegrityError:
        form.add_error("name", TEAM_TAKEN)
        return False
    return True


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def team_list(request: HttpRequest) -> HttpResponse:
    """List the teams; POST adds one."""
    may_add = permissions.may_manage_people(request.user)
    permissions.only(permissions.may_manage_members(request.user), None)
    permissions.only(may_add or request.method == "GET", None)
    form = TeamForm(request.POST or None)
    if form.is_valid() and _save(form, changes.Change.ADDED, request.user):
        return redirect("teams")
    accounts = dict(Account.objects.kept().order_by().values_list("team").annotate(Count("pk")))
    teams = Team.objects.filter(pk__in=permissions.managed_teams(request.user).values("pk"))
    teams = list(teams.annotate(people=Count("user", filter=Q(user__is_active=True))).order_by("name"))
    for each in teams:
        each.accounts = accounts.get(each.pk, 0)
    ctx = {"teams": teams, "form": form, "may_add": may_add}
    return render(request, "people/teams.html", ctx, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def team(request: HttpRequest, team_id: int) -> HttpResponse:
    """Show a team with its members and accounts; POST does what `do` says: add, remove (a member), or renames it."""
    found = _team(request, team_id)
    if request.method == "GET":
        return _page(request, found)
    return _ACTIONS.get(request.POST.get("do", ""), _rename)(request, found)


def _page(request: HttpRequest, team: Team, **wrong) -> HttpResponse:
    """Render a team's page. `wrong`: a form that was sent and has errors."""
    user = request.user
    accounts = Account.objects.visible_to(user).filter(team=team).kept()
    people = members.of_team(user, team)
    ctx = {
        "team": team,
        "may_change": permissions.may_manage_people(user),
        "form": TeamForm(team=team, initial={"name": team.name}),
        "member_form": MemberForm(team=team, user=user),
        "people": people,
        "accounts": accounts.order_by("label_key", "pk").defer("search_text")[:ACCOUNTS_SHOWN],
        "account_count": accounts.count(),
        "history": changes.history(team, user),
        **wrong,
    }
    return render(request, "people/team.html", ctx, status=422 if wrong else 200)


def _rename(request: HttpRequest, team: Team) -> HttpResponse:
    permissions.only(permissions.may_manage_people(request.user), None)
    form = TeamForm(request.POST, team=team)
    if form.is_valid() and _save(form, changes.Change.RENAMED, request.user):
        messages.success(request, _("Saved."))
        return redirect("team", team.pk)
    forms.focus(form)
    return _page(request, _team(request, team.pk), form=form)


def _add_member(request: HttpRequest, team: Team) -> HttpResponse:
    form = MemberForm(request.POST, team=team, user=request.user)
    if form.is_valid():
        try:
            changes.add_member(team, form.cleaned_data["person"], by=request.user)
        except changes.MoreRights:
            form.add_error("person", MORE_RIGHTS)
        else:
            messages.success(request, _("Added to the team."))
            return redirect("team", team.pk)
    forms.focus(form)
    return _page(request, team, member_form=form)


def _remove_member(request: HttpRequest, team: Team) -> HttpResponse:
    asked = request.POST.get("person", "")
    person = get_object_or_404(team.user_set, pk=asked) if is_key(asked) else None
    try:
        permissions.only(person is not None, None)
        changes.remove_member(team, person, by=request.user)
    except changes.MoreRights as refused:
        raise Http404 from refused
    messages.success(request, _("Removed from the team."))
    # Who left the own team may not see this page any more.
    seen = permissions.managed_teams(request.user).filter(pk=team.pk).exists()
    return redirect("team", team.pk) if seen else redirect("overview")


_ACTIONS = {"add": _add_member, "remove": _remove_member}


@require_POST
@never_cache
@login_required
def delete_team(request: HttpRequest, team_id: int) -> HttpResponse:
    """Delete a team, after a question that says what goes with it and what stays.

    Not while a notification rule is limited to it alone: without it the rule would be about all accounts. Not with very
    many accounts either.
    """
    permissions.only(permissions.may_manage_people(request.user), None)
    found = _team(request, team_id)
    limited = Rule.objects.filter(teams=found)
    only_here = limited.exclude(teams__in=Team.objects.exclude(pk=found.pk))
    accounts = Account.objects.filter(team=found, merged_into=None)
    has_many = accounts.count() > ACCOUNTS_AT_ONCE
    if request.POST.get("sure") != "1" or has_many or only_here.exists():
        ctx = {
            "team": found,
            "rules": only_here.select_related("channel"),
            "other_rules": limited.exclude(pk__in=only_here.values("pk")).select_related("channel"),
            "plans": Plan.objects.filter(team=found).order_by("name"),
            "views": _views_of(found).select_related("user").order_by("user__username", "name"),
            "accounts": accounts.count(),
            "too_many": has_many and ACCOUNTS_AT_ONCE,
            "people": found.user_set.count(),
            "left_alone": _left_alone(found),
        }
        return render(request, "people/delete_team.html", ctx)
    _delete(found, request.user)
    messages.success(request, _("Deleted."))
    return redirect("teams")


def _views_of(team: Team):
    """The saved views that filter by the team: without the filter they would show all accounts."""
    return SavedView.objects.filter(query__regex=rf"(^|[?&])team={team.pk}(&|$)")


def _left_alone(team: Team) -> list:
    """The members who are in no other team."""
    others = Team.objects.exclude(pk=team.pk).values("user")
    return list(team.user_set.exclude(pk__in=others.filter(user__isnull=False)).order_by(Lower("username")))


def _delete(team: Team, by) -> None:
    """Its accounts lose it with an event each: their pages learn of it, and those of the members by their rights."""
    with transaction.atomic():
        change(
            Account.objects.filter(team=team, merged_into=None),
            EventType.CHANGED,
            lambda accounts: accounts.update(team=None),
            by=by,
            detail="team",
            published_most=PUBLISHED_MOST,
        )
        _views_of(team).delete()
        changes.record(team, changes.Change.DELETED, by=by)
        team.delete()
