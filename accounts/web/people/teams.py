"""Teams: all of them for admins, their own for team leads. Roles are groups too, but have no page here."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import IntegrityError, transaction
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts import permissions
from accounts.models import Account, Plan, Rule, Team
from accounts.web import forms
from accounts.web.people import changes
from accounts.web.people.forms import TEAM_TAKEN, TeamForm


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
    """Show a team; POST renames it."""
    found = _team(request, team_id)
    may_change = permissions.may_manage_people(request.user)
    permissions.only(may_change or request.method == "GET", None)
    form = TeamForm(request.POST or None, team=found, initial={"name": found.name})
    if form.is_valid() and _save(form, changes.Change.RENAMED, request.user):
        messages.success(request, _("Saved."))
        return redirect("team", team_id)
    forms.focus(form)
    found = _team(request, team_id)
    ctx = {
        "team": found,
        "form": form,
        "may_change": may_change,
        "people": found.user_set.order_by("username"),
    }
    ctx["history"] = changes.history(found)
    return render(request, "people/team.html", ctx, status=422 if form.errors else 200)


@require_POST
@never_cache
@login_required
def delete_team(request: HttpRequest, team_id: int) -> HttpResponse:
    """Delete a team, after a question that says what goes with it and what stays.

    Not while a notification rule is limited to it alone: without it the rule would be about all accounts.
    """
    permissions.only(permissions.may_manage_people(request.user), None)
    found = _team(request, team_id)
    rules = Rule.objects.filter(teams=found).exclude(teams__in=Team.objects.exclude(pk=found.pk))
    plans = Plan.objects.filter(team=found)
    if request.POST.get("sure") != "1" or rules.exists():
        ctx = {
            "team": found,
            "rules": rules.select_related("channel"),
            "plans": plans.order_by("name"),
            "accounts": Account.objects.filter(team=found, merged_into=None).count(),
            "people": found.user_set.count(),
        }
        return render(request, "people/delete_team.html", ctx)
    with transaction.atomic():
        changes.record(found, changes.Change.DELETED, by=request.user)
        found.delete()
    messages.success(request, _("Deleted."))
    return redirect("teams")
