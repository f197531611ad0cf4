"""Emptying the database after a test whose commits were real.

Django's own way recreates every table and then all permissions: most of a second on PostgreSQL, where deleting a few
rows takes a hundredth of that. Numbers of rows go on, as they do after Django's.
"""

from django.db import connection, transaction
from django.test import TransactionTestCase

from accounts.models import RecoveryPolicy

# Made by migrate, and never changed by a test.
KEPT = {"django_migrations", "django_content_type", "auth_permission", "accounts_role"}
# Of these, what migrate made stays: the groups that are roles.
OTHERS = {
    "auth_group": "id NOT IN (SELECT group_id FROM accounts_role)",
    "auth_group_permissions": "group_id NOT IN (SELECT group_id FROM accounts_role)",
}


def empty(_case: TransactionTestCase | None = None) -> None:
    """Delete every row. Foreign keys are looked at when all of them are gone."""
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
