"""Every variable is read early, and a wrong one stops the start with a sentence that names it."""

import ast
import os
import re
import runpy
import subprocess

import psutil
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError
from django.db.utils import ConnectionHandler

from tests.support.processes import ROOT
from wkportal import embedded

READERS = {"required", "boolean", "number", "words", "named_codes", "text", "fernet_keys"}
GOOD = {
    "SECRET_KEY": "a-secret-key-that-is-long-enough-for-the-check-0123456789",
    "WK_BASE_URL": "http://203.0.113.7:9899",
    "WK_ACCOUNT": "somebody",
    "WK_PASSWORD": "something",
}


@pytest.fixture
def settings_with(monkeypatch, tmp_path):
    """The settings as a start with these variables sees them; None removes one."""

    def read(**variables: str | None) -> dict:
        for name in [name for name in os.environ if name in variables_read()]:
            monkeypatch.delenv(name)
        for name, value in ({"VAR_DIR": str(tmp_path)} | GOOD | variables).items():
            if value is not None:
                monkeypatch.setenv(name, value)
        return runpy.run_path(str(ROOT / "wkportal" / "settings.py"))

    return read


def variables_read() -> list[str]:
    """The variable names in settings.py, in order: what its readers get as their first word."""
    found = []
    for node in ast.walk(ast.parse((ROOT / "wkportal" / "settings.py").read_text())):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            reader = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if reader in READERS and re.fullmatch("[A-Z_]+", str(node.args[0].value)):
                found.append(node.args[0].value)
    return found


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SECRET_KEY", None, "SECRET_KEY is not set"),
        ("SECRET_KEY", "short", "SECRET_KEY is too short"),
        ("SECRET_KEY", "django-insecure-" + "x" * 50, "known placeholder"),
        ("DEBUG", "perhaps", "DEBUG is 'perhaps'"),
        ("HTTPS", "maybe", "HTTPS is 'maybe'"),
        ("ALLOWED_HOSTS", "*", "ALLOWED_HOSTS is '*'"),
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL is 'LOUD'"),
        ("WK_BASE_URL", None, "WK_BASE_URL is not set"),
        ("WK_BASE_URL", "http://203.0.113.7:99999", "WK_BASE_URL is 'http://203.0.113.7:99999'"),
        ("FIELD_KEYS", "too-short", "FIELD_KEYS has a key that is none"),
        ("WK_AUTHORIZATION", "密码", "WK_AUTHORIZATION has characters"),
        ("WK_BASE_URL", "203.0.113.7:9899", "WK_BASE_URL is '203.0.113.7:9899'"),
        ("WK_BASE_URL", "http://me:word@203.0.113.7", "WK_BASE_URL holds a user name or a password"),
        ("WK_ACCOUNT", None, "WK_ACCOUNT is not set"),
        ("WK_PASSWORD", None, "WK_PASSWORD is not set"),
        ("WK_LOGIN_WAIT_SECONDS", "0", "WK_LOGIN_WAIT_SECONDS is '0'; it has to be a whole number from 1 to"),
        ("WK_TIMEOUT_SECONDS", "a while", "WK_TIMEOUT_SECONDS is 'a while'"),
        ("WK_LOGIN_TYPE", "two", "WK_LOGIN_TYPE is 'two'"),
        ("WK_PROXIES", "1", "WK_PROXIES has '1'"),
        ("WAIT_SLOTS", "-5", "WAIT_SLOTS is '-5'"),
        ("WK_PRESENCE_SECONDS", "4", "WK_PRESENCE_SECONDS is '4'; it has to be a whole number from 5 to"),
        ("WK_PUBLIC_URL", "desk.example.com", "WK_PUBLIC_URL is 'desk.example.com'"),
        ("WK_CALLBACK_SECRET", "short", "WK_CALLBACK_SECRET has to be 20 to 200 letters"),
        ("WK_CALLBACK_SECRET", "a/slash/in/it/is/no/part/of/one", "WK_CALLBACK_SECRET has to be"),
        (
            "DATABASE_URL",
            "mysql://u:p@localhost/x",
            "DATABASE_URL has to begin with postgres:// or sqlite:///",
        ),
        ("REDIS_URL", "amqp://localhost", "REDIS_URL has to begin with redis:// or rediss://"),
    ],
)
def test_a_missing_or_wrong_value_stops_the_start_with_its_name(settings_with, name, value, words):
    with pytest.raises(ImproperlyConfigured) as refusal:
        settings_with(**{name: value})
    assert words in str(refusal.value)


