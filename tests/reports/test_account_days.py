"""The last 30 days of one account: share online by day of the chosen zone, drops, the longest one."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from accounts.models import Drop
from accounts.reports.account_days import month_of, share_online

SHANGHAI, PARIS = ZoneInfo("Asia/Shanghai"), ZoneInfo("Europe/Paris")
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=SHANGHAI)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def online(people, first=NOW - 100 * DAY, since=NOW - DAY, **fields):
    return people.account(
        w_id="w", state="online", first_login_at=first, last_login_at=since, state_since=since, **fields
    )


def drop(account, at, lasted=None):
    Drop.objects.create(account=account, w_id="w", at=at, ended_at=lasted and at + lasted)


def test_a_drop_over_midnight_belongs_to_both_days_of_the_zone(people):
    account = online(people)
    drop(account, datetime(2026, 11, 20, 22, 0, tzinfo=SHANGHAI), 8 * HOUR)
    days = {day.date.day: day for day in month_of(account, NOW, SHANGHAI).days}
    assert [(days[n].offline, days[n].drops) for n in (19, 20, 21)] == [(0, 0), (7200, 1), (21600, 0)]
    days = {day.date.day: day for day in month_of(account, NOW, PARIS).days}
    assert [(days[n].offline, days[n].drops) for n in (19, 20, 21)] == [(0, 0), (28800, 1), (0, 0)]


def test_a_day_has_25_hours_where_clocks_go_back(people):
    now = datetime(2026, 11, 1, 12, 0, tzinfo=PARIS)
    days = {day.date: day for day in month_of(online(people), now, PARIS).days}
    assert days[datetime(2026, 10, 25).date()].counted == 25 * 3600
    assert days[datetime(2026, 10, 24).date()].counted == 24 * 3600


def test_the_time_before_the_first_login_and_after_now_does_not_count(people):
    month = month_of(online(people, first=NOW - 2 * DAY), NOW, SHANGHAI)
    assert [day.counted / 3600 for day in month.days[-4:]] == [0, 12, 24, 12]
    assert month.days[0].online_percent is None
    assert month.online_percent == 100


def test_a_drop_that_began_before_and_one_that_is_open_are_cut_at_the_edges(people):
    account = people.account(state="offline", first_login_at=NOW - 100 * DAY, state_since=NOW - HOUR)
    begin = datetime(2026, 10, 26, 0, 0, tzinfo=SHANGHAI)
    drop(account, begin - 5 * HOUR, 7 * HOUR)
    drop(account, NOW - HOUR)
    drop(account, begin - 20 * DAY, HOUR)
    month = month_of(account, NOW, SHANGHAI)
    assert (month.days[0].offline, month.days[-1].offline, month.longest) == (7200, 3600, 7200)
    assert len(month.drops) == 2


def test_the_open_drop_of_an_account_that_is_back_ends_with_its_login(people):
    account = online(people, since=NOW - HOUR)
    drop(account, NOW - 3 * HOUR)
    assert month_of(account, NOW, SHANGHAI).days[-1].offline == 7200


def test_one_query_for_many_drops_and_none_for_a_new_account(people, django_assert_num_queries):
    account = online(people)
    for n in range(40):
        drop(account, NOW - (n + 1) * 12 * HOUR, HOUR)
    with django_assert_num_queries(1):
        assert len(month_of(account, NOW, SHANGHAI).drops) == 40
    new = people.account()
    with django_assert_num_queries(0):
        assert month_of(new, NOW, SHANGHAI) is None


def test_a_share_with_a_drop_is_never_shown_as_all_of_the_time(people):
    account = online(people, since=NOW - 10 * DAY)
    drop(account, NOW - 10 * DAY - HOUR, timedelta(seconds=9))
    month = month_of(account, NOW, SHANGHAI)
    assert (month.online_percent, month.days[-11].online_percent, month.days[-1].online_percent) == (
        99.9,
        99.9,
        100,
    )


def test_an_account_that_never_was_offline_was_online_all_of_the_time():
    """Whatever the number of seconds: 1000 * x / x is less than 1000 for some."""
    seconds = [2_591_000 + step / 7 for step in range(10_000)]
    assert {share_online(0, counted) for counted in seconds} == {100.0}
    assert {share_online(counted, counted) for counted in seconds} == {0.0}
    assert {share_online(1e-6, counted) for counted in seconds} == {99.9}
