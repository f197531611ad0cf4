"""Fill the empty database that DATABASE_URL names with accounts, login attempts and events, in bulk.

    DATABASE_URL=sqlite:////tmp/large.sqlite3 python bench/seed.py --accounts 100000 --attempts 300000 --events 2000000

The rows keep every constraint, look like a year of work (a few accounts have a very long history, a few
logins are open), and are the same at every run. Ids grow with time, as they do in the real tables.
"""

# ruff: noqa: E402 - Django has to be set up before its models can be imported
import argparse
import itertools
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wkportal.settings")

import django

django.setup()

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import connection, models, transaction
from django.utils import timezone

from accounts import access
from accounts.models import Account, AccountEvent, LoginAttempt, Tag
from accounts.reasons import Reason
from accounts.states import AccountState, AttemptState, Happened, Method, Trigger

PASSWORD = "seeded-password"
TEAMS = 12
PEOPLE = 40
TAGS = 30
HOT_ACCOUNTS = 20  # a tenth of all attempts is theirs
OPEN_ATTEMPTS = 50
YEAR = timedelta(days=365)
CITIES = ["广州", "南京", "杭州", "上海", "深圳", "成都", "武汉", "西安"]
ENDINGS = [
    (60, AttemptState.SUCCEEDED, ""),
    (22, AttemptState.EXPIRED, Reason.NOT_SCANNED),
    (6, AttemptState.CANCELLED, Reason.CANCELLED),
    (5, AttemptState.FAILED, Reason.DECLINED),
    (3, AttemptState.FAILED, Reason.REFUSED),
    (2, AttemptState.FAILED, Reason.LINE_DOWN),
    (1.5, AttemptState.EXPIRED, Reason.NO_ANSWER),
    (0.45, AttemptState.FAILED, Reason.UNREACHABLE),
    (0.05, AttemptState.FAILED, Reason.INTERRUPTED),
]


class Table:
    """Rows of a model as tuples for bulk SQL: every column has its field's default until a row says otherwise."""

    def __init__(self, model: type[models.Model]):
        self.table = model._meta.db_table
        fields = model._meta.concrete_fields
        self.columns = [field.column for field in fields]
        self.defaults = {field.column: _default(field) for field in fields}

    def row(self, **values) -> tuple:
        return tuple({**self.defaults, **values}[column] for column in self.columns)

    def insert(self, rows: Iterable[tuple]) -> None:
        names = ", ".join(f'"{column}"' for column in self.columns)
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                with cursor.copy(f'COPY "{self.table}" ({names}) FROM STDIN') as copy:
                    for row in rows:
                        copy.write_row(row)
            else:
                marks = ", ".join("?" for _column in self.columns)
                sql = f'INSERT INTO "{self.table}" ({names}) VALUES ({marks})'
                cursor.connection.executemany(sql, rows)


def _default(field: models.Field):
    if field.primary_key or isinstance(field, models.DateTimeField):
        return None
    return field.get_default()


def when(moment: datetime) -> datetime | str:
    return moment if connection.vendor == "postgresql" else connection.ops.adapt_datetimefield_value(moment)


