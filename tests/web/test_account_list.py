"""The accounts page: whatever is asked, by whichever way it is found, the list has what a plain look at all has."""

import random
from functools import partial

import pytest
from django.contrib.auth.models import Group
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.lib.lists import keyset_pagination
from accounts.models import Account, Tag
from accounts.web import account_list
from accounts.web.account_list import EVERY, ORDERS, TABS, WAITING, AccountList
from tests.support.factories import make_account, make_attempt

ACCOUNTS = 160
STATES = [state for state, _title in TABS]
PEOPLE = {"admin": None, "nobody": 0, "few": 0, "one": 1, "two": 2, "all": 6, "role": 0}
TEXTS = ["", "shop", "o", "shop 1", "east", "shop east", "none of them"]
TAGS = ["", "most", "some", "rare", "unused", "unknown"]


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
                team=team, state=state, w_id=f"w{number}" if state == "online" else "",
                wc_id=None if state == "new" else f"wxid_{number:03}",
            )  # fmt: skip
            likely = {"most": 0.7, "some": 0.2, "rare": 0.04, "unused": 0}
            account.tags.set(tag for name, tag in self.tags.items() if pick.random() < likely[name])
            if number % 9 == 0:
                make_attempt(account)
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
        person = people.person(name, "" if name == "role" else "Viewers")
        person.groups.add(*self.teams[: PEOPLE[name]], *([few] if name == "few" else []))
        if name == "role":  # in a team, but without the right to look
            person.groups.add(self.teams[0])
        return person

    def as_meant(self, person: str, text: str, tag: str, state: str, order) -> list[int]:
        """What the list should have, by looking at one account after the other."""
        user = self.people[person]
        teams = {team.pk for team in user.groups.all()} if person != "role" else set()
        found = [
            account.pk
            for account in self.in_order(order.column)
            if (user.is_superuser or account.team_id in teams)
            and account.merged_into_id is None
            and all(word in f"{account.label}\n{account.wc_id or ''}".lower() for word in text.split())
            and (not tag or tag in {its_own.name for its_own in account.tags.all()})
            and (
                state == EVERY
                or account.state == state
                or (state == WAITING and any(attempt.is_open for attempt in account.attempts.all()))
            )
        ]
        return found[::-1] if order.descending else found


@pytest.fixture
def world(people, monkeypatch):
    """With limits so low that some lists are few, some are many, and some counts are capped."""
    monkeypatch.setattr(account_list, "FEW", 12)
    monkeypatch.setattr(account_list, "FEW_TEAMS", 2)
    monkeypatch.setattr(account_list, "COUNT_LIMIT", 30)
    monkeypatch.setattr(account_list, "page_of", partial(keyset_pagination.page_of, size=7))
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
    st.sampled_from(STATES),
    st.sampled_from(sorted(ORDERS)),
)


@pytest.mark.slow
@many
@given(*questions)
def test_the_pages_have_what_was_asked_for_in_its_order_and_backwards(world, person, text, tag, state, order):
    search = AccountList(world.people[person], text, state, tag, order)
    meant = world.as_meant(person, text, tag, state, ORDERS[order])
    assert sum(walk(search, "", "next"), []) == meant
    assert sum(reversed(walk(search, "last", "previous")), []) == meant


@pytest.mark.slow
@many
@given(*questions[:3])
def test_the_tabs_count_what_there_is_or_say_that_there_is_more(world, person, text, tag):
    tabs = AccountList(world.people[person], text, "", tag).tabs()
    for tab in tabs:
        there_are = len(world.as_meant(person, text, tag, tab["state"], ORDERS["since"]))
        assert tab["count"] <= there_are
        assert tab["more"] or tab["count"] == there_are
        assert tab["count"] > 0 or not tab["more"] or tab["state"] != EVERY


@pytest.mark.slow
def test_the_tags_to_choose_from_are_those_of_accounts_that_are_seen(world):
    for person in PEOPLE:
        seen = world.as_meant(person, "", "", EVERY, ORDERS["label"])
        meant = {tag.name for tag in Tag.objects.filter(accounts__in=seen)}
        assert {tag.name for tag in AccountList(world.people[person]).tags()} == meant, person
