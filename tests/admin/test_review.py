"""Reviewing history: filters with several values, totals that narrow the list, and CSV of what is filtered."""

import csv
from datetime import datetime, timedelta
from io import StringIO
from urllib.parse import parse_qs, urlsplit

import pytest
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import escape

from accounts.admin.review.front_page import blocks
from accounts.models import (
    AccountEvent,
    BulkRun,
    Channel,
    Delivery,
    Drop,
    Incident,
    Notification,
    Plan,
    PlanResult,
    PlanRun,
)
from accounts.models.event import record
from accounts.models.operators.bulk_run import BulkAction
from accounts.models.plan import Outcome
from accounts.reasons import Reason
from accounts.states import AttemptState, DropKind, EventType, NextStep, NotificationKind, Trigger
from tests.support.factories import make_attempt

pytestmark = [pytest.mark.slow, pytest.mark.django_db]

ATTEMPTS = "/admin/accounts/loginattempt/"
EVENTS = "/admin/accounts/accountevent/"
DROPS = "/admin/accounts/drop/"
DELIVERIES = "/admin/accounts/delivery/"
NANJING, HANGZHOU = 2, 3
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def shown(answer) -> list[int]:
    assert answer.status_code == 200
    return [row.pk for row in answer.context["cl"].result_list]


def totals(answer) -> dict[str, dict[str, int]]:
    return {
        str(total.title): {str(part.title): part.number for part in total.parts}
        for total in answer.context["cl"].totals.of
    }


def choices(answer, title: str) -> list[dict]:
    cl = answer.context["cl"]
    return list(next(spec for spec in cl.filter_specs if spec.title == title).choices(cl))


def file_of(answer) -> list[dict[str, str]]:
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    head, *rows = csv.reader(StringIO(b"".join(answer).decode()[1:], newline=""))
    return [dict(zip(head, row, strict=True)) for row in rows]


@pytest.fixture
def client(people):
    return people.admin.client


@pytest.fixture
def failures(people):
    """Failures of two days through two proxies, by two people, and a login that ended well."""
    now = timezone.make_aware(datetime(2026, 3, 4, 12))
    account = people.account(label="=Shop")
    return [
        make_attempt(
            account, state, reason=reason, proxy=proxy, asked_by=person, asked_by_name=person.username if person else "",
            created_at=at, ended_at=at + timedelta(seconds=9), upstream_text="线路不通", trigger=trigger,
        )
        for state, reason, proxy, person, at, trigger in (
            (AttemptState.FAILED, Reason.LINE_DOWN, NANJING, people.operator, now, Trigger.OPERATOR),
            (AttemptState.FAILED, Reason.DECLINED, NANJING, people.mate, now - DAY, Trigger.OPERATOR),
            (AttemptState.EXPIRED, Reason.NOT_SCANNED, NANJING, people.operator, now - DAY, Trigger.BULK),
            (AttemptState.FAILED, Reason.LINE_DOWN, HANGZHOU, people.operator, now, Trigger.OPERATOR),
            (AttemptState.SUCCEEDED, "", NANJING, None, now, Trigger.RECOVERY),
            (AttemptState.FAILED, Reason.LINE_DOWN, None, None, now - 9 * DAY, Trigger.SCHEDULE),
        )
    ]  # fmt: skip


def test_filters_take_several_values_and_combine(client, people, failures):
    one, two, three, other_proxy, well, old = (attempt.pk for attempt in failures)
    for query, found in (
        ("state__in=failed,expired", {one, two, three, other_proxy, old}),
        ("state__in=failed&state__in=expired", {one, two, three, other_proxy, old}),
        ("state__exact=failed", {one, two, other_proxy, old}),
        ("state__in=failed,expired&line=2&created_at_from=2026-03-02&created_at_to=2026-03-04", {one, two, three}),
        ("line=2,none&state__in=failed", {one, two, old}),
        ("line=none", {old}),
        (f"operator={people.operator.pk},none", {one, three, other_proxy, well, old}),
        ("reason__in=line_down,declined&line=2&line=3", {one, two, other_proxy}),
        ("trigger__in=bulk,recovery", {three, well}),
    ):  # fmt: skip
        assert set(shown(client.get(f"{ATTEMPTS}?{query}"))) == found, query


@pytest.mark.parametrize(
    "query", ["state__in=gone", "line=x", "line=1,²", "operator=-1", "reason__in=a,b", "trigger__in=qr"]
)
def test_a_value_that_is_none_is_refused(client, query):
    assert client.get(f"{ATTEMPTS}?{query}").status_code == 302
    assert client.get(f"{ATTEMPTS}export.csv?{query}").status_code == 302


