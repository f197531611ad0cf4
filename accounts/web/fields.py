"""Form fields for text and times as people type them."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from zoneinfo import available_timezones

from django import forms
from django.conf import settings
from django.core.validators import ProhibitNullCharactersValidator
from django.forms.utils import flatatt
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.lib import db_clock, typed_text

AREAS = {
    "Africa": _("Africa"),
    "America": _("America"),
    "Antarctica": _("Antarctica"),
    "Asia": _("Asia"),
    "Atlantic": _("Atlantic"),
    "Australia": _("Australia"),
    "Europe": _("Europe"),
    "Indian": _("Indian Ocean"),
    "Pacific": _("Pacific"),
}
FIRST_YEAR, LAST_YEAR = 2000, 2100
LONGEST = 10_000  # no field takes more, so nothing after this many characters changes the answer


@cache
def zones() -> dict[str, list[str]]:
    """Return the names of time zones by the part of the world, without old names of the same ones."""
    found: dict[str, list[str]] = {}
    for name in sorted(available_timezones()):
        area, slash, _city = name.partition("/")
        if slash and area in AREAS:
            found.setdefault(area, []).append(name)
    return found


class ZoneSelect(forms.Select):
    """The list of time zones. A zone that is saved and not in the list is offered too."""

    def optgroups(self, name: str, value: list[str], attrs: dict | None = None) -> list:
        here = gettext("Site’s time zone (%(zone)s)") % {"zone": settings.TIME_ZONE}
        groups = [(AREAS[area], [(zone, zone) for zone in names]) for area, names in zones().items()]
        known = {"", "UTC"}.union(*zones().values())
        others = [(zone, zone) for zone in value if zone not in known]
        self.choices = [("", here), ("UTC", _("Coordinated Universal Time (UTC)")), *others, *groups]
        return super().optgroups(name, value, attrs)

    def render(self, name: str, value: object, attrs: dict | None = None, renderer=None) -> SafeString:
        """Build the HTML here: Django renders two templates for each of 450 options, longer than the rest of a page."""
        widget = self.get_context(name, value, attrs)["widget"]
        parts = []
        for area, zones_of_area, _index in widget["optgroups"]:
            rows = ((zone["value"], flatatt(zone["attrs"]), zone["label"]) for zone in zones_of_area)
            options = format_html_join("\n", '<option value="{}"{}>{}</option>', rows)
            parts.append(
                (format_html('<optgroup label="{}">{}</optgroup>', area, options) if area else options,)
            )
        options = format_html_join("\n", "{}", parts)
        return format_html(
            '<select name="{}"{}>{}</select>', widget["name"], flatatt(widget["attrs"]), options
        )


class RowsField(forms.ModelMultipleChoiceField):
    """Several rows, by their IDs."""

    def clean(self, value: object):
        for key in value or []:
            if not typed_text.is_key(str(key)):
                raise forms.ValidationError(
                    self.error_messages["invalid_pk_value"], code="invalid_pk_value", params={"pk": key}
                )
        return super().clean(value)


class LineField(forms.CharField):
    """One line of text, without invisible characters."""

    read: Callable[[str], str] = staticmethod(typed_text.line)

    def to_python(self, value: object) -> str | None:
        if value not in self.empty_values:
            ProhibitNullCharactersValidator()(value)
            value = self.read(str(value)[:LONGEST])
        return super().to_python(value)


class CodeField(LineField):
    """An ID or an expression: full-width forms count as ASCII, and quotes around it do not count."""

    read = staticmethod(typed_text.code)


class DigitsField(LineField, forms.RegexField):
    """A number that may be typed in groups."""

    read = staticmethod(typed_text.digits)


class MomentField(forms.DateTimeField):
    """A date and time of day in the current time zone, within this century."""

    widget = forms.DateTimeInput(
        attrs={
            "type": "datetime-local",
            "step": 1,
            "min": f"{FIRST_YEAR}-01-01T00:00",
            "max": f"{LAST_YEAR}-12-31T23:59",
        },
        format="%Y-%m-%dT%H:%M:%S",
    )
    default_error_messages = {
        "invalid": _("Enter a date and a time, for example 2026-01-31 09:30."),
        "year": _("Enter a year from %(first)s to %(last)s."),
        "skipped": _(
            "%(time)s does not exist in %(zone)s, because the clocks are set forward. Enter another time."
        ),
        "doubled": _(
            "%(time)s occurs twice in %(zone)s, because the clocks are set back. Enter another time."
        ),
    }

    def to_python(self, value: object) -> datetime | None:
        if isinstance(value, str):
            value = typed_text.code(value)
        try:
            moment = super().to_python(value)
        except forms.ValidationError as error:
            if error.code != "ambiguous_timezone":
                raise
            raise self._unclear(error.params["datetime"]) from None
        if moment is not None:
            self._check_year(moment)
        return moment

    def _check_year(self, moment: datetime) -> None:
        if not FIRST_YEAR <= moment.year <= LAST_YEAR:
            raise self._error("year", first=FIRST_YEAR, last=LAST_YEAR)

    def _unclear(self, local: datetime) -> forms.ValidationError:
        """Return why a time of the current time zone names no moment, or two."""
        self._check_year(local)
        zone = timezone.get_current_timezone()
        back = local.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None, fold=0)
        code = "doubled" if back == local else "skipped"
        return self._error(code, time=f"{local:%Y-%m-%d %H:%M}", zone=str(zone))

    def _error(self, code: str, **params) -> forms.ValidationError:
        return forms.ValidationError(self.error_messages[code], code=code, params=params)


def future(moment: datetime) -> datetime:
    """Return the moment. Raises ValidationError if it has passed."""
    if moment <= db_clock.now():
        raise forms.ValidationError(_("This time has passed. Enter a later one."), code="past")
    return moment
