"""A backup holds one moment, whatever is written meanwhile; a restore puts it in the place of the database, or changes nothing."""

import fcntl
import json
import sqlite3
import threading
import time
from contextlib import closing
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import psycopg
import pytest
from cryptography.fernet import Fernet
from django.conf import settings as product
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, transaction
from django.db.migrations.recorder import MigrationRecorder

from accounts.models import Account, AccountEvent, Channel
from accounts.models.event import record
from accounts.states import EventType
from tests.support import environment, preloaded, services
from tests.support.databases import (  # noqa: F401 - one is a fixture
    BEFORE_NEWEST,
    NEWEST,
    own_database,
)
from tests.support.processes import DEADLINE
from wkportal.backup import archive, postgres, restore

pytestmark = pytest.mark.slow
POSTGRES = environment.DATABASE == "postgres"


@pytest.fixture
def database(own_database, tmp_path, settings):  # noqa: F811
    settings.VAR_DIR = tmp_path
    own_database()
    Account.objects.create(label="kept")
    Channel.objects.create(name="chat", url="json://example.com/canary")
    return tmp_path


def backup(folder: Path, name: str = "one.zip") -> Path:
    call_command("backup", str(folder / name), stdout=StringIO())
    return folder / name


def restored(path: Path, *options: str) -> str:
    said = StringIO()
    call_command("restore", str(path), *options, stdout=said)
    return said.getvalue()


def refused(path: Path, *options: str) -> str:
    """What a restore says that must not succeed; nothing changes and nothing is left behind."""
    before, databases = labels(), all_databases()
    with pytest.raises(CommandError) as error:
        restored(path, *options)
    assert (labels(), all_databases()) == (before, databases)
    return str(error.value)


def labels() -> list[str]:
    return list(Account.objects.order_by("pk").values_list("label", flat=True))


def all_databases() -> list[str]:
    if POSTGRES:
        # Other workers of the run have databases on the same server.
        names = services.database_names(environment.postgres_url)
        return sorted(name for name in names if name.startswith(environment.database))
    own = Path(connection.settings_dict["NAME"])
    return sorted(
        file.name for file in own.parent.glob("*sqlite3*") if not file.name.endswith(("-wal", "-shm"))
    )


def query(name: str, statement: str) -> list[tuple]:
    """Ask a database of this name, whichever this process uses."""
    if POSTGRES:
        with psycopg.connect(environment.url_on_server(name)) as other:
            return other.execute(statement).fetchall()
    with closing(sqlite3.connect(name)) as other:
        return other.execute(statement).fetchall()


def test_a_restore_brings_back_that_moment_whole_and_keeps_what_was_there_since(database):
    path = backup(database)
    assert path.stat().st_mode & 0o777 == 0o600
    Account.objects.update(label="changed")
    Account.objects.create(label="since")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE of_a_later_version (id integer)")
    said = restored(path)
    assert "is whole" in said and "Each table has as many rows as before." in said
    assert labels() == ["kept"] and Channel.objects.get().url == "json://example.com/canary"
    assert "of_a_later_version" not in connection.introspection.table_names()
    before = said.rpartition(" before is in the ")[2].split()[1].removesuffix(".")
    assert query(before, "SELECT label FROM accounts_account ORDER BY id") == [("changed",), ("since",)]
    # Rows are added as ever, with new IDs, and a search finds them.
    Account.objects.create(label="after the restore")
    assert Account.objects.matching("restore").count() == 1
    assert restored(backup(database, "two.zip"))
    assert labels() == ["kept", "after the restore"]


def test_it_says_what_it_holds_and_what_it_does_not(database):
    said = StringIO()
    call_command("backup", stdout=said)
    (path,) = (database / "backups").iterdir()
    assert f"{path}: " in said.getvalue() and "Not in it: SECRET_KEY, FIELD_KEYS" in said.getvalue()
    manifest = archive.manifest_of(path)
    assert (manifest["engine"], manifest["version"]) == (connection.vendor, product.VERSION)
    assert manifest["rows"]["accounts_account"] == 1 and ["accounts", NEWEST] in manifest["migrations"]
    with ZipFile(path) as file:
        begins = file.open("database").read(16)
    assert begins.startswith(b"PGDMP" if POSTGRES else b"SQLite format 3\0")
    if POSTGRES:
        assert "canary" not in path.read_bytes().decode(errors="replace")


