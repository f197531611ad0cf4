"""Fill the database that DATABASE_URL names with accounts, login attempts, events and drops, unless that was done.

The rows look like a year of work, and are the same at every run. Labels begin with a city, and most teams are those of
the cities: what a filter passes often stands at one end of an order. Lists are full in a small database, too.
"""

import itertools
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import django

django.setup()

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.db import connection, models
from django.utils import timezone

from accounts.models import Account, AccountEvent, Drop, Incident, LoginAttempt, Tag, UnmanagedAccount
from accounts.models.audit.entry import AuditEntry

SMALL, YEAR = 1000, timedelta(days=365)
PLAIN = (1, 500)  # accounts that are alike in all databases: offline, their last login timed out
HOT, OPEN = 20, 50  # accounts with a tenth of all attempts; attempts in progress
CITIES = sorted(["广州", "南京", "杭州", "上海", "深圳", "成都", "武汉", "西安"])
NAMES = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗伟芳娜敏静丽强磊军洋勇艳杰娟涛明超霞平刚桂英华玉兰红梅建文斌"
PROXIES = (1, 2, 3, 4, 5, None)
TAGS = {f"tag {n:02}": 0.05 for n in range(1, 31)} | {"most": 0.6, "many": 0.3, "few": 0.001, "none": 0}
TIMED_OUT = ("expired", "not_scanned")
ENDINGS = {("succeeded", ""): 60, TIMED_OUT: 22, ("cancelled", "cancelled"): 6, ("failed", "declined"): 5}
ENDINGS |= {("failed", "refused"): 3, ("failed", "line_down"): 2, ("failed", "interrupted"): 0.05}
FIRST_ENDINGS = list(ENDINGS) * 60  # so that there are some of each
OTHER_EVENTS = {"account_offline": 60, "wait_resumed": 28, "changed": 9, "joined": 3}


def batches(rows: Iterable[models.Model]) -> Iterator[list[models.Model]]:
    """Insert the rows; yield each batch."""
    rows = iter(rows)
    while batch := list(itertools.islice(rows, 5000)):
        yield type(batch[0]).objects.bulk_create(batch)


def insert(rows: Iterable[models.Model]) -> int:
    return sum(map(len, batches(rows)))


