"""Whether the database can serve this version: it answers, and has this version's migrations."""

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

AWAY, NOT_MIGRATED = "away", "not migrated"


class _Known:
    """Whether all migrations were applied once: none is taken back while a process runs, and to ask takes 50 ms."""

    migrated = False


def database_problem() -> str:
    """Return AWAY, NOT_MIGRATED, or "" if the database can serve."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        _Known.migrated = _Known.migrated or _is_migrated()
    except DatabaseError:
        return AWAY
    return "" if _Known.migrated else NOT_MIGRATED


def _is_migrated() -> bool:
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())