def test_the_form_keeps_what_is_chosen_and_each_choice_can_be_removed(client, people, failures):
    account = failures[0].account_id
    answer = client.get(
        f"{ATTEMPTS}?state__in=failed,expired&line=2&account__id__exact={account}&created_at_from=2026-03-02"
    )
    page = answer.content.decode()
    for value in ("failed", "expired"):
        assert f'name="state__in"\n                 value="{value}"\n                 checked' in page
    assert f'name="account__id__exact" value="{account}"' in page
    chips = {str(chip["text"]): chip["without"] for chip in answer.context["cl"].chips()}
    named = f'<a href="/admin/accounts/account/{account}/change/">#{account}</a>'
    assert set(chips) == {"Failed", "Timed out", "南京", "2026-03-02 – …", named}
    left = parse_qs(urlsplit(chips["Failed"]).query)
    assert left == {
        "state__in": ["expired"],
        "line": ["2"],
        "account__id__exact": [str(account)],
        "created_at_from": ["2026-03-02"],
    }


def test_totals_count_what_is_filtered_and_lead_to_it(client, people, failures):
    answer = client.get(f"{ATTEMPTS}?state__in=failed,expired&line=2")
    assert totals(answer) == {
        "state": {"Failed": 2, "Timed out": 1},
        "reason": {"Proxy unavailable": 1, "Declined on the phone": 1, "QR code not scanned in time": 1},
        "proxy": {"南京": 3},
        "operator": {"operator": 2, "mate": 1},
        "day": {"2026-03-04": 1, "2026-03-03": 2},
    }
    for total in answer.context["cl"].totals.of:
        for part in total.parts:
            assert len(shown(client.get(ATTEMPTS + part.query))) == part.number
    everything = totals(client.get(ATTEMPTS))
    assert everything["operator"] == {"operator": 3, "nobody, or a deleted person": 2, "mate": 1}
    assert everything["proxy"]["none"] == 1
    assert sum(everything["day"].values()) == len(failures)


def test_totals_name_people_who_are_too_many_to_be_offered(client, people, failures, monkeypatch):
    monkeypatch.setattr("accounts.admin.review.filters.CHOICE_LIMIT", 1)
    answer = client.get(ATTEMPTS)
    assert [str(choice["display"]) for choice in choices(answer, "operator")] == [
        "mate",
        "nobody, or a deleted person",
    ]
    assert totals(answer)["operator"] == {
        "operator": 3,
        "nobody, or a deleted person": 2,
        "mate": 1,
    }


def test_totals_of_a_long_list_are_of_its_newest_rows_and_say_so(client, failures, monkeypatch):
    monkeypatch.setattr("accounts.admin.review.totals.PAGED_TIMES", 0)
    answer = client.get(f"{ATTEMPTS}?created_at_to=2026-03-03")
    assert answer.context["cl"].totals.number == 0
    monkeypatch.setattr("accounts.admin.base.COUNT_LIMIT", 2)
    monkeypatch.setattr("accounts.admin.review.totals.PAGED_TIMES", 1)
    answer = client.get(f"{ATTEMPTS}?state__in=failed,expired&line=2")
    assert answer.context["cl"].totals.number == 1
    assert "(only the newest ones, from 2026-03-03 12:00:00 on)" in answer.content.decode()


def test_events_and_drops_are_filtered_counted_and_sent_likewise(client, people):
    account = people.account()
    noon = timezone.make_aware(datetime(2026, 3, 4, 12))
    for happened in (EventType.PAUSED, EventType.PAUSED, EventType.RESUMED, EventType.CHANGED):
        record(account, happened, by=people.mate, at=noon)
    answer = client.get(f"{EVENTS}?happened__in=paused,resumed&operator={people.mate.pk}")
    assert totals(answer) == {
        "event": {"Paused": 2, "Resumed": 1},
        "by": {"mate": 3},
        "day": {"2026-03-04": 3},
    }
    assert len(file_of(client.get(f"{EVENTS}export.csv?happened__in=paused,resumed"))) == 3
    assert AccountEvent.objects.count() == 4
    for kind, proxy, hours in (
        (DropKind.ORDINARY, NANJING, 0),
        (DropKind.AT_ONCE, NANJING, 1),
        (DropKind.ORDINARY, None, 2),
    ):
        Drop.objects.create(
            account=account, kind=kind, proxy=proxy, w_id="w", at=noon - timedelta(hours=hours), ended_at=noon,
            next_step=NextStep.SCAN, reason_text="已下线",
        )  # fmt: skip
    answer = client.get(f"{DROPS}?line=2&at_from=2026-03-04&at_to=2026-03-04")
    assert totals(answer)["type"] == {"Dropped": 1, "Immediate drop": 1}
    sent = file_of(client.get(f"{DROPS}export.csv?line=2&kind__in=at_once"))
    assert [(row["Type"], row["Proxy"], row["WKTeam message"]) for row in sent] == [
        ("Immediate drop", "南京", "已下线")
    ]


