"""An upgrade: the database is brought to this version first, while processes of the one before still work on it."""

import pytest
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from tests.support.factories import make_account

# The newest migration of the version that may still run while this one's are applied.
BEFORE = ("accounts", "0003_waits_workers")


@pytest.fixture(scope="module")
def old():
    """Looks a model up as the version before knows it: its fields, and no others."""
    apps = MigrationLoader(None).project_state(BEFORE).apps
    return lambda name: apps.get_model("accounts", name)


def names() -> list[str]:
    state = MigrationLoader(None).project_state(BEFORE)
    return sorted(name for app, name in state.models if app == "accounts")


@pytest.mark.parametrize("name", names())
def test_the_version_before_can_read_and_write_every_table(old, name, db):
    account, now = make_account(), timezone.now()
    fields = {
        "account": {"label": "New"},
        "loginattempt": {"account_id": account.pk, "seq": 1, "deadline_at": now},
        "accountevent": {"account_id": account.pk, "happened": "changed"},
        "avatar": {"account_id": account.pk, "png": b"png"},
        "waitsworker": {"name": "worker", "alive_until": now},
        "tag": {"name": "tag"},
    }
    row = row_of(old, name, **fields.get(name, {}))
    read = type(row).objects.get(pk=row.pk)
    read.save()
    read.delete()


def row_of(old, name: str, /, **fields):
    with transaction.atomic():
        row = old(name).objects.create(**fields)
    connection.check_constraints()
    return row
