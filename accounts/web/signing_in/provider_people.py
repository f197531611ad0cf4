"""Which person the provider names, and the role and the teams that its groups give."""

import logging
import re
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.contrib.auth.views import INTERNAL_RESET_SESSION_TOKEN
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils import timezone

from accounts.lib.typed_text import line
from accounts.models import Identity, PasswordLink, Team
from accounts.roles import highest
from accounts.web.people import changes, sessions
from accounts.web.people.changes import Change

log = logging.getLogger(__name__)

# Key in a session: a person who is signed in asked to be linked to an identity.
LINKING = "linking_provider"
NAME_LENGTH, SUBJECT_LENGTH = 150, 255
TEAM = "team:"


class Refused(Exception):
    """`why`: a key of `provider_views.REFUSALS`. `name`: of the person, as far as it is known."""

    def __init__(self, why: str, name: str = ""):
        super().__init__(why)
        self.why, self.name = why, name


def person_of(claims: dict[str, Any], issuer: str, request: HttpRequest) -> AbstractUser:
    """Return the person to sign in, with the role and teams of now. Raises Refused.

    Nobody gets hold of a person who is here already: the one who signed in before links the identity, or the one who has
    the link with which that person's password is set.
    """
    subject = str(claims["sub"])
    if len(subject) > SUBJECT_LENGTH or not subject.isprintable():
        raise ValueError("a subject that no provider may give")
    known = Identity.objects.filter(issuer=issuer, subject=subject).select_related("user").first()
    linking = request.session.pop(LINKING, None)
    if linking is not None and request.user.pk == linking:
        return _link(request.user, known, issuer, subject)
    if linking is not None:
        person = _link_guest(invited(request, linking), known, issuer, subject)
    else:
        person = known.user if known else _new_person(claims, issuer, subject)
    if not person.is_active:
        raise Refused("locked", person.username)
    if settings.OIDC_GROUPS and not person.is_superuser:
        _apply_groups(person, _groups(claims))
    if not person.is_superuser and not changes.role_of(person):
        raise Refused("no_role", person.username)
    return person


def invited(request: HttpRequest, person_id: int) -> AbstractUser | None:
    """Return this person if the link to set its password, which still works, was opened in this browser.

    Not one with a second step: the link alone would do without it.
    """
    people = get_user_model().objects.exclude(second_factor__confirmed=True)
    person = people.filter(pk=person_id, is_active=True).first()
    token = request.session.get(INTERNAL_RESET_SESSION_TOKEN)
    return person if person and token and changes.link_tokens.check_token(person, token) else None


def _link_guest(person, known: Identity | None, issuer: str, subject: str) -> AbstractUser:
    with transaction.atomic():
        # Of two browsers with the same link, one is faster.
        if person is None or not PasswordLink.objects.filter(pk=person.pk).delete()[0]:
            raise Refused("again")
        return _link(person, known, issuer, subject)


def _link(person, known: Identity | None, issuer: str, subject: str) -> AbstractUser:
    if known and known.user_id != person.pk:
        raise Refused("linked", person.username)
    with transaction.atomic():
        Identity.objects.update_or_create(
            user=person, defaults={"issuer": issuer, "subject": subject, "linked_at": timezone.now()}
        )
        changes.record(person, Change.LINKED, settings.OIDC_NAME, by=person)
    return get_user_model().objects.get(pk=person.pk)


def _new_person(claims: dict[str, Any], issuer: str, subject: str) -> AbstractUser:
    """Add a person under the name that the provider gives. Who would get no role by the groups is not added."""
    if settings.OIDC_GROUPS and not _role(_groups(claims)):
        raise Refused("no_role")
    name = _username(claims)
    people = get_user_model().objects
    if people.filter(username__iexact=name).exists():
        raise Refused("taken", name)
    try:
        with transaction.atomic():
            person = people.create_user(name)
            Identity.objects.create(user=person, issuer=issuer, subject=subject, linked_at=timezone.now())
            changes.record(person, Change.ADDED, settings.OIDC_NAME, by=person)
    except IntegrityError:  # a second click: the other one has added the person
        raise Refused("again", name) from None
    return person


def _username(claims: dict[str, Any]) -> str:
    wanted = claims.get(settings.OIDC_USERNAME_CLAIM)
    name = line(wanted, NAME_LENGTH) if isinstance(wanted, str) else ""
    name = get_user_model().normalize_username(name or str(claims["sub"]))
    return re.sub(r"[^\w.@+-]", ".", name)[:NAME_LENGTH]


def _groups(claims: dict[str, Any]) -> set[str]:
    found = claims.get(settings.OIDC_GROUPS_CLAIM, [])
    # Keycloak writes a group as a path.
    return {str(group).removeprefix("/") for group in ([found] if isinstance(found, str) else found or [])}


def _given(groups: set[str]) -> set[str]:
    return {gives for group, gives in settings.OIDC_GROUPS if group in groups}


def _role(groups: set[str]) -> str:
    """Return the role with the most rights that the groups give, "" for none."""
    return highest(_given(groups))


def _apply_groups(person, groups: set[str]) -> None:
    """Give the role of these groups, and of the teams that OIDC_GROUPS names those of these groups; others stay."""
    named = {gives.removeprefix(TEAM) for _group, gives in settings.OIDC_GROUPS if gives.startswith(TEAM)}
    given = {gives.removeprefix(TEAM) for gives in _given(groups) if gives.startswith(TEAM)}
    before = set(Team.objects.filter(user=person))
    teams = {team for team in before if team.name not in named} | set(Team.objects.filter(name__in=given))
    if missing := given - {team.name for team in teams}:
        log.warning("OIDC_GROUPS names a team that is not there: %s", ", ".join(sorted(missing)))
    role = _role(groups)
    if (role, teams) == (changes.role_of(person), before):
        return
    try:
        with transaction.atomic():
            changes.follow_provider(person, role, sorted(teams, key=lambda team: team.name))
            if not role:
                sessions.end_all(person)
    except changes.NoAdminLeft:
        log.warning("the last admin keeps the role that the provider would take away")
