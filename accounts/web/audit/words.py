"""What an audit entry says to its reader: its action, its details, and where its names lead."""

from collections.abc import Callable, Iterable

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.urls import NoReverseMatch, reverse
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts import permissions
from accounts.bulk import runs
from accounts.models import Account, AuditEntry, Incident, LoginAttempt, Team, account_queries
from accounts.models.audit.entry import AuditKind
from accounts.models.audit.origin import Way
from accounts.models.operators.bulk_run import BulkAction
from accounts.roles import GROUP_NAMES, RoleCode
from accounts.states import AttemptState, ScanReason
from accounts.web.audit.listing import SUBJECTS

KINDS, WAYS = dict(AuditKind.choices), dict(Way.choices)
ROLES = {name: code.label for code, name in GROUP_NAMES.items()} | dict(RoleCode.choices)
CODES = {
    AuditKind.LOGIN_MOVED: dict(AttemptState.choices),
    AuditKind.TO_SCAN: dict(ScanReason.choices),
    AuditKind.IGNORED: {"ignored": _("Ignored"), "shown": _("Shown again")},
}
TYPES = {model: name for name, models in SUBJECTS.values() for model in models}
OF_FORMS = {"tag_names": _("Tags"), "own_proxy": _("Own proxy"), "keep_online": _("Keep online")}


def describe(entries: list[AuditEntry], user) -> list[AuditEntry]:
    """Add to each what the page shows: `action`, `details`, `by_what`, and the addresses of what still exists."""
    add_words(entries)
    account_links = _of_accounts({entry.account_id for entry in entries}, user)
    links = _of_subjects(entries, user)
    people, attempts = links.get("auth.user", {}), _of_attempts(entries, user)
    for entry in entries:
        entry.subject_link = links.get(entry.subject, {}).get(entry.subject_id, "")
        entry.account_link = account_links.get(entry.account_id, "")
        entry.actor_link = people.get(entry.actor_id, "")
        entry.attempt_link = attempts.get(entry.attempt_id, "")
        entry.names_origin = entry.way in (Way.COMMAND, Way.JOB)
        entry.is_about_account = entry.account_id is not None and entry.subject_id == entry.account_id
    return entries


def add_words(entries: Iterable[AuditEntry]) -> None:
    for entry in entries:
        entry.action = KINDS.get(entry.kind, entry.kind)
        entry.by_what = WAYS.get(entry.way, entry.way)
        entry.details = _details(entry)
        entry.subject_type = _type(entry.subject)


def _type(subject: str) -> str:
    """Return what kind of thing it is, "" for none. A model may be gone."""
    if subject in TYPES:
        return str(TYPES[subject])
    try:
        return capfirst(str(apps.get_model(subject)._meta.verbose_name)) if subject else ""
    except LookupError:
        return subject


def _details(entry: AuditEntry) -> str:
    if entry.kind == AuditKind.CHANGED:
        return ", ".join(map(_field, filter(None, entry.detail.split(", "))))
    if entry.kind in (AuditKind.GROUPS, AuditKind.ADDED):
        return ", ".join(str(ROLES.get(name, name)) for name in entry.detail.split(", "))
    if entry.kind in (AuditKind.BULK_STARTED, AuditKind.BULK_CANCELLED):
        action, colon, rest = entry.detail.partition(":")
        return f"{dict(BulkAction.choices).get(action, action)}{colon}{rest}"
    return str(CODES.get(entry.kind, {}).get(entry.detail, entry.detail))


def _field(name: str) -> str:
    """Name a changed field: those of our forms by their codes, those of Django admin by their English labels."""
    if name in OF_FORMS:
        return str(OF_FORMS[name])
    columns = {field.name: field.verbose_name for field in Account._meta.concrete_fields}
    return capfirst(str(columns[name])) if name in columns else gettext(name)


# --- addresses ---------------------------------------------------------------------------------------------


def _of_accounts(ids: set[int | None], user) -> dict[int, str]:
    found = Account.objects.visible_to(user).filter(pk__in=ids - {None}).values_list("pk", flat=True)
    return {pk: reverse("account", args=[pk]) for pk in found}


def _of_attempts(entries: list[AuditEntry], user) -> dict[int, str]:
    ids = {entry.attempt_id for entry in entries} - {None}
    attempts = LoginAttempt.objects.filter(pk__in=ids)
    visible = account_queries.of_accounts(attempts, Account.objects.visible_to(user))
    return {pk: reverse("attempt", args=[pk]) for pk in visible.values_list("pk", flat=True)}


def _of_subjects(entries: list[AuditEntry], user) -> dict[str, dict[int, str]]:
    """Return {model: {ID: address}}, with one query for each model."""
    ids: dict[str, set[int]] = {"auth.user": {entry.actor_id for entry in entries} - {None}}
    for entry in entries:
        if entry.subject_id is not None:
            ids.setdefault(entry.subject, set()).add(entry.subject_id)
    return {subject: _addresses(subject, some, user) for subject, some in ids.items() if some}


def _addresses(subject: str, ids: set[int], user) -> dict[int, str]:
    if subject == "accounts.account":
        return _of_accounts(set(ids), user)
    rows, name = _pages(user).get(subject, lambda: (None, ""))()
    if rows is None:
        rows, name = _in_admin(subject, user)
    if rows is None:
        return {}
    return {pk: reverse(name, args=[pk]) for pk in rows.filter(pk__in=ids).values_list("pk", flat=True)}


def _pages(user) -> dict[str, Callable[[], tuple[QuerySet | None, str]]]:
    """Return for each model with a page here the rows that this reader may open, and the page's name."""
    manages = permissions.may_manage_people(user)
    return {
        "auth.user": lambda: (get_user_model().objects.all() if manages else None, "person"),
        "auth.group": lambda: (Team.objects.all() if manages else None, "team"),
        "accounts.bulkrun": lambda: (runs.visible_runs(user), "bulk_run"),
        "accounts.incident": lambda: (
            Incident.objects.all() if permissions.sees_all(user) else None,
            "incident",
        ),
    }


def _in_admin(subject: str, user) -> tuple[QuerySet | None, str]:
    try:
        model = apps.get_model(subject)
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"
        reverse(name, args=[1])
    except (LookupError, NoReverseMatch, ValueError):
        return None, ""
    may = user.is_staff and user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}")
    return (model._default_manager.all() if may else None), name