def test_the_file_has_what_is_filtered_in_the_order_of_the_list(client, failures, monkeypatch):
    monkeypatch.setattr("accounts.web.exchange.history_columns.READ_AT_ONCE", 2)
    query = "state__in=failed,expired&line=2"
    answer = client.get(f"{ATTEMPTS}?{query}")
    assert 'href="export.csv?line=2&amp;state__in=failed%2Cexpired"' in answer.content.decode()
    rows = file_of(client.get(f"{ATTEMPTS}export.csv?{query}"))
    assert [int(row["Login attempt"]) for row in rows] == shown(answer)
    assert rows[0]["Account"] == "'=Shop"  # no spreadsheet runs it
    assert (rows[0]["Requested"], rows[0]["Reason"], rows[0]["Proxy"]) == (
        "2026-03-04 12:00:00",
        "Proxy unavailable",
        "南京",
    )
    chinese = file_of(client.get(f"{ATTEMPTS}export.csv?{query}", headers={"accept-language": "zh-hans"}))
    assert "线路不可用" in chinese[0].values()


def test_the_file_has_no_row_that_its_reader_may_not_see(people, failures):
    hidden = make_attempt(people.account(team=people.west), AttemptState.FAILED)
    for person, number in ((people.admin, 7), (people.operator, 6)):
        person.is_staff = True
        person.save()
        rows = file_of(person.client.get(f"{ATTEMPTS}export.csv"))
        assert len(rows) == number
        assert (str(hidden.pk) in {row["Login attempt"] for row in rows}) == (number == 7)
    assert people.operator.client.get(f"{DROPS}export.csv").status_code == 403
    assert people.stranger.client.get(f"{ATTEMPTS}export.csv").status_code == 302


def test_a_row_says_when_who_how_long_and_what_wkteam_said(client, people, failures):
    page = client.get(f"{ATTEMPTS}?state__in=expired").content.decode()
    for words in (
        "2026-03-03 12:00:00",
        "Times: Asia/Shanghai",
        "operator · Bulk login",
        "9.0 s",
        "线路不通",
        "南京",
    ):
        assert words in page
    assert "p.m." not in page


# --- search ----------------------------------------------------------------------------------------------


@pytest.fixture
def searched(people, failures):
    """The failures, of an account "=Shop", and one more of another account with its own words."""
    other = people.account(label="Customer care 7", wc_id="wxid_care7")
    mine = make_attempt(
        other, AttemptState.FAILED, reason=Reason.DECLINED, asked_by=people.mate, asked_by_name="mate", proxy=NANJING,
        upstream_text="手机端 拒绝 登录", w_id="w-care",
    )  # fmt: skip
    return [*failures, mine]


def test_history_is_found_by_account_person_and_reason(client, searched):
    one, two, three, other_proxy, _well, old, mine = (attempt.pk for attempt in searched)
    for text, found in (
        ("care", {mine}),
        ("care 7", {mine}),
        ("wxid_care7", {mine}),
        ("w-care", {mine}),
        ("mate", {two, mine}),
        ("line_down", {one, other_proxy, old}),  # the code
        ("Proxy unavailable", {one, other_proxy, old}),  # in words, of either language
        ("unavail", {one, other_proxy, old}),
        ("线路不可用", {one, other_proxy, old}),
        ("手机上已取消", {two, mine}),
        ("declined mate", {two, mine}),
        ("declined care", {mine}),
        ("declined operator", set()),
        ("declined nobody-has-this", set()),
        ('"拒绝 登录"', {mine}),
        ("“拒绝 登录”", {mine}),
        ('"登录 拒绝"', set()),
        ('"care 7"', {mine}),
        ('"care 7" declined', {mine}),
        ('"7 care"', set()),
        ('"线路不通" mate', {two}),
        ('"declined on the phone"', {two, mine}),
        ('"mate"', {two, mine}),
        ("nothing like it", set()),
    ):
        assert set(shown(client.get(ATTEMPTS, {"q": text}))) == found, text
    assert set(shown(client.get(f"{ATTEMPTS}?q=mate&line=2&created_at_to=2026-03-03"))) == {two}


