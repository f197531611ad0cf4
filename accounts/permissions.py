"""Permission is getting the object: each function here returns what the user may have, or raises an error.

A stranger cannot learn that a row exists: Http404. Who sees the row but may not act on it is told why:
PermissionDenied with a sentence. Who may see an account is decided by its team, who may log it in by the
permission that the group Operators has.
"""

from copy import copy

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _

from accounts.models import Account, LoginAttempt, Team


def may_log_in(user) -> bool:
    return user.has_perm("accounts.log_in_account")


def may_edit(user) -> bool:
    return user.has_perm("accounts.change_account")


def may_add(user) -> bool:
    """Whether this user may add an account and has a team to add it to, or needs none."""
    return user.has_perm("accounts.add_account") and (sees_all(user) or teams_of(user).exists())


def sees_all(user) -> bool:
    """Whether `Account.objects.visible_to(user)` is every account."""
    return user.is_active and user.has_perms(["accounts.view_account", "accounts.view_every_account"])


def may_adopt(user) -> bool:
    """An account that has no record here is nobody's team yet: only for those who see every account."""
    return user.has_perm("accounts.add_account") and sees_all(user)


def may_check(user) -> bool:
    """Whether this user may ask WKTeam who is online: an auditor causes nothing."""
    return user.has_perm("accounts.check_account")


def may_manage_people(user) -> bool:
    """Whether this user may manage all people and teams."""
    return user.has_perm("accounts.manage_people")


def may_manage_members(user) -> bool:
    """Whether this user may manage people: all, or those of their own teams."""
    return may_manage_people(user) or user.has_perm("accounts.manage_members")


def may_see_sign_ins(user) -> bool:
    return may_manage_people(user) or user.has_perm("accounts.view_signin")


def managed_teams(user):
    """The teams whose members this user may manage."""
    if not may_manage_members(user):
        return Team.objects.none()
    return Team.objects.all() if may_manage_people(user) else Team.objects.filter(user=user)


def managed_people(user):
    """The people whom this user sees under People. `may_manage` says which of them the user may change."""
    people = get_user_model().objects.all()
    if may_manage_people(user):
        return people
    return people.filter(pk__in=people.filter(groups__in=managed_teams(user)).values("pk"))


def may_see_audit(user) -> bool:
    """Whether this user may read who did what, of all teams."""
    return user.has_perm("accounts.view_auditentry")


def may_see_status(user) -> bool:
    return user.has_perm("accounts.view_upstreamaccess")


def may_manage(user, person) -> bool:
    """Whether this user may change or lock that person, or let it set another password.

    Nobody with more rights, and nobody who belongs to a team that this user does not manage too: who sets a password
    could sign in as that person.
    """
    if user.is_superuser or person.is_superuser:
        return user.is_superuser
    has_other_teams = Team.objects.filter(user=person).exclude(pk__in=managed_teams(user)).exists()
    return not has_other_teams and has_no_more_rights(person, user)


def with_no_more_rights(people, user):
    """Return those of the people whose every permission this user has: `has_no_more_rights` for many."""
    if user.is_superuser:
        return people
    others = Permission.objects.exclude(group__user=user).exclude(user=user)
    people = people.filter(is_superuser=False)
    return people.exclude(groups__permissions__in=others).exclude(user_permissions__in=others)


def has_no_more_rights(person, user) -> bool:
    """Whether this user has every permission of that person."""
    if user.is_superuser or person.is_superuser:
        return user.is_superuser
    awake = copy(person)  # a locked person has no permissions, and has them back when it is unlocked
    awake.is_active = True
    return awake.get_all_permissions() <= user.get_all_permissions()


def teams_of(user):
    """The teams that an account may be given to by this user."""
    teams = Team.objects.all() if sees_all(user) else Team.objects.filter(user=user)
    return teams.order_by("name")


def account_to_see(request: HttpRequest, account_id: int) -> Account:
    accounts = Account.objects.visible_to(request.user).select_related("team")
    return get_object_or_404(accounts, pk=account_id)


def account_to_edit(request: HttpRequest, account_id: int) -> Account:
    account = account_to_see(request, account_id)
    need_edit(request.user)
    need(account.merged_into_id is None, _("This record was merged into another one and can’t be changed."))
    return _not_archived(account)


def account_to_restore(request: HttpRequest, account_id: int) -> Account:
    account = account_to_see(request, account_id)
    need_edit(request.user)
    return only(account.merged_into_id is None and account.is_archived, account)


def account_to_log_in(request: HttpRequest, account_id: int) -> Account:
    account = account_to_see(request, account_id)
    need_log_in(request.user)
    return _not_archived(account)


def _not_archived(account: Account) -> Account:
    need(not account.is_archived, _("This account is archived. Restore it first."))
    return account


def attempt_to_see(request: HttpRequest, attempt_id: int) -> LoginAttempt:
    attempts = LoginAttempt.objects.filter(account__in=Account.objects.visible_to(request.user)).light()
    return get_object_or_404(attempts.select_related("account", "asked_by"), pk=attempt_id)


def attempt_to_log_in(request: HttpRequest, attempt_id: int) -> LoginAttempt:
    """An attempt whose code the user may see, and that the user may cancel."""
    attempt = attempt_to_see(request, attempt_id)
    need_log_in(request.user)
    return attempt


def need_log_in(user) -> None:
    """Raise PermissionDenied if this user may not log in accounts."""
    why = _(
        "You can view accounts but not log them in. Operators and admins can. Ask an admin for permission."
    )
    need(may_log_in(user), why)


def need_edit(user) -> None:
    """Raise PermissionDenied if this user may not change accounts."""
    why = _("You can view accounts but not edit them. Operators and admins can. Ask an admin for permission.")
    need(may_edit(user), why)


def need_add(user) -> None:
    """Raise PermissionDenied if this user may not add accounts, or has no team to add them to."""
    why = _("You can view accounts but not add any. Operators and admins can. Ask an admin for permission.")
    need(user.has_perm("accounts.add_account"), why)
    need(may_add(user), _("You can’t add an account, because you are in no team. Ask an admin for one."))


def need_check(user) -> None:
    """Raise PermissionDenied if this user may not ask WKTeam who is online."""
    why = _(
        "You can view accounts but not check them. Viewers and operators can. Ask an admin for permission."
    )
    need(may_check(user), why)


def need_adopt(user) -> None:
    """Raise PermissionDenied if this user may not adopt unmanaged accounts."""
    need(may_adopt(user), _("Only people who see every account can adopt one. Ask an admin for permission."))


def need(allowed: bool, why: str) -> None:
    """Raise PermissionDenied with a sentence for the person, unless allowed."""
    if not allowed:
        raise PermissionDenied(why)


def only(allowed: bool, thing):
    if not allowed:
        raise Http404
    return thing