def test_a_backup_during_writes_is_of_one_moment(database):
    """Each login writes an account and its event in one transaction: there is never one without the other."""
    over, written = threading.Event(), []

    def write() -> None:
        while not over.is_set():
            with transaction.atomic():
                account = Account.objects.create(label=f"login {len(written)}")
                record(account, EventType.CHANGED)
            written.append(account.pk)
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        paths = [backup(database, f"{n}.zip") for n in range(3)]
    finally:
        over.set()
        thread.join()
    rows = [archive.manifest_of(path)["rows"] for path in paths]
    assert rows[0]["accounts_account"] < rows[-1]["accounts_account"] <= len(written) + 1
    for path, counts in zip(paths, rows, strict=True):
        assert "as many rows as before" in restored(path)
        assert Account.objects.count() == counts["accounts_account"] == AccountEvent.objects.count() + 1


def test_a_backup_of_an_older_version_is_migrated(database):
    call_command("migrate", "accounts", BEFORE_NEWEST, verbosity=0)
    path = backup(database)
    call_command("migrate", verbosity=0)
    restored(path)
    assert MigrationRecorder.Migration.objects.filter(app="accounts", name=NEWEST).exists()
    assert labels() == ["kept"]


def test_a_backup_of_a_newer_version_is_refused(database, settings):
    MigrationRecorder(connection).record_applied("accounts", "9999_of_a_later_version")
    later = backup(database)
    assert "which has the migration accounts.9999_of_a_later_version" in refused(later)
    MigrationRecorder(connection).record_unapplied("accounts", "9999_of_a_later_version")
    own, settings.VERSION = settings.VERSION, "99.1.0"
    later = backup(database, "later.zip")
    settings.VERSION = own
    assert f"made by version 99.1.0; this is version {own}" in refused(later)


def test_a_backup_of_another_kind_of_database_is_refused(database):
    path = backup(database)
    with ZipFile(path) as file:
        manifest = json.loads(file.read("manifest.json")) | {"engine": "other"}
    with path.open("wb") as target:
        archive.write(target, [b"x"], manifest)
    assert "The backup is of other" in refused(path)


