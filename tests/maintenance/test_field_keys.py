"""Keys of encrypted columns: what `rotate_keys` re-encrypts, what is lost, and which values a changed SECRET_KEY leaves readable."""

import sys
from io import StringIO

import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.test import Client

from accounts.lib import encrypted_fields
from accounts.lib.encrypted_fields import PNG
from accounts.maintenance import field_keys
from accounts.models import Channel, LoginAttempt, ScanLink, SecondFactor, UpstreamAccess
from tests.support import preloaded
from tests.support.factories import PASSWORD, fresh, make_attempt
from tests.support.processes import Program
from tests.support.stack import Stack

OLD, NEW, THIRD = (Fernet.generate_key().decode() for _n in range(3))


def fill(people) -> dict:
    """A value in each encrypted column; returns the rows by column."""
    account = people.account(own_proxy="canary")
    attempt = make_attempt(
        account, qr_text="canary", page_url="canary", verify_code="canary", qr_png=PNG + b"canary"
    )
    link = ScanLink.objects.create(
        account=account, token_digest="d", expires_at=account.created_at, token="canary"
    )
    channel = Channel.objects.create(name="c", url="json://example.com/canary")
    access = UpstreamAccess.objects.create(base_url="http://h", account="a", authorization="canary")
    factor = SecondFactor.objects.create(
        user=people.operator, key="canary", key_made_at=account.created_at, confirmed=True
    )
    rows = {row.__class__: row for row in (account, attempt, link, channel, access, factor)}
    return {field: rows[field.model] for field in field_keys.columns()}


def readable(rows: dict) -> list[bool]:
    return ["canary" in str(getattr(fresh(row), field.name)) for field, row in rows.items()]


def rotated(code: int | None = None) -> str:
    said = StringIO()
    if code is None:
        call_command("rotate_keys", stdout=said, stderr=said)
    else:
        with pytest.raises(SystemExit) as ended:
            call_command("rotate_keys", stdout=said, stderr=said)
        assert ended.value.code == code
    return said.getvalue()


def test_every_value_gets_the_first_key_and_a_second_run_changes_nothing(people, settings):
    settings.FIELD_KEYS = [OLD]
    rows = fill(people)
    LoginAttempt.objects.create(  # ended: it has no secrets
        account=people.account(),
        seq=1,
        state="expired",
        ended_at=people.operator.date_joined,
        deadline_at=people.operator.date_joined,
    )
    assert len(rows) == 9 and all(readable(rows))
    settings.FIELD_KEYS = [NEW, OLD]
    assert rotated().count(": 1 re-encrypted\n") == 9
    assert rotated().count(": 1 already\n") == 9
    settings.FIELD_KEYS = [NEW]
    assert all(readable(rows)) and field_keys.lost() == {}


