"""Builders: the people of every story, and rows in any state. Every field is optional."""

from datetime import timedelta

from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session
from django.db import IntegrityError, OperationalError, transaction
from django.test import Client
from django.utils import timezone

from accounts import permissions
from accounts.logins.success import next_seq
from accounts.models import (
    Account,
    AccountEvent,
    Discovered,
    Incident,
    LoginAttempt,
    Plan,
    PlanRun,
    Presence,
    Tag,
    UpstreamAccess,
)
from accounts.states import FINAL_STATES, AccountState, AttemptState

PASSWORD = "correct horse battery"


class QuickHasher(PBKDF2PasswordHasher):
    """Ordinary passwords, of one round: hashing them properly takes longer than most tests."""

    iterations = 1


class People:
    """An operator and a viewer of team East, a stranger of team West, and an admin. Each has a `client`."""

    def __init__(self):
        permissions.install_roles()
        self.east, self.west = Group.objects.create(name="East"), Group.objects.create(name="West")
        self.operator = self.person("operator", "Operators", self.east)
        self.mate = self.person("mate", "Operators", self.east)
        self.viewer = self.person("viewer", "Viewers", self.east)
        self.stranger = self.person("stranger", "Operators", self.west)
        self.admin = self.person("admin", superuser=True)

    def person(self, name: str, role: str = "", team: Group | None = None, superuser: bool = False):
        users = get_user_model().objects
        make = users.create_superuser if superuser else users.create_user
        user = make(name, password=PASSWORD)
        if role:
            user.groups.add(Group.objects.get(name=role))
        if team:
            user.groups.add(team)
        user.client = Client()
        user.client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return user

    def account(self, **fields) -> Account:
        return make_account(team=fields.pop("team", self.east), **fields)


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
                    Plan,
                    PlanRun,
                    Presence,
                    Discovered,
                    Incident,
                    AccountEvent,
                    LoginAttempt,
                    Account,
                    Tag,
                    UpstreamAccess,
                    Session,
                    get_user_model(),
                    Group,
                ):
                    model.objects.all().delete()
            return
        except (OperationalError, IntegrityError):
            if last_try:
                raise
