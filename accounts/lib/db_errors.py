"""Temporary database errors: how to recognize them and how to retry."""

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

from accounts.lib.group_commit import Interrupted

log = logging.getLogger(__name__)

# Seconds for which a worker keeps a result while the database is unreachable.
ANSWER_KEPT = 600
# PostgreSQL's codes of errors. psycopg's classes of them would be loaded with SQLite too.
READ_ONLY = "25006"
LOCK_NOT_AVAILABLE, DEADLOCK = "55P03", "40P01"
DATABASE_ERRORS = (OperationalError, InterfaceError, InternalError)


def is_unreachable(error: Exception) -> bool:
    """Return whether the database is unreachable or read-only. False for a programming error."""
    if isinstance(error, InternalError):
        return _sqlstate(error) == READ_ONLY  # the server became a replica
    return isinstance(error, OperationalError | InterfaceError)


def is_held(error: Exception) -> bool:
    """Return whether another transaction holds one of the rows. The other rows are free."""
    return _sqlstate(error) in (LOCK_NOT_AVAILABLE, DEADLOCK)


def _sqlstate(error: Exception) -> str | None:
    return getattr(error.__cause__, "sqlstate", None)


def release_connection() -> None:
    """Return the database connection to the pool before a slow call. Does nothing inside a transaction.

    Thousands of waits must not hold one connection each. Django's wrapper is dropped too: a new one takes 8
    µs.
    """
    if not connection.in_atomic_block:
        connection.close()
        del connections[connection.alias]


def rest() -> None:
    """Release the connection before a pause or a call of seconds, but not SQLite's, which nobody waits for.

    Opening its file takes 1 ms.
    """
    if connection.vendor != "sqlite":
        release_connection()


def retry_until_saved(step, row: models.Model, *args, seconds: float = ANSWER_KEPT, **kwargs):
    """Run `step(row, ...)`, whose result must not be lost.

    Retries for up to `seconds` while the database is unreachable or a group commit was interrupted (that run
    may have taken effect). Backoff: 0.2 s, doubled up to 3 s. `row` changes only if the step succeeds.

    Returns the step's result. Raises the temporary error when the time is up, any other error immediately.
    """
    until = time.monotonic() + seconds
    pause = 0.2
    while True:
        # A copy: changes that a step makes to the row must not outlive the rollback of that step.
        trial = copy.copy(row)
        try:
            result = step(trial, *args, **kwargs)
        except (*DATABASE_ERRORS, Interrupted) as error:
            unreachable = isinstance(error, Interrupted) or is_unreachable(error)
            if not unreachable or time.monotonic() > until:
                raise
            text = "%s %s: the database is unreachable (%s); trying again"
            log.warning(text, row._meta.verbose_name, row.pk, type(error).__name__)
            release_connection()
            time.sleep(pause)
            pause = min(pause * 2, 3)
        else:
            row.__dict__.update(trial.__dict__)
            return result