def test_a_search_for_events_and_drops(client, people, searched):
    account = searched[-1].account
    event = record(account, EventType.CHANGED, detail="note, place", by=people.mate)
    drop = Drop.objects.create(account=account, w_id="w", reason_text="网络异常，已下线")
    for text in ("mate", "care", '"note, place"', "mate care"):
        assert event.pk in shown(client.get(EVENTS, {"q": text})), text
    for text in ("care", '"网络异常"'):
        assert shown(client.get(DROPS, {"q": text})) == [drop.pk], text
    assert shown(client.get(DROPS, {"q": '"network"'})) == []


def test_words_in_quotes_are_read_in_the_newest_rows_only_which_is_said(client, searched, monkeypatch):
    monkeypatch.setattr("accounts.admin.review.search.READ", 2)
    answer = client.get(ATTEMPTS, {"q": '"线路不通"'})
    assert "Only the newest 2 rows were searched for the words in quotes." in answer.content.decode()
    assert len(shown(answer)) == 2


def test_a_search_shows_nothing_of_other_teams(people, searched):
    person = people.stranger
    person.is_staff = True
    person.save()
    for text in ("mate", "declined", '"拒绝"', "care"):
        assert shown(person.client.get(ATTEMPTS, {"q": text})) == [], text


# --- from one to the other -------------------------------------------------------------------------------


@pytest.mark.usually("sqlite")
def test_the_front_page_leads_to_what_needs_a_look_today(people, client, django_assert_max_num_queries):
    account, now = people.account(), timezone.now()
    for reason in (Reason.DECLINED, Reason.DECLINED, Reason.LINE_DOWN):
        make_attempt(account, AttemptState.FAILED, reason=reason)
    make_attempt(account, AttemptState.FAILED, reason=Reason.REFUSED, created_at=now - 2 * DAY)
    make_attempt(people.account(team=people.west), AttemptState.FAILED, reason=Reason.INTERRUPTED)
    incident = Incident.objects.create(shares="proxy", shared=str(NANJING))
    Incident.objects.create(ended_at=now)
    plan = Plan.objects.create(name="Mornings", crontab="0 9 * * *", time_zone="Europe/Berlin")
    Plan.objects.create(name="Off", crontab="0 9 * * *", active=False)
    running, failed, well = (
        PlanRun.objects.create(plan=plan, plan_name=plan.name, scheduled_at=now - n * HOUR) for n in range(3)
    )
    PlanRun.objects.exclude(pk=running.pk).update(ended_at=now)
    for run, outcome in ((failed, Outcome.DECLINED), (well, Outcome.ONLINE)):
        PlanResult.objects.create(run=run, account=account, outcome=outcome, ended_at=now)
    bulk = BulkRun.objects.create(person=people.operator, person_name="operator", action=BulkAction.CHECK)
    Channel.objects.create(name="Fine", url="json://example.com")
    for name, trouble in (
        ("Off", {"active": False, "switched_off_at": now, "switched_off_why": "410"}),
        ("Failing", {"failures": 3}),
    ):
        Channel.objects.create(name=name, url="json://example.com", **trouble)
    with django_assert_max_num_queries(25):
        page = client.get("/admin/")
    lines = {
        str(block.title): [(str(line.text), str(line.note)) for line in block.lines]
        for block in blocks(people.admin)
    }
    assert lines == {
        "Failed logins today": [("Declined on the phone", "2"), ("Interrupted", "1"), ("Proxy unavailable", "1")],
        "Open incidents": [(f"#{incident.pk} 南京", date_format(timezone.localtime(incident.at), "DATETIME_FORMAT"))],
        "Runs in progress, or with failures today": [
            (str(running), "in progress"), (str(bulk), "in progress"), (str(failed), "not logged in: 1"),
        ],
        "Plans due next": [("Mornings", f"{plan.next_at.astimezone(plan.zone):%Y-%m-%d %H:%M:%S} (Europe/Berlin)")],
        "Channels with problems": [("Failing", "consecutive failures: 3"), ("Off", "410")],
    }  # fmt: skip
    text = page.content.decode()
    for block in blocks(people.admin):
        for address in (block.address, *(line.address for line in block.lines)):
            assert escape(address) in text
            assert client.get(address).status_code == 200, address
    first = next(blocks(people.admin))
    assert len(shown(client.get(first.address))) == 4
    assert len(shown(client.get(first.lines[0].address))) == 2