def test_an_interrupted_run_goes_on_where_it_was(people, settings, monkeypatch):
    monkeypatch.setattr(field_keys, "READ_AT_ONCE", 2)
    settings.FIELD_KEYS = [OLD]
    for n in range(7):
        Channel.objects.create(name=str(n), url=f"json://example.com/{n}")
    settings.FIELD_KEYS = [NEW, OLD]
    url = Channel._meta.get_field("url")
    replace, before = field_keys._replace, []

    def interrupted(*args) -> bool:
        if len(before) == 3:
            raise KeyboardInterrupt
        before.append(1)
        return replace(*args)

    monkeypatch.setattr(field_keys, "_replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        field_keys.rotate(url)
    monkeypatch.setattr(field_keys, "_replace", replace)
    assert field_keys.rotate(url) == {field_keys.ALREADY: 3, field_keys.DONE: 4}
    settings.FIELD_KEYS = [NEW]
    assert [channel.url[-1] for channel in Channel.objects.order_by("pk")] == list("0123456")


def test_a_value_that_is_written_meanwhile_is_not_overwritten(people, settings, monkeypatch):
    settings.FIELD_KEYS = [OLD]
    channel = Channel.objects.create(name="c", url="json://example.com/old")
    settings.FIELD_KEYS = [NEW, OLD]
    reencrypted = field_keys.reencrypted

    def and_written(sealed: bytes):
        Channel.objects.update(url="json://example.com/new")
        return reencrypted(sealed)

    monkeypatch.setattr(field_keys, "reencrypted", and_written)
    assert field_keys.rotate(Channel._meta.get_field("url")) == {field_keys.CHANGED: 1}
    assert fresh(channel).url == "json://example.com/new"


def test_a_value_without_its_key_is_left_and_said(people, settings):
    settings.FIELD_KEYS = [THIRD]
    lost = Channel.objects.create(name="lost", url="json://example.com/canary")
    settings.FIELD_KEYS = [OLD]
    Channel.objects.create(name="other", url="json://example.com/canary")
    settings.FIELD_KEYS = [NEW, OLD]
    said = rotated(code=3)
    assert "accounts.Channel.url: 1 lost, 1 re-encrypted" in said and "canary" not in said
    assert "lacks the key" in said and "Every value has the first key" not in said
    assert field_keys.lost() == {"accounts.Channel.url": 1}
    settings.FIELD_KEYS = [NEW, THIRD]
    assert fresh(lost).url.endswith("canary")


def test_a_picture_that_an_earlier_version_stored_as_it_is_gets_encrypted(people, settings):
    attempt = make_attempt(people.account())
    field = LoginAttempt._meta.get_field("qr_png")
    rows = LoginAttempt.objects.filter(pk=attempt.pk)
    rows.update(qr_png=field_keys.Value(PNG + b"plain", output_field=field_keys.BinaryField()))
    assert field_keys.rotate(field) == {field_keys.DONE: 1}
    assert fresh(attempt).qr_png == PNG + b"plain"
    assert [sealed[:4] for _pk, sealed in field_keys._stored(field)] == [b"gAAA"]


def test_the_way_from_the_secret_key_to_a_field_key_and_to_another_secret_key(people, settings):
    """What is encrypted by a key derived from SECRET_KEY stays readable until rotate_keys is done."""
    rows, first = fill(people), settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another-secret-key-0123456789-0123456789", [first]
    assert all(readable(rows))
    settings.FIELD_KEYS = [NEW]
    assert all(readable(rows))
    rotated()
    settings.SECRET_KEY_FALLBACKS = []
    assert all(readable(rows))


def test_a_changed_secret_key_ends_no_session_while_the_earlier_one_is_a_fallback(people, settings):
    client = Client()
    client.post("/login/", {"username": "operator", "password": PASSWORD})
    first, settings.SECRET_KEY = settings.SECRET_KEY, "another-secret-key-0123456789-0123456789"
    settings.SECRET_KEY_FALLBACKS = [first]
    assert client.get("/accounts/").status_code == 200
    settings.SECRET_KEY_FALLBACKS = []
    assert client.get("/accounts/").status_code == 200  # the session has moved to the new key


def test_a_lost_key_is_logged_once_for_each_column_at_the_start(people, settings, caplog):
    settings.FIELD_KEYS = [OLD]
    fill(people)
    field_keys.report_lost()
    assert not caplog.records
    settings.FIELD_KEYS = [NEW]
    encrypted_fields.report_lost_key.cache_clear()
    field_keys.report_lost(), field_keys.report_lost()
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    columns = (
        "Channel.url",
        "UpstreamAccess.authorization",
        "Account.own_proxy",
        "ScanLink.token",
        "SecondFactor.key",
    )
    assert [column in line for column, line in zip(columns, said, strict=True)] == [True] * 5
    assert "FIELD_KEYS" in said[0] and "canary" not in caplog.text


@pytest.mark.live
def test_every_worker_says_at_its_start_that_a_key_is_missing(transactional_db, tmp_path):
    Channel.objects.create(name="Chat", url="json://chat.example.com/")
    stack = Stack("waits", "jobs")
    env = stack.env | {"FIELD_KEYS": NEW, "SECRET_KEY": "another-secret-key-0123456789-0123456789"}
    for kind in stack.names:
        command = [sys.executable, *stack.command(kind)[1:]]
        with Program(command, tmp_path, env, kind, preloaded.start) as worker:
            worker.until_said("accounts.Channel.url cannot be decrypted")
