"""Cron expressions in a time zone: which times match, and what is wrong with an expression.

Clock changes follow Debian's cron. A fixed time that is skipped matches right after the gap; one that occurs
twice matches the first time only. With `*` in minute or hour every minute that passes is compared with the
expression.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

FIELDS = {
    "minute": pgettext_lazy("cron expression", "minute"),
    "hour": pgettext_lazy("cron expression", "hour"),
    "day-of-month": pgettext_lazy("cron expression", "day of month"),
    "month": pgettext_lazy("cron expression", "month"),
    "day-of-week": pgettext_lazy("cron expression", "day of week"),
}


class _Times(CronSim):
    """Iterate over the matching times after `start`, or before it. Ends where 50 years hold no match."""

    def __init__(self, expression: str, start: datetime, reverse: bool = False):
        super().__init__(expression, start, reverse=reverse)
        self.day_and = True  # both kinds of days must match, unlike in Debian's cron

    def __next__(self) -> datetime:
        return super().__next__().astimezone(UTC)

    def advance_hour(self) -> bool:
        """Start an hour at its first minute, also after a change of half an hour (Australia/Lord_Howe)."""
        moved = super().advance_hour()
        if moved:
            self.dt = self.dt.replace(minute=0, second=0)
        return moved


def check(expression: str) -> None:
    """Raise ValidationError, with a message for the person who typed it, if no time can match."""
    number = len(expression.split())
    if number != len(FIELDS):
        raise ValidationError(
            _(
                "A cron expression has five fields: minute, hour, day of month, month, day of week. "
                "This one has %(number)s."
            ),
            params={"number": number},
        )
    try:
        matches = next(_Times(expression, timezone.now()), None)
    except CronSimError as error:
        field = str(error).removeprefix("Bad ")
        if not _names_no_date(expression, field):
            raise ValidationError(
                _("“%(expression)s” is not a valid cron expression. Check the field “%(field)s”."),
                params={"expression": expression, "field": FIELDS[field]},
            ) from None
        matches = None
    if matches is None:
        raise ValidationError(
            _("“%(expression)s” matches no date. Check the day and the month."),
            params={"expression": expression},
        )


def _names_no_date(expression: str, field: str) -> bool:
    """Return whether CronSim rejects the day because of the month, as in 30 February."""
    if field != "day-of-month":
        return False
    try:
        CronSim(f"0 0 {expression.split()[2]} * *", timezone.now())
    except CronSimError:
        return False
    return True


def next_after(expression: str, zone: ZoneInfo, after: datetime) -> datetime | None:
    """Return the first matching time later than `after`, or None."""
    times = _Times(expression, after.astimezone(zone))
    return next((time for time in times if time > after), None)


def latest(expression: str, zone: ZoneInfo, since: datetime, until: datetime) -> datetime | None:
    """Return the last matching time from `since` to `until`, both included, or None."""
    # CronSim includes `until` itself only if it starts a fraction of a second later.
    times = _Times(expression, (until + timedelta(microseconds=1)).astimezone(zone), reverse=True)
    found = next((time for time in times if time <= until), None)
    # CronSim goes back too far within an hour that occurs twice.
    while found and (later := next_after(expression, zone, found)) and later <= until:
        found = later
    return found if found and found >= since else None
