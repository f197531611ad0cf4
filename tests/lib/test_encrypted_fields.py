"""Secrets at rest: nothing readable in the database, keys that can be changed, rubbish that does no harm."""

import pytest
from cryptography.fernet import Fernet
from django.db import connection

from accounts.lib.encrypted_fields import PNG, EncryptedTextField
from accounts.models import UpstreamAccess
from tests.support import payloads
from tests.support.factories import make_account, make_attempt

CANARY = "canary-authorization-value"
OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


def kept(value: str = CANARY) -> UpstreamAccess:
    return UpstreamAccess.objects.create(base_url="http://h", account="a", authorization=value)


def raw() -> str:
    with connection.cursor() as cursor:
        cursor.execute('SELECT "authorization" FROM accounts_upstreamaccess')
        return cursor.fetchone()[0]


def put_raw(value: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute('UPDATE accounts_upstreamaccess SET "authorization" = %s', [value])


def read() -> str:
    return UpstreamAccess.objects.get().authorization


def test_a_value_is_unreadable_in_the_database_and_comes_back(db):
    kept()
    assert CANARY not in raw()
    assert raw().startswith("gAAAA")
    assert read() == CANARY
    assert UpstreamAccess.objects.values_list("authorization", flat=True).get() == CANARY


def test_the_same_value_looks_different_each_time(db):
    kept()
    first = raw()
    UpstreamAccess.objects.update(authorization=CANARY)
    assert raw() != first
    assert read() == CANARY


def test_nothing_is_nothing(db):
    kept("")
    assert raw() == ""
    assert read() == ""


@pytest.mark.parametrize(
    "text", [*payloads.CONTROL_STRINGS.values(), "x" * 100_000, " a ", "a\0b", "'\";--", "%s"]
)
def test_any_text_that_can_be_encoded_comes_back_as_it_was(text, db):
    kept(text)
    assert read() == text


def test_a_new_key_encrypts_and_the_old_one_still_opens(db, settings):
    settings.FIELD_KEYS = [OLD]
    kept()
    settings.FIELD_KEYS = [NEW, OLD]
    assert read() == CANARY
    UpstreamAccess.objects.update(authorization=CANARY)
    settings.FIELD_KEYS = [NEW]
    assert read() == CANARY


def test_without_its_key_a_value_reads_as_empty(db, settings):
    settings.FIELD_KEYS = [OLD]
    kept()
    settings.FIELD_KEYS = [NEW]
    assert read() == ""


def test_a_picture_is_unreadable_in_the_database_and_comes_back(db, settings):
    settings.FIELD_KEYS = [OLD]
    attempt = make_attempt(make_account(), qr_png=PNG + b"canary")
    with connection.cursor() as cursor:
        cursor.execute("SELECT qr_png FROM accounts_loginattempt")
        stored = bytes(cursor.fetchone()[0])
        assert b"canary" not in stored and not stored.startswith(PNG)
        attempt.refresh_from_db()
        assert attempt.qr_png == PNG + b"canary"
        settings.FIELD_KEYS = [NEW]
        attempt.refresh_from_db()
        assert attempt.qr_png is None
        cursor.execute("UPDATE accounts_loginattempt SET qr_png = %s", [PNG + b"of the version before"])
        attempt.refresh_from_db()
        assert attempt.qr_png == PNG + b"of the version before"


def test_the_secret_key_serves_where_no_key_is_given(db, settings):
    kept()
    settings.SECRET_KEY = "another-secret-key-0123456789-0123456789"
    assert read() == ""


@pytest.mark.parametrize(
    "rubbish", ["plain text", "gAAAAA", "gAAAAA==", "令牌", "é", " ", "a" * 10_000, "\n"]
)
def test_rubbish_in_the_column_reads_as_empty(rubbish, db):
    kept()
    put_raw(rubbish)
    assert read() == ""


def test_a_changed_value_reads_as_empty(db):
    kept()
    sealed = raw()
    put_raw(sealed[:50] + ("A" if sealed[50] != "A" else "B") + sealed[51:])
    assert read() == ""


def test_a_lone_surrogate_cannot_be_kept_and_does_not_reach_the_database(db):
    with pytest.raises(UnicodeEncodeError):
        EncryptedTextField().get_prep_value("\ud800")
