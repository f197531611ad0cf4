"""Builders: the people of every story, and rows in any state. Every field is optional."""

from datetime import timedelta
from functools import cache

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.hashers import PBKDF2PasswordHasher, make_password
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import IntegrityError, OperationalError, transaction
from django.test import Client
from django.utils import timezone
from django.utils.crypto import get_random_string

from accounts.logins.success import next_seq
from accounts.models import (
    Account,
    AccountEvent,
    AuditEntry,
    BulkRun,
    Channel,
    Incident,
    LoginAttempt,
    Notification,
    Plan,
    PlanRun,
    Presence,
    Role,
    SignInUnlock,
    Tag,
    Team,
    UnmanagedAccount,
    UpstreamAccess,
)
from accounts.roles import USES_DJANGO_ADMIN
from accounts.states import FINAL_STATES, AccountState, AttemptState

PASSWORD = "correct horse battery"


class QuickHasher(PBKDF2PasswordHasher):
    """Ordinary passwords, of one round: hashing them properly takes longer than most tests."""

    iterations = 1


class People:
    """An operator and a viewer of team East, a stranger of team West, and an admin. Each has a `client`."""

    def __init__(self):
        self.east, self.west = Team.objects.bulk_create([Team(name="East"), Team(name="West")])
        people = [
            ("operator", "operator", self.east),
            ("mate", "operator", self.east),
            ("viewer", "viewer", self.east),
            ("stranger", "operator", self.west),
            ("admin", "", None),
        ]
        made = make_people(people, superusers={"admin"})
        self.operator, self.mate, self.viewer, self.stranger, self.admin = made

    def person(self, name: str, role: str = "", team: Team | None = None, superuser: bool = False):
        return make_people([(name, role, team)], superusers={name} if superuser else set())[0]

    def account(self, **fields) -> Account:
        return make_account(team=fields.pop("team", self.east), **fields)


def make_people(people: list[tuple[str, str, Team | None]], superusers: set[str]) -> list:
    """Users by name, role and team, with as many statements for many as for one."""
    model = get_user_model()
    users = model.objects.bulk_create(
        model(
            username=name,
            password=password(),
            is_superuser=name in superusers,
            is_staff=name in superusers or role in USES_DJANGO_ADMIN,
        )
        for name, role, _team in people
    )
    roles = {"": None, **dict(Role.objects.values_list("code", "group"))}
    model.groups.through.objects.bulk_create(
        model.groups.through(user_id=user.pk, group_id=group)
        for user, (_name, role, team) in zip(users, people, strict=True)
        for group in (roles[role], team and team.pk)
        if group
    )
    sign_in(users)
    return users


@cache
def password() -> str:
    return make_password(PASSWORD)


def sign_in(users: list) -> None:
    """Each gets a `client` with a session as signing in makes one."""
    sessions = []
    for user in users:
        store = SessionStore()
        store[SESSION_KEY] = str(user.pk)
        store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        store[HASH_SESSION_KEY] = user.get_session_auth_hash()
        # As just seen: otherwise the first request of each person would have two writes more.
        store["signed_in_at"] = store["seen_at"] = int(timezone.now().timestamp())
        store._session_key = get_random_string(32)
        sessions.append(store.create_model_instance(store._session))
        user.client = Client()
        user.client.cookies[settings.SESSION_COOKIE_NAME] = store.session_key
    Session.objects.bulk_create(sessions)


def session_key(user) -> str:
    return user.client.cookies[settings.SESSION_COOKIE_NAME].value


def make_account(**fields) -> Account:
    """An account that never logged in; with a `w_id`, one that is online."""
    fields.setdefault("label", f"Account {Account.objects.count() + 1}")
    if fields.get("w_id"):
        fields.setdefault("wc_id", f"wxid_{Account.objects.count() + 1:06}")
        fields.setdefault("state", AccountState.ONLINE)
    return Account.objects.create(**fields)


def make_attempt(account: Account, state: str = AttemptState.WAITING, **fields) -> LoginAttempt:
    now = timezone.now()
    fields.setdefault("deadline_at", now + timedelta(seconds=150))
    if state != AttemptState.PREPARING:
        fields.setdefault("w_id", f"w-{LoginAttempt.objects.count() + 1}")
        fields.setdefault("qr_shown_at", now)
    if state in FINAL_STATES:
        fields.setdefault("ended_at", now)
    return LoginAttempt.objects.create(account=account, state=state, seq=next_seq(account), **fields)


def fresh(row):
    """The row as it is in the database now."""
    return type(row).objects.get(pk=row.pk)


def forget_everything() -> None:
    """Delete every row; somebody who writes at the same moment makes it try again."""
    for last_try in (False, False, False, False, True):
        try:
            with transaction.atomic():
                for model in (
                    BulkRun,
                    Channel,
                    Notification,
                    Plan,
                    PlanRun,
                    Presence,
                    UnmanagedAccount,
                    Incident,
                    AccountEvent,
                    AuditEntry,
                    LoginAttempt,
                    Account,
                    Tag,
                    UpstreamAccess,
                    Session,
                    AccessAttempt,
                    AccessFailureLog,
                    AccessLog,
                    SignInUnlock,
                    get_user_model(),
                ):
                    model.objects.all().delete()
                Team.objects.all().delete()
            return
        except (OperationalError, IntegrityError):
            if last_try:
                raise
