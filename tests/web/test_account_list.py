"""The accounts page: whatever is asked, by whichever way it is found, the list has what a plain look at all has."""

import random
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.attention.groups import URGENCY, AccountGroup
from accounts.lib.lists import keyset_pagination
from accounts.lib.lists.keyset_pagination import Order
from accounts.models import Account, Drop, Tag
from accounts.web import account_list, visible_accounts
from accounts.web.account_list import BY_PLACE, EVERY, ORDERS, TABS, URGENT, AccountList
from tests.support.databases import sqlite_plan
from tests.support.factories import make_account, make_attempt

ACCOUNTS = 160
EPOCH, MINUTE = datetime(2026, 1, 1, tzinfo=UTC), timedelta(minutes=1)
GROUPS = [group for group, _title in TABS]
SORTS = sorted([*ORDERS, URGENT, BY_PLACE])
PEOPLE = {"admin": None, "nobody": 0, "few": 0, "one": 1, "two": 2, "all": 6, "role": 0}
TEXTS = ["", "shop", "o", "shop 1", "east", "shop east", "none of them"]
TAGS = ["", "most", "some", "rare", "unused", "unknown"]
# What else narrows a list: a team by its place among all of them, a proxy, a rack.
FILTERS = [{}, {}, {"team": 0}, {"team": 3}, {"proxy": 2}, {"rack": "Rack 1"}, {"rack": "Rack 2", "proxy": 2}]


class World:
    """Accounts of six teams, more and less common tags, a few open attempts, and people who see some of them."""

    def __init__(self, people):
        pick = random.Random(7)
        self.teams = [Group.objects.create(name=f"Team {number}") for number in range(6)]
        few = Group.objects.create(name="Few")
        self.tags = {name: Tag.objects.create(name=name) for name in TAGS if name not in ("", "unknown")}
        for number in range(ACCOUNTS):
            team = few if number % 40 == 7 else pick.choice([*self.teams, self.teams[0], None])
            state = pick.choices(["online", "offline", "new"], (60, 30, 10))[0]
            account = make_account(
                label=f"{pick.choice(['East', 'west', 'North'])} {pick.choice(['Shop', 'Store', 'Kiosk'])} {pick.randrange(99)}",
                place=pick.choice(["", "Rack 1", "Rack 1 · Slot 2", "Rack 2 · Slot 10", "Rack 2 · Slot 9"]),
                proxy=pick.choice([None, 1, 2]), keep_online=pick.random() < 0.8, state_since=EPOCH + pick.randrange(60) * MINUTE,
                queued_for_scan_at=EPOCH if pick.random() < 0.1 else None,
                team=team, state=state, w_id=f"w{number}" if state == "online" else "",
                wc_id=None if state == "new" else f"wxid_{number:03}",
            )  # fmt: skip
            likely = {"most": 0.7, "some": 0.2, "rare": 0.04, "unused": 0}
            account.tags.set(tag for name, tag in self.tags.items() if pick.random() < likely[name])
            if number % 9 == 0:
                make_attempt(account, pick.choice(["waiting", "waiting", "code_required"]))
            elif number % 9 == 1:
                make_attempt(account, "expired")
        for account in Account.objects.filter(pk__in=pick.sample(self.ids(Account.objects.all()), 5)):
            other = Account.objects.filter(merged_into=None).exclude(pk=account.pk).order_by("-pk").first()
            Account.objects.filter(pk=account.pk).update(merged_into=other)
        self.people = {name: self.person(people, name, few) for name in PEOPLE}
        self.ordered: dict[str, list[Account]] = {}

    def in_order(self, key) -> list[Account]:
        """All accounts, read once for each order: the examples of one test change nothing."""
        if str(key) not in self.ordered:
            rows = Account.objects.order_by(key, "pk").prefetch_related("tags", "attempts")
            self.ordered[str(key)] = list(rows)
        return self.ordered[str(key)]

    @staticmethod
    def ids(accounts) -> list[int]:
        return list(accounts.values_list("pk", flat=True))

    def person(self, people, name, few):
        if name == "admin":
            return people.admin
        person = people.person(name, "" if name == "role" else "viewer")
        person.groups.add(*self.teams[: PEOPLE[name]], *([few] if name == "few" else []))
        if name == "role":  # in a team, but without the right to look
            person.groups.add(self.teams[0])
        return person

    def as_meant(self, person: str, text: str, tag: str, group: str, sort: str, more: dict) -> list[int]:
        """What the list should have, by looking at one account after the other."""
        order = ORDERS.get(sort) or Order("place_key" if sort == BY_PLACE else "state_since")
        user = self.people[person]
        teams = {team.pk for team in user.groups.all()} if person != "role" else set()
        found = [
            account
            for account in self.in_order(order.column)
            if (user.is_superuser or account.team_id in teams)
            and account.merged_into_id is None
            and all(
                word in f"{account.label}\n{account.wc_id or ''}\n{account.place}".lower()
                for word in text.split()
            )
            and (not tag or tag in {its_own.name for its_own in account.tags.all()})
            and all(
                getattr(account, {"team": "team_id"}.get(name, name)) == value for name, value in more.items()
            )
            and group in (EVERY, group_of(account))
        ]
        if sort == URGENT:
            found.sort(key=lambda account: URGENCY.index(group_of(account)))
        elif sort == BY_PLACE:
            found.sort(key=lambda account: not account.place)
        return [account.pk for account in (found[::-1] if order.descending else found)]