class World:
    def __init__(self, accounts: int, attempts: int, events: int):
        self.random = random.Random(20)
        self.n_accounts, self.n_attempts, self.n_events = accounts, attempts, events
        self.end = timezone.now() - timedelta(minutes=5)
        self.start = self.end - YEAR
        self.lines = list(settings.WK_PROXIES)
        self.events: list[tuple] = []
        self.event_ids = itertools.count(1)
        self.event_table = Table(AccountEvent)
        self.seqs: dict[int, int] = {}

    # --- people, teams, tags -------------------------------------------------------------------------

    def people(self) -> None:
        access.install_roles()
        users = get_user_model().objects
        self.teams = [Group.objects.create(name=f"Team {n + 1:02}") for n in range(TEAMS)]
        self.users = [users.create_superuser("admin", password=PASSWORD)]
        for n in range(PEOPLE):
            user = users.create_user(f"operator{n + 1:02}", is_staff=True)
            user.groups.add(Group.objects.get(name="Operators"), self.teams[n % TEAMS])
            self.users.append(user)
        limited = users.create_user("limited", is_staff=True, password=PASSWORD)
        limited.groups.add(Group.objects.get(name="Operators"), self.teams[0])
        self.askers = self.users[: PEOPLE // 2]  # the others never started anything
        self.tags = Tag.objects.bulk_create(Tag(name=f"tag {n + 1:02}") for n in range(TAGS))

    # --- accounts ------------------------------------------------------------------------------------

    def accounts(self) -> Iterator[tuple]:
        table, pick = Table(Account), self.random
        for pk in range(1, self.n_accounts + 1):
            state = pick.choices(AccountState.values, weights=(8, 62, 30))[0]
            since = self.end - YEAR * pick.random()
            seen = state != AccountState.NEW
            wc_id = f"wxid_{pk * 7919 % 10**9:09}{pk:07x}" if seen else None
            yield table.row(
                id=pk,
                label=f"{pick.choice(CITIES)} Shop {pk:06}",
                wc_id=wc_id,
                w_id=f"w-{pk:012x}" if state == AccountState.ONLINE else "",
                state=state,
                state_since=when(since),
                verified_at=when(since) if seen else None,
                nickname=f"小店{pk % 997} Nick{pk}" if seen else "",
                wechat_number=f"wx{pk * 31 % 10**8:08}" if seen else "",
                region=pick.choice(CITIES) if seen else "",
                mobile=f"138{pk % 10**8:08}" if seen else "",
                proxy=pick.choice([*self.lines, None]),
                team_id=pick.choice(self.teams).pk if pick.random() < 0.97 else None,
                keep_online=pick.random() < 0.8,
                note="seeded " * pick.randrange(4),
                first_login_at=when(self.start + (since - self.start) * pick.random()) if seen else None,
                last_login_at=when(since) if seen else None,
                last_offline_at=when(since) if state == AccountState.OFFLINE else None,
                last_offline_reason="kicked by another device" if state == AccountState.OFFLINE else "",
                login_seq=0,
                created_at=when(self.start),
            )

    def tagged(self) -> Iterator[tuple]:
        ids = itertools.count(1)
        table = Table(Account.tags.through)
        for account in range(1, self.n_accounts + 1):
            for tag in self.random.sample(self.tags, self.random.randrange(4)):
                yield table.row(id=next(ids), account_id=account, tag_id=tag.pk)

    # --- attempts and what happened in them ----------------------------------------------------------

    def attempts(self) -> Iterator[tuple]:
        table, pick = Table(LoginAttempt), self.random
        weights = [weight for weight, _state, _reason in ENDINGS]
        step = YEAR / self.n_attempts
        n_open = min(OPEN_ATTEMPTS, self.n_accounts // 10)
        extra = max(0, self.n_events / self.n_attempts - 4.6)
        for pk in range(1, self.n_attempts + 1):
            begun = self.start + step * pk
            is_open = pk > self.n_attempts - n_open
            hot = pick.random() < 0.1 and not is_open
            account = (
                self.n_attempts - pk + HOT_ACCOUNTS + 1
                if is_open
                else 1 + int(HOT_ACCOUNTS * pick.random() ** 3)
                if hot
                else pick.randint(1, self.n_accounts)
            )
            _weight, state, reason = pick.choices(ENDINGS, weights=weights)[0]
            if is_open:
                state, reason = AttemptState.WAITING, ""
            shown = begun + timedelta(seconds=pick.uniform(0.3, 3))
            ended = None if is_open else shown + timedelta(seconds=pick.uniform(2, 150))
            by = pick.choice(self.askers) if pick.random() < 0.8 else None
            self.seqs[account] = self.seqs.get(account, 0) + 1
            words = pick.choice(["", "处理成功", "upstream said so"]) if not is_open else ""
            yield table.row(
                id=pk,
                account_id=account,
                method=pick.choices(Method.values, weights=(97, 3))[0],
                trigger=Trigger.OPERATOR if by else pick.choice([Trigger.SCHEDULE, Trigger.API]),
                asked_by_id=by.pk if by else None,
                asked_by_name=by.username if by else "",
                proxy=pick.choice([*self.lines, None]),
                seq=self.seqs[account],
                state=state,
                reason=reason,
                upstream_code="1000" if state == AttemptState.SUCCEEDED else "",
                upstream_text=words,
                w_id=f"wait-{pk:010x}",
                created_at=when(begun),
                sent_at=when(begun),
                qr_shown_at=when(shown),
                wait_started_at=when(shown),
                ended_at=when(ended) if ended else None,
                # Open ones have a deadline far ahead, or the pages would end them while they are measured.
                deadline_at=when(self.end + YEAR if is_open else shown + timedelta(seconds=150)),
            )
            self.story(pk, account, state, reason, by, begun, shown, ended, words)
            for _n in range(int(extra + pick.random())):
                self.event(account, pick.choice(EXTRAS), begun)

    def story(self, pk, account, state, reason, by, begun, shown, ended, words) -> None:
        self.event(account, Happened.ATTEMPT_STARTED, begun, attempt=pk, new=AttemptState.PREPARING, by=by)
        moves = {"attempt": pk, "old": AttemptState.PREPARING, "new": AttemptState.WAITING}
        self.event(account, Happened.ATTEMPT_MOVED, shown, **moves)
        self.event(account, Happened.WAIT_TAKEN, shown, attempt=pk)
        if ended is None:
            return
        moves = {"attempt": pk, "old": AttemptState.WAITING, "new": state, "reason": reason, "detail": words}
        self.event(account, Happened.ATTEMPT_MOVED, ended, by=by if reason == "cancelled" else None, **moves)
        if state == AttemptState.SUCCEEDED:
            new = AccountState.ONLINE
            self.event(account, Happened.ACCOUNT_ONLINE, ended, attempt=pk, old=AccountState.OFFLINE, new=new)

    def event(
        self, account, happened, at, *, attempt=None, old="", new="", reason="", detail="", by=None
    ) -> None:
        self.events.append(
            self.event_table.row(
                id=next(self.event_ids),
                account_id=account,
                attempt_id=attempt,
                happened=happened,
                from_state=old,
                to_state=new,
                reason=reason,
                detail=detail,
                actor_id=by.pk if by else None,
                actor_name=by.username if by else "",
                at=when(at),
            )
        )

    def fill_up_events(self) -> None:
        """To the number asked for, with drops and edits."""
        missing = self.n_events - len(self.events)
        for n in range(missing):
            at = self.end - (missing - n) * timedelta(milliseconds=50)
            self.event(self.random.randint(1, self.n_accounts), self.random.choice(EXTRAS), at)


EXTRAS = [Happened.ACCOUNT_OFFLINE] * 60 + [Happened.WAIT_RESUMED] * 30 + [Happened.CHANGED] * 9
EXTRAS += [Happened.JOINED]


def seed(accounts: int, attempts: int, events: int) -> None:
    began = time.monotonic()
    call_command("migrate", verbosity=0)
    if Account.objects.exists():
        sys.exit("There are accounts in this database; seeding needs an empty one.")
    world = World(accounts, attempts, events)
    with transaction.atomic():
        world.people()
        Table(Account).insert(world.accounts())
        Table(Account.tags.through).insert(world.tagged())
        Table(LoginAttempt).insert(list(world.attempts()))
        world.fill_up_events()
        world.event_table.insert(world.events)
        numbers = [(seq, seq, pk) for pk, seq in world.seqs.items()]
        with connection.cursor() as cursor:
            table = Account._meta.db_table
            cursor.executemany(f'UPDATE "{table}" SET login_seq = %s, bound_seq = %s WHERE id = %s', numbers)
    finish()
    print(
        f"{Account.objects.count()} accounts, {LoginAttempt.objects.count()} attempts, "
        f"{AccountEvent.objects.count()} events in {time.monotonic() - began:.0f} s"
    )


def finish() -> None:
    """What a database does by itself in time: ids go on after the seeded ones, PostgreSQL knows its statistics."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        for model in (Account, Account.tags.through, LoginAttempt, AccountEvent):
            table = model._meta.db_table
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence('\"{table}\"', 'id'), max(id)) FROM \"{table}\""
            )
            cursor.execute(f'VACUUM ANALYZE "{table}"')


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--attempts", type=int, default=300_000)
    parser.add_argument("--events", type=int, default=2_000_000)
    asked = parser.parse_args()
    seed(asked.accounts, asked.attempts, asked.events)
