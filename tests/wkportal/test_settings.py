"""Every variable is read early, and a wrong one stops the start with a sentence that names it."""

import ast
import os
import re
import runpy
import subprocess
import sys
from functools import cache
from unittest import mock

import psutil
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import DatabaseError
from django.db.utils import ConnectionHandler

from accounts.management.commands.up import collect_static
from tests.support.processes import ROOT, bare_environment
from wkportal.local import preparation

SETTINGS = ROOT / "wkportal" / "settings.py"
GOOD = {
    "SECRET_KEY": "a-secret-key-that-is-long-enough-for-the-check-0123456789",
    "WK_BASE_URL": "http://203.0.113.7:9899",
    "WK_ACCOUNT": "somebody",
    "WK_PASSWORD": "something",
}


@cache
def variables_read() -> set[str]:
    """The variables in settings.py: the first argument of every call of `env` or of one of its methods."""
    found = set()
    for node in ast.walk(ast.parse(SETTINGS.read_text())):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            reader = node.func.value if isinstance(node.func, ast.Attribute) else node.func
            if isinstance(reader, ast.Name) and reader.id == "env":
                found.add(node.args[0].value)
    return found


@pytest.fixture
def settings_with(tmp_path):
    """The settings as a start with these variables sees them; None removes one."""

    def read(**variables: str | None) -> dict:
        os.environ.clear()
        given = {"VAR_DIR": str(tmp_path)} | GOOD | variables
        os.environ.update({name: value for name, value in given.items() if value is not None})
        return runpy.run_path(str(SETTINGS))

    with mock.patch.dict(os.environ):
        yield read


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("WK_ACCOUNT", "\ufeff“somebody”\u200b", "somebody"),
        ("WK_ACCOUNT", "'ｓｏｍｅｂｏｄｙ１'", "somebody1"),
        ("WK_BASE_URL", "\u200bｈｔｔｐ：//203.0.113.7:9899", "http://203.0.113.7:9899"),
        ("WK_AUTHORIZATION", "\u200eabc\u00ad", "abc"),
        ("WK_LOGIN_WAIT_SECONDS", "１２０", 120),
        ("WK_LOGIN_TYPE", "２", "2"),
        ("WK_DEVICE_TYPE", "“mac”", "mac"),
        ("WK_PROXIES", "１＝广州，２＝南京", {1: "广州", 2: "南京"}),
        ("WK_QR_HOSTS", "a.example.com、b.example.com\u200b", ["a.example.com", "b.example.com"]),
        ("TIME_ZONE", "\u200bAsia/Tokyo", "Asia/Tokyo"),
        ("WK_PASSWORD", " “ｐ”\u200b ", " “ｐ”\u200b "),
    ],
)
def test_a_setting_is_read_as_it_looks_and_a_password_as_it_is(settings_with, name, value, read):
    assert settings_with(**{name: value})[name] == read


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SECRET_KEY", None, "SECRET_KEY is not set"),
        ("SECRET_KEY", "short", "SECRET_KEY is too short"),
        (
            "SECRET_KEY",
            "django-insecure-" + GOOD["SECRET_KEY"],
            "SECRET_KEY is too short or a known placeholder",
        ),
        ("SECRET_KEY", "a" * 24, "SECRET_KEY is too short or a known placeholder"),
        ("SECRET_KEY", "abab" * 20, "SECRET_KEY is too short or a known placeholder"),
        ("SECRET_KEY_FILE", "/no/such", "SECRET_KEY_FILE is '/no/such', which cannot be read: No such file"),
        (
            "SECRET_KEY_FALLBACKS",
            f"{GOOD['SECRET_KEY']}, short",
            "SECRET_KEY_FALLBACKS is too short or a known",
        ),
        (
            "RETENTION_DAYS",
            "events=30",
            "RETENTION_DAYS has 'events=30'; it has to be a list such as events=400",
        ),
        ("RETENTION_DAYS", "runs=-1", "RETENTION_DAYS has 'runs=-1'"),
        ("RETENTION_DAYS", "history=400", "RETENTION_DAYS has 'history=400'"),
        ("DEBUG", "perhaps", "DEBUG is 'perhaps'"),
        ("HTTPS", "maybe", "HTTPS is 'maybe'"),
        ("ALLOWED_HOSTS", "*", "ALLOWED_HOSTS is '*'"),
        (
            "ALLOWED_HOSTS",
            "https://desk.example.com",
            "ALLOWED_HOSTS has 'https://desk.example.com'; each has to",
        ),
        ("ALLOWED_HOSTS", "localhost,desk.example.com:8000", "ALLOWED_HOSTS has 'desk.example.com:8000'"),
        ("ALLOWED_HOSTS", "*.example.com", "ALLOWED_HOSTS has '*.example.com'"),
        ("CSRF_TRUSTED_ORIGINS", "desk.example.com", "CSRF_TRUSTED_ORIGINS has 'desk.example.com'"),
        ("CSRF_TRUSTED_ORIGINS", "https://desk.example.com/x", "CSRF_TRUSTED_ORIGINS has 'https://desk.ex"),
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL is 'LOUD'"),
        (
            "OIDC_CLIENT_ID",
            "portal",
            "OIDC_ISSUER is not set, but other settings of the sign-in provider are",
        ),
        ("OIDC_GROUPS", "wk=admin", "OIDC_ISSUER is not set, but other settings of the sign-in provider are"),
        ("OIDC_GROUPS", "wk", "OIDC_GROUPS has 'wk'; it has to be a list such as wk-admins=admin,"),
        ("OIDC_GROUPS", "wk=boss", "OIDC_GROUPS has 'wk=boss'; it has to be a list such as wk-admins=admin,"),
        (
            "OIDC_GROUPS",
            "wk=team:",
            "OIDC_GROUPS has 'wk=team:'; it has to be a list such as wk-admins=admin,",
        ),
        (
            "OIDC_ISSUER",
            "https://id.example.com",
            "OIDC_CLIENT_ID is not set. The provider of OIDC_ISSUER gives",
        ),
        ("OIDC_ISSUER", "http://id.example.com", "it has to begin with https://"),
        ("OIDC_ISSUER", "id.example.com", "OIDC_ISSUER is 'id.example.com'; it has to look like"),
        ("LOCAL_SIGN_IN", "superusers", "OIDC_ISSUER is not set, but other settings"),
        ("LOCAL_SIGN_IN", "none", "LOCAL_SIGN_IN is 'none'; it has to be all or superusers"),
        ("REQUIRE_TWO_STEP", "1", "REQUIRE_TWO_STEP is '1'; it has to be off, admins or all"),
        ("WK_BASE_URL", None, "WK_BASE_URL is not set"),
        ("WK_BASE_URL", "http://203.0.113.7:99999", "WK_BASE_URL is 'http://203.0.113.7:99999'"),
        ("WK_BASE_URL", "http://a host:9899", "WK_BASE_URL is 'http://a host:9899'"),
        ("FIELD_KEYS", "too-short", "FIELD_KEYS has a key that is none"),
        ("WK_AUTHORIZATION", "密码", "WK_AUTHORIZATION has characters"),
        ("WK_BASE_URL", "203.0.113.7:9899", "WK_BASE_URL is '203.0.113.7:9899'"),
        ("WK_BASE_URL", "http://me:word@203.0.113.7", "WK_BASE_URL holds a user name or a password"),
        ("WK_BASE_URL", "http://me:word@203.0.113.7:99999", "WK_BASE_URL holds a user name or a password"),
        ("WK_ACCOUNT", None, "WK_ACCOUNT is not set"),
        ("WK_ACCOUNT", " ", "WK_ACCOUNT is not set"),
        ("WK_PASSWORD", None, "WK_PASSWORD is not set"),
        ("WK_LOGIN_WAIT_SECONDS", "0", "WK_LOGIN_WAIT_SECONDS is '0'; it has to be a whole number from 1 to"),
        ("WK_TIMEOUT_SECONDS", "a while", "WK_TIMEOUT_SECONDS is 'a while'"),
        ("WK_LOGIN_TYPE", "two", "WK_LOGIN_TYPE is 'two'"),
        ("WK_LOGIN_TYPE", "२", "WK_LOGIN_TYPE is '२'"),
        ("WK_DEVICE_TYPE", "iphone", "WK_DEVICE_TYPE is 'iphone'; it has to be ipad, mac or ipadpro"),
        ("WK_PROXIES", "1", "WK_PROXIES has '1'"),
        ("WK_PROXIES", "1=广州,01=南京", "WK_PROXIES has the code 1 twice"),
        ("WK_QR_HOSTS", "cafe:port", "WK_QR_HOSTS has 'cafe:port'"),
        (
            "WK_CA_BUNDLE",
            "/no/such.pem",
            "WK_CA_BUNDLE is '/no/such.pem', which cannot be used: No such file",
        ),
        ("WK_CA_BUNDLE", __file__, "which cannot be used: it holds no certificate"),
        ("WK_HTTP_PROXY", "proxy:3128", "WK_HTTP_PROXY has to look like http://proxy:3128"),
        ("WK_HTTP_PROXY", "socks5://proxy:1080", "WK_HTTP_PROXY has to look like http://proxy:3128"),
        ("SENTRY_DSN", "https://sentry.example.com/42", "SENTRY_DSN is no DSN of a Sentry project"),
        ("SENTRY_DSN", "https://key@sentry.example.com/", "SENTRY_DSN is no DSN of a Sentry project"),
        ("WK_QR_HOSTS", "https://qr.example.com/", "WK_QR_HOSTS has 'https://qr.example.com'"),
        ("WK_AVATAR_HOSTS", ".qlogo.cn", "WK_AVATAR_HOSTS has '.qlogo.cn'"),
        ("WAIT_SLOTS", "1_000", "WAIT_SLOTS is '1_000'"),
        ("WAIT_SLOTS", "-5", "WAIT_SLOTS is '-5'"),
        ("WK_PRESENCE_SECONDS", "4", "WK_PRESENCE_SECONDS is '4'; it has to be a whole number from 5 to"),
        ("WK_PUBLIC_URL", "desk.example.com", "WK_PUBLIC_URL is 'desk.example.com'"),
        (
            "WK_PUBLIC_URL",
            "https://me:word@desk.example.com",
            "WK_PUBLIC_URL holds a user name or a password; it",
        ),
        ("WK_CALLBACK_SECRET", "short", "WK_CALLBACK_SECRET has to be 20 to 200 letters"),
        ("WK_CALLBACK_SECRET", "a/slash/in/it/is/no/part/of/one", "WK_CALLBACK_SECRET has to be"),
        ("WK_CALLBACK_SECRET", "a" * 24, "WK_CALLBACK_SECRET has to be"),
        (
            "DATABASE_URL",
            "mysql://u:p@localhost/x",
            "DATABASE_URL has to begin with postgres:// or sqlite:///",
        ),
        (
            "DATABASE_URL",
            "sqlite://data/desk.sqlite3",
            "DATABASE_URL has to begin with postgres:// or sqlite:///",
        ),
        ("DATABASE_URL", "postgres://u:p@localhost:port/x", "DATABASE_URL has to look like postgres://"),
        ("DATABASE_URL", "postgres://u:pa/ss@localhost/x", "DATABASE_URL has to look like postgres://"),
        ("DATABASE_URL", "postgres://u:p@localhost", "DATABASE_URL has to look like postgres://"),
        ("DATABASE_URL", "postgres://u:p@h/x?conn_max_age=60", "DATABASE_URL sets CONN_MAX_AGE"),
        ("DATABASE_POOL", "many", "DATABASE_POOL is 'many'"),
        ("REDIS_URL", "amqp://localhost", "REDIS_URL has to begin with redis:// or rediss://"),
        ("REDIS_URL", "redis://localhost:port/0", "REDIS_URL has to look like redis://"),
        ("REDIS_URL", "redis://localhost/first", "REDIS_URL has to look like redis://"),
        ("REDIS_URL", "redis://:pa#ss@localhost/0", "REDIS_URL has to look like redis://"),
        ("REDIS_URL", "redis://:12#34@localhost/0", "REDIS_URL has to look like redis://"),
        ("TIME_ZONE", "Mars/Base", "TIME_ZONE is 'Mars/Base'; it has to be a time zone"),
        ("TIME_ZONE", "Asia", "TIME_ZONE is 'Asia'"),
        ("TIME_ZONE", "../Asia/Shanghai", "TIME_ZONE is '../Asia/Shanghai'"),
        ("STATIC_ROOT", "/proc/x", "STATIC_ROOT is /proc/x, which cannot be used: No such file"),
        ("VAR_DIR", "/dev/null", "VAR_DIR is /dev/null, which cannot be used: File exists"),
        ("VAR_DIR", "/proc/x", "VAR_DIR is /proc/x, which cannot be used"),
    ],
)
def test_a_missing_or_wrong_value_stops_the_start_with_its_name(settings_with, name, value, words):
    with pytest.raises(ImproperlyConfigured) as refusal:
        settings_with(**{name: value})
    assert words in str(refusal.value)


