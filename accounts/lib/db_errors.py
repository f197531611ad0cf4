"""Which database errors are temporary, and how to try again."""

import copy
import logging
import time

from django.db import (
    InterfaceError,
    InternalError,
    OperationalError,
    connection,
    connections,
    models,
)
from psycopg.errors import DeadlockDetected, LockNotAvailable, ReadOnlySqlTransaction

from accounts.lib.group_commit import Interrupted

log = logging.getLogger(__name__)

# How long a worker keeps a result for a database that is away.
ANSWER_KEPT = 600
DATABASE_ERRORS = (OperationalError, InterfaceError, InternalError)


def is_away(error: Exception) -> bool:
    """Not for what is a mistake of the program, whoever words it as an error of the database."""
    if isinstance(error, InternalError):
        return isinstance(error.__cause__, ReadOnlySqlTransaction)  # of a server that became a replica
    return isinstance(error, OperationalError | InterfaceError)


def is_held(error: Exception) -> bool:
    """Somebody else holds one of the rows; the others are free."""
    return isinstance(error.__cause__, LockNotAvailable | DeadlockDetected)


def release_connection() -> None:
    """Return the database connection before something slow: thousands wait, and they must not hold one each.

    Nor what Django keeps about it, which is made anew in 8 µs.
    """
    if not connection.in_atomic_block:
        connection.close()
        del connections[connection.alias]


def retry_until_saved(step, row: models.Model, *args, seconds: float = ANSWER_KEPT, **kwargs):
    """Run `step(row, ...)`, whose result must not be lost; repeat it for up to `seconds` while the database is away.

    Raises the database's error when the time is up, and any other error at once.
    """
    until = time.monotonic() + seconds
    pause = 0.2
    while True:
        # A copy: what a step changes on it must not outlive the rollback of that step.
        trial = copy.copy(row)
        try:
            result = step(trial, *args, **kwargs)
        except (*DATABASE_ERRORS, Interrupted) as error:
            away = isinstance(error, Interrupted) or is_away(error)
            if not away or time.monotonic() > until:
                raise
            told = "%s %s: the database is away (%s); trying again"
            log.warning(told, row._meta.verbose_name, row.pk, type(error).__name__)
            release_connection()
            time.sleep(pause)
            pause = min(pause * 2, 3)
        else:
            row.__dict__.update(trial.__dict__)
            return result
