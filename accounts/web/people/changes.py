"""What admins change about people and teams. Each change is one row of Django's log of changes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django.conf import settings
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.contrib.auth.models import Group
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.contrib.contenttypes.models import ContentType
from django.db import models, transaction
from django.db.models import Q, QuerySet
from django.utils.crypto import get_random_string
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django.utils.translation import gettext_lazy as _

from accounts import permissions
from accounts.models import PasswordLink, Role, SecondFactor, Team
from accounts.models.audit import log as audit
from accounts.models.audit.entry import AuditKind
from accounts.roles import GROUP_NAMES, USES_DJANGO_ADMIN, RoleCode, highest
from accounts.web.people import sessions

HISTORY_MOST = 20


class NoAdminLeft(Exception):
    """Afterwards nobody could manage people any more."""


class MoreRights(Exception):
    """Afterwards the person would have permissions that the acting person does not have."""


class Change(models.TextChoices):
    """Code of a change, the beginning of its row's text. A detail, such as the role and the teams, follows a colon."""

    ADDED = "added", _("Added")
    GROUPS = "role and teams", _("Role and teams changed")
    LOCKED = "locked", _("Locked")
    UNLOCKED = "unlocked", _("Unlocked")
    SIGNED_OUT = "signed out", _("Signed out everywhere")
    LINK = "password link", _("Password link created")
    PASSWORD = "password", _("Password changed")  # noqa: S105 - no password
    FACTOR_ADDED = "two-step on", _("Two-step sign-in set up")
    FACTOR_REMOVED = "two-step off", _("Two-step sign-in removed")
    RECOVERY_CODES = "recovery codes", _("New recovery codes made")
    LINKED = "identity linked", _("Linked to the sign-in provider")
    UNLINKED = "identity unlinked", _("No longer linked to the sign-in provider")
    SYNCED = "synced", _("Role and teams set by the sign-in provider")
    RENAMED = "renamed", _("Renamed")
    DELETED = "deleted", _("Deleted")


# As rows name them: by code, and by the names of their groups before.
ROLES_IN_ROWS = {
    **{name: code.label for code, name in GROUP_NAMES.items()},
    **dict(RoleCode.choices),
}
NAMES_TEAMS = {Change.ADDED, Change.GROUPS, Change.SYNCED}
FLAGS = {Change.ADDED: ADDITION, Change.DELETED: DELETION}


def record(thing: models.Model, change: str, detail: str = "", *, by) -> None:
    """Write one row. `by`: None for a command about a person, whom Django's log names then, because it has to name one."""
    text = f"{change}: {detail}" if detail else str(change)
    LogEntry.objects.create(
        user=by or thing,
        content_type=ContentType.objects.get_for_model(thing),  # teams are groups, in Django admin too
        object_id=thing.pk,
        object_repr=str(thing)[:200],
        action_flag=FLAGS.get(change, CHANGE),
        change_message=text,
    )
    kind = AuditKind.__members__.get(Change(change).name, AuditKind.CHANGED)
    audit.record(kind, about=thing, detail=detail, by=by)


def history(thing: models.Model, user) -> list[LogEntry]:
    """Return the newest changes, each with `words` and `detail`; those made in Django admin have Django's words.

    Of the teams that a person was in, the user learns those that it manages.
    """
    teams = (
        None
        if permissions.may_manage_people(user)
        else set(permissions.managed_teams(user).values_list("name", flat=True))
    )
    entries = LogEntry.objects.filter(
        content_type=ContentType.objects.get_for_model(thing), object_id=str(thing.pk)
    )
    found = list(entries.select_related("user").order_by("-pk")[:HISTORY_MOST])
    for entry in found:
        code, _colon, detail = entry.change_message.partition(": ")
        known = code in Change.values
        entry.words = Change(code).label if known else entry.get_change_message()
        entry.detail = _readable(detail, teams if code in NAMES_TEAMS else None) if known else ""
    return found


def _readable(detail: str, teams: set[str] | None) -> str:
    """Name the role that a detail begins with; no team has the name of one. `teams`: the only ones to be named."""
    names = [name for name in detail.split(", ") if teams is None or name in teams or name in ROLES_IN_ROWS]
    return ", ".join([*(str(ROLES_IN_ROWS.get(name, name)) for name in names[:1]), *names[1:]])


# --- people -------------------------------------------------------------------------------------------------


def admins() -> QuerySet:
    """Return the people who can sign in and manage people, by their role or as superusers."""
    manage = Q(is_superuser=True) | Q(groups__role=RoleCode.ADMIN)
    people = get_user_model().objects.filter(manage, is_active=True)
    by_password = ~Q(password__startswith=UNUSABLE_PASSWORD_PREFIX)
    if settings.LOCAL_SIGN_IN == "superusers":
        by_password &= Q(is_superuser=True)
    by_provider = Q(identity__isnull=False) if settings.OIDC_ISSUER else Q(pk__in=[])
    return people.filter(by_password | by_provider).distinct()


@contextmanager
def _keeping_an_admin() -> Iterator[None]:
    """Undo the changes made inside and raise NoAdminLeft if they leave no admin.

    One process at a time: otherwise two admins could lock each other.
    """
    with transaction.atomic():
        Role.objects.select_for_update(no_key=True).get(pk=RoleCode.ADMIN)
        yield
        if not admins().exists():
            raise NoAdminLeft


