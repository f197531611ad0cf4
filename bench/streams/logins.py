"""For each browser a user, a team, an account and its login in progress; and the moves of these logins."""

import time
from datetime import timedelta

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.models import Group
from django.contrib.sessions.backends.db import SessionStore
from django.db import transaction
from django.utils import timezone

from accounts.models import Account, LoginAttempt, WaitsWorker
from accounts.models.event import record

NEXT = {"waiting": "code_required", "code_required": "waiting"}


class Logins:
    def __init__(self, browsers: int):
        everybody = Group.objects.create(name="Everybody")
        self.seen_by_all = Account.objects.create(label="Seen by all", team=everybody)
        teams = Group.objects.bulk_create(Group(name=f"Team {n:05}") for n in range(browsers))
        self.attempts = attempts(teams)
        pairs = zip(teams, self.attempts, strict=True)
        self.people = [person(team, everybody, attempt) for team, attempt in pairs]

    def move_all(self, rate: int) -> dict[int, float]:
        """Move each login once; return when that was committed, by the place of the browser that sees it."""
        committed, began = {}, time.monotonic()
        for place, attempt in enumerate(self.attempts):
            time.sleep(max(0.0, began + place / rate - time.monotonic()))
            with transaction.atomic():
                # Runs after the commit, before the event is published.
                transaction.on_commit(lambda place=place: committed.update({place: time.time()}))
                attempt.move(NEXT[attempt.state])
        return committed

    def broadcast(self) -> float:
        """Record one event that all browsers see; return when it was committed."""
        committed = []
        with transaction.atomic():
            transaction.on_commit(lambda: committed.append(time.time()))
            record(self.seen_by_all, "changed")
        return committed[0]


def attempts(teams: list[Group]) -> list[LoginAttempt]:
    """One of an account of each team; a worker holds its wait."""
    now, tomorrow = timezone.now(), timezone.now() + timedelta(days=1)
    WaitsWorker.objects.create(name="worker", alive_until=tomorrow)
    accounts = Account.objects.bulk_create(Account(label=team.name, team=team) for team in teams)
    row = {"seq": 1, "state": "waiting", "qr_shown_at": now, "deadline_at": tomorrow}
    row |= {"lease_owner": "worker", "lease_epoch": 1}
    return LoginAttempt.objects.bulk_create(LoginAttempt(account=account, **row) for account in accounts)


def person(team: Group, everybody: Group, attempt: LoginAttempt) -> dict[str, object]:
    """Create an operator of these teams who is signed in; return what the browser needs."""
    user = get_user_model().objects.create_user(f"of {team}")
    user.groups.add(Group.objects.get(role="operator"), team, everybody)
    session = SessionStore()
    session[SESSION_KEY], session[HASH_SESSION_KEY] = str(user.pk), user.get_session_auth_hash()
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session.save()
    return {"cookie": session.session_key, "teams": [team.pk, everybody.pk], "attempt": attempt.pk}
