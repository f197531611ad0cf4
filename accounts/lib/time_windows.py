"""Days and daily time windows in a time zone: when phones may be prompted, when people may be notified."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

# How many days ahead the next window is searched: clock changes may remove one or two windows.
DAYS = 5
# Windows that do not overlap within this time never do.
NEVER = timedelta(days=21)


def begin_of_day(day: date) -> datetime:
    """Return its midnight in the current time zone."""
    return timezone.make_aware(datetime.combine(day, time.min))


def known_zone(name: str) -> None:
    """Validate the name of a time zone. Raises ValidationError."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValidationError(
            _("Unknown time zone “%(name)s”. Use a name such as Asia/Shanghai."), params={"name": name}
        ) from None


def zone_named(name: str) -> ZoneInfo:
    """Return the time zone, by default the site's. An unknown name counts as empty (a row not saved by a form)."""
    try:
        return ZoneInfo(name) if name else timezone.get_default_timezone()
    except (KeyError, ValueError, OSError):
        return timezone.get_default_timezone()


def is_half(beginning: time | None, end: time | None) -> bool:
    """Return whether only one end of the hours is given, which is an input error."""
    return (beginning is None) != (end is None)


class TimeWindow(models.Model):
    """A daily window in a time zone. The beginning is within the window, the end is not.

    Both ends empty or equal: all day. An end before its beginning is on the next day.
    """

    hours_from = models.TimeField(_("from"), null=True, blank=True)
    hours_until = models.TimeField(_("until"), null=True, blank=True)
    time_zone = models.CharField(
        _("time zone"),
        max_length=60,
        blank=True,
        default="",
        db_default="",
        validators=[known_zone],
        help_text=_("For example Asia/Shanghai. Leave empty to use the site’s time zone."),
    )

    class Meta:
        abstract = True

    @property
    def has_hours(self) -> bool:
        return (
            self.hours_from is not None
            and self.hours_until is not None
            and self.hours_from != self.hours_until
        )

    @property
    def zone(self) -> ZoneInfo:
        return zone_named(self.time_zone)

    def is_within(self, now: datetime) -> bool:
        if not self.has_hours:
            return True
        at = now.astimezone(self.zone).time()
        if self.hours_from < self.hours_until:
            return self.hours_from <= at < self.hours_until
        return at >= self.hours_from or at < self.hours_until

    def next_within(self, now: datetime) -> datetime:
        """Return the first moment from `now` on that is within the window.

        If a clock change skips the beginning, this is right after the gap. It may be days away: a window that
        lies completely in a gap does not exist on that day.
        """
        if self.is_within(now):
            return now
        zone, now = self.zone, now.astimezone(UTC)
        today = now.astimezone(zone).date()
        moments = _transitions(zone, now)
        for days in range(DAYS):
            beginning = datetime.combine(today + timedelta(days=days), self.hours_from)
            moments += [beginning.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
        return min(moment for moment in moments if moment >= now and self.is_within(moment))


def next_within_all(windows: list[TimeWindow], now: datetime) -> datetime | None:
    """Return the first moment from `now` on that is within all windows, None if 21 days have none."""
    at = now
    while at - now < NEVER:
        before = at
        for hours in windows:
            at = hours.next_within(at)
        if at == before:
            return at
    return None


def _transitions(zone: ZoneInfo, now: datetime) -> list[datetime]:
    """Return the zone's clock changes within DAYS from `now`: a window may begin or continue right then."""
    found = []
    low, until = now, now + timedelta(days=DAYS)
    while low < until:
        high = low + timedelta(hours=1)
        if _offset(zone, low) != _offset(zone, high):
            found.append(_change(zone, low, high))
        low = high
    return found


def _change(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    """Return the clock change between `low` and `high`, to the second: clocks change at whole seconds."""
    low, high = low.replace(microsecond=0), high.replace(microsecond=0)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low).seconds // 2)
        low, high = (low, middle) if _offset(zone, low) != _offset(zone, middle) else (middle, high)
    return high


def _offset(zone: ZoneInfo, at: datetime) -> timedelta | None:
    return at.astimezone(zone).utcoffset()
