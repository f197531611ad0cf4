"""The frame of every page: where its links lead, what it counts, and where one is."""

import re

import pytest

from tests.support.factories import make_attempt
from tests.web.test_scan_queue import dropped

pytestmark = pytest.mark.usually("sqlite")


def entries(client, path: str = "/accounts/") -> list[str]:
    nav = re.search(r"<nav.*?</nav>", client.get(path).content.decode(), re.DOTALL)[0]
    return re.findall(r'<a class="item[^"]*"[^>]*>.*?<span>(.*?)</span>', nav, re.DOTALL)


def test_people_see_the_pages_that_they_may_open(people):
    assert entries(people.viewer.client) == ["Overview", "Accounts", "Incidents"]
    operators = ["Overview", "Accounts", "Scan station", "Incidents"]
    assert entries(people.operator.client) == operators
    assert entries(people.admin.client) == [*operators, "Unmanaged", "People", "Audit log", "Status", "Admin"]


def test_four_pages_are_in_the_bar_and_the_others_under_more(people):
    page = people.admin.client.get("/accounts/").content.decode()
    wide = re.findall(r'<a class="item wide"[^>]*>.*?<span>(.*?)</span>', page, re.DOTALL)
    more = re.search(r'<div class="more-pages.*?</div>', page, re.DOTALL)[0]
    assert wide == ["Unmanaged", "People", "Audit log", "Status", "Admin"]
    assert re.findall(r"<span>(.*?)</span>", more) == [
        "Unmanaged",
        "People",
        "Audit log",
        "Status",
        "Admin",
        "Add account",
    ]
    assert "/accounts/check/" in more
    assert "/logout/" in more and "/language/" in more


def test_a_page_outside_of_the_navigation_marks_none(people):
    assert (
        "aria-current"
        not in re.search(
            r"<nav.*?</nav>", people.operator.client.get("/nothing/").content.decode(), re.DOTALL
        )[0]
    )


def test_the_counts_are_those_of_the_page(people):
    dropped(people, 1)
    dropped(people, 1, team=people.west)
    shown_to = {"operator": (1, 1, None), "stranger": (1, 1, None), "admin": (2, 2, 0)}
    for who in [*shown_to, *shown_to]:  # again: each person's own, by the same statement
        counts = getattr(people, who).client.get("/waiting/").json()
        assert (counts["attention"], counts["to_scan"], counts["unmanaged"]) == shown_to[who], who
        assert counts["incidents"] == 0
    page = people.operator.client.get("/accounts/").content.decode()
    shown = {("attention", "1"), ("to_scan", "1"), ("incidents", "")}
    assert set(re.findall(r'data-count="(\w+)">(\d*)<', page)) == shown


@pytest.mark.slow
def test_every_page_has_one_heading(people):
    offline = dropped(people, 1)
    attempt = make_attempt(offline)
    online = people.account(w_id="w1")
    client = people.admin.client
    for path in (
        "/",
        "/accounts/",
        f"/accounts/{offline.pk}/",
        f"/accounts/{offline.pk}/edit/",
        "/accounts/new/",
        f"/attempts/{attempt.pk}/",
        "/station/",
        "/incidents/",
        "/discovered/",
        "/nothing/",
    ):
        assert client.get(path).content.decode().count("<h1") == 1, path
    for action in ("login", "log-out"):
        question = client.post(f"/accounts/{online.pk}/{action}/").content.decode()
        assert question.count("<h1") == 1 and 'name="sure"' in question
