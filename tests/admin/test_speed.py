"""What keeps the admin fast is counted and read in its queries; how fast it is, bench/pages measures."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Account, AccountEvent, Tag
from accounts.models.event import record
from accounts.states import AttemptState, EventType
from tests.support.factories import make_attempt

pytestmark = [pytest.mark.slow, pytest.mark.usually("sqlite")]

ACCOUNTS = "/admin/accounts/account/"
ATTEMPTS = "/admin/accounts/loginattempt/"
EVENTS = "/admin/accounts/accountevent/"
PAGES = [
    ACCOUNTS,
    f"{ACCOUNTS}?q=account",
    f"{ACCOUNTS}?state__exact=new&keep_online__exact=1&last_login_at_to=2030-01-01",
    f"{ACCOUNTS}?o=3",
    f"{ACCOUNTS}?o=-4",
    ATTEMPTS,
    f"{ATTEMPTS}?q=account",
    f"{ATTEMPTS}?state__exact=expired&reason__exact=&created_at_from=2020-01-01",
    EVENTS,
    f"{EVENTS}?q=account",
    f"{EVENTS}?happened__exact=changed&at_from=2020-01-01",
]


def more(people, number):
    """Accounts with everything that a row shows, each belonging to others than the row before."""
    for _n in range(number):
        account = people.account(w_id=f"w-{Account.objects.count()}", last_login_at=timezone.now(), proxy=3)
        account.tags.set([Tag.objects.create(name=f"tag {Tag.objects.count()}") for _tag in range(2)])
        person = people.person(f"person{account.pk}")
        attempt = make_attempt(account, AttemptState.EXPIRED, asked_by=person, other_account=account)
        people.account(merged_into=account)
        record(account, EventType.CHANGED, attempt=attempt, by=person)


def queries_of(client, path):
    with CaptureQueriesContext(connection) as queries:
        page = client.get(path)
    assert page.status_code == 200
    return [query["sql"] for query in queries.captured_queries]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("who", ["admin", "limited"])
def test_twice_the_rows_need_no_more_queries(people, path, who):
    person = people.admin
    if who == "limited":
        person = people.person("limited", "admin", people.east)
        person.groups.get(role="admin").permissions.remove(
            *person.groups.get(role="admin").permissions.filter(codename="view_every_account")
        )
        person.is_staff = True
        person.save()
    more(people, 3)
    once = queries_of(person.client, path)
    more(people, 3)
    assert len(queries_of(person.client, path)) == len(once) <= 20


def test_people_beyond_the_offered_ones_cost_one_query_each_and_no_address_names_very_many(people):
    lead = people.person("lead", "lead", people.east)
    make_attempt(people.account(), AttemptState.EXPIRED, asked_by=people.operator)
    once = queries_of(lead.client, ATTEMPTS)
    more(people, 3)
    assert len(queries_of(lead.client, ATTEMPTS)) == len(once) + 1 + 3 + 1  # the rows are counted again
    for number, status in ((100, 200), (101, 302)):
        asked = {"operator": range(1000, 1000 + number)}
        assert lead.client.get(ATTEMPTS, asked).status_code == status


@pytest.mark.parametrize("model", ["account", "loginattempt"])
def test_a_change_page_needs_no_more_queries_for_twice_the_history(people, model):
    attempt = make_attempt(people.account(), AttemptState.EXPIRED)

    def count():
        for _n in range(3):
            make_attempt(attempt.account, AttemptState.EXPIRED, asked_by=people.operator)
            record(attempt.account, EventType.CHANGED, attempt=attempt, by=people.operator)
        pk = attempt.pk if model == "loginattempt" else attempt.account_id
        return len(queries_of(people.admin.client, f"/admin/accounts/{model}/{pk}/change/"))

    count()  # the first request also reads content types, which Django keeps
    assert count() == count() <= 15


@pytest.mark.parametrize("path", PAGES)
def test_no_list_counts_or_reads_without_a_limit(people, path):
    more(people, 2)
    for sql in queries_of(people.admin.client, path):
        if any(f'FROM "{table}"' in sql for table in ("accounts_loginattempt", "accounts_accountevent")):
            counted_from_a_time = "GROUP BY" in sql and ('"created_at" > ' in sql or '"at" > ' in sql)
            bounded = "LIMIT" in sql or '"id" IN (' in sql or counted_from_a_time
            assert bounded, sql
        assert "DISTINCT" not in sql
        how_far_back_to_look_in_an_index = ("LIMIT 1 OFFSET 1000)", "LIMIT 1 OFFSET 50000")
        assert "OFFSET" not in sql or any(limit in sql for limit in how_far_back_to_look_in_an_index)


def test_codes_and_pictures_are_not_even_read(people):
    attempt = make_attempt(people.account())
    for path in (
        ATTEMPTS, f"{ATTEMPTS}{attempt.pk}/change/", ACCOUNTS, f"{ACCOUNTS}{attempt.account_id}/change/",
    ):  # fmt: skip
        for sql in queries_of(people.admin.client, path):
            ends_what_is_overdue = '"deadline_at" <' in sql
            assert ends_what_is_overdue or not ("qr_png" in sql or "qr_text" in sql), path


def test_a_long_list_is_counted_up_to_a_limit_and_says_so(people, monkeypatch):
    monkeypatch.setattr("accounts.admin.base.COUNT_LIMIT", 100)
    monkeypatch.setattr("accounts.lib.lists.keyset_pagination.count_up_to.__defaults__", (100,))
    account = people.account()
    now = timezone.now()
    AccountEvent.objects.bulk_create(
        AccountEvent(account=account, happened=EventType.CHANGED, at=now - timedelta(seconds=n))
        for n in range(120)
    )
    page = people.admin.client.get(EVENTS)
    assert page.context["cl"].paginator.num_pages == 2
    assert "More than 100 results. Showing the first ones" in page.content.decode()
    assert people.admin.client.get(f"{EVENTS}?p=3").status_code == 302


@pytest.mark.slow
def test_facets_and_show_all_are_not_to_be_had(people):
    more(people, 60)
    plain = len(queries_of(people.admin.client, ACCOUNTS))
    assert len(queries_of(people.admin.client, f"{ACCOUNTS}?_facets=True")) == plain
    page = people.admin.client.get(f"{ACCOUNTS}?all=")
    assert len(page.context["cl"].result_list) == 50
