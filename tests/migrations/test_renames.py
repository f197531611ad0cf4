"""Fields that take another name while their columns keep theirs."""

import pytest
from django.core.management import call_command
from django.db import connection

from accounts.models import Account


@pytest.mark.django_db(transaction=True)
def test_renamed_fields_cost_the_database_no_statement(capsys):
    call_command("sqlmigrate", "accounts", "0008")
    told = capsys.readouterr().out.splitlines()
    assert {line for line in told if not line.startswith("--")} == {"BEGIN;", "COMMIT;"}


@pytest.mark.django_db
def test_the_column_for_searches_is_made_of_the_columns_as_they_are_called():
    sql, _params = Account._meta.get_field("search_text").generated_sql(connection)
    assert '"wechat_number"' in sql
    Account.objects.create(label="Shop", wechat_id="WX4711")
    assert Account.objects.matching("wx47").values_list("wechat_id", flat=True).get() == "WX4711"
