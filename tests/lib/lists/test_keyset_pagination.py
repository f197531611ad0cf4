"""Pages by key: complete, without doubles, forwards and backwards, under every order."""

import pytest

from accounts.lib.lists.keyset_pagination import count_up_to, page_of
from accounts.models import Account
from accounts.web.account_list import ORDERS
from tests.support.factories import make_account

LABELS = ["b", "A", "a", "C", "b", "Ä", "旗", "", "b", "c", "B", "aa", "Z"]


@pytest.fixture
def rows(db):
    for number, label in enumerate(LABELS):
        online = {"w_id": f"w{number}"} if number % 3 == 0 else {}
        make_account(label=label, **online)
    return Account.objects.all()


def walk(rows, order, start, step):
    cursor, seen = start, []
    while True:
        page = page_of(rows, order, cursor, size=4)
        seen.append([row.pk for row in page.rows])
        cursor = getattr(page, step)
        if not cursor:
            return seen


@pytest.mark.parametrize("name", ORDERS)
def test_forwards_and_backwards_show_the_same_rows_once(rows, name):
    forwards = sum(walk(rows, ORDERS[name], "", "next"), [])
    backwards = sum(reversed(walk(rows, ORDERS[name], "last", "previous")), [])

    assert sorted(forwards) == sorted(rows.values_list("pk", flat=True))
    assert forwards == backwards


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_and_its_reverse_mirror_each_other(rows, name):
    other = name.removeprefix("-") if name.startswith("-") else f"-{name}"
    assert (
        sum(walk(rows, ORDERS[name], "", "next"), []) == sum(walk(rows, ORDERS[other], "", "next"), [])[::-1]
    )


@pytest.mark.parametrize(
    "cursor", ["", ">", "<", ">0", "<999999", "abc", ">1;drop", "<²", ">99999999999999999999", "first"]
)
def test_a_cursor_that_names_no_row_leads_to_the_first_page(rows, cursor):
    first = page_of(rows, ORDERS["label"], "", size=4)
    assert page_of(rows, ORDERS["label"], cursor, size=4) == first
    assert (first.previous, bool(first.next)) == ("", True)


def test_the_last_page_is_reached_at_once_and_has_nothing_after_it(rows):
    page = page_of(rows, ORDERS["since"], "last", size=4)
    assert len(page.rows) == 4
    assert (page.next, bool(page.previous)) == ("", True)


def test_counting_stops_at_its_limit(rows, django_assert_num_queries):
    with django_assert_num_queries(2):
        assert count_up_to(rows, 100) == len(LABELS)
        assert count_up_to(rows, 5) == 6


def test_a_cursor_does_not_reveal_where_a_hidden_row_stands(people):
    hidden = people.account(label="m secret", team=people.west)
    for label in ("a", "m rz", "m sz", "z"):
        people.account(label=label)
    page = people.operator.client.get("/accounts/", {"page": f">{hidden.pk}"}).content.decode()
    assert [label for label in ("a", "m rz", "m sz", "z") if f"<bdi>{label}</bdi>" in page] == [
        "a",
        "m rz",
        "m sz",
        "z",
    ]