class World:
    def __init__(self, accounts: int, attempts: int, events: int):
        self.random, self.end = random.Random(20), timezone.now() - timedelta(minutes=5)
        self.start = self.end - YEAR
        self.n_accounts, self.n_attempts, self.n_events = accounts, attempts, events
        last = [*PLAIN, *range(HOT + 1, HOT + 1 + OPEN)]
        # The account of each attempt.
        self.accounts = [self.any_account() for _ in range(attempts - len(last))] + last
        self.offline: list[Account] = []

    def any_account(self) -> int:
        number = self.random.randint(1, self.n_accounts)
        return 1 + int(HOT * self.random.random() ** 3) if self.random.random() < 0.1 else number

    def any_time(self) -> datetime:
        return self.start + YEAR * self.random.random()

    def pick(self, weights: dict):
        return self.random.choices(list(weights), list(weights.values()))[0]

    def fill(self) -> None:
        self.add_users()
        insert(map(self.account, range(1, self.n_accounts + 1), itertools.repeat(Counter(self.accounts))))
        insert(self.tags())
        written, others = 0, max(0, self.n_events / self.n_attempts - 4.6)
        for attempts in batches(self.attempts()):
            written += insert(event for attempt in attempts for event in self.events(attempt, others))
            insert(entry for attempt in attempts if attempt.asked_by for entry in self.audit(attempt))
        times = (self.end - timedelta(milliseconds=50 * n) for n in range(self.n_events - written, 0, -1))
        insert(self.other_event(self.any_account(), at) for at in times)
        self.add_drops()
        insert(UnmanagedAccount(wc_id=f"wxid_stranger{n:04}", found_at=self.end) for n in range(40))

    def add_users(self) -> None:
        names = (*CITIES, "of most", "of a few")
        *cities, most, few = (Group.objects.create(name=f"Team {name}") for name in names)
        self.teams, self.most, self.few = dict(zip(CITIES, cities, strict=True)), most, few
        teams = {f"operator{n + 1:02}": [cities[n % len(cities)]] for n in range(40)}
        teams |= {"one-team": [most], "three-teams": [most, *cities[-2:]], "city-team": cities[-1:]}
        teams |= {"city-teams": cities[-3:], "small-team": [few]}
        self.users = [get_user_model().objects.create_superuser("admin")]
        operator = Group.objects.get(role="operator")
        names = ("view_loginattempt", "view_accountevent", "view_drop", "view_tag")
        permissions = Permission.objects.filter(codename__in=names)
        for name, groups in teams.items():
            self.users.append(get_user_model().objects.create_user(name, is_staff=True))
            self.users[-1].groups.add(operator, *groups)
            self.users[-1].user_permissions.add(*permissions)

    def account(self, number: int, logins: Counter[int]) -> Account:
        city, since = self.random.choice(CITIES), self.any_time()
        state = "offline" if number in PLAIN else self.pick({"new": 8, "online": 62, "offline": 30})
        team = self.pick({None: 6, self.most: 74, self.teams[city]: 20})
        # Of few accounts the last login may have failed: people or recovery saw to all others.
        unsuccessful = number in PLAIN or number % 20 == 1
        account = Account(
            label=f"{city} {'Flagship' if number == 500 else 'Shop'} {number:06}", region=city,
            place=f"Rack {number % 40} · Slot {number // 40}" if number % 3 else "",
            team=self.few if number % 25 == 0 and number <= SMALL else team,
            state=state, state_since=since, created_at=self.start, keep_online=self.random.random() < 0.8,
            proxy=self.random.choice(PROXIES), login_seq=logins[number],
            bound_seq=max(0, logins[number] - unsuccessful),
        )  # fmt: skip
        if state == "new":
            return account
        account.checked_at = account.last_login_at = since
        account.first_login_at = self.start + (since - self.start) * self.random.random()
        account.wc_id = f"wxid_{number * 7919 % 10**9:09}{number:07x}"
        name = "骆驿" if number == 500 else "".join(self.random.choices(NAMES, k=2))
        account.nickname, account.wechat_id = f"{name}的小店 Nick{number}", f"wx{number * 31 % 10**8:08}"
        if account.state == "online":
            account.w_id = f"w-{number:012x}"
            return account
        account.last_offline_at = since
        if account.keep_online and (number <= SMALL or number % 20 == 0):
            account.queued_for_scan_at = since
        self.offline.append(account)
        return account

    def tags(self) -> Iterator[models.Model]:
        tags = {name: Tag.objects.create(name=name) for name in TAGS}
        for account in range(1, self.n_accounts + 1):
            mine = [tags[name] for name, share in TAGS.items() if self.random.random() < share]
            yield from (Account.tags.through(account_id=account, tag=tag) for tag in mine)

    def attempts(self) -> Iterator[LoginAttempt]:
        seqs: Counter[int] = Counter()
        for number, account in enumerate(self.accounts):
            seqs[account] += 1
            begun, later = self.start + YEAR * (number / self.n_attempts), self.n_attempts - number - 1
            shown = begun + timedelta(seconds=self.random.uniform(0, 3))
            ended = shown + timedelta(seconds=self.random.uniform(5, 150))
            state, reason = FIRST_ENDINGS[number] if number < len(FIRST_ENDINGS) else self.pick(ENDINGS)
            if later < OPEN + len(PLAIN):
                state, reason = ("waiting", "") if later < OPEN else TIMED_OUT
            user = self.random.choice(self.users[:20]) if self.random.random() < 0.8 else None
            yield LoginAttempt(
                account_id=account, seq=seqs[account], proxy=self.random.choice(PROXIES), state=state,
                reason=reason, asked_by=user, asked_by_name=user.username if user else "",
                method=self.pick({"qr": 97, "popup": 3}), w_id=f"wait-{number:010x}",
                trigger="operator" if user else self.random.choice(["schedule", "api"]),
                created_at=begun, sent_at=begun, qr_shown_at=shown, wait_started_at=shown,
                ended_at=None if state == "waiting" else ended,
                deadline_at=self.end + YEAR,  # pages end overdue attempts
            )  # fmt: skip

    def events(self, attempt: LoginAttempt, others: float) -> Iterator[AccountEvent]:
        by = {"actor": attempt.asked_by, "actor_name": attempt.asked_by_name}
        why = {"reason": attempt.reason} | (by if attempt.reason == "cancelled" else {})
        ended, count = attempt.ended_at, 5 if attempt.state == "succeeded" else 4 if attempt.ended_at else 3
        happened = [
            (attempt.created_at, "attempt_started", "", "preparing", by),
            (attempt.qr_shown_at, "attempt_moved", "preparing", "waiting", {}),
            (attempt.qr_shown_at, "wait_taken", "", "", {}),
            (ended, "attempt_moved", "waiting", attempt.state, why),
            (ended, "account_online", "offline", "online", {}),
        ]
        for at, what, old, new, more in happened[:count]:
            row = {"account_id": attempt.account_id, "attempt": attempt, "happened": what, "at": at, **more}
            yield AccountEvent(from_state=old, to_state=new, **row)
        for _n in range(int(others + self.random.random())):
            yield self.other_event(attempt.account_id, attempt.created_at)

    def audit(self, attempt: LoginAttempt) -> Iterator[AuditEntry]:
        row = {"actor_name": attempt.asked_by_name, "subject": "accounts.account", "way": "page"}
        row |= dict.fromkeys(("subject_id", "account_id"), attempt.account_id) | {"attempt_id": attempt.pk}
        for at, kind in ((attempt.created_at, "login_started"), (attempt.qr_shown_at, "code_shown")):
            yield AuditEntry(at=at, kind=kind, **row)

    def other_event(self, account: int, at: datetime) -> AccountEvent:
        return AccountEvent(account_id=account, happened=self.pick(OTHER_EVENTS), at=at)

    def add_drops(self) -> None:
        """As many drops as logins; each offline account has an open drop, a tenth of them in two open incidents."""
        count = max(2, self.n_accounts // 200)
        times = [self.start + YEAR * (n / count) for n in range(1, count + 1)]
        rows = [{"at": at, "last_drop_at": at, "ended_at": at + timedelta(hours=3)} for at in times]
        rows[-2]["ended_at"] = rows[-1]["ended_at"] = None
        *over, older, newer = Incident.objects.bulk_create(Incident(**row) for row in rows)
        incidents = [incident for incident in over for _n in range(60)]
        incidents += [None] * (self.n_attempts - len(incidents))
        times = sorted(self.any_time() for _n in incidents)
        drops = zip(times, incidents, strict=True)
        insert(self.drop(self.any_account(), *drop, ended=True) for drop in drops)
        together = len(self.offline) // 20
        incidents = itertools.chain([newer] * together, [older] * together, itertools.repeat(None))
        drops = zip(self.offline, incidents, strict=False)
        insert(self.drop(account.pk, account.state_since, incident) for account, incident in drops)

    def drop(self, account: int, at: datetime, incident: Incident | None, ended: bool = False) -> Drop:
        row = {"account_id": account, "incident": incident, "at": at, "online_since": at - timedelta(days=2)}
        row |= {"kind": self.pick({"ordinary": 95, "first_night": 5}), "proxy": self.random.choice(PROXIES)}
        row |= {"detected_by": self.random.choice(["sweep", "notice", "check"]), "w_id": "dropped"}
        over = {"next_step": "nothing", "ended_at": at + timedelta(minutes=40), "ended_by": "qr"}
        return Drop(next_at=None, **row, **(over if ended else {"next_step": "scan"}))


def main(accounts: int, attempts: int, events: int) -> None:
    call_command("migrate", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    if UnmanagedAccount.objects.exists():  # the last rows
        return
    postgres = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        if postgres:
            cursor.execute("SET idle_in_transaction_session_timeout = 0")  # batches are large
        World(accounts, attempts, events).fill()
        if postgres:
            cursor.execute("VACUUM ANALYZE")


main(*map(int, sys.argv[1:]))
