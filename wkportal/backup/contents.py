"""What a database holds, to compare it before and after; and which one this process uses."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone


class InUseError(CommandError):
    """Others use the database."""


def facts() -> dict:
    """Return what the manifest of a backup says of the database."""
    return {
        "version": settings.VERSION,
        "engine": connection.vendor,
        "at": timezone.now().isoformat(timespec="seconds"),
        "migrations": sorted(map(list, MigrationLoader(connection).applied_migrations)),
        "rows": row_counts(),
    }


def row_counts(tables: Iterable[str] | None = None) -> dict[str, int]:
    """Return {table: number of rows}, by default of every table of ours."""
    if tables is None:
        ours = connection.introspection.django_table_names(only_existing=True, include_views=False)
        tables = sorted([*ours, MigrationRecorder.Migration._meta.db_table])
    counts = {}
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"SELECT count(*) FROM {connection.ops.quote_name(table)}")  # noqa: S608 - a quoted name
            counts[table] = cursor.fetchone()[0]
    return counts


@contextmanager
def using(name: str) -> Iterator[None]:
    """Let this process use another database of the same server, or another file, while the block runs."""
    own = connection.settings_dict["NAME"]
    leave()
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        leave()
        connection.settings_dict["NAME"] = own


def leave() -> None:
    """Close every connection of this process to its database."""
    connection.close()
    if connection.vendor == "postgresql":
        connection.close_pool()
