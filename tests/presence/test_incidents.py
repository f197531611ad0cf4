"""Many drops at once: what becomes an incident, what it is about, and that it is notified instead of each drop."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Account, Delivery, Drop, Incident
from accounts.notifications import outbox
from accounts.presence import incidents
from accounts.states import AccountState, DropKind, NotificationKind
from tests.notifications.test_dispatch import (
    channel_to,
    comes_back,
    drops,
    notify,
    online,
    phone,
    site,
    time,
    to_scan,
)
from tests.support.fake_chat_service import Receiver

__all__ = ["phone", "site", "time"]
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def accounts(number, **fields):
    """So many that are online, written at once."""
    first = Account.objects.count()
    return Account.objects.bulk_create(
        Account(
            label=f"Shop {first + n}",
            w_id=f"w-{first + n}",
            wc_id=f"wxid_{first + n:06}",
            state=AccountState.ONLINE,
            **fields,
        )
        for n in range(number)
    )


def shared():
    return list(Incident.objects.order_by("pk").values_list("shares", "shared"))


# --- what is one ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "is_one"), [(incidents.MANY - 1, False), (incidents.MANY, True)])
def test_so_many_drops_within_ten_minutes_are_an_incident(db, time, number, is_one):
    for account in accounts(number):
        drops(account)
        time.goes_on(seconds=30)
    assert bool(incidents.gather()) is is_one
    assert Drop.objects.exclude(incident=None).count() == (number if is_one else 0)


def test_drops_spread_over_a_day_are_none(db, time):
    for account in accounts(30):
        drops(account)
        incidents.gather()
        time.goes_on(minutes=12)
    assert not Incident.objects.exists()


def test_first_day_drops_are_no_incidents_and_in_none(db, time):
    drops(*accounts(20), kind=DropKind.FIRST_NIGHT)
    incidents.gather()
    assert not Incident.objects.exists()
    drops(*accounts(10))
    incidents.gather()
    assert Incident.objects.get().drops.count() == 10


def test_accounts_that_nobody_wants_online_are_in_none(db, time):
    drops(*accounts(6, keep_online=False), *accounts(6))
    incidents.gather()
    assert not Incident.objects.exists()


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([{"proxy": 3, "region": "浙江"}] * 12, [("proxy", "3")]),
        ([{"proxy": 3}] * 10 + [{"proxy": 4}] * 2, [("proxy", "3")]),
        ([{"proxy": n % 5, "region": "浙江"} for n in range(20)], [("region", "浙江")]),
        ([{"proxy": n % 5} for n in range(20)], [("", "")]),
        ([{}] * 12, [("", "")]),
        ([{"proxy": 3}] * 60 + [{"proxy": 4}] * 12, [("proxy", "3"), ("proxy", "4")]),
    ],
)
def test_what_an_incident_is_about(db, time, groups, expected):
    drops(*(account for fields in groups for account in accounts(1, **fields)))
    incidents.gather()
    assert shared() == expected


def test_later_drops_join_while_it_is_open_if_they_share_what_it_is_about(db, time):
    drops(*accounts(12, proxy=3))
    incidents.gather()
    time.goes_on(minutes=8)
    drops(*accounts(3, proxy=3), *accounts(2, proxy=4))
    incidents.gather()
    assert Incident.objects.get().drops.count() == 15
    time.goes_on(minutes=9)
    drops(*accounts(1, proxy=3))
    incidents.gather()
    assert Incident.objects.get().drops.count() == 16
    time.goes_on(hours=2)
    drops(*accounts(1, proxy=3))
    incidents.gather()
    assert Incident.objects.get().drops.count() == 16


def test_it_is_over_when_all_are_back_or_paused(db, time):
    those = accounts(12)
    drops(*those)
    (incident,) = incidents.gather()
    comes_back(*those[:11])
    assert incidents.gather() == []
    Account.objects.filter(pk=those[11].pk).update(keep_online=False)
    time.goes_on(minutes=5)
    assert incidents.gather() == [incident]
    assert Incident.objects.get().ended_at == time.now
    assert incidents.gather() == []


def test_what_drops_after_it_is_another_one(db, time):
    those = accounts(12)
    drops(*those)
    incidents.gather()
    comes_back(*those)
    time.goes_on(minutes=1)
    drops(*those)
    incidents.gather()
    assert Incident.objects.count() == 2
    assert [incident.drops.count() for incident in Incident.objects.all()] == [12, 12]


# --- notifications --------------------------------------------------------------------


@pytest.mark.slow
def test_60_drops_at_once_are_one_message_and_one_when_it_is_over(db, time, phone, site):
    channel_to(phone)
    those = accounts(60, proxy=3)
    drops(*those[:4])
    notify()
    time.goes_on(seconds=60)
    drops(*those[4:])
    for _minute in range(5):
        notify()
        time.goes_on(minutes=1)
    for account in those[20:30]:
        to_scan(account)
    for _minute in range(5):
        notify()
        time.goes_on(minutes=1)
    assert phone.titles == ["60 accounts dropped at once"]
    text = phone.messages[0]["message"]
    assert "Still offline: 60." in text
    assert "the proxy 杭州" in text
    assert f"https://desk.example.com/incidents/{Incident.objects.get().pk}/" in text
    comes_back(*those[:30])
    for _minute in range(5):
        notify()
        time.goes_on(minutes=1)
    comes_back(*those[30:])
    for _minute in range(5):
        notify()
        time.goes_on(minutes=1)
    assert phone.titles == ["60 accounts dropped at once", "Incident ended: 60 accounts had dropped"]
    assert "All accounts are back online." in phone.messages[1]["message"]
    assert not Delivery.objects.unsent().exists()


@pytest.mark.slow
def test_an_incident_that_is_over_within_the_debounce_is_not_notified(db, time, phone):
    channel_to(phone)
    those = accounts(12)
    drops(*those)
    notify()
    time.goes_on(seconds=150)
    comes_back(*those)
    for _minute in range(5):
        notify()
        time.goes_on(minutes=1)
    assert phone.asked == 0


@pytest.mark.slow
def test_a_rule_for_teams_is_notified_of_incidents_of_its_accounts_with_their_count(people, time, phone):
    with Receiver() as west:
        channel_to(phone, "east", teams=[people.east])
        channel_to(west, "west", teams=[people.west])
        drops(*accounts(8, team=people.east), *accounts(40))
        for _minute in range(5):
            notify()
            time.goes_on(minutes=1)
        assert west.asked == 0
    assert phone.titles == ["8 accounts dropped at once"]


def test_quiet_hours_keep_incidents_only_where_the_rule_says_so(db, time, phone):
    with Receiver() as asleep:
        quiet = {"hours_from": "00:00", "hours_until": "23:59:59", "time_zone": "UTC"}
        time.now = time.now.replace(hour=3)
        channel_to(phone, "awake", **quiet)
        channel_to(asleep, "asleep", incidents_at_once=False, **quiet)
        drops(*accounts(12))
        for _minute in range(5):
            notify()
            time.goes_on(minutes=1)
        assert asleep.asked == 0
    assert phone.titles == ["12 accounts dropped at once"]


@pytest.mark.slow
def test_the_end_is_notified_of_a_drop_that_became_part_of_an_incident_after_its_notification(
    db, time, phone
):
    channel_to(phone)
    early = online(label="Early")
    drops(early)
    notify()
    time.goes_on(minutes=4)
    notify()
    drops(*accounts(12))
    notify()
    comes_back(early)
    notify()
    assert phone.titles == ["Offline: Early", "13 accounts dropped at once", "Back online: Early"]


@pytest.mark.parametrize(
    ("kinds", "titles"),
    [
        (
            [NotificationKind.OFFLINE, NotificationKind.BACK],
            ["12 accounts dropped at once", "Incident ended: 12 accounts had dropped"],
        ),
        ([NotificationKind.TO_SCAN], ["12 accounts dropped at once"]),
        ([NotificationKind.INCIDENT], ["12 accounts dropped at once"]),
        ([NotificationKind.INCIDENT_OVER, NotificationKind.PLAN], []),
    ],
)
@pytest.mark.slow
def test_rules_for_drops_are_notified_of_incidents(db, time, phone, kinds, titles):
    channel_to(phone, kinds=kinds)
    those = accounts(12)
    drops(*those)
    for _minute in range(5):
        notify()
        time.goes_on(minutes=1)
    comes_back(*those)
    notify()
    assert phone.titles == titles


# --- cost ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_reading_is_done_for_many_drops_at_once(db, time, phone):
    channel_to(phone)

    def queries(number):
        drops(*accounts(number))
        time.goes_on(seconds=1)
        with CaptureQueriesContext(connection) as captured:
            outbox.read(time.now)
        return len(captured.captured_queries)

    queries(10)
    few = queries(20)
    rows_at_once = 40  # SQLite takes no more of them in one statement
    assert queries(200) <= few + 200 / rows_at_once


def test_a_drop_that_somebody_writes_is_not_waited_for(transactional_db, time):
    """Where rows can be locked: the others are gathered, and it joins them a moment later."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    drops(*accounts(12))
    held = Drop.objects.order_by("pk").first()
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT 1 FROM accounts_drop WHERE id = %s FOR UPDATE", [held.pk])
            incidents.gather()
            assert Incident.objects.get().drops.count() == 11
            cursor.execute("ROLLBACK")
    finally:
        other.close()
    incidents.gather()
    assert Incident.objects.get().drops.count() == 12
    assert Incident.objects.get().at == held.at <= time.now + timedelta(0)
