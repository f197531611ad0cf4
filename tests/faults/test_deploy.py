"""An upgrade: the database is brought to this version first, while processes of the one before still work on it."""

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from tests.support.factories import make_account

# The newest migration of the version that may still run while this one's are applied.
BEFORE = ("accounts", "0001_squashed_0010_long_lists")
MODELS = {"channel": "channel", "notice": "notice", "run": "planrun"}


@pytest.fixture(scope="module")
def old():
    """Looks a model up as the version before knows it: its fields, and no others."""
    before = MigrationLoader(None).project_state(BEFORE).apps
    return lambda name: before.get_model("accounts", name)


def names() -> list[str]:
    state = MigrationLoader(None).project_state(BEFORE)
    return sorted(
        name
        for (app, name), model in state.models.items()
        if app == "accounts" and model.options.get("managed", True)
    )


@pytest.mark.parametrize("name", names())
def test_the_version_before_can_read_and_write_every_table(old, name, db):
    account, now = make_account(), timezone.now()
    needed = {
        "delivery": {
            "channel": {"name": "channel", "url": "json://a"},
            "notice": {"key": "1", "kind": "drop"},
        },
        "planentry": {"run": {"slot_at": now}},
        "rule": {"channel": {"name": "channel", "url": "json://a"}},
    }
    fields = {
        "account": {"label": "New"},
        "loginattempt": {"account_id": account.pk, "seq": 1, "deadline_at": now},
        "accountevent": {"account_id": account.pk, "happened": "changed"},
        "avatar": {"account_id": account.pk, "png": b"png"},
        "waitsworker": {"name": "worker", "alive_until": now},
        "tag": {"name": "tag"},
        "channel": {"name": "channel", "url": "json://a"},
        "discovered": {"wc_id": "wxid_1"},
        "drop": {"account_id": account.pk, "w_id": "w-1"},
        "notice": {"key": "1", "kind": "drop"},
        "plan": {"name": "plan"},
        "planentry": {"account_id": account.pk},
        "planrun": {"slot_at": now},
        "recoverypolicy": {"name": "policy"},
    }
    others = {
        field: row_of(old, MODELS[field], **values).pk for field, values in needed.get(name, {}).items()
    }
    row = row_of(old, name, **fields.get(name, {}), **{f"{field}_id": pk for field, pk in others.items()})
    old_rows = type(row).objects.filter(pk=row.pk)
    ours = next(model for model in apps.get_models() if model._meta.db_table == row._meta.db_table)
    new_rows = ours.objects.filter(pk=row.pk)
    written, seen_by_us = columns(row), columns(new_rows.get())
    assert columns(old_rows.get()) == written
    assert {column: seen_by_us[column] for column in written} == written

    old_rows.get().save()
    assert columns(new_rows.get()) == seen_by_us
    old_rows.get().delete()
    assert not new_rows.exists()


def columns(row) -> dict[str, object]:
    """What stands in the row, whatever its fields are called."""
    return {field.column: getattr(row, field.attname) for field in row._meta.concrete_fields}


def row_of(old, name: str, /, **fields):
    with transaction.atomic():
        row = old(name).objects.create(**fields)
    connection.check_constraints()
    return row
