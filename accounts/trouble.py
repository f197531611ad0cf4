"""Which errors say that the database is away for now: the same step may succeed later."""

from django.db import InterfaceError, InternalError, OperationalError
from psycopg.errors import DeadlockDetected, LockNotAvailable, ReadOnlySqlTransaction

DATABASE_ERRORS = (OperationalError, InterfaceError, InternalError)


def is_away(error: Exception) -> bool:
    """Not for what is a mistake of the program, whoever words it as an error of the database."""
    if isinstance(error, InternalError):
        return isinstance(error.__cause__, ReadOnlySqlTransaction)  # of a server that became a replica
    return isinstance(error, OperationalError | InterfaceError)


def is_held(error: Exception) -> bool:
    """Somebody else holds one of the rows; the others are free."""
    return isinstance(error.__cause__, LockNotAvailable | DeadlockDetected)
