"""The current time by the database's clock.

One host writes a deadline or a lease and another host compares it. The database's clock is the only one that
all hosts share. It is read once a minute, and this process's monotonic clock continues from there. A host
whose clock is wrong, or is set while the portal runs, therefore shortens no wait. With SQLite all processes
share one host, so the host's clock is used.
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
        # The database's time, and the reading of our monotonic clock at that moment. One value, because other
        # threads read it while it changes.
        self.known: tuple[datetime, float] | None = None
        self.read_next = 0.0

    def read(self) -> None:
        self.read_next = time.monotonic() + RETRY_SECONDS
        try:
            with connection.cursor() as cursor:
                began = time.monotonic()  # only now: opening the cursor may wait for a connection
                cursor.execute("SELECT clock_timestamp()")
                base = cursor.fetchone()[0]
        except (DatabaseError, InterfaceError):
            return  # the last reading stays valid
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
    """Return the current time (aware), the same on every host of this portal."""
    return _clock.now() if connection.vendor == "postgresql" else timezone.now()