def group_of(account: Account) -> str:
    last = max(account.attempts.all(), key=lambda attempt: attempt.seq, default=None)
    if account.queued_for_scan_at and account.keep_online or last and last.state == "code_required":
        return AccountGroup.ATTENTION
    if last and last.is_open:
        return AccountGroup.WAITING
    if last and last.state == "expired" and account.keep_online and account.state != "online":
        return AccountGroup.ATTENTION
    return account.state


@pytest.fixture
def world(people, monkeypatch):
    """With limits so low that some lists are few, some are many, and some counts are capped."""
    monkeypatch.setattr(account_list, "FEW", 12)
    monkeypatch.setattr(visible_accounts, "FEW", 12)
    monkeypatch.setattr(account_list, "FEW_TEAMS", 2)
    monkeypatch.setattr(account_list, "COUNT_LIMIT", 30)
    for name in ("page_of", "page_of_sections"):
        monkeypatch.setattr(account_list, name, partial(getattr(keyset_pagination, name), size=7))
    return World(people)


def walk(search: AccountList, start: str, step: str) -> list[list[int]]:
    cursor, pages = start, []
    while True:
        page = AccountList(**{**vars_of(search), "cursor": cursor}).page()
        pages.append([row.pk for row in page.rows])
        cursor = getattr(page, step)
        if not cursor:
            return pages


def vars_of(search: AccountList) -> dict:
    return {name: getattr(search, name) for name in search.__dataclass_fields__}


many = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
questions = (
    st.sampled_from(sorted(PEOPLE)),
    st.sampled_from(TEXTS),
    st.sampled_from(TAGS),
    st.sampled_from(FILTERS),
    st.sampled_from(GROUPS),
    st.sampled_from(SORTS),
)


def asked(world, person, text, tag, filters, group="", sort=URGENT) -> tuple[AccountList, list[int]]:
    """The list, as from an address, and what it should have. A team that a person does not see is no filter."""
    more = {name: world.teams[value].pk if name == "team" else value for name, value in filters.items()}
    query = {"q": text, "tag": tag, "group": group, "sort": sort, **{name: str(more[name]) for name in more}}
    search = AccountList.of(world.people[person], query)
    if not search.team:
        more.pop("team", None)
    return search, world.as_meant(person, text, tag, group, sort, more)


@pytest.mark.slow
@many
@given(*questions)
def test_the_pages_have_what_was_asked_for_in_its_order_and_backwards(
    world, person, text, tag, filters, group, sort
):
    search, meant = asked(world, person, text, tag, filters, group, sort)
    assert sum(walk(search, "", "next"), []) == meant
    assert sum(reversed(walk(search, "last", "previous")), []) == meant
    assert sorted(search.selection().values_list("pk", flat=True)) == sorted(meant)


@pytest.mark.slow
@many
@given(*questions[:4])
def test_the_tabs_count_what_there_is_or_say_that_there_is_more(world, person, text, tag, filters):
    tabs = asked(world, person, text, tag, filters)[0].tabs()
    for tab in tabs:
        there_are = len(asked(world, person, text, tag, filters, tab["group"])[1])
        assert tab["count"] <= there_are
        assert tab["more"] or tab["count"] == there_are
        assert tab["count"] > 0 or not tab["more"] or tab["group"] != EVERY
    every, *groups = tabs
    if not any(tab["more"] for tab in tabs):
        assert every["count"] == sum(tab["count"] for tab in groups)


