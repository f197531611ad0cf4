"""An upgrade from the version before 0.1.0, whose ten migrations are one since, with rows in every table."""

import re
import sqlite3
from importlib import import_module
from pathlib import Path

import psycopg
import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from accounts.models import Account, Role
from accounts.roles import PERMISSIONS
from tests.support import environment
from tests.support.services import TEMPLATE, create_database, migrated_sqlite, using_database

pytestmark = pytest.mark.slow
SQUASHED = "0001_squashed_0010_long_lists"
DUMP = Path(__file__).parent / f"before_0_1_0.{environment.DATABASE}.sql"
# migrate adds rows to these, and writes nothing else.
ADDED_TO = {"django_migrations", "django_content_type", "auth_permission"}
# What belonged to the package that 0002 removes.
SHRINK = {"django_migrations", "django_content_type", "auth_permission"}
CATALOGUE = {
    "sqlite": ["SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"],
    "postgresql": [
        """SELECT relname || '.' || attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
                  attcollation::regcollation, pg_get_expr(adbin, adrelid)
           FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid LEFT JOIN pg_attrdef ON adrelid = attrelid
                AND adnum = attnum WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0
                AND NOT attisdropped""",
        "SELECT relname, relkind, reloptions FROM pg_class WHERE relnamespace = 'public'::regnamespace",
        """SELECT conname, conrelid::regclass, pg_get_constraintdef(oid) FROM pg_constraint
           WHERE connamespace = 'public'::regnamespace""",
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
        "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    ],
}


def read(statement: str) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def schema() -> set[tuple[str, ...]]:
    """Every table, column, constraint, index, trigger and function; on PostgreSQL without the order of columns."""
    rows = [row for statement in CATALOGUE[connection.vendor] for row in read(statement)]
    # PostgreSQL writes an expression with other casts and brackets once it was restored from a dump.
    not_told_apart = r"::(text|character varying)(\[\])?|[()]" if connection.vendor == "postgresql" else r"$^"
    return {tuple(re.sub(rf"\s+|{not_told_apart}", "", str(value)) for value in row) for row in rows}


def rows() -> dict[str, set[str]]:
    """The rows of every table but those of the index for searches, which belong to the schema."""
    names = [
        name for name in connection.introspection.table_names() if not name.startswith("accounts_search")
    ]
    return {name: {repr(row) for row in read(f'SELECT * FROM "{name}"')} for name in names}


@pytest.fixture
def make_database(django_db_setup, django_db_blocker, tmp_path):
    """Makes a database beside the test database: empty, or as `manage.py migrate` has made it. Returns its address."""

    def make(name: str, migrated: bool = False) -> str:
        if environment.DATABASE == "sqlite":
            if migrated:
                migrated_sqlite(tmp_path / f"{name}.sqlite3")
            return f"sqlite:///{tmp_path / name}.sqlite3"
        beside = f"{environment.database}-{name}"
        create_database(environment.postgres_url, beside, TEMPLATE if migrated else "template1")
        return environment.url_on_server(beside)

    with django_db_blocker.unblock():
        yield make


@pytest.fixture
def old(make_database):
    """A database as the version before 0.1.0 left it, in use."""
    url = make_database("old")
    if environment.DATABASE == "sqlite":
        file = sqlite3.connect(url.removeprefix("sqlite:///"))
        file.executescript(DUMP.read_text())
        file.close()
    else:
        with psycopg.connect(url) as server:
            server.execute(DUMP.read_text())
    with using_database(url):
        yield


def replaced() -> list[str]:
    return [name for _app, name in import_module(f"accounts.migrations.{SQUASHED}").Migration.replaces]


def test_the_dump_has_every_migration_and_rows_in_every_table(old):
    applied = {name for app, name in MigrationRecorder(connection).applied_migrations() if app == "accounts"}
    assert applied == set(replaced())
    assert [name for name, found in rows().items() if not found] == []


def test_an_upgrade_keeps_every_row(old):
    before = rows()
    call_command("migrate", "accounts", SQUASHED, verbosity=0)
    after = rows()
    assert after.keys() == before.keys()
    assert all(after[name] >= found for name, found in before.items())
    assert {name for name in before if after[name] != before[name]} <= ADDED_TO


def roles() -> dict[str, set[str]]:
    return {
        role.pk: set(role.group.permissions.values_list("codename", flat=True)) for role in Role.objects.all()
    }


def names() -> dict[str, str]:
    named = Permission.objects.filter(
        content_type__app_label="accounts", codename__in=dict(Account._meta.permissions)
    )
    return dict(named.values_list("codename", "name"))


def test_an_upgraded_database_is_as_a_new_one(old, make_database):
    """In its schema, in what roles may and in what permissions are called."""
    before = rows()
    call_command("migrate", verbosity=0)
    upgraded, after = schema(), rows()
    kept = {name: found for name, found in before.items() if not name.startswith("django_celery_beat")}
    assert {name for name, found in kept.items() if len(after[name]) < len(found)} <= SHRINK
    assert "django_celery_beat" not in repr(after)
    wanted = {code: set(codenames) for code, codenames in PERMISSIONS.items()}
    assert (roles(), names()) == (wanted, dict(Account._meta.permissions))
    with using_database(make_database("new", migrated=True)):
        assert schema() == upgraded != set()
        assert (roles(), names()) == (wanted, dict(Account._meta.permissions))
        assert rows()["accounts_recoverypolicy"]


@pytest.mark.parametrize("newest", ["0001_initial", "0007_default_policy"])
def test_a_database_within_the_replaced_migrations_is_refused_with_a_sentence(old, newest):
    later = [name for name in replaced() if name > newest]
    MigrationRecorder(connection).migration_qs.filter(app="accounts", name__in=later).delete()
    before = rows()
    with pytest.raises(SystemCheckError) as refused:
        call_command("migrate", verbosity=0, skip_checks=False)
    assert f"The database stands at migration accounts.{newest}" in str(refused.value)
    assert "Upgrade it with the last version before 0.1.0 first" in str(refused.value)
    assert rows() == before
