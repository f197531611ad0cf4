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
        # The database's time, and the moment of our monotonic clock at which it was that: one value, because other
        # threads read it while it changes.
        self.known: tuple[datetime, float] | None = None
        self.read_next = 0.0

    def read(self) -> None:
        self.read_next = time.monotonic() + RETRY_SECONDS
        try:
            with connection.cursor() as cursor:  # which may have to queue for a connection
                began = time.monotonic()
                cursor.execute("SELECT clock_timestamp()")
                base = cursor.fetchone()[0]
        except (DatabaseError, InterfaceError):
            return  # what was read last still holds
        ended = time.monotonic()
        first, self.known = self.known is None, (base, (began + ended) / 2)
        self.read_next = ended + READ_SECONDS
        if first and abs(base - timezone.now()) > STRANGE:
            log.warning("this host's clock differs from the database's; the database's is used")

    def now(self) -> datetime:
        if time.monotonic() >= self.read_next:
            self.read()
        if self.known is None:
            return timezone.now()
        base, at = self.known
        return base + timedelta(seconds=time.monotonic() - at)


_clock = _Clock()


def now() -> datetime:
    """The time now, aware, as every host of this portal sees it."""
    return _clock.now() if connection.vendor == "postgresql" else timezone.now()
