"""How a backup takes the place of the database: all checks are made on a new database, which then gets its name.

Until then nothing of the current database changes, and afterwards it is kept under another name.
"""

import time
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError, connection
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone
from django.utils.version import get_version_tuple

from accounts.maintenance import field_keys
from wkportal.backup import archive, postgres, sqlite
from wkportal.backup.contents import InUseError, leave, row_counts, using

ENDING_SECONDS = 2


def engine():
    """Return the module that dumps and restores the configured kind of database."""
    return sqlite if connection.vendor == "sqlite" else postgres


def restore(path: Path, *, lost_keys: bool, say: Callable[[str], object]) -> str:
    """Restore the backup. Return the name that the database before has now, "" if there was none.

    `lost_keys`: also if values are encrypted by keys that are missing here. Raises CommandError if the database stays as
    it is.
    """
    manifest, databases = archive.manifest_of(path), engine()
    _refuse_foreign(manifest)
    leave()
    connection.settings_dict["OPTIONS"].pop("pool", None)  # its connections would be in the way, too
    _refuse_if_in_use(databases)
    rows = sum(manifest["rows"].values())
    say(f"{path} is whole: version {manifest['version']}, {manifest['at']}, {rows} rows.")
    with archive.database_in(path) as chunks:
        new = databases.load(chunks)
    try:
        with using(new):
            _check(manifest, lost_keys, say)
        return databases.put_in_place(new, timezone.localtime().strftime("%Y%m%d_%H%M%S_%f"))
    except BaseException as error:
        databases.drop(new)
        if isinstance(error, DatabaseError):
            raise CommandError(f"The database in {path} cannot be used: {str(error).strip()}") from error
        raise


def _refuse_foreign(manifest: dict) -> None:
    if manifest["engine"] != connection.vendor:
        raise CommandError(
            f"The backup is of {manifest['engine']}, and DATABASE_URL names a database of {connection.vendor}."
        )
    disk = MigrationLoader(None).disk_migrations
    known = {*disk, *(replaced for migration in disk.values() for replaced in migration.replaces)}
    apps = {app for app, _name in known}
    unknown = [
        f"{app}.{name}" for app, name in manifest["migrations"] if app in apps and (app, name) not in known
    ]
    newer = get_version_tuple(manifest["version"]) > get_version_tuple(settings.VERSION)
    if unknown or newer:
        why = f", which has the migration {unknown[-1]}" if unknown else ""
        raise CommandError(
            f"The backup was made by version {manifest['version']}{why}; this is version {settings.VERSION}. Restore it "
            "with that version or a newer one."
        )


def _refuse_if_in_use(databases) -> None:
    """A process that was stopped just now may still have its connection: it gets ENDING_SECONDS."""
    ends = time.monotonic() + ENDING_SECONDS
    while True:
        try:
            return databases.refuse_if_in_use()
        except InUseError:
            if time.monotonic() > ends:
                raise
        time.sleep(0.1)


def _check(manifest: dict, lost_keys: bool, say: Callable[[str], object]) -> None:
    """Check the rows of the new database, migrate it, and try the keys."""
    counts = row_counts(manifest["rows"])
    different = [table for table, number in manifest["rows"].items() if counts[table] != number]
    if different:
        raise CommandError(f"The restored database has other numbers of rows in {', '.join(different)}.")
    say("Each table has as many rows as before.")
    call_command("migrate", verbosity=0, interactive=False, skip_checks=False)
    lost = field_keys.lost()
    if lost and not lost_keys:
        columns = ", ".join(f"{number} in {column}" for column, number in lost.items())
        raise CommandError(
            f"No key here decrypts some secrets of the backup ({columns}). Put the key that was in use then into FIELD_KEYS, "
            "or the SECRET_KEY of then into SECRET_KEY_FALLBACKS. To restore without these secrets, add --lost-keys."
        )
