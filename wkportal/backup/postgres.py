"""Backup and restore of a PostgreSQL database, by pg_dump and pg_restore of the server's version."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import glob
from pathlib import Path

from django.core.management.base import CommandError
from django.db import DatabaseError, connection, transaction
from psycopg import conninfo, sql

from wkportal.backup.archive import CHUNK
from wkportal.backup.contents import InUseError, facts, leave

# Beside PATH: where Debian and Red Hat put the programs of several versions.
FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
OTHERS = """
    SELECT coalesce(nullif(application_name, ''), 'unnamed') FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
LOCALE = """
    SELECT to_jsonb(d)::text, pg_encoding_to_char(encoding) FROM pg_database d WHERE datname = current_database()
"""
NAME_LENGTH = 32  # so that a longer name made of it is no longer than PostgreSQL's 63


@contextmanager
def dumped(_target: Path | None) -> Iterator[tuple[dict, Iterator[bytes]]]:
    """Yield the facts of one moment, and the dump of the same moment."""
    program = _program("pg_dump")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        cursor.execute("SELECT pg_export_snapshot()")
        snapshot, found = cursor.fetchone()[0], facts()
        command = [program, "--format=custom", f"--snapshot={snapshot}", "--lock-wait-timeout=60s"]
        with _Running(command, _address(), stdout=subprocess.PIPE) as dump:
            yield found, dump.output()


def refuse_if_in_use() -> None:
    with connection.cursor() as cursor:
        cursor.execute(OTHERS)
        names = sorted(name for (name,) in cursor.fetchall())
    if names:
        raise InUseError(
            f"{len(names)} other connections use the database ({', '.join(dict.fromkeys(names))}). Stop web, waits, "
            "jobs and beat first."
        )


def load(chunks: Iterable[bytes]) -> str:
    """Restore the dump into a new database, in one transaction. Return its name."""
    program, name = _program("pg_restore"), f"{_name()[:NAME_LENGTH]}_restore"
    drop(name)
    _execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 {}").format(sql.Identifier(name), _locale()))
    command = [program, "--single-transaction", "--exit-on-error"]
    try:
        with _Running(command, _address(name), stdin=subprocess.PIPE) as restoring:
            restoring.input(chunks)
    except BaseException:
        drop(name)
        raise
    return name


def drop(name: str) -> None:
    _execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def put_in_place(name: str, stamp: str) -> str:
    """Let the database take the place of the current one. Return the name that the current one has from then on."""
    own = _name()
    before = f"{own[:NAME_LENGTH]}_before_{stamp}"
    leave()
    renames = [(own, before), (name, own)]  # in one transaction: there is always one of the name
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    steps = [rename.format(*map(sql.Identifier, names)) for names in renames]
    _execute(sql.SQL("; ").join([sql.SQL("BEGIN"), *steps, sql.SQL("COMMIT")]))
    return before


def _execute(statement: sql.Composable) -> None:
    with connection._nodb_cursor() as cursor:
        try:
            cursor.execute(statement.as_string(cursor.connection))
        except DatabaseError as error:
            raise CommandError(f"PostgreSQL refused it: {str(error).strip()}") from None


def _locale() -> sql.Composable:
    """Return the words of CREATE DATABASE for the encoding and the locale of the current database."""
    with connection.cursor() as cursor:
        cursor.execute(LOCALE)
        row, encoding = cursor.fetchone()
    found = json.loads(row)
    words = {"ENCODING": encoding, "LC_COLLATE": found["datcollate"], "LC_CTYPE": found["datctype"]}
    provider = {"i": "icu", "b": "builtin"}.get(found.get("datlocprovider"))
    if provider:
        words |= {"LOCALE_PROVIDER": provider}
        words |= {f"{provider.upper()}_LOCALE": found.get("datlocale") or found.get("daticulocale")}
    return sql.SQL(" ").join(sql.SQL(f"{word} {{}}").format(value) for word, value in words.items())


def _name() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        return cursor.fetchone()[0]


def _address(name: str = "") -> str:
    """Return the address of a database of the server, without the password: everybody on the host sees a command line."""
    connection.ensure_connection()
    parts = conninfo.conninfo_to_dict(connection.connection.info.dsn)
    ours = ("options", "connect_timeout", "tcp_user_timeout", "client_encoding")
    kept = {key: value for key, value in parts.items() if key not in ours and "keepalives" not in key}
    return conninfo.make_conninfo(**kept | {"dbname": name or _name()})


class _Running:
    """A program of PostgreSQL that works on a database; killed at the end of the `with` block."""

    def __init__(self, command: list[str], address: str, **pipes: int):
        # Roles differ from server to server: who restores owns what is restored.
        self.command = [*command, "--no-owner", "--no-privileges"]
        self.address, self.pipes = address, pipes

    def __enter__(self) -> "_Running":
        self.words, self.passfile = tempfile.TemporaryFile(), tempfile.NamedTemporaryFile()  # noqa: SIM115
        password = re.sub(r"([\\:])", r"\\\1", connection.connection.info.password)
        self.passfile.write(f"*:*:*:*:{password}".encode())
        self.passfile.flush()
        address = conninfo.make_conninfo(self.address, passfile=self.passfile.name)
        command = [*self.command, f"--dbname={address}"]
        self.process = subprocess.Popen(command, stderr=self.words, **self.pipes)  # noqa: S603 - our own arguments
        return self

    def __exit__(self, *_error) -> None:
        self.process.kill()
        for pipe in filter(None, (self.process.stdin, self.process.stdout)):
            with suppress(BrokenPipeError):
                pipe.close()
        self.process.wait()
        self.words.close()
        self.passfile.close()

    def output(self) -> Iterator[bytes]:
        """Yield what it writes. Raises CommandError at the end if it failed: it may have written a part."""
        while chunk := self.process.stdout.read(CHUNK):
            yield chunk
        self._check()

    def input(self, chunks: Iterable[bytes]) -> None:
        with suppress(BrokenPipeError):
            self.process.stdin.writelines(chunks)
            self.process.stdin.close()
        self._check()

    def _check(self) -> None:
        """Raise CommandError with its last words if it failed."""
        if self.process.wait():
            self.words.seek(0)
            said = self.words.read().decode(errors="replace").strip()[-500:]
            raise CommandError(f"{Path(self.command[0]).name} failed: {said}")


def _program(name: str) -> str:
    """Return the program of the server's major version, or of the next one that is installed.

    An older one refuses a newer server, and a much newer one writes what an older server does not know.
    """
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        server = int(cursor.fetchone()[0]) // 10_000
    folders = [None, *(folder for each in FOLDERS for folder in glob(each))]
    paths = [shutil.which(name, path=folder) for folder in folders]
    versions = {path: _major(path) for path in filter(None, paths)}
    usable = [path for path, version in versions.items() if version >= server]
    if not usable:
        there = f"only version {max(versions.values())} is" if versions else "none is"
        raise CommandError(
            f"{name} of version {server} or newer is needed, as the server is version {server}; {there} installed. Install "
            f"the package postgresql-client-{server}, or put {name} on the PATH."
        )
    return min(usable, key=versions.get)


def _major(path: str) -> int:
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    found = re.search(r"\) (\d+)", said)
    return int(found[1]) if found else 0