def test_an_authorization_replaces_account_and_password(settings_with):
    settings = settings_with(WK_ACCOUNT=None, WK_PASSWORD=None, WK_AUTHORIZATION="eyJ0eXAi")
    assert settings["WK_AUTHORIZATION"] == "eyJ0eXAi"


def test_the_database_pool_is_checked_where_it_is_used(settings_with):
    with pytest.raises(ImproperlyConfigured, match="DATABASE_POOL is 'many'"):
        settings_with(DATABASE_URL="postgres://u:p@localhost/x", DATABASE_POOL="many")


def test_the_environment_wins_over_the_files(settings_with, tmp_path):
    (tmp_path / "run.env").write_text(embedded.env_text({"WK_BASE_URL": "http://run:1", "WK_ACCOUNT": "run"}))
    (tmp_path / "secrets.env").write_text("WK_ACCOUNT=secrets\nWK_PASSWORD=secrets\n")
    settings = settings_with(WK_BASE_URL="http://given:1", WK_ACCOUNT=None, WK_PASSWORD=None)
    read = {name: settings[name] for name in ("WK_BASE_URL", "WK_ACCOUNT", "WK_PASSWORD")}
    assert read == {"WK_BASE_URL": "http://given:1", "WK_ACCOUNT": "run", "WK_PASSWORD": "secrets"}


@pytest.mark.parametrize(
    "value", ['quo"te', "ap'os", "back\\slash\\n", "'both'", '"both"', "has space # and mark", "$x"]
)
def test_run_env_carries_any_value(settings_with, tmp_path, value):
    (tmp_path / "run.env").write_text(embedded.env_text({"WK_PASSWORD": value}))
    settings_with(WK_PASSWORD=None, WK_AUTHORIZATION="given")
    assert os.environ["WK_PASSWORD"] == value


def test_every_variable_stands_in_the_table_of_the_readme():
    table = re.findall(r"^\| (`.+?`) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    rows = re.findall(r"`([A-Z_]+)`", " ".join(table))
    assert sorted(set(variables_read()) - set(rows)) == []


def test_generated_secrets_are_made_once(tmp_path):
    path = tmp_path / "secrets.env"
    made = embedded.generated_secrets(path)
    assert set(made) == {"SECRET_KEY", "FIELD_KEYS", "REDIS_PASSWORD", "WK_CALLBACK_SECRET"}
    assert embedded.generated_secrets(path) == made
    path.write_text("# mine\nexport WK_ACCOUNT='somebody'\n" + path.read_text())
    assert embedded.generated_secrets(path) == made | {"WK_ACCOUNT": "somebody"}


def test_a_generated_password_may_begin_with_a_dash(monkeypatch):
    for name in ("WK_ACCOUNT", "WK_PASSWORD", "WK_AUTHORIZATION", "WK_BASE_URL"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(embedded.secrets, "token_urlsafe", lambda size: "-dash")
    _address, command = embedded.simulator("127.0.0.1", 1)
    assert os.environ["WK_PASSWORD"] == "-dash"
    assert subprocess.run([*command, "--help"], capture_output=True, cwd=ROOT).returncode == 0


def test_a_port_that_somebody_uses_is_passed_over():
    first = embedded.free_port("127.0.0.1", 25_000, but=0)
    with embedded.listen("127.0.0.1", first):
        second = embedded.free_port("127.0.0.1", first, but=first + 1)
    assert second > first + 1


@pytest.mark.parametrize("value", ["$ecret", "\\$ecret", "a#b", "with space", "'quoted'", "=", "密码"])
def test_a_password_is_what_was_written(settings_with, value):
    assert settings_with(WK_PASSWORD=value)["WK_PASSWORD"] == value


def test_a_connection_that_cannot_be_set_up_has_no_file_open(settings_with, db, tmp_path):
    """Also while its error is looked at: where files are scarce, it would keep those that the next one needs."""
    file = tmp_path / "wkportal.sqlite3"
    file.write_bytes(b"This is no database. " * 100)
    made = ConnectionHandler(settings_with(DATABASE_URL=None)["DATABASES"])["default"]
    with pytest.raises(DatabaseError) as held:
        made.ensure_connection()
    assert held.value.__traceback__ is not None
    assert str(file) not in [opened.path for opened in psutil.Process().open_files()]
    file.unlink()
    made.ensure_connection()
    made.close()
