"""Connections: PostgreSQL's tells a server that is silent from one that is slow, SQLite's keeps its files private."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from tests.support import environment
from tests.support.processes import DEADLINE, until
from tests.support.services import Postgres
from tests.support.stack import ROOT
from wkportal.database import postgres as database
from wkportal.database.postgres import PostgresConnection, ServerSilent
from wkportal.database.sqlite import SqliteConnection

pytestmark = pytest.mark.database("postgres")


@pytest.fixture(scope="module")
def server():
    with Postgres(environment.FOLDER / "silent-pg") as server:
        yield server


@pytest.fixture
def postgres(server, monkeypatch):
    monkeypatch.setattr(database, "SILENT_SECONDS", 0.2)
    yield server
    server.proxy.heal()


def connect(postgres: Postgres) -> PostgresConnection:
    return PostgresConnection.connect(postgres.url("postgres"), autocommit=True, connect_timeout=2)


@pytest.mark.parametrize("also_new", [False, True])
def test_a_silent_connection_is_given_up(postgres, also_new):
    with connect(postgres) as silent:
        postgres.proxy.swallow(new=also_new)
        with pytest.raises(ServerSilent):
            silent.execute("SELECT 1")
        assert silent.closed


def test_a_slow_statement_goes_on(postgres):
    asked = postgres.proxy.accepted
    with connect(postgres) as slow, psycopg.connect(postgres.direct_url("postgres")) as other:
        other.execute("SELECT pg_advisory_lock(1)")
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(slow.execute, "SELECT pg_advisory_lock(1)")
            until(lambda: postgres.proxy.accepted > asked + 3, "the server is not asked")
            other.execute("SELECT pg_advisory_unlock(1)")
            assert found.result(DEADLINE).rowcount == 1
        assert slow.execute("SELECT 2").fetchone() == (2,)


def test_with_one_silent_connection_all_of_its_pool_are_replaced(postgres):
    options = {"connection_class": PostgresConnection, "min_size": 4, "max_size": 4, "open": True}
    with ConnectionPool(postgres.url("postgres"), check=ConnectionPool.check_connection, **options) as pool:
        pool.wait(DEADLINE)
        postgres.proxy.swallow()
        given_up = postgres.proxy.accepted
        for _ in range(8):
            with pool.connection(DEADLINE) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
        # One was asked about, and four are new.
        assert postgres.proxy.accepted <= given_up + 5


@pytest.mark.slow
@pytest.mark.database("sqlite")
def test_with_sqlite_psycopg_takes_no_memory():
    loads = "import sys; from wkportal.celery import app; import wkportal.urls; app.loader.import_default_modules()"
    command = [
        sys.executable,
        "-c",
        f"import django; django.setup(); {loads}; print('psycopg' in sys.modules)",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.database("sqlite")
def test_a_new_database_file_is_for_its_owner_only(tmp_path):
    path = tmp_path / "new.sqlite3"
    connection = SqliteConnection(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE a (b)")
    modes = {file.name: oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir()}
    connection.close()
    assert modes == {"new.sqlite3": "0o600", "new.sqlite3-wal": "0o600", "new.sqlite3-shm": "0o600"}
    assert SqliteConnection(":memory:").execute("SELECT 1").fetchone() == (1,)
    assert [file.name for file in tmp_path.iterdir()] == ["new.sqlite3"]
