"""Fill the empty database that DATABASE_URL names with accounts, login attempts and events, in bulk.

    DATABASE_URL=sqlite:////tmp/large.sqlite3 python bench/seed.py --accounts 100000 --attempts 300000 --events 2000000

The rows keep every constraint, look like a year of work (a few accounts have a very long history, a few
logins are open), and are the same at every run. Ids grow with time, as they do in the real tables. Labels begin
with a city, and most teams are those of the cities: what a filter passes often stands at one end of an order. One
team has most accounts, so that its pages are full in a small database as they are in a large one.
"""

# ruff: noqa: E402 - Django has to be set up before its models can be imported
import argparse
import itertools
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wkportal.settings")

import django

django.setup()

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.db import connection, models, transaction
from django.utils import timezone

from accounts import permissions, search
from accounts.models import Account, AccountEvent, LoginAttempt, Tag
from accounts.reasons import Reason
from accounts.states import AccountState, AttemptState, EventType, Method, Trigger
from bench.seed_drops import MODELS, Drops

PASSWORD = "seeded-password"
PEOPLE = 40
TAGS = 30
COMMON = {"most": 0.6, "many": 0.3}
HOT_ACCOUNTS = 20  # a tenth of all attempts is theirs
PLAIN_ACCOUNTS = (1, 500)  # the same in a small and a large database: offline, their last login expired
OPEN_ATTEMPTS = 50
YEAR = timedelta(days=365)
# In the order of their characters; one in eight accounts each.
CITIES = sorted(["广州", "南京", "杭州", "上海", "深圳", "成都", "武汉", "西安"])
SURNAMES = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗"
GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超霞平刚桂英华玉兰红梅建文斌"
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
OF_EACH = 60  # at least so many attempts for each ending, in a small database too
EXTRAS = [EventType.ACCOUNT_OFFLINE] * 60 + [EventType.WAIT_RESUMED] * 28 + [EventType.CHANGED] * 9
EXTRAS += [EventType.JOINED] * 3


class Table:
    """Rows of a model as tuples for bulk SQL: every column has its field's default until a row says otherwise."""

    def __init__(self, model: type[models.Model]):
        self.table = model._meta.db_table
        fields = model._meta.concrete_fields
        self.columns = [field.column for field in fields]
        self.defaults = {field.column: _default(field) for field in fields}

    def row(self, **values) -> tuple:
        values = self.defaults | values
        return tuple(values[column] for column in self.columns)

    def insert(self, rows: Iterable[tuple]) -> None:
        names = ", ".join(f'"{column}"' for column in self.columns)
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                with cursor.copy(f'COPY "{self.table}" ({names}) FROM STDIN') as copy:
                    for row in rows:
                        copy.write("\t".join(r"\N" if value is None else str(value) for value in row) + "\n")
            else:
                marks = ", ".join("?" for _column in self.columns)
                sql = f'INSERT INTO "{self.table}" ({names}) VALUES ({marks})'
                cursor.connection.executemany(sql, rows)


def _default(field: models.Field):
    if field.primary_key or isinstance(field, models.DateTimeField):
        return None
    return field.get_default()


def when(moment: datetime) -> str:
    """As both databases take it: UTC without saying so."""
    return moment.replace(tzinfo=None).isoformat(" ")


@contextmanager
def bare(tables: list[str]) -> Iterator[None]:
    """Without the tables' indexes, and without the index for searches, while rows are loaded; then with them."""
    marks = ", ".join(["%s"] * len(tables))
    found = (
        f"SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN ({marks}) AND indexname NOT IN"
        " (SELECT conname FROM pg_constraint)"
        if connection.vendor == "postgresql"
        else f"SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name IN ({marks}) AND sql NOT NULL"
    )
    with connection.cursor() as cursor:
        cursor.execute(found, tables)
        indexes = cursor.fetchall()
        for name, _definition in indexes:
            cursor.execute(f'DROP INDEX "{name}"')
    with connection.schema_editor() as editor:
        search.drop(None, editor)
    yield
    with connection.cursor() as cursor:
        for _name, definition in indexes:
            cursor.execute(definition)
    with connection.schema_editor() as editor:
        search.make(None, editor)


