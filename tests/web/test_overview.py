"""The first page: what needs a person, since the last visit, and charts whose numbers are those of their tables."""

import csv
import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.lib import db_clock
from accounts.models import Account, AccountEvent, Drop, Incident, IncidentNote, LastVisit
from accounts.presence import sweep
from accounts.states import AttemptState, DetectedBy, EventType, Method
from accounts.web.overview.tables import TABLES
from tests.support.factories import make_attempt

pytestmark = pytest.mark.usually("sqlite")

HOUR = timedelta(hours=1)


def page(person, path: str = "/") -> str:
    answer = person.client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def table(person, name: str) -> list[list[str]]:
    answer = person.client.get(f"/reports/{name}.csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}.csv"'
    text = answer.content.decode()
    assert text.startswith("\ufeff")
    return list(csv.reader(text[1:].splitlines()))


def login(account, state: str = AttemptState.SUCCEEDED, ago: timedelta = timedelta(), **fields):
    when = timezone.now() - ago
    return make_attempt(account, state, created_at=when, qr_shown_at=when - timedelta(seconds=9), **fields)


def dropped(account, ago: timedelta = HOUR, **fields) -> Drop:
    when = timezone.now() - ago
    return Drop.objects.create(account=account, at=when, w_id="w", **{"ended_at": when, **fields})


def columns(text: str, chart: str, kind: str, top: int) -> list[int]:
    """The values that the columns of a chart show."""
    section = text.split(f'aria-labelledby="{chart}"')[1].split("</section>")[0]
    [path] = re.findall(rf'<path class="{kind}"\s+d="([^"]*)"', section)
    ends = re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)", path)
    return [round((float(low) - float(high)) / 84 * top) for low, high in ends]


# --- what needs a person -----------------------------------------------------------------------------------


def needs(text: str) -> dict[str, tuple[int, str]]:
    found = re.findall(r'data-need="(\w+)">\s*<b class="n">(\d+)</b>.*?<bdi>(.*?)</bdi>', text, re.DOTALL)
    return {need: (int(number), names) for need, number, names in found}


@pytest.mark.slow
def test_each_kind_of_need_has_its_number_and_its_accounts(people):
    now = timezone.now()
    for n in range(6):
        people.account(label=f"Queued {n}", state="offline", queued_for_scan_at=now, place=f"Slot {6 - n}")
    make_attempt(people.account(label="Verifying"), AttemptState.CODE_REQUIRED)
    login(people.account(label="Failing", state="offline"), AttemptState.FAILED)
    people.account(label="Fine", w_id="w-1")
    text = page(people.operator)
    assert needs(text) == {
        "verification": (1, "Verifying"),
        "scan": (6, "Queued 5, Queued 4, Queued 3, Queued 2 …"),
        "failed": (1, "Failing"),
    }
    assert "Needs attention: 8" in text
    people.account(team=people.west)
    assert needs(page(people.stranger)) == {}
    assert "Nothing needs a person." in page(people.stranger)


def test_a_person_without_accounts_is_led_to_the_first_one(people):
    new_account = 'href="/accounts/new/">Add account<'
    assert new_account in page(people.admin) and new_account in page(people.operator)
    viewers = page(people.viewer)
    assert new_account not in viewers and "Your teams have no accounts yet." in viewers
    assert "You aren’t in a team yet." in page(people.person("teamless", "viewer"))
    people.account()
    assert new_account not in page(people.operator) and new_account in page(people.stranger)


@pytest.mark.slow
def test_one_account_is_one_click_away_and_a_viewer_is_offered_no_login(people):
    account = people.account()
    make_attempt(account, AttemptState.CODE_REQUIRED)
    text = page(people.operator)
    assert re.search(rf'id="do-verification"\s+href="/accounts/{account.pk}/">Enter code<', text)
    assert "Enter code" not in page(people.viewer) and f'href="/accounts/{account.pk}/"' in page(
        people.viewer
    )