def test_a_cut_or_changed_file_is_refused_and_nothing_is_lost(database):
    path = backup(database)
    whole = path.read_bytes()
    with archive.database_in(path) as chunks:
        content = b"".join(chunks)
    places = [0, 1, 40, *range(100, len(whole), len(whole) // 25), len(whole) - 30, len(whole) - 1]
    for place in places:
        path.write_bytes(whole[:place])
        with pytest.raises(CommandError, match="is no backup, or it was cut or changed"):
            archive.manifest_of(path)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        try:
            archive.manifest_of(path)
        except CommandError:
            continue
        with archive.database_in(path) as chunks:  # a byte without a meaning, such as the time of the entry
            assert b"".join(chunks) == content
    path.write_bytes(whole[: len(whole) // 2])
    assert "was cut or changed" in refused(path)
    assert "No such file" in refused(database / "nothing.zip")


def test_a_dump_that_does_not_hold_what_the_manifest_says_is_refused(database):
    path = backup(database)
    with archive.database_in(path) as chunks:
        content = b"".join(chunks)
    manifest = archive.manifest_of(path)
    rows = manifest["rows"] | {"accounts_account": 2}
    with path.open("wb") as target:
        archive.write(target, [content], manifest | {"rows": rows})
    assert "other numbers of rows in accounts_account" in refused(path)
    with path.open("wb") as target:
        archive.write(target, [content[: len(content) // 2]], manifest)
    refused(path)


def test_secrets_without_their_key_are_said_before_anything_is_replaced(database, settings):
    path = backup(database)
    settings.SECRET_KEY = "another-secret-key-0123456789-0123456789"
    settings.FIELD_KEYS = [Fernet.generate_key().decode()]
    said = refused(path)
    assert "1 in accounts.Channel.url" in said and "FIELD_KEYS" in said and "--lost-keys" in said
    Account.objects.update(label="since")
    restored(path, "--lost-keys")
    assert labels() == ["kept"]
    settings.SECRET_KEY_FALLBACKS = [environment.CANARIES["SECRET_KEY"]]
    assert restored(path)


def test_a_database_that_is_in_use_is_not_replaced(database, monkeypatch):
    monkeypatch.setattr(restore, "ENDING_SECONDS", 0)
    path = backup(database)
    if POSTGRES:
        with psycopg.connect(
            environment.url_on_server(connection.settings_dict["NAME"]), application_name="psql"
        ):
            assert "1 other connections use the database (psql)" in refused(path)
        return
    with closing(sqlite3.connect(connection.settings_dict["NAME"])) as other:
        other.execute("SELECT count(*) FROM accounts_account").fetchall()
        assert "The database is in use" in refused(path)
    with (database / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "Stop everything that uses it" in refused(path)


def test_a_connection_that_ends_just_now_is_waited_for(database, monkeypatch):
    path, name = backup(database), connection.settings_dict["NAME"]
    other = psycopg.connect(environment.url_on_server(name)) if POSTGRES else sqlite3.connect(name)
    other.execute("SELECT count(*) FROM accounts_account").fetchall()
    pauses = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        other.close()
        time.sleep(seconds)  # PostgreSQL may notice the end later

    monkeypatch.setattr(restore, "ENDING_SECONDS", DEADLINE)
    monkeypatch.setattr(restore, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    assert restored(path)
    assert pauses


@pytest.mark.database("sqlite")
def test_a_damaged_database_has_no_backup_and_is_replaced_and_kept(database):
    path, name = backup(database), Path(connection.settings_dict["NAME"])
    connection.close()
    name.write_bytes(b"no database " * 1000)
    with pytest.raises(CommandError, match=r"The database is damaged \(file is not a database\)"):
        backup(database, "two.zip")
    for end in ("-wal", "-shm", "-journal"):
        Path(f"{name}{end}").write_bytes(b"what was not written to it yet")
    before = restored(path).rpartition(" before is in the ")[2].split()[1].removesuffix(".")
    assert Path(before).read_bytes() == b"no database " * 1000
    assert not list(name.parent.glob(f"{name.name}-*")), "SQLite would write their pages into the new one"
    assert labels() == ["kept"]


@pytest.mark.database("sqlite")
def test_what_sqlite_says_of_a_database_that_it_cannot_open_is_said(database):
    path, name = backup(database), Path(connection.settings_dict["NAME"])
    connection.close()
    whole = name.rename(name.with_suffix(".whole"))
    name.mkdir()
    for command in (lambda: restored(path), lambda: backup(database, "two.zip")):
        with pytest.raises(CommandError, match="unable to open database file"):
            command()
    name.rmdir()
    whole.rename(name)
    assert labels() == ["kept"]


def test_a_backup_that_fails_leaves_no_file_and_replaces_none(database, monkeypatch):
    path = backup(database)
    whole = path.read_bytes()
    with pytest.raises(CommandError, match="there is one already"):
        backup(database)
    monkeypatch.setattr(
        archive, "write", lambda *_args: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(CommandError, match="No space left on device"):
        backup(database, "two.zip")
    assert [file.name for file in database.iterdir() if "zip" in file.name or "copy" in file.name] == [
        "one.zip"
    ]
    assert path.read_bytes() == whole


def test_the_commands_as_an_operator_runs_them_and_the_file_as_standard_output(database):
    url = f"sqlite:///{connection.settings_dict['NAME']}"
    url = environment.url_on_server(connection.settings_dict["NAME"]) if POSTGRES else url
    env = environment.os.environ | {"VAR_DIR": str(database), "DATABASE_URL": url}

    def manage(*words: str) -> bytes:
        connection.close()
        return preloaded.manage(*words, env=env, output=database / "output", seconds=DEADLINE)

    path = database / "piped.zip"
    path.write_bytes(manage("backup", "-"))
    Account.objects.update(label="since")
    assert b"is whole" in manage("restore", str(path))
    assert labels() == ["kept"]


@pytest.mark.database("postgres")
def test_the_programs_of_postgresql_are_named_when_they_are_missing_too_old_or_fail(
    database, tmp_path, monkeypatch
):
    monkeypatch.setattr(postgres, "FOLDERS", ())
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(CommandError, match=r"pg_dump of version \d+ or newer is needed.*none is installed"):
        backup(database)
    program = folder / "pg_dump"
    program.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
    program.chmod(0o755)
    with pytest.raises(
        CommandError, match=r"only version 9 is installed. Install the package postgresql-client-\d+"
    ):
        backup(database)
    program.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "pg_dump (PostgreSQL) 99.1 (Debian 99.1-1)" && exit\n'
        "echo half a dump\necho the server is gone >&2\nexit 1\n"
    )
    with pytest.raises(CommandError, match="pg_dump failed: the server is gone"):
        backup(database)
    assert not (database / "one.zip").exists()
