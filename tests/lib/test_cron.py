"""Cron expressions in time zones, on ordinary days and when the clocks change."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ValidationError

from accounts.lib import cron

BERLIN, SHANGHAI, HOWE = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Shanghai"), ZoneInfo("Australia/Lord_Howe")
# Berlin: 29 March 2026, 2:00 becomes 3:00; 25 October 2026, 3:00 becomes 2:00 again. Lord Howe moves by half an hour.


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def between(expression: str, zone: ZoneInfo, since: str, until: str) -> list[str]:
    found, moment = [], at(since) - timedelta(microseconds=1)
    while (moment := cron.next_after(expression, zone, moment)) is not None and moment <= at(until):
        found.append(moment.isoformat()[5:16].replace("T", " "))
    return found


@pytest.mark.parametrize(
    ("line", "zone", "since", "until", "expected"),
    [
        ("30 9 * * 1-5", SHANGHAI, "2026-06-05", "2026-06-09", ["06-05 01:30", "06-08 01:30", "06-09 01:30"][:2]),
        ("0 8,20 1 * *", SHANGHAI, "2026-06-01", "2026-07-02", ["06-01 00:00", "06-01 12:00", "07-01 00:00", "07-01 12:00"]),
        ("*/20 * * * *", SHANGHAI, "2026-06-01", "2026-06-01 01:00", ["06-01 00:00", "06-01 00:20", "06-01 00:40", "06-01 01:00"]),
        ("0 12 * * 0", BERLIN, "2026-06-01", "2026-06-10", ["06-07 10:00"]),
        ("0 12 * * sun", BERLIN, "2026-06-01", "2026-06-10", ["06-07 10:00"]),
        ("0 12 * * 7", BERLIN, "2026-06-01", "2026-06-10", ["06-07 10:00"]),
        ("0 12 L * *", BERLIN, "2026-02-01", "2026-04-01", ["02-28 11:00", "03-31 10:00"]),
        ("0 12 * * 5L", BERLIN, "2026-06-01", "2026-07-10", ["06-26 10:00"]),
        # Both kinds of days have to match: Friday the 13th.
        ("0 0 13 * 5", ZoneInfo("UTC"), "2026-01-01", "2026-12-31", ["02-13 00:00", "03-13 00:00", "11-13 00:00"]),
        # The same time of day on both sides of the change: an hour earlier in UTC.
        ("0 9 * * *", BERLIN, "2026-03-28", "2026-03-30", ["03-28 08:00", "03-29 07:00"]),
        ("0 9 * * *", BERLIN, "2026-10-24", "2026-10-26", ["10-24 07:00", "10-25 08:00"]),
        # Skipped: right after the gap. Two times of one gap are one moment.
        ("30 2 * * *", BERLIN, "2026-03-28", "2026-03-30 12:00", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        ("15,45 2 * * *", BERLIN, "2026-03-29", "2026-03-29 12:00", ["03-29 01:00"]),
        ("15 2 * * *", HOWE, "2026-10-03", "2026-10-03 23:00", ["10-03 15:30"]),
        # Shown twice: the first.
        ("30 2 * * *", BERLIN, "2026-10-24", "2026-10-26 12:00", ["10-24 00:30", "10-25 00:30", "10-26 01:30"]),
        # With * in minute or hour it follows the time that passes.
        ("30 * * * *", BERLIN, "2026-03-28 23:40", "2026-03-29 03:00", ["03-29 00:30", "03-29 01:30", "03-29 02:30"]),
        ("30 * * * *", BERLIN, "2026-10-24 23:40", "2026-10-25 03:00", ["10-25 00:30", "10-25 01:30", "10-25 02:30"]),
        ("*/30 2 * * *", BERLIN, "2026-03-28 12:00", "2026-03-30 12:00", ["03-30 00:00", "03-30 00:30"]),
        ("*/30 2 * * *", BERLIN, "2026-10-25", "2026-10-25 12:00", ["10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30"]),
    ],
)  # fmt: skip
def test_times(line, zone, since, until, expected):
    assert between(line, zone, since, until) == expected


@pytest.mark.parametrize(
    "zone", [BERLIN, SHANGHAI, HOWE, ZoneInfo("America/New_York"), ZoneInfo("Asia/Kathmandu")]
)
@pytest.mark.parametrize(
    "expression",
    ["30 2 * * *", "*/15 * * * *", "0 0 * * *", "45 1,2,3 * * 0,6", "10 */3 * * *", "*/20 2 * * *"],
)
def test_the_latest_time_is_the_last_of_those_that_follow_each_other(expression, zone):
    """Both questions get the same answer: at each time around a year's changes of the clocks, and between two."""
    for change in ("2026-03-08", "2026-03-29", "2026-10-04", "2026-10-25", "2026-11-01"):
        begin = at(change) - timedelta(hours=14)
        known, moment = [], begin
        while (moment := cron.next_after(expression, zone, moment)) <= begin + timedelta(days=1):
            known.append(moment)
        assert known == sorted(set(known))
        for before, moment in zip([None, *known], known, strict=False):
            assert cron.latest(expression, zone, moment, moment) == moment
            just_before = cron.latest(expression, zone, begin, moment - timedelta(seconds=1))
            assert just_before == before or (before is None and just_before == begin)


def test_a_whole_year_has_one_time_for_each_day():
    found = between("30 2 * * *", BERLIN, "2026-01-01", "2026-12-31 23:00")
    days = {
        datetime.fromisoformat(f"2026-{text}").replace(tzinfo=UTC).astimezone(BERLIN).date() for text in found
    }
    assert len(found) == len(days) == 365


def test_a_leap_day_is_found_years_ahead():
    assert cron.next_after("0 0 29 2 *", SHANGHAI, at("2026-11-23")) == at("2028-02-28 16:00")
    assert cron.latest("0 0 29 2 *", SHANGHAI, at("2026-11-23"), at("2028-02-28 15:59")) is None
    # 29 February on a Monday, after a leap day that 2100 does not have.
    found = cron.next_after("0 0 29 2 1", SHANGHAI, at("2072-03-01"))
    assert found.astimezone(SHANGHAI).isoformat()[:10] == "2112-02-29"


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("30 9 * *", "This one has 4."),
        ("", "This one has 0."),
        ("0 30 9 * * *", "This one has 6."),
        ("61 9 * * *", "is not a valid cron expression. Check the field “minute”."),
        ("30 25 * * *", "Check the field “hour”."),
        ("30 9 0 * *", "Check the field “day of month”."),
        ("30 9 1 foo *", "Check the field “month”."),
        ("30 9 * * noday", "Check the field “day of week”."),
        ("30 9 * * ²L", "Check the field “day of week”."),
        ("x y z a b", "Check the field “minute”."),
        ("*/0 * * * *", "Check the field “minute”."),
        ("22-2 * * * *", "Check the field “minute”."),
        ("1-99999999 * * * *", "Check the field “minute”."),
        ("30 9 30 2 *", "“30 9 30 2 *” matches no date."),
        ("30 9 31 2,4 1", "matches no date."),
        ("30 9 1-7 * 1#2", "matches no date."),
    ],
)
def test_an_expression_that_cannot_match_is_refused_with_a_sentence(expression, said):
    with pytest.raises(ValidationError) as error:
        cron.check(expression)
    assert said in error.value.messages[0]


@pytest.mark.parametrize("expression", ["0 0 29 2 *", "0 0 L 2 7", "*/5 9-17 1-7 jan-mar mon", "0 0 lw * *"])
def test_an_expression_that_matches_is_accepted(expression):
    cron.check(expression)