def test_open_incidents_are_shown_with_their_progress_to_those_whose_accounts_they_are(people):
    open_one, other = Incident.objects.create(assignee=people.mate), Incident.objects.create()
    over = Incident.objects.create(ended_at=timezone.now())
    for incident, team in ((open_one, people.east), (other, people.west), (over, people.east)):
        for _n in range(2):
            account = people.account(team=team, state="offline", queued_for_scan_at=timezone.now())
            Drop.objects.create(account=account, incident=incident, w_id="w")
        dropped(people.account(team=team), incident=incident)
    text = page(people.operator)
    assert re.findall(r'data-incident="(\d+)"', text) == [str(open_one.pk)]
    assert "1 of 3 back" in text and "<bdi>mate</bdi>" in text and "Queued for scan 2" in text


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda people: None, "none received"),
        (lambda people: dropped(people.account(), detected_by=DetectedBy.CALLBACK), "1 h ago"),
    ],
)
def test_health_says_when_the_last_callback_came(people, made, expected):
    made(people)
    assert re.search(rf"WKTeam callback</span>\s*<b>{expected}</b>", page(people.viewer))


def test_unknown_presence_and_no_worker_are_marked(people):
    sweep.Presence.objects.create(pk=sweep.Presence.ONLY, unknown_since=timezone.now())
    text = page(people.operator)
    assert '<span class="health slow">Who is online</span>' in text
    assert '<span class="health down">Workers</span>' in text


# --- since the last visit --------------------------------------------------------------------------------


def left(person, ago: timedelta) -> None:
    now = db_clock.now()
    LastVisit.objects.update_or_create(user=person, defaults={"seen_at": now - ago, "left_at": None})


def test_it_says_what_happened_since_the_person_last_looked(people):
    left(people.operator, 5 * HOUR)
    ours, theirs = people.account(), people.account(team=people.west)
    incident = Incident.objects.create()
    for account in (ours, theirs):
        dropped(account, incident=incident)
        dropped(account, ended_by=Method.POPUP)
        dropped(account, ended_by=Method.QR)
        dropped(account, 6 * HOUR, ended_by=Method.QR)
        Drop.objects.create(account=account, w_id="w")
        AccountEvent.objects.create(account=account, happened=EventType.TO_SCAN)
    for author, text in ((people.mate, "the provider knows"), (people.operator, "my own note")):
        IncidentNote.objects.create(incident=incident, author=author, author_name=str(author), text=text)
    text = page(people.operator)
    [said] = re.findall(r'id="since">\s*(.*?)\s*</p>', text, re.DOTALL)
    assert ": 4 dropped, 2 came back without a scan, 1 by scan, 1 queued for scan." in " ".join(said.split())
    assert "the provider knows" in text and "my own note" not in text
    assert 'id="since"' in page(people.operator)  # as long as the visit lasts


def test_a_first_visit_and_one_after_months_say_nothing(people):
    assert 'id="since"' not in page(people.operator)
    left(people.operator, timedelta(days=31))
    assert 'id="since"' not in page(people.operator)


def test_a_page_that_stays_open_keeps_the_visit_going(people):
    left(people.operator, timedelta(minutes=29))
    page(people.operator, "/overview/now/")
    assert 'id="since"' not in page(people.operator)
    left(people.operator, timedelta(minutes=31))
    assert 'id="since"' in page(people.operator, "/overview/now/")


# --- charts and their tables ---------------------------------------------------------------------------------


@pytest.fixture
def a_month(people):
    """Logins and drops of two teams, with twice as many of the other one."""
    for team, number in ((people.east, 1), (people.west, 2)):
        account = people.account(team=team, proxy=1, label=f"Account of {team.name}")
        for _n in range(number):
            for state in ("succeeded", "succeeded", "expired", "failed", "cancelled"):
                login(account, state)
            for days in range(1, 31):
                login(account, ago=timedelta(days=days))
                login(account, "failed" if days % 3 else "succeeded", ago=timedelta(days=days))
                dropped(account, timedelta(days=days), proxy=days % 4 or None)
    return people


@pytest.mark.usually("sqlite", "postgres")
@pytest.mark.slow
def test_charts_and_tables_have_the_same_numbers(a_month):
    for person, factor in ((a_month.operator, 1), (a_month.stranger, 2), (a_month.admin, 3)):
        assert_charts_are_as_tables(person, factor)


