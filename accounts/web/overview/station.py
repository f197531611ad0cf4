"""Where the scan station begins."""

from django.urls import NoReverseMatch, reverse


def station_address() -> str:
    """Return the address at which a scan run begins; "" without a station."""
    try:
        return reverse("start_station")
    except NoReverseMatch:
        return ""