def test_an_authorization_replaces_account_and_password(settings_with):
    settings = settings_with(WK_ACCOUNT=None, WK_PASSWORD=None, WK_AUTHORIZATION="eyJ0eXAi")
    assert settings["WK_AUTHORIZATION"] == "eyJ0eXAi"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", "hunter2hunter2"),
        ("FIELD_KEYS", "hunter2"),
        ("WK_AUTHORIZATION", "hunter2\x7f"),
        ("WK_CALLBACK_SECRET", "hunter2"),
        ("WK_BASE_URL", "http://me:hunter2@[203.0.113.7"),
        ("DATABASE_URL", "postgres://u:hunter2/@localhost/x"),
        ("DATABASE_URL", "hunter2"),
        ("REDIS_URL", "redis://:hunter2/@localhost/0"),
        ("REDIS_URL", "hunter2"),
    ],
)
def test_the_sentence_about_a_secret_does_not_show_it(settings_with, name, value):
    with pytest.raises(ImproperlyConfigured, match=name) as refusal:
        settings_with(**{name: value})
    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__suppress_context__


@pytest.mark.parametrize(
    ("given", "name", "read"),
    [
        ({"WK_ACCOUNT": " dev "}, "WK_ACCOUNT", "dev"),
        ({"WK_AUTHORIZATION": " eyJ "}, "WK_AUTHORIZATION", "eyJ"),
        ({"SECRET_KEY": f" {GOOD['SECRET_KEY']} "}, "SECRET_KEY", GOOD["SECRET_KEY"]),
        ({"WK_BASE_URL": " http://203.0.113.7:9899/ "}, "WK_BASE_URL", "http://203.0.113.7:9899"),
        ({"REDIS_URL": " redis://h:1/0 "}, "REDIS_URL", "redis://h:1/0"),
        ({"TIME_ZONE": "Europe/Berlin "}, "TIME_ZONE", "Europe/Berlin"),
        ({"LOG_LEVEL": " debug "}, "LOG_LEVEL", "DEBUG"),
        ({"WAIT_SLOTS": " 7 "}, "WAIT_SLOTS", 7),
        ({"DEBUG": " Yes "}, "DEBUG", True),
        ({"HTTPS": "off"}, "HTTPS", False),
        ({"ALLOWED_HOSTS": " Desk.Example.com, ,[::1]"}, "ALLOWED_HOSTS", ["desk.example.com", "[::1]"]),
        (
            {"CSRF_TRUSTED_ORIGINS": "https://desk.example.com:8443/, https://*.example.com"},
            "CSRF_TRUSTED_ORIGINS",
            ["https://desk.example.com:8443", "https://*.example.com"],
        ),
        (
            {"WK_QR_HOSTS": "QR.example.com:81,2001:db8::1"},
            "WK_QR_HOSTS",
            ["qr.example.com:81", "2001:db8::1"],
        ),
        ({"WK_PROXIES": "7 = Berlin , 2=B"}, "WK_PROXIES", {7: "Berlin", 2: "B"}),
        ({"WK_DEVICE_TYPE": "iPad"}, "WK_DEVICE_TYPE", "ipad"),
        ({"WK_LOGIN_TYPE": ""}, "WK_LOGIN_TYPE", ""),
        ({}, "WK_LOGIN_TYPE", "2"),
        ({"REDIS_URL": "redis://:p%2Fw@h:6379?ssl_cert_reqs=none"}, "REDIS_URL", mock.ANY),
    ],
)
def test_what_is_given_is_read_without_its_spaces(settings_with, given, name, read):
    assert settings_with(**given)[name] == read