def assert_charts_are_as_tables(person, factor: int) -> None:
    text = page(person)
    legend = re.findall(r'data-outcome="\w+">.*?<span>(.*?)</span>\s*<b>(\d+)</b>', text, re.DOTALL)
    assert legend == [tuple(row) for row in table(person, "logins-today")[1:-1]]
    assert dict(legend)["Logged in"] == str(2 * factor)
    days = [(int(good), int(bad)) for _day, good, bad in table(person, "success-rate")[1:]]
    assert len(days) == 30 and days[-1] == (2 * factor, 2 * factor)
    top = max(map(sum, days))
    assert columns(text, "rate", "col", top) == [good for good, _bad in days if good]
    assert columns(text, "rate", "col out", top) == [bad for _good, bad in days if bad]
    for number, title in ((7, "7 days"), (30, "30 days")):
        good, bad = map(sum, zip(*days[-number:], strict=True))
        assert f"<b>{100 * good / (good + bad):.1f}%</b> <span>{title}</span>" in text
    *_days, (title, scans, p50, p90) = table(person, "time-to-scan")
    assert title == "7 days" and int(scans) > 0
    assert f"<b>{p50} s</b> <span>median (p50)" in text and f"<b>{p90} s</b> <span>slowest tenth" in text
    bars = re.findall(r"<span>([^<]*)</span>\s*<svg[^>]*height=\"10\".*?<b>(\d+)</b>", text, re.DOTALL)
    assert bars == [(name, number) for name, number, _accounts in table(person, "drops-by-proxy")[1:]]
    assert sum(int(number) for _name, number in bars) == 29 * factor
    hours = table(person, "drops-by-hour")[1:]
    assert [hour for hour, _drops in hours] == [f"{hour:02}:00" for hour in range(24)]
    numbers = [int(drops) for _hour, drops in hours]
    shown = [columns(text, "hours", kind, max(numbers)) for kind in ("col plain", "col out")]
    assert sum(numbers) == sum(map(sum, shown)) == 29 * factor
    [(busiest, hour)] = re.findall(r"<b>(\d+)</b> <span>in the hour from (\S+)</span>", text)
    assert [hour, busiest] in hours


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_for_people_who_signed_in(people, client, name):
    assert client.get(f"/reports/{name}.csv").status_code == 302
    assert people.viewer.client.get(f"/reports/{name}.csv").status_code == 200
    assert people.viewer.client.get("/reports/other.csv").status_code == 404


def test_accounts_at_risk_have_a_reason_and_formulas_are_harmless_in_the_table(people):
    fields = {"first_login_at": timezone.now() - HOUR}
    account = people.account(label='=HYPERLINK("x")', wc_id="wxid_1", w_id="w-1", **fields)
    people.account(label="of the west", team=people.west, w_id="w-2", **fields)
    text = page(people.operator)
    assert "At risk: 1" in text and f'data-account="{account.pk}"' in text and "of the west" not in text
    assert table(people.operator, "at-risk")[1:] == [
        ['\'=HYPERLINK("x")', "wxid_1", "first day: expect one drop within 24 hours of the first login"]
    ]


def test_a_portal_without_rows_says_so(people):
    text = page(people.operator)
    assert text.count("No drops in 30 days.") == 2
    assert "<b>—</b> <span>7 days</span>" in text


@pytest.mark.slow
@pytest.mark.parametrize("who", ["operator", "admin"])
def test_the_page_needs_as_many_queries_for_more_rows(a_month, who):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            page(getattr(a_month, who))
        return len(captured)

    def more(number: int) -> None:
        for n in range(number):
            dropped(a_month.account(w_id=f"w-{number}-{n}", first_login_at=timezone.now()))
            account = a_month.account(state="offline", queued_for_scan_at=timezone.now())
            Drop.objects.create(account=account, incident=Incident.objects.first(), w_id="w")
            make_attempt(a_month.account(), AttemptState.CODE_REQUIRED)
            login(a_month.account(state="offline"), AttemptState.FAILED)

    Incident.objects.create()
    more(1)
    page(getattr(a_month, who))
    few = queries()
    more(4)
    assert queries() == few
    assert Account.objects.count() > 20
