"""TimeWindow of a day in a time zone: over midnight, where clocks are set, and several windows at once."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ValidationError
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from accounts.lib.time_windows import known_zone, next_within_all
from accounts.models import RecoveryPolicy

# Clocks that are set by an hour, by half an hour, at midnight, twice a year in the south, never, and a skipped day.
ZONES = [
    *("Asia/Shanghai", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"),
    *("Africa/Cairo", "America/Santiago", "Asia/Kathmandu", "Pacific/Apia", "UTC"),
]
MINUTE = timedelta(minutes=1)


def hours(start: str, end: str, zone: str = "Europe/Berlin") -> RecoveryPolicy:
    return RecoveryPolicy(
        hours_from=time.fromisoformat(start), hours_until=time.fromisoformat(end), time_zone=zone
    )


def local(text: str, zone: str = "Europe/Berlin", fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)


@pytest.mark.parametrize(
    ("window", "now", "then"),
    [
        (("09:00", "18:00"), "2026-07-01 08:00", "2026-07-01 09:00"),
        (("09:00", "18:00"), "2026-07-01 12:34", "2026-07-01 12:34"),
        (("09:00", "18:00"), "2026-07-01 18:00", "2026-07-02 09:00"),
        # Over midnight.
        (("22:00", "06:00"), "2026-07-01 12:00", "2026-07-01 22:00"),
        (("22:00", "06:00"), "2026-07-01 23:59", "2026-07-01 23:59"),
        (("22:00", "06:00"), "2026-07-02 05:59", "2026-07-02 05:59"),
        (("22:00", "06:00"), "2026-07-02 06:00", "2026-07-02 22:00"),
        # The night in which the clocks go from two to three.
        (("02:30", "06:00"), "2026-03-29 01:00", "2026-03-29 03:00"),
        (("02:30", "06:00"), "2026-03-28 07:00", "2026-03-29 03:00"),
        # A window that this night does not have.
        (("02:10", "02:50"), "2026-03-29 01:00", "2026-03-30 02:10"),
    ],
)
def test_the_next_moment_within(window, now, then):
    assert hours(*window).next_within(local(now)) == local(then)


def test_where_the_clocks_are_set_back_a_window_comes_twice():
    window = hours("02:10", "02:50")
    assert window.next_within(local("2026-10-25 02:00", fold=0)) == local("2026-10-25 02:10", fold=0)
    assert window.next_within(local("2026-10-25 02:50", fold=0)) == local("2026-10-25 02:10", fold=1)


def test_where_the_clocks_are_set_back_into_a_window_it_goes_on():
    window = hours("01:30", "02:30")
    assert window.next_within(local("2026-10-25 02:40", fold=0)) == local("2026-10-25 02:00", fold=1)


def test_no_hours_are_all_day_and_so_are_equal_ones():
    now = local("2026-07-01 03:00")
    assert RecoveryPolicy().next_within(now) == now
    assert hours("08:00", "08:00").next_within(now) == now


def test_an_unknown_zone_is_refused_by_forms_and_counts_as_none_in_a_row():
    with pytest.raises(ValidationError):
        known_zone("Mars/Olympus")
    strange, plain = hours("09:00", "18:00", "Mars/Olympus"), hours("09:00", "18:00", "")
    now = datetime(2026, 7, 1, 3, 0, tzinfo=UTC)
    assert strange.next_within(now) == plain.next_within(now)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    start=st.integers(0, 1439),
    end=st.integers(0, 1439),
    # Around every day on which the clocks of one of the zones are set, and the rest of some years.
    now=st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1))
    | st.sampled_from(
        [
            datetime(2026, month, day, 20)
            for month, day in ((3, 28), (10, 24), (3, 7), (11, 1), (4, 4), (10, 3), (4, 23), (9, 5), (10, 29))
        ]
    ),
)
def test_it_is_the_first_minute_that_is_within(zone, start, end, now):
    assume(start != end)
    window = hours(f"{start // 60:02}:{start % 60:02}", f"{end // 60:02}:{end % 60:02}", zone)
    now = now.replace(second=0, microsecond=0, tzinfo=UTC)
    found = window.next_within(now)
    looked_at = now
    while not window.is_within(looked_at):
        looked_at += MINUTE
    assert found == looked_at


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    now=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
    ends=st.lists(st.tuples(st.integers(0, 23), st.integers(0, 23), st.sampled_from(ZONES)), max_size=3),
)
def test_a_moment_within_several_windows_is_the_first_or_there_is_none(now, ends):
    windows = [hours(f"{start:02}:30", f"{end:02}:00", zone) for start, end, zone in ends]
    now = now.replace(minute=0, second=0, microsecond=0, tzinfo=UTC)
    found = next_within_all(windows, now)
    steps = (now + n * timedelta(minutes=15) for n in range(4 * 24 * 3))
    first = next((at for at in steps if all(window.is_within(at) for window in windows)), None)
    if first is not None:
        assert found == first
    else:
        assert found is None or found > now + timedelta(days=2)