@pytest.mark.slow
def test_the_tags_and_racks_to_choose_from_are_those_of_accounts_that_are_seen(world):
    for person in PEOPLE:
        seen = world.as_meant(person, "", "", EVERY, "label", {})
        search = AccountList(world.people[person])
        assert {tag.name for tag in search.tags()} == {
            tag.name for tag in Tag.objects.filter(accounts__in=seen)
        }
        racks = Account.objects.filter(pk__in=seen).exclude(rack="").values_list("rack", flat=True)
        assert search.racks() == sorted(set(racks)), person


def test_a_row_that_leaves_its_group_between_two_pages_takes_no_other_row_with_it(people, monkeypatch):
    monkeypatch.setattr(account_list, "page_of_sections", partial(keyset_pagination.page_of_sections, size=2))
    accounts = [
        people.account(queued_for_scan_at=EPOCH, state_since=EPOCH + number * MINUTE) for number in range(4)
    ]
    first = AccountList(people.operator).page()
    later = Account.objects.filter(pk=first.rows[-1].pk)
    later.update(queued_for_scan_at=None, state_since=EPOCH + 9 * MINUTE)
    second = AccountList(people.operator, cursor=first.next).page()
    assert [row.pk for row in first.rows + second.rows] == [account.pk for account in accounts]


def scans() -> int:
    """How many scans of tables and indexes this transaction has made."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(seq_scan + coalesce(idx_scan, 0)) FROM pg_stat_xact_user_tables")
        return int(cursor.fetchone()[0])


@pytest.mark.slow
@pytest.mark.database("postgres")
def test_no_page_reads_a_section_once_per_account_after_the_tables_were_empty(world):
    """PostgreSQL then believes until its next ANALYZE that each table has one row."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE pg_class SET reltuples = 0, relpages = 8 WHERE relname LIKE 'accounts!_%' ESCAPE '!'"
        )
        cursor.execute("SET LOCAL statement_timeout = '60s'")  # it would take many minutes
    for sort in SORTS:
        for filters in ({}, {"team": 0}):
            search, meant = asked(world, "admin", "", "", filters, sort=sort)
            before = scans()
            assert [row.pk for row in search.page().rows] == meant[:7]
            assert scans() - before < 5 * ACCOUNTS, (sort, filters)


@pytest.mark.slow
@pytest.mark.database("sqlite")
@pytest.mark.parametrize("person", ["admin", "one", "all"])
def test_the_accounts_of_a_page_are_found_without_reading_all_of_a_team(world, person):
    client = Client()
    client.force_login(world.people[person], "django.contrib.auth.backends.ModelBackend")
    with CaptureQueriesContext(connection) as queries:
        client.get("/accounts/")
    plans = {sql["sql"]: sqlite_plan(sql["sql"]) for sql in queries if sql["sql"].startswith("SELECT")}
    of_failed = [plan for sql, plan in plans.items() if '"login_seq" > (' in sql]
    assert len(of_failed) == 3 and all("INDEX account_unanswered" in plan for plan in of_failed), of_failed
    [racks] = [plan for sql, plan in plans.items() if "DISTINCT" in sql and "rack" in sql]
    assert "COVERING INDEX account_rack" in racks


def test_a_row_shows_the_last_30_days_of_its_account(people):
    month = timezone.now() - timedelta(days=60)
    fields = {"state": "online", "first_login_at": month, "state_since": month}
    steady, dropped = (people.account(label=label, w_id=f"w{label}", **fields) for label in "ab")
    new = people.account(label="c")
    at = timezone.now() - timedelta(days=2)
    Drop.objects.create(account=dropped, w_id="old", at=at, ended_at=at + timedelta(hours=5))
    page = people.operator.client.get("/accounts/").content.decode()
    found = {pk: page.split(f'id="row-{pk}"')[1].split("</tr>")[0] for pk in (steady.pk, dropped.pk, new.pk)}
    assert "100.0% online, 0 drops" in found[steady.pk] and 'class="out"' not in found[steady.pk]
    assert '% online, 1 drop"' in found[dropped.pk] and 'class="out"' in found[dropped.pk]
    assert "100.0%" not in found[dropped.pk]
    assert "<svg" not in found[new.pk]
    row = people.operator.client.get(f"/accounts/{dropped.pk}/row/").content.decode()
    assert 'class="out"' in row