def test_a_blank_variable_is_one_that_is_not_set(settings_with):
    compared = sorted(variables_read() - {*GOOD, "WK_LOGIN_TYPE", "VAR_DIR"})
    unset = settings_with()
    blank = settings_with(**dict.fromkeys(compared, " "))
    assert {name: blank.get(name) for name in compared} == {name: unset.get(name) for name in compared}
    assert blank["DATABASES"] == unset["DATABASES"]


def test_a_secret_may_stand_in_a_file(settings_with, tmp_path):
    (tmp_path / "password").write_text("$ecret \n")
    (tmp_path / "database").write_text("postgres://u:p%23w@db/desk\n")
    settings = settings_with(
        WK_PASSWORD_FILE=str(tmp_path / "password"), DATABASE_URL_FILE=str(tmp_path / "database")
    )
    assert settings["WK_PASSWORD"] == "$ecret "
    assert settings["DATABASES"]["default"]["PASSWORD"] == "p#w"
    assert {"$ecret ", "p#w"} <= set(settings["SECRETS"])
    (tmp_path / "password").write_bytes(b"\xff")
    with pytest.raises(ImproperlyConfigured, match=r"WK_PASSWORD_FILE is .*it is not UTF-8 text"):
        settings_with(WK_PASSWORD_FILE=str(tmp_path / "password"))