class World:
    def __init__(self, accounts: int, attempts: int, events: int):
        self.random = random.Random(20)
        self.n_accounts, self.n_attempts, self.n_events = accounts, attempts, events
        self.end = timezone.now().astimezone(UTC) - timedelta(minutes=5)
        self.start = self.end - YEAR
        self.lines = list(settings.WK_PROXIES)[:5]
        self.events: list[tuple] = []
        self.seqs: dict[int, int] = {}
        self.drops = Drops(random.Random(21), accounts, self.start, self.end)

    # --- people, teams, tags -------------------------------------------------------------------------

    def people(self) -> None:
        permissions.install_roles()
        users = get_user_model().objects
        self.teams = {city: Group.objects.create(name=f"Team {city}") for city in CITIES}
        self.small_team = Group.objects.create(name="Team of a few")
        self.main_team = Group.objects.create(name="Team of most")
        teams = list(self.teams.values())
        self.users = [users.create_superuser("admin", password=PASSWORD)]
        for n in range(PEOPLE):
            self.users.append(self.operator(f"operator{n + 1:02}", teams[n % len(teams)]))
        self.operator("one-team", self.main_team)
        self.operator("three-teams", self.main_team, *teams[-2:])
        self.operator("city-team", teams[-1])
        self.operator("city-teams", *teams[-3:])
        self.operator("small-team", self.small_team)
        self.askers = self.users[: PEOPLE // 2]  # the others never started anything
        names = [f"tag {n + 1:02}" for n in range(TAGS)]
        self.tags = Tag.objects.bulk_create(Tag(name=name) for name in (*names, *COMMON, "few", "none"))

    def operator(self, name: str, *teams: Group):
        """Somebody who sees the accounts of some teams, and may look into the admin."""
        user = get_user_model().objects.create_user(name, is_staff=True)
        user.groups.add(Group.objects.get(name="Operators"), *teams)
        names = ("view_loginattempt", "view_accountevent", "view_drop", "view_tag")
        user.user_permissions.add(*Permission.objects.filter(codename__in=names))
        return user

    # --- accounts ------------------------------------------------------------------------------------

    def accounts(self) -> Iterator[tuple]:
        table, pick = Table(Account), self.random
        for pk in range(1, self.n_accounts + 1):
            plain = pk in PLAIN_ACCOUNTS
            state = (
                AccountState.OFFLINE if plain else pick.choices(AccountState.values, weights=(8, 62, 30))[0]
            )
            since = self.end - YEAR * pick.random()
            seen = state != AccountState.NEW
            city = pick.choice(CITIES)
            team = pick.choices([None, self.main_team, self.teams[city]], (6, 74, 20))[0]
            wanted = pick.random() < 0.8
            if state == AccountState.OFFLINE:
                self.drops.offline.append((pk, since))
            # In a small database too so many that the list is full.
            to_scan = state == AccountState.OFFLINE and wanted and (pk <= 1000 or pk % 20 == 0)
            name = "骆驿" if pk == 500 else pick.choice(SURNAMES) + pick.choice(GIVEN)
            yield table.row(
                id=pk,
                label=f"{city} {'Flagship' if pk == 500 else 'Shop'} {pk:06}",
                wc_id=f"wxid_{pk * 7919 % 10**9:09}{pk:07x}" if seen else None,
                w_id=f"w-{pk:012x}" if state == AccountState.ONLINE else "",
                state=state,
                state_since=when(since),
                verified_at=when(since) if seen else None,
                nickname=f"{name}的小店 Nick{pk}" if seen else "",
                wechat_number=f"wx{pk * 31 % 10**8:08}" if seen else "",
                region=city if seen else "",
                mobile=f"138{pk % 10**8:08}" if seen else "",
                proxy=pick.choice([*self.lines, None]),
                team_id=self.small_team.pk if pk % 25 == 0 and pk <= 1000 else team and team.pk,
                keep_online=wanted,
                queued_for_scan_at=when(since) if to_scan else None,
                note="seeded " * pick.randrange(4),
                first_login_at=when(self.start + (since - self.start) * pick.random()) if seen else None,
                last_login_at=when(since) if seen else None,
                last_offline_at=when(since) if state == AccountState.OFFLINE else None,
                last_offline_reason="kicked by another device" if state == AccountState.OFFLINE else "",
                login_seq=self.seqs.get(pk, 0),
                bound_seq=self.seqs.get(pk, 0),
                created_at=when(self.start),
            )

    def tagged(self) -> Iterator[tuple]:
        """Most tags are on one account in twenty, two on more, one on the last of the small database."""
        ids = itertools.count(1)
        table = Table(Account.tags.through)
        for account in range(1, self.n_accounts + 1):
            tags = self.random.sample(self.tags[:TAGS], self.random.randrange(4))
            for tag, likely in zip(self.tags[TAGS:], COMMON.values(), strict=False):
                tags += [tag] * (self.random.random() < likely)
            tags += [self.tags[TAGS + len(COMMON)]] * (900 < account <= 1000)
            for tag in tags:
                yield table.row(id=next(ids), account_id=account, tag_id=tag.pk)

    # --- attempts and what happened in them ----------------------------------------------------------

    def attempts(self) -> Iterator[tuple]:
        table = Table(LoginAttempt)
        step = YEAR / self.n_attempts
        extra = max(0, self.n_events / self.n_attempts - 4.6)
        for pk in range(1, self.n_attempts + 1):
            begun = self.start + step * pk
            row = self.attempt(pk, begun)
            yield table.row(**row)
            for _n in range(int(extra + self.random.random())):
                self.event(row["account_id"], self.random.choice(EXTRAS), begun)

    def attempt(self, pk: int, begun: datetime) -> dict:
        pick = self.random
        left = self.n_attempts - pk
        is_open = left < (n_open := min(OPEN_ATTEMPTS, self.n_accounts // 10))
        account = self.who_logs_in(left, n_open, is_open)
        state, reason = (AttemptState.WAITING, "") if is_open else self.ending(pk, left - n_open)
        shown = begun + timedelta(seconds=pick.uniform(0.3, 3))
        ended = None if is_open else shown + timedelta(seconds=pick.uniform(2, 150))
        by = pick.choice(self.askers) if pick.random() < 0.8 else None
        words = "" if is_open else pick.choice(["", "处理成功", "upstream said so"])
        self.seqs[account] = self.seqs.get(account, 0) + 1
        self.story(pk, account, state, reason, by, begun, shown, ended, words)
        return {
            "id": pk,
            "account_id": account,
            "method": pick.choices(Method.values, weights=(97, 3))[0],
            "trigger": Trigger.OPERATOR if by else pick.choice([Trigger.SCHEDULE, Trigger.API]),
            "asked_by_id": by.pk if by else None,
            "asked_by_name": by.username if by else "",
            "proxy": pick.choice([*self.lines, None]),
            "seq": self.seqs[account],
            "state": state,
            "reason": reason,
            "upstream_code": "1000" if state == AttemptState.SUCCEEDED else "",
            "upstream_text": words,
            "w_id": f"wait-{pk:010x}",
            "created_at": when(begun),
            "sent_at": when(begun),
            "qr_shown_at": when(shown),
            "wait_started_at": when(shown),
            "ended_at": when(ended) if ended else None,
            # Open ones have a deadline far ahead, or the pages would end them while they are measured.
            "deadline_at": when(self.end + YEAR if is_open else shown + timedelta(seconds=150)),
        }

    def who_logs_in(self, left: int, n_open: int, is_open: bool) -> int:
        pick = self.random
        if is_open:
            return HOT_ACCOUNTS + left + 1
        if left - n_open < len(PLAIN_ACCOUNTS):
            return PLAIN_ACCOUNTS[left - n_open]
        if pick.random() < 0.1:
            return 1 + int(HOT_ACCOUNTS * pick.random() ** 3)
        return pick.randint(1, self.n_accounts)

    def ending(self, pk: int, left: int) -> tuple[str, str]:
        if left < len(PLAIN_ACCOUNTS):
            return AttemptState.EXPIRED, Reason.NOT_SCANNED
        if pk <= OF_EACH * len(ENDINGS):
            return ENDINGS[pk % len(ENDINGS)][1:]
        return self.random.choices(ENDINGS, weights=[weight for weight, _state, _reason in ENDINGS])[0][1:]

    def story(self, pk, account, state, reason, by, begun, shown, ended, words) -> None:
        self.event(account, EventType.ATTEMPT_STARTED, begun, pk, new=AttemptState.PREPARING, by=by)
        self.event(account, EventType.ATTEMPT_MOVED, shown, pk, AttemptState.PREPARING, AttemptState.WAITING)
        self.event(account, EventType.WAIT_TAKEN, shown, pk)
        if ended is None:
            return
        who = by if reason == Reason.CANCELLED else None
        self.event(
            account, EventType.ATTEMPT_MOVED, ended, pk, AttemptState.WAITING, state, reason, words, who
        )
        if state == AttemptState.SUCCEEDED:
            self.event(
                account, EventType.ACCOUNT_ONLINE, ended, pk, AccountState.OFFLINE, AccountState.ONLINE
            )

    def event(
        self, account, happened, at, attempt=None, old="", new="", reason="", detail="", by=None
    ) -> None:
        who = (by.pk, by.username) if by else (None, "")
        self.events.append(
            (len(self.events) + 1, account, attempt, happened, old, new, reason, detail, *who, when(at))
        )

    def fill_up_events(self) -> None:
        """To the number asked for, with drops and edits."""
        missing = self.n_events - len(self.events)
        for n in range(missing):
            at = self.end - (missing - n) * timedelta(milliseconds=50)
            self.event(self.random.randint(1, self.n_accounts), self.random.choice(EXTRAS), at)


EVENT_COLUMNS = (
    *("id", "account_id", "attempt_id", "happened", "from_state", "to_state", "reason", "detail"),
    *("actor_id", "actor_name", "at"),
)


def seed(accounts: int, attempts: int, events: int) -> None:
    began = time.monotonic()
    call_command("migrate", verbosity=0)
    if Account.objects.exists():
        sys.exit("There are accounts in this database; seeding needs an empty one.")
    world = World(accounts, attempts, events)
    tables = [Table(model) for model in (Account, Account.tags.through, LoginAttempt, AccountEvent, *MODELS)]
    tables[3].columns = list(EVENT_COLUMNS)
    with bare([table.table for table in tables]), transaction.atomic():
        if connection.vendor == "postgresql":
            connection.cursor().execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        world.people()
        logins = list(world.attempts())
        world.fill_up_events()
        every = (world.accounts(), world.tagged(), logins, world.events)
        drops = (rows(table, when) for rows, table in zip(world.drops.rows_of_each, tables[4:], strict=True))
        for table, rows in zip(tables, (*every, *drops), strict=True):
            table.insert(rows)
    finish([table.table for table in tables])
    print(
        f"{Account.objects.count()} accounts, {LoginAttempt.objects.count()} attempts, "
        f"{AccountEvent.objects.count()} events in {time.monotonic() - began:.0f} s"
    )


def finish(tables: list[str]) -> None:
    """What a database does by itself in time: ids go on after the seeded ones, PostgreSQL knows its statistics."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        for table in tables:
            last = f"SELECT setval(pg_get_serial_sequence('\"{table}\"', 'id'), max(id)) FROM \"{table}\""
            cursor.execute(last)
            cursor.execute(f'VACUUM ANALYZE "{table}"')
        cursor.execute(f"VACUUM ANALYZE {search.TABLE}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--attempts", type=int, default=300_000)
    parser.add_argument("--events", type=int, default=2_000_000)
    asked = parser.parse_args()
    seed(asked.accounts, asked.attempts, asked.events)
