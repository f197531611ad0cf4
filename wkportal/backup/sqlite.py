"""Backup and restore of a SQLite database, by SQLite's own backup of a database that is in use."""

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection

from wkportal.backup.archive import CHUNK
from wkportal.backup.contents import InUseError, facts, leave, using

IN_USE = "The database is in use. Stop everything that uses it (`make run`, web, workers and beat) first."


def current() -> Path:
    return Path(connection.settings_dict["NAME"])


@contextmanager
def dumped(target: Path | None) -> Iterator[tuple[dict, Iterator[bytes]]]:
    """Yield the facts of a copy, and its content. The copy stands beside `target`, or in VAR_DIR, while the block runs."""
    if not current().exists():
        raise CommandError(f"There is no database in {current()}.")
    folder = target.parent if target else settings.VAR_DIR
    copy = folder / f".wkportal-{os.getpid()}.copy"
    _create(copy)
    try:
        _copy_to(copy)
        with using(str(copy)):
            found = facts()
        with copy.open("rb") as file:
            yield found, iter(lambda: file.read(CHUNK), b"")
    finally:
        for path in (copy, *copy.parent.glob(f"{copy.name}-*")):
            path.unlink(missing_ok=True)


def _copy_to(copy: Path) -> None:
    try:
        with closing(sqlite3.connect(current())) as source, closing(sqlite3.connect(copy)) as made:
            # In one step: a writer that is faster than the copy would begin it again and again.
            source.backup(made)
            made.execute("PRAGMA journal_mode=DELETE")
            found = made.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        raise CommandError(f"SQLite cannot copy {current()}: {error}") from None
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise CommandError(f"The database is damaged ({found}); its backup would be, too.")


def refuse_if_in_use() -> None:
    with (settings.VAR_DIR / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(IN_USE) from None
    if current().exists():
        with _alone():
            pass


@contextmanager
def _alone() -> Iterator[None]:
    """Keep everybody else out of the database while the block runs. Nobody can use one that is damaged."""
    leave()
    try:
        database = sqlite3.connect(current(), timeout=0, isolation_level=None)
    except sqlite3.OperationalError as error:
        raise CommandError(f"SQLite cannot open {current()}: {error}") from None
    with closing(database):
        try:
            # SQLite leaves the WAL only for the one connection that there is, and then all is in the one file.
            database.execute("PRAGMA journal_mode=DELETE")
            database.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise InUseError(IN_USE) from None
            raise CommandError(f"SQLite cannot use {current()}: {error}") from None
        except sqlite3.DatabaseError:
            pass
        yield


def load(chunks: Iterable[bytes]) -> str:
    """Write the database to a file beside the current one. Return its name."""
    new = current().with_name(f"{current().name}.restore")
    drop(str(new))
    _create(new)
    with new.open("wb") as file:
        file.writelines(chunks)
        os.fsync(file.fileno())
    return str(new)


def drop(name: str) -> None:
    for path in (Path(name), *Path(name).parent.glob(f"{Path(name).name}-*")):
        path.unlink(missing_ok=True)


def put_in_place(name: str, stamp: str) -> str:
    """Let the file take the place of the current one. Return the name that the current one has from then on."""
    with closing(sqlite3.connect(name)) as new:
        new.execute("PRAGMA journal_mode=DELETE")
    if not current().exists():
        os.replace(name, current())
        return ""
    before = current().with_name(f"{current().name}.before-{stamp}")
    with _alone():
        os.link(current(), before)
        os.replace(name, current())
    with suppress(OSError):
        folder = os.open(current().parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    return str(before)


def _create(path: Path) -> None:
    """Create the file for its owner alone."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
