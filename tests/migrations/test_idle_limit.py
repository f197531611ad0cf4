"""A migration may compute between two statements for longer than other transactions may be idle."""

import pytest
from django.core.management import call_command
from django.db import connection

from tests.support.databases import BEFORE_NEWEST

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database("postgres")]


def test_migrations_may_be_idle_and_nothing_after_them():
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        usual = cursor.fetchone()
        cursor.execute("SET idle_in_transaction_session_timeout = '1ms'")
        call_command("migrate", "accounts", BEFORE_NEWEST, verbosity=0)
        cursor.execute("SET idle_in_transaction_session_timeout = '1ms'")
        call_command("migrate", verbosity=0)
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        assert cursor.fetchone() == usual != ("0",)
