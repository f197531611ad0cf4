"""The page of the audit log: who may read it, its filters, its pages, its links, its file."""

import csv
import re
from datetime import datetime, timedelta
from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import AuditEntry, Team
from accounts.models.audit import log as audit
from accounts.models.audit import origin
from accounts.models.audit.entry import AuditKind
from accounts.models.audit.origin import Origin, Way
from accounts.roles import RoleCode
from tests.support.databases import sqlite_plan
from tests.support.factories import make_attempt

PAGE, FILE = "/audit/", "/audit/export.csv"


def add(
    kind: str, about=None, by=None, way: str = Way.PAGE, address: str | None = None, at=None, **fields
) -> AuditEntry:
    with origin.bound(Origin(way, "view", address)):
        entry = audit.record(kind, about=about, by=by, **fields)
    if at is not None:
        AuditEntry.objects.filter(pk=entry.pk).update(at=at)
    return entry


def shown(client, status: int = 200, **asked) -> list[int]:
    answer = client.get(PAGE, asked)
    assert answer.status_code == status
    return [int(pk) for pk in re.findall(r'data-entry="(\d+)"', answer.content.decode())]


def file_of(client, **asked) -> list[list[str]]:
    answer = client.get(FILE, asked)
    assert answer["Content-Type"].startswith("text/csv")
    text = b"".join(answer.streaming_content).decode()
    return list(csv.reader(StringIO(text.removeprefix("\ufeff"))))


@pytest.fixture
def log(people):
    """Entries by name, the oldest first."""
    account = people.account(label="Shop 1")
    old = timezone.make_aware(datetime(2026, 3, 1, 23, 59))
    return {
        "old": add(AuditKind.LOCKED, people.mate, people.admin, at=old),
        "edit": add(
            AuditKind.CHANGED, account, people.operator, address="203.0.113.9", detail="label, own_proxy"
        ),
        "west": add(
            AuditKind.PAUSED,
            people.account(team=people.west, label="West 1"),
            people.stranger,
            detail="holiday 50%",
        ),
        "team": add(AuditKind.RENAMED, Team.objects.get(pk=people.west.pk), people.admin, way=Way.ADMIN),
        "owner": add(AuditKind.CODE_SHOWN, account, way=Way.LINK, address="198.51.100.7"),
        "shell": add(AuditKind.PASSWORD, people.admin, way=Way.COMMAND),
    }


@pytest.mark.slow
def test_who_may_read_it(people):
    auditor = people.person("auditor", RoleCode.AUDITOR)
    for person, may in (
        *((people.admin, True), (auditor, True), (people.person("boss", RoleCode.ADMIN), True)),
        *(
            (people.operator, False),
            (people.viewer, False),
            (people.person("lead", RoleCode.LEAD, people.east), False),
        ),
    ):
        for path in (PAGE, FILE):
            answer = person.client.get(path)
            assert answer.status_code == (200 if may else 404), (person, path)
            if answer.streaming:
                list(answer.streaming_content)
        assert (PAGE in person.client.get("/me/").content.decode()) == may
    assert people.admin.client.post(PAGE).status_code == 405


FILTERS = [
    ({}, "old edit west team owner shell"),
    ({"kind": "locked"}, "old"),
    ({"who": "admin"}, "old team"),
    ({"way": "link"}, "owner"),
    ({"way": "command"}, "shell"),
    ({"address": "203.0.113.9"}, "edit"),
    ({"about": "account"}, "edit west owner"),
    ({"about": "person"}, "old shell"),
    ({"about": "team"}, "team"),
    ({"account": "Shop 1"}, "edit owner"),
    ({"team": "West"}, "west team"),
    ({"team": "East", "way": "link"}, "owner"),
    ({"since": "2026-03-01", "until": "2026-03-01"}, "old"),
    ({"until": "2026-02-28"}, ""),
    ({"since": "2026-03-02"}, "edit west team owner shell"),
    ({"q": "shop"}, "edit owner"),
    ({"q": "holiday 50%"}, "west"),
    ({"q": "0%", "who": "stranger"}, "west"),
    ({"q": "_est"}, ""),
    ({"q": "shop", "who": "operator", "kind": "changed", "address": "203.0.113.9", "team": "East"}, "edit"),
    ({"page": ">junk"}, "old edit west team owner shell"),
]


@pytest.mark.parametrize(("asked", "found"), FILTERS)
def test_filters_combine_and_the_file_has_the_same(people, log, asked, found):
    expected = [log[name].pk for name in reversed(found.split())]
    expected.sort(key=lambda pk: (pk != log["old"].pk, pk), reverse=True)
    assert shown(people.admin.client, **asked) == expected
    rows = file_of(people.admin.client, **asked)
    assert len(rows) == 1 + len(expected)
    exported = AuditEntry.objects.get(kind=AuditKind.EXPORTED)
    assert exported.number == len(expected)


def test_an_account_is_found_by_its_number_too(people, log):
    pk = log["edit"].account_id
    for typed in (f"#{pk}", str(pk)):
        assert shown(people.admin.client, account=typed) == [log["owner"].pk, log["edit"].pk]


