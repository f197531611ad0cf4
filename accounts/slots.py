"""When a plan is due: the moments that a crontab line names in a time zone, also on days when the clocks change.

A time of day that the clocks skip is right after the gap; one that they show twice is the first of the two. A line
that names every hour follows the time that passes instead: nothing of it is skipped, and nothing doubled.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from celery.schedules import ParseException, crontab
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
# 29 February on a certain day of the week comes again after forty years at the latest.
DAYS_AHEAD = 41 * 366


@dataclass(frozen=True)
class Rule:
    """A crontab line in a zone. Days of the month and days of the week have to hold both; Sunday is 0."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    zone: ZoneInfo

    def has_day(self, day: date) -> bool:
        return day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.weekdays


def read(line: str, zone: ZoneInfo) -> Rule:
    """The rule of five fields; raises ValidationError with a sentence for who typed them."""
    words = line.split()
    if len(words) != len(FIELDS):
        raise ValidationError(
            _(
                "A cron expression has five fields: minute, hour, day of month, month, day of week. "
                "This one has %(number)s."
            ),
            params={"number": len(words)},
        )
    try:
        found = crontab(**dict(zip(FIELDS, words, strict=True)))
    except (ParseException, ValueError) as error:
        raise ValidationError(
            _("“%(line)s” is not a valid cron expression: %(error)s."),
            params={"line": line, "error": str(error).rstrip(".")},
        ) from None
    sets = (getattr(found, name) for name in FIELDS)
    minutes, hours, days, months, weekdays = (frozenset(values) for values in sets)
    return Rule(minutes, hours, days, months, weekdays, zone)


def next_after(rule: Rule, after: datetime) -> datetime | None:
    """The first slot later than `after`."""
    first = after.astimezone(rule.zone).date() - DAY
    days = (first + number * DAY for number in range(DAYS_AHEAD))
    return next((slot for day in days for slot in _slots(rule, day) if slot > after), None)


def latest(rule: Rule, since: datetime, until: datetime) -> datetime | None:
    """The last slot from `since` to `until`, both included."""
    last, first = until.astimezone(rule.zone).date(), since.astimezone(rule.zone).date() - DAY
    days = (last - number * DAY for number in range((last - first).days + 1))
    return next(
        (slot for day in days for slot in reversed(_slots(rule, day)) if since <= slot <= until), None
    )


def _slots(rule: Rule, day: date) -> list[datetime]:
    """The moments of one day of the zone, in order."""
    if not rule.has_day(day):
        return []
    if len(rule.hours) == 24:
        return list(_as_time_passes(rule, day))
    times = (time(hour, minute) for hour in rule.hours for minute in rule.minutes)
    return sorted({_moment(datetime.combine(day, at), rule.zone) for at in times})


def _moment(wall: datetime, zone: ZoneInfo) -> datetime:
    moment = wall.replace(tzinfo=zone).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == wall:
        return moment
    # The clocks skip it. Back to the moment when they were set forward.
    offset = moment.astimezone(zone).utcoffset()
    while (moment - MINUTE).astimezone(zone).utcoffset() == offset:
        moment -= MINUTE
    return moment


def _as_time_passes(rule: Rule, day: date) -> Iterator[datetime]:
    moment = _moment(datetime.combine(day, time()), rule.zone)
    end = _moment(datetime.combine(day + DAY, time()), rule.zone)
    while moment < end:
        if moment.astimezone(rule.zone).minute in rule.minutes:
            yield moment
        moment += MINUTE