def test_the_front_page_of_a_team_has_its_failures_only(people):
    make_attempt(people.account(), AttemptState.FAILED, reason=Reason.DECLINED)
    make_attempt(people.account(team=people.west), AttemptState.FAILED, reason=Reason.INTERRUPTED)
    found = list(blocks(people.operator))
    assert [[str(line.text) for line in block.lines] for block in found] == [["Declined on the phone"]]


@pytest.mark.usually("sqlite")
def test_rows_lead_to_all_that_they_name(people, client):
    account, now = people.account(), timezone.now()
    incident = Incident.objects.create(shares="proxy", shared=str(NANJING))
    drop = Drop.objects.create(account=account, incident=incident, w_id="w", at=now - HOUR)
    attempt = make_attempt(account, AttemptState.FAILED, trigger=Trigger.SCHEDULE)
    run = PlanRun.objects.create(plan_name="Mornings", scheduled_at=now)
    result = PlanResult.objects.create(run=run, account=account, attempt=attempt, outcome=Outcome.DECLINED)
    told = Notification.objects.create(key="x", kind=NotificationKind.OFFLINE, account=account, drop=drop)
    also = Notification.objects.create(key="y", kind=NotificationKind.INCIDENT, incident=incident)
    channel = Channel.objects.create(name="Night", url="json://example.com")
    delivery, of_incident = (
        Delivery.objects.create(channel=channel, notification=one) for one in (told, also)
    )
    rows = {
        "account": account, "loginattempt": attempt, "drop": drop, "incident": incident, "planrun": run,
        "planresult": result, "notification": told, "channel": channel, "delivery": delivery,
    }  # fmt: skip
    pages = {name: f"/admin/accounts/{name}/{row.pk}/change/" for name, row in rows.items()}
    for name, others in {
        "account": ["loginattempt"],
        "loginattempt": ["account", "planrun", "drop"],
        "drop": ["account", "incident", "loginattempt"],
        "planrun": ["account", "loginattempt"],
        "planresult": ["planrun", "account", "loginattempt"],
        "notification": ["account", "drop"],
        "delivery": ["notification", "channel", "account"],
    }.items():
        text = client.get(pages[name]).content.decode()
        for other in others:
            assert f'href="{pages[other]}"' in text, (name, other)
    for name, address, found in (
        ("account", f"{DROPS}?account__id__exact={account.pk}", drop),
        ("account", f"{DELIVERIES}?notification__account__exact={account.pk}", delivery),
        ("account", f"/admin/accounts/planresult/?account__id__exact={account.pk}", result),
        ("incident", f"{DROPS}?incident__exact={incident.pk}", drop),
        ("incident", f"{DELIVERIES}?notification__incident__exact={incident.pk}", of_incident),
        ("drop", f"{DELIVERIES}?notification__drop__exact={drop.pk}", delivery),
        ("notification", f"{DELIVERIES}?notification__exact={told.pk}", delivery),
        ("channel", f"{DELIVERIES}?channel={channel.pk}", delivery),
    ):
        assert f'href="{address}"' in client.get(pages[name]).content.decode(), (name, address)
        listed = shown(client.get(address))
        assert listed == ([of_incident.pk, delivery.pk] if name == "channel" else [found.pk]), address


def test_the_history_of_an_account_is_its_own_page(people, client):
    account = people.account()
    answer = client.get(f"/admin/accounts/account/{account.pk}/history/")
    assert answer.url == f"/accounts/{account.pk}/#account-history"
    assert 'id="account-history"' in client.get(answer.url).content.decode()


@pytest.mark.usually("sqlite")
def test_incidents_and_notifications_are_read_only(people, client):
    incident = Incident.objects.create()
    told = Notification.objects.create(key="x", kind=NotificationKind.PLAN, facts={"name": "Mornings"})
    for name, row in (("incident", incident), ("notification", told)):
        base = f"/admin/accounts/{name}/"
        assert shown(client.get(base)) == [row.pk]
        assert client.get(f"{base}add/").status_code == 403
        assert client.post(f"{base}{row.pk}/change/", {}).status_code == 403
        assert client.post(f"{base}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert "Mornings" in client.get("/admin/accounts/notification/").content.decode()