@pytest.mark.parametrize("folder", ["a+b", "a%20b", "a#b", "a?b"])
def test_the_name_of_the_data_directory_may_hold_any_sign(settings_with, tmp_path, folder):
    database = settings_with(VAR_DIR=str(tmp_path / folder))["DATABASES"]["default"]
    assert database["NAME"] == tmp_path / folder / "wkportal.sqlite3"
    assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700


ENTRY_POINTS = {
    "manage.py": ["manage.py", "check"],
    "celery worker": ["-m", "celery", "-A", "wkportal", "worker"],
    "celery beat": ["-m", "celery", "-A", "wkportal", "beat"],
    "ASGI": ["-c", "import wkportal.asgi"],
    "WSGI": ["-c", "import wkportal.wsgi"],
}


def start_of(entry: str, **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *ENTRY_POINTS[entry]]
    return subprocess.run(
        command, cwd=ROOT, env=bare_environment(**variables), capture_output=True, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_every_entry_point_ends_with_that_sentence(tmp_path, entry):
    done = start_of(entry, **GOOD | {"VAR_DIR": str(tmp_path), "TIME_ZONE": "Mars/Base"})
    assert done.returncode == 1
    assert done.stderr.startswith("wkportal cannot start: TIME_ZONE is 'Mars/Base'")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_without_a_secret_key_the_sentence_says_how_to_get_one(tmp_path):
    done = start_of("manage.py", VAR_DIR=str(tmp_path))
    assert done.stderr.startswith("wkportal cannot start: SECRET_KEY is not set. Run `make run` once")


def test_the_environment_wins_over_the_files(settings_with, tmp_path):
    (tmp_path / "run.env").write_text(
        preparation.env_text({"WK_BASE_URL": "http://run:1", "WK_ACCOUNT": "run"})
    )
    (tmp_path / "secrets.env").write_text("WK_ACCOUNT=secrets\nWK_PASSWORD=secrets\n")
    settings = settings_with(WK_BASE_URL="http://given:1", WK_ACCOUNT=None, WK_PASSWORD=None)
    read = {name: settings[name] for name in ("WK_BASE_URL", "WK_ACCOUNT", "WK_PASSWORD")}
    assert read == {"WK_BASE_URL": "http://given:1", "WK_ACCOUNT": "run", "WK_PASSWORD": "secrets"}


@pytest.mark.parametrize(
    "value", ['quo"te', "ap'os", "back\\slash\\n", "'both'", '"both"', "has space # and mark", "$x"]
)
def test_run_env_carries_any_value(settings_with, tmp_path, value):
    (tmp_path / "run.env").write_text(preparation.env_text({"WK_PASSWORD": value}))
    settings_with(WK_PASSWORD=None, WK_AUTHORIZATION="given")
    assert os.environ["WK_PASSWORD"] == value


def test_retention_days_name_only_what_differs(settings_with):
    usual = settings_with()["RETENTION_DAYS"]
    assert (usual["events"], usual["runs"]) == (400, 90)
    assert settings_with(RETENTION_DAYS="events=31, runs＝0")["RETENTION_DAYS"] == usual | {
        "events": 31,
        "runs": 0,
    }


def test_earlier_secret_keys_are_split_at_commas_and_hidden_in_logs(settings_with):
    earlier = ["an-earlier-secret-key-0123456789", "one-before-that-0123456789-abcdef"]
    found = settings_with(SECRET_KEY_FALLBACKS=" , ".join(earlier))
    assert found["SECRET_KEY_FALLBACKS"] == earlier
    assert set(earlier) <= set(found["SECRETS"])


def test_every_variable_stands_in_the_table_of_the_readme():
    table = re.findall(r"^\| (`.+?`) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    rows = re.findall(r"`([A-Z_]+)`", " ".join(table))
    assert variables_read() - set(rows) == set()


def test_generated_secrets_are_made_once(tmp_path):
    path = tmp_path / "secrets.env"
    made = preparation.generated_secrets(path)
    assert set(made) == {"SECRET_KEY", "FIELD_KEYS", "REDIS_PASSWORD", "WK_CALLBACK_SECRET"}
    assert preparation.generated_secrets(path) == made
    path.write_text("# mine\nexport WK_ACCOUNT='somebody'\n" + path.read_text())
    assert preparation.generated_secrets(path) == made | {"WK_ACCOUNT": "somebody"}


def test_generated_secrets_start_on_a_line_of_their_own(tmp_path):
    path = tmp_path / "secrets.env"
    path.write_text("WK_PASSWORD=secret")
    made = preparation.generated_secrets(path)
    assert made["WK_PASSWORD"] == "secret"
    assert preparation.generated_secrets(path) == made


@pytest.mark.slow
def test_a_generated_password_may_begin_with_a_dash(monkeypatch):
    for name in ("WK_ACCOUNT", "WK_PASSWORD", "WK_AUTHORIZATION", "WK_BASE_URL"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(preparation.secrets, "token_urlsafe", lambda size: "-dash")
    _address, command = preparation.simulator("127.0.0.1", 1)
    assert os.environ["WK_PASSWORD"] == "-dash"
    assert subprocess.run([*command, "--help"], capture_output=True, cwd=ROOT).returncode == 0


def test_what_a_file_gives_is_not_started(monkeypatch, tmp_path):
    monkeypatch.setenv("REDIS_URL", "")
    assert not preparation.given("REDIS_URL")
    monkeypatch.setenv("REDIS_URL_FILE", str(tmp_path / "redis"))
    assert preparation.given("REDIS_URL")


def test_the_simulator_keeps_nothing_of_a_real_account(settings_with, tmp_path):
    (tmp_path / "password").write_text("of-the-real-account")
    (tmp_path / "secrets.env").write_text("WK_AUTHORIZATION=of-the-real-account\n")
    settings_with(WK_PASSWORD_FILE=str(tmp_path / "password"))
    preparation.simulator("127.0.0.1", 1)
    settings = settings_with(**{name: value for name, value in os.environ.items() if name not in GOOD})
    assert "of-the-real-account" not in (settings["WK_PASSWORD"], settings["WK_AUTHORIZATION"])


@pytest.mark.parametrize("host", ["a..b", "localhost:80", "no.such.host.invalid", "203.0.113.9"])
def test_a_host_that_is_not_ours_is_named(host):
    assert f"HOST is {host!r}; it has to be an address of this machine" in preparation.cannot_listen(
        host, 25_000
    )


def test_a_folder_that_takes_no_files_is_named(settings):
    settings.STATIC_ROOT = "/proc"
    with pytest.raises(CommandError, match="STATIC_ROOT is /proc, which cannot be used"):
        collect_static()


def test_a_port_that_somebody_uses_is_passed_over():
    first = preparation.free_port("127.0.0.1", 25_000, but=0)
    with preparation.listen("127.0.0.1", first):
        second = preparation.free_port("127.0.0.1", first, but=first + 1)
    assert second > first + 1


@pytest.mark.parametrize(
    "value", ["$ecret", "\\$ecret", "a\\$b$", "$$WK_ACCOUNT", "a#b", " spaces ", "'quoted'", "=", "密码"]
)
def test_a_password_is_what_was_written(settings_with, value):
    assert settings_with(WK_PASSWORD=value)["WK_PASSWORD"] == value


def test_a_connection_that_cannot_be_set_up_has_no_file_open(settings_with, django_db_blocker, tmp_path):
    """Also while its error is looked at: where files are scarce, it would keep those that the next one needs."""
    file = tmp_path / "wkportal.sqlite3"
    file.write_bytes(b"This is no database. " * 100)
    with django_db_blocker.unblock():
        made = ConnectionHandler(settings_with(DATABASE_URL=None)["DATABASES"])["default"]
        with pytest.raises(DatabaseError) as held:
            made.ensure_connection()
        assert held.value.__traceback__ is not None
        assert str(file) not in [opened.path for opened in psutil.Process().open_files()]
        file.unlink()
        made.ensure_connection()
        made.close()
