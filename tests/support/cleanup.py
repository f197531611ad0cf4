"""Emptying the database after a test whose commits were real.

Django's own way recreates every table and then all permissions: most of a second on PostgreSQL, where deleting a few
rows takes a hundredth of that. Numbers of rows go on, as they do after Django's.
"""

import threading

from django.db import connection, transaction
from django.test import TransactionTestCase

from accounts.logins import leases
from accounts.models import RecoveryPolicy
from tests.support.processes import DEADLINE

# Made by migrate, and never changed by a test.
KEPT = {"django_migrations", "django_content_type", "auth_permission", "accounts_role"}
# Of these, what migrate made stays: the groups that are roles.
OTHERS = {
    "auth_group": "id NOT IN (SELECT group_id FROM accounts_role)",
    "auth_group_permissions": "group_id NOT IN (SELECT group_id FROM accounts_role)",
}


def end_leases() -> None:
    """End the thread that renews this process's leases. It would write its row again, and open the database of another
    test, also one that a restore replaces."""
    leases._holder.stopped.set()
    for thread in threading.enumerate():
        if thread.name == "leases":
            thread.join(DEADLINE)
            assert not thread.is_alive()


def empty(_case: TransactionTestCase | None = None) -> None:
    """Delete every row. Foreign keys are looked at when all of them are gone."""
    end_leases()
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    deletes = [f'DELETE FROM "{name}" WHERE {OTHERS.get(name, "true")}' for name in names if name not in KEPT]
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("; ".join(deletes))
        else:
            for delete in deletes:
                cursor.execute(delete)


def as_migrated() -> None:
    """Delete every row but those that migrate made; a policy that was changed is made again."""
    empty()
    RecoveryPolicy.objects.create(name="Default", is_default=True)