@pytest.mark.parametrize(
    "asked",
    [
        {"since": "yesterday"},
        {"address": "10.0.0"},
        {"kind": "nothing"},
        {"way": "x"},
        {"q": "a\x00b"},
        {"since": "0001-01-01", "until": "9999-12-31"},
    ],
)
def test_a_wrong_filter_lists_nothing_and_says_why(people, log, asked):
    answer = people.admin.client.get(PAGE, asked)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert 'role="alert"' in page and "data-entry" not in page
    assert people.admin.client.get(FILE, asked).status_code == 302
    assert not AuditEntry.objects.filter(kind=AuditKind.EXPORTED).exists()


def test_pages_lead_through_all_entries(people):
    made = [add(AuditKind.LOCKED, people.mate, people.admin).pk for _ in range(120)]
    seen, path = [], f"{PAGE}?kind=locked"
    while path:
        page = people.admin.client.get(path).content.decode()
        seen += [int(pk) for pk in re.findall(r'data-entry="(\d+)"', page)]
        older = re.search(r'rel="next" href="([^"]+)"', page)
        path = older and PAGE + older[1].replace("&amp;", "&")
    assert seen == sorted(made, reverse=True)
    assert [int(row[5]) for row in file_of(people.admin.client, kind="locked")[1:]] == [people.mate.pk] * 120


def add_codes_shown(people, number: int) -> None:
    for _ in range(number):
        account = people.account()
        entry = add(AuditKind.CODE_SHOWN, account, people.operator)
        AuditEntry.objects.filter(pk=entry.pk).update(attempt_id=make_attempt(account).pk)


def test_a_page_costs_the_same_however_long_it_is(people, django_assert_max_num_queries):
    add_codes_shown(people, 2)
    with django_assert_max_num_queries(30) as said:
        shown(people.admin.client)
    add_codes_shown(people, 20)
    with django_assert_max_num_queries(len(said)):
        assert len(shown(people.admin.client)) == 22


@pytest.mark.database("sqlite")
@pytest.mark.parametrize("person", ["admin", "auditor"])
def test_the_logins_of_a_page_are_read_by_their_ids(people, person):
    add_codes_shown(people, 50)  # a full page: with few IDs it would in any case
    client = people.admin.client if person == "admin" else people.person("reads", RoleCode.AUDITOR).client
    with CaptureQueriesContext(connection) as queries:
        assert len(shown(client)) == 50
    plans = [sqlite_plan(sql["sql"]) for sql in queries if 'FROM "accounts_loginattempt" WHERE' in sql["sql"]]
    assert plans and all(
        "SEARCH accounts_loginattempt USING INTEGER PRIMARY KEY" in plan for plan in plans
    ), plans


def test_it_leads_to_what_is_still_there(people, log):
    account_id = log["edit"].account_id
    page = people.admin.client.get(PAGE).content.decode()
    for path in (
        f"/accounts/{account_id}/",
        f"/people/{people.mate.pk}/",
        f"/people/teams/{people.west.pk}/",
    ):
        assert f'href="{path}"' in page
    get_user_model().objects.filter(pk=people.mate.pk).delete()
    people.west.delete()
    page = people.admin.client.get(PAGE).content.decode()
    for path in (f"/people/{people.mate.pk}/", f"/people/teams/{people.west.pk}/"):
        assert f'href="{path}"' not in page
    assert "mate" in page and "West" in page
    auditor = people.person("auditor", RoleCode.AUDITOR).client.get(PAGE).content.decode()
    assert (
        f'href="/accounts/{account_id}/"' in auditor
        and f'href="/people/{people.operator.pk}/"' not in auditor
    )


def test_details_are_words(people):
    account = people.account()
    add(AuditKind.CHANGED, account, people.operator, detail="label, own_proxy, relogin_at")
    add(AuditKind.GROUPS, people.mate, people.admin, detail="operator, East")
    add(AuditKind.LOGIN_MOVED, account, people.operator, detail="cancelled")
    add(AuditKind.BULK_STARTED, people.east, people.operator, detail="tag: VIP", number=3)
    add(AuditKind.ADDED, people.east, people.operator)
    client = people.admin.client
    page = " ".join(client.get(PAGE).content.decode().split())
    for words in (
        "Label, Own proxy, Scheduled re-login",
        "Operator, East",
        "Cancelled",
        "Add tags: VIP",
        "× 3",
    ):
        assert words in page, words
    client.cookies["django_language"] = "zh-hans"
    page = " ".join(client.get(PAGE).content.decode().split())
    for words in ("名称, 自有线路", "操作员, East", "已取消", "审计日志"):
        assert words in page, words


def test_cells_of_the_file_are_harmless(people):
    add(AuditKind.RENAMED, people.account(label="=1+1"), people.admin, detail="@SUM(A1)")
    _heads, cells = file_of(people.admin.client)
    assert "'=1+1" in cells and "'@SUM(A1)" in cells
    assert datetime.fromisoformat(cells[0]) > timezone.now() - timedelta(minutes=5)
