"""A part of bench/streams.py: makes the rows, and moves logins when it is told to. Wishes and answers are lines of JSON."""

# ruff: noqa: E402 - Django has to be set up before its models can be imported
import json
import os
import secrets
import sys
import time
from datetime import timedelta
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wkportal.settings")

import django

django.setup()

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.models import Group
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

from accounts import permissions
from accounts.models import Account, LoginAttempt, WaitsWorker
from accounts.models.event import record
from accounts.states import AttemptState, EventType

BACKEND = "django.contrib.auth.backends.ModelBackend"
NEXT = {
    AttemptState.WAITING: AttemptState.CODE_REQUIRED,
    AttemptState.CODE_REQUIRED: AttemptState.WAITING,
}


class Mover:
    def __init__(self, people: Path, browsers: int):
        self.people, self.browsers = people, browsers
        self.attempts: list[LoginAttempt] = []
        self.everybodys: Account | None = None
        self.turn = 0

    def seed(self) -> None:
        """For each browser a team with one account and its open login; and a team that all are in."""
        call_command("migrate", verbosity=0)
        permissions.install_roles()
        operators = Group.objects.get(name="Operators")
        everybody = Group.objects.create(name="Everybody")
        self.everybodys = Account.objects.create(label="Seen by all", team=everybody)
        model = get_user_model()
        users = model.objects.bulk_create(
            model(username=f"operator{n:05}", password=f"!{n}") for n in range(self.browsers)
        )
        teams = Group.objects.bulk_create(Group(name=f"Team {n:05}") for n in range(self.browsers))
        member = model.groups.through
        member.objects.bulk_create(
            member(user_id=user.pk, group_id=group.pk)
            for user, team in zip(users, teams, strict=True)
            for group in (team, everybody, operators)
        )
        accounts = Account.objects.bulk_create(Account(label=team.name, team=team) for team in teams)
        far = timezone.now() + timedelta(days=1)
        WaitsWorker.objects.create(name="worker", alive_until=far)
        waiting = {
            "state": AttemptState.WAITING,
            "deadline_at": far,
            "lease_owner": "worker",
            "lease_epoch": 1,
        }
        self.attempts = LoginAttempt.objects.bulk_create(
            LoginAttempt(account=account, seq=1, qr_shown_at=timezone.now(), **waiting)
            for account in accounts
        )
        self.people.write_text(
            json.dumps(
                [
                    {"cookie": cookie, "teams": [team.pk, everybody.pk], "attempt": attempt.pk}
                    for cookie, team, attempt in zip(sessions(users), teams, self.attempts, strict=True)
                ]
            )
        )

    def move(self, count: int, rate: int) -> list[tuple[int, float]]:
        """The next `count` logins, one after the other: (whose browser sees it, when the row was committed)."""
        moved = []
        began = time.monotonic()
        for n in range(count):
            time.sleep(max(0.0, began + n / rate - time.monotonic()))
            place = self.turn % self.browsers
            self.turn += 1
            attempt = self.attempts[place]
            with transaction.atomic():
                # The first thing that is done after the commit, before the doorbell rings.
                transaction.on_commit(lambda place=place: moved.append((place, time.time())))
                attempt.move(NEXT[attempt.state])
        return moved

    def broadcast(self) -> float:
        committed = []
        with transaction.atomic():
            transaction.on_commit(lambda: committed.append(time.time()))
            record(self.everybodys, EventType.CHANGED)
        return committed[0]


def sessions(users) -> list[str]:
    """The keys of signed-in sessions, one for each."""
    store, far = SessionStore(), timezone.now() + timedelta(days=1)
    rows = [
        Session(
            session_key=secrets.token_hex(16),
            session_data=store.encode(
                {
                    SESSION_KEY: str(user.pk),
                    BACKEND_SESSION_KEY: BACKEND,
                    HASH_SESSION_KEY: user.get_session_auth_hash(),
                }
            ),
            expire_date=far,
        )
        for user in users
    ]
    return [row.session_key for row in Session.objects.bulk_create(rows)]


def main() -> None:
    mover = Mover(Path(sys.argv[1]), int(sys.argv[2]))
    for line in sys.stdin:
        wish = json.loads(line)
        print(json.dumps(getattr(mover, wish.pop("do"))(**wish)), flush=True)


if __name__ == "__main__":
    main()
