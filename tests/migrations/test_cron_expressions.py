"""Stored cron expressions keep their meaning: what only Celery's parser read is written out."""

from importlib import import_module
from types import SimpleNamespace

import pytest
from celery.schedules import crontab
from django.apps import apps
from django.db import connection

from accounts.lib import cron
from accounts.models import Plan

migration = import_module("accounts.migrations.0003_cron_expressions")


def meaning(expression: str) -> list[set[int]]:
    found = crontab(**dict(zip(migration.FIELDS, expression.split(), strict=True)))
    return [getattr(found, name) for name in migration.FIELDS]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("0 22-2 * * *", "0 0-2,22-23 * * *"),
        ("50-10/5 */6 * * fri-mon", "0,5,10,50,55 0,6,12,18 * * 0-1,5-6"),
        ("30 9 * november-february monday,Wednesday", "30 9 * 1-2,11-12 1,3"),
        ("30 9 13 * 5", "30 9 13 * 5"),
        ("*/15 8-18 * jan sun", "*/15 8-18 * jan sun"),
        ("", ""),
    ],
)
def test_an_expression_keeps_its_meaning(db, before, after):
    Plan.objects.bulk_create([Plan(name="plan", crontab=before)])
    migration.write_out(apps, SimpleNamespace(connection=connection))
    assert Plan.objects.get().crontab == after
    if after:
        cron.check(after)
        assert meaning(after) == meaning(before)