def role_of(person) -> str:
    """Return the code of the role with the most rights that the person has, "" for none."""
    codes = {group.role.pk for group in person.groups.all() if hasattr(group, "role")}
    return highest(codes)


def set_groups(person, role: str, teams: Iterable[Team], *, by) -> None:
    """Give the person this role, "" for none, and these teams. Raises NoAdminLeft, MoreRights."""
    with _keeping_an_admin():
        before = role_of(person)
        _set_groups(person, role, teams, by)
        if role != before and not person.is_superuser:
            person.is_staff = role in USES_DJANGO_ADMIN
            person.save(update_fields=["is_staff"])
        record(person, Change.GROUPS, _names(role, teams), by=by)


def follow_provider(person, role: str, teams: Iterable[Team]) -> None:
    """Give the person the role, "" for none, and the teams that the sign-in provider's groups give. Raises NoAdminLeft."""
    with _keeping_an_admin():
        person.groups.set([*teams, *Group.objects.filter(role=role or None).exclude(role=None)])
        person.is_staff = role in USES_DJANGO_ADMIN
        person.save(update_fields=["is_staff"])
        record(person, Change.SYNCED, _names(role, teams), by=person)


def add(username: str, role: str, teams: Iterable[Team], *, by):
    """Create a person who has no password yet. Raises MoreRights, and IntegrityError if somebody else just took the name."""
    with transaction.atomic():
        person = get_user_model().objects.create_user(username, is_staff=role in USES_DJANGO_ADMIN)
        _set_groups(person, role, teams, by)
        record(person, Change.ADDED, _names(role, teams), by=by)
    return person


def _set_groups(person, role: str, teams: Iterable[Team], by) -> None:
    """Set them. A role and a team grant only what the acting person has: a team is a group, so it may grant some too.

    A team that the acting person does not manage stays, and with it the person is not theirs to change.
    """
    others = Team.objects.filter(user=person).exclude(pk__in=permissions.managed_teams(by))
    person.groups.set([*teams, *others, *Group.objects.filter(role=role or None).exclude(role=None)])
    if not permissions.may_manage(by, get_user_model().objects.get(pk=person.pk)):
        raise MoreRights


def add_member(team: Team, person, *, by) -> None:
    """Add the person to the team. Raises MoreRights."""
    with transaction.atomic():
        person.groups.add(team)
        if not permissions.may_manage(by, get_user_model().objects.get(pk=person.pk)):
            raise MoreRights
        _record_groups(person, by)


def remove_member(team: Team, person, *, by) -> None:
    """Take the person out of the team, for those who manage it and have no fewer rights than the person.

    Raises MoreRights.
    """
    with transaction.atomic():
        if not permissions.has_no_more_rights(person, by):
            raise MoreRights
        person.groups.remove(team)
        _record_groups(person, by)


def _record_groups(person, by) -> None:
    now = get_user_model().objects.get(pk=person.pk)
    record(person, Change.GROUPS, _names(role_of(now), Team.objects.filter(user=now).order_by("name")), by=by)


def _names(role: str, teams: Iterable[Team]) -> str:
    return ", ".join(filter(None, [role, *(team.name for team in teams)]))


def lock(person, *, by) -> None:
    """Refuse every sign-in, and end the sessions and the link: unlocking brings none back. Raises NoAdminLeft."""
    with _keeping_an_admin():
        get_user_model().objects.filter(pk=person.pk).update(is_active=False)
        PasswordLink.objects.filter(pk=person.pk).delete()
        record(person, Change.LOCKED, by=by)
        sessions.end_all(person)


def sign_out(person, *, by) -> None:
    with transaction.atomic():
        record(person, Change.SIGNED_OUT, by=by)
        sessions.end_all(person)


def unlock(person, *, by) -> None:
    with transaction.atomic():
        get_user_model().objects.filter(pk=person.pk).update(is_active=True)
        record(person, Change.UNLOCKED, by=by)


def reset_two_step(person, *, by, detail: str = "") -> bool:
    """Remove what the person set up, and end the sessions. Return False if there was nothing."""
    with transaction.atomic():
        found = bool(SecondFactor.objects.filter(user=person).delete()[0])
        if found:
            record(person, Change.FACTOR_REMOVED, detail, by=by)
            sessions.end_all(person)
    return found


class _LinkTokens(PasswordResetTokenGenerator):
    """Tokens that end as Django's do, and with the key of the person's link."""

    key_salt = "accounts.web.people.password_link"

    def _make_hash_value(self, user, timestamp: int) -> str:
        key = PasswordLink.objects.filter(pk=user.pk).values_list("key", flat=True).first()
        return f"{super()._make_hash_value(user, timestamp)}{key}"


link_tokens = _LinkTokens()


def password_link(person, *, by) -> tuple[str, str]:
    """Return the token and the ID of a link with which the person sets a password.

    It works once, for PASSWORD_RESET_TIMEOUT, and until the person signs in, is locked, or gets the next link.
    Raises DoesNotExist if the person is locked.
    """
    people = get_user_model().objects.filter(is_active=True)
    with transaction.atomic():
        person = people.select_for_update(no_key=True).get(pk=person.pk)
        PasswordLink.objects.update_or_create(user=person, defaults={"key": get_random_string(22)})
        record(person, Change.LINK, by=by)
        return link_tokens.make_token(person), urlsafe_base64_encode(force_bytes(person.pk))
