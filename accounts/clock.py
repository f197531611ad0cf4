"""What time it is, by the database's clock.

A deadline or a lease is written on one host and compared on another; the one clock that all of them share is the
database's. It is read once a minute; in between this process's monotonic clock goes on from there, so that a host
whose clock is wrong, or is set while the portal runs, shortens no wait. SQLite is on the same host as all others.
"""

import logging
import time
from datetime import datetime, timedelta

from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone

log = logging.getLogger(__name__)

READ_SECONDS = 60
RETRY_SECONDS = 5
STRANGE = timedelta(seconds=5)


class _Clock:
    def __init__(self):
        self.base: datetime | None = None  # the database's time ...
        self.at = 0.0  # ... at this moment of our monotonic clock
        self.read_next = 0.0

    def read(self) -> None:
        began = time.monotonic()
        self.read_next = began + RETRY_SECONDS
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT clock_timestamp()")
                base = cursor.fetchone()[0]
        except (DatabaseError, InterfaceError):
            return  # what was read last still holds
        ended = time.monotonic()
        self.base, self.at, self.read_next = base, (began + ended) / 2, ended + READ_SECONDS

    def now(self) -> datetime:
        if time.monotonic() >= self.read_next:
            first = self.base is None
            self.read()
            if first and self.base is not None and abs(self.base - timezone.now()) > STRANGE:
                log.warning("this host's clock differs from the database's; the database's is used")
        if self.base is None:
            return timezone.now()
        return self.base + timedelta(seconds=time.monotonic() - self.at)


_clock = _Clock()


def now() -> datetime:
    """The time now, aware, as every host of this portal sees it."""
    return _clock.now() if connection.vendor == "postgresql" else timezone.now()
