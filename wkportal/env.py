"""Reads the environment for the settings: django-environ, and a cast for each kind of value.

IDs, names, numbers and addresses are read as they look: without invisible characters and quotes around them, and with
full-width forms as ASCII. A cast raises ValueError with the rest of a sentence. `Env` puts the name of the variable
in front of it.
"""

import re
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import environ
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from environ.fileaware_mapping import FileAwareMapping

from accounts.lib.typed_text import code
from accounts.roles import RoleCode

BOOLEANS = ("1", "true", "yes", "on", "0", "false", "no", "off")
HOST = r"[\w-]+(\.[\w-]+)*"
IPV6 = r"[\da-f]*:[\da-f]*:[\da-f:.]*"
ENCODED = 'in the password, signs such as "#", "/" and "@" are written as %23, %2F and %40'


@contextmanager
def exit_if_misconfigured() -> Iterator[None]:
    """End the process with one sentence, instead of a traceback, if a setting is wrong."""
    try:
        yield
    except ImproperlyConfigured as error:
        sys.exit(f"wkportal cannot start: {error}")


class Variables(FileAwareMapping):
    """The environment. NAME_FILE gives NAME the content of a file, without line ends at its end.

    `Env` interprets a value that begins with "$" as the name of another variable. A password may begin with
    "$", so it is escaped here, and `Env` removes the escape. Raises ImproperlyConfigured if the file cannot
    be read.
    """

    def __getitem__(self, name: str) -> str:
        try:
            value = super().__getitem__(name)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            path = self.env[f"{name}_FILE"]
            raise ImproperlyConfigured(f"{name}_FILE is {path!r}, which cannot be read: {reason}.") from None
        return value.rstrip("\r\n").replace("$", r"\$")


class Env(environ.FileAwareEnv):
    """A stricter django-environ: a wrong value stops the start with one sentence that names the variable.

    A text (`str`) is used unchanged. For every other cast, spaces around a value are ignored, and a blank
    value counts as not set.
    """

    ENVIRON = Variables(cache=False)

    def __init__(self, **scheme):
        super().__init__(**scheme)
        self.escape_proxy = True

    def get_value(self, var, cast=None, default=environ.Env.NOTSET, parse_default=False):
        if cast is not str and default is not self.NOTSET and not self.ENVIRON.get(var, "").strip():
            return default
        try:
            return super().get_value(var, cast, default, parse_default)
        except ValueError as error:
            raise ImproperlyConfigured(f"{var} {error}.") from None

    @classmethod
    def parse_value(cls, value, cast):
        if cast is str:
            return value
        value = value.strip()
        # django-environ reads every unknown word as False.
        if cast is bool and value.lower() not in BOOLEANS:
            raise ValueError(f"is {value!r}; it has to be 1 or 0")
        return super().parse_value(value, cast)


# --- casts ---------------------------------------------------------------------------------------------


def between(low: int, high: int) -> Callable[[str], int]:
    def cast(value: str) -> int:
        value = code(value)
        if not re.fullmatch(r"\d{1,9}", value, re.ASCII) or not low <= int(value) <= high:
            raise ValueError(f"is {value!r}; it has to be a whole number from {low} to {high}")
        return int(value)

    return cast


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a cast to one of a few words. Case is ignored."""

    def cast(value: str) -> str:
        value = code(value)
        for choice in choices:
            if choice.lower() == value.lower():
                return choice
        raise ValueError(f"is {value!r}; it has to be {', '.join(choices[:-1])} or {choices[-1]}")

    return cast


def words(value: str) -> list[str]:
    return [word.strip() for word in re.split("[,、]", code(value)) if word.strip()]


def lower_case_words(value: str) -> list[str]:
    return words(value.lower())


def each_matching(pattern: str, sentence: str) -> Callable[[str], list[str]]:
    """Return a cast to a list of lower-case words, separated by commas, each of which matches the pattern."""

    def cast(value: str) -> list[str]:
        found = [word.lower().rstrip("/") for word in words(value)]
        for word in found:
            if not re.fullmatch(pattern, word, re.ASCII):
                raise ValueError(f"has {word!r}; {sentence}")
        return found

    return cast


allowed_hosts = each_matching(
    rf"\*|\.?{HOST}|\[{IPV6}\]",
    "each has to be a host name without scheme and port, such as desk.example.com, or .example.com for all of a domain",
)
picture_hosts = each_matching(
    rf"({HOST}|\[{IPV6}\])(:\d{{1,5}})?|{IPV6}",
    "each has to be a host name without scheme, such as pictures.example.com or pictures.example.com:8080",
)
origins = each_matching(
    rf"https?://((\*\.)?{HOST}|\[{IPV6}\])(:\d+)?",
    "each has to look like https://desk.example.com, without a path",
)


def http_url(value: str) -> str:
    value = code(value)
    if "@" in value:
        raise ValueError("holds a user name or a password; it has to look like http://host:port")
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or re.search(r"\s", value):
        raise ValueError(f"is {value!r}; it has to look like http://host:port")
    return value.rstrip("/")


def issuer_url(value: str) -> str:
    url = http_url(value)
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ValueError(f"is {url!r}; it has to begin with https://")
    return url


def roles_of_groups(value: str) -> list[tuple[str, str]]:
    """Parse `wk-admins=admin,wk-shanghai=team:Shanghai` into pairs."""
    found = []
    for pair in words(value):
        group, _equals, gives = (part.strip() for part in pair.rpartition("="))
        if not group or not (gives in RoleCode.values or re.fullmatch(r"team:.+", gives)):
            raise ValueError(
                f"has {pair!r}; it has to be a list such as wk-admins=admin,wk-shanghai=team:Shanghai, with the roles "
                f"{', '.join(RoleCode.values)}"
            )
        found.append((group, gives))
    return found


def check_provider(issuer: str, client: str, secret: str, scopes: list[str], has_others: bool) -> None:
    """Stop the start if the settings of the OpenID Connect provider don't make a whole."""
    why = ""
    if not issuer and (client or secret or has_others):
        why = (
            "OIDC_ISSUER is not set, but other settings of the sign-in provider are. It is the provider's address, such "
            "as https://id.example.com/realms/company."
        )
    elif issuer and not (client and secret):
        missing = "OIDC_CLIENT_SECRET" if client else "OIDC_CLIENT_ID"
        why = f"{missing} is not set. The provider of OIDC_ISSUER gives one to each of its clients."
    elif "openid" not in scopes:
        why = "OIDC_SCOPES has no openid, without which the provider signs nobody in."
    if why:
        raise ImproperlyConfigured(why)


def proxy_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.path.strip("/") or parts.query or parts.fragment or re.search(r"\s", value):
        raise ValueError(f"has to look like http://proxy:3128 or http://user:password@proxy:3128; {ENCODED}")
    return value.rstrip("/")


def sentry_dsn(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.username and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not re.search(r"/\d+$", parts.path):
        raise ValueError("is no DSN of a Sentry project, which looks like https://key@sentry.example.com/42")
    return value


def certificate_file(value: str) -> str:
    try:
        ssl.create_default_context(cafile=value)
    except OSError as error:
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise ValueError(f"is {value!r}, which cannot be used: {reason}") from None
    return str(Path(value).resolve())


def redis_url(value: str) -> str:
    if not re.match("rediss?://", value):
        raise ValueError("has to begin with redis:// or rediss://")
    try:
        parts = urlsplit(value)
        usable = parts.port != 0 and re.fullmatch(r"/?\d*", parts.path) and not parts.fragment
    except ValueError:
        usable = False
    if not usable or "@" in parts.query:
        raise ValueError(f"has to look like redis://:password@host:6379/0; {ENCODED}")
    return value


def database_url(value: str) -> dict:
    if not re.match("(postgres(ql)?|psql|pgsql)://|sqlite://(/|:memory:$)", value):
        raise ValueError("has to begin with postgres:// or sqlite:///")
    try:
        database = Env.db_url_config(value)
    except ValueError:
        database = {}
    if not database.get("NAME") and "service" not in database.get("OPTIONS", {}):
        raise ValueError(f"has to look like postgres://user:password@host/name; {ENCODED}")
    fixed = sorted(database.keys() - {"ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS"})
    if fixed:
        raise ValueError(f"sets {fixed[0]}, which the settings decide; remove it")
    return database


def directory(mode: int = 0o777) -> Callable[[str], Path]:
    """Return a cast to a directory, which is created if it does not exist."""

    def cast(value: str) -> Path:
        path = Path(value).resolve()
        try:
            path.mkdir(mode, parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"is {path}, which cannot be used: {error.strerror}") from None
        return path

    return cast


def time_zone(value: str) -> str:
    value = code(value)
    system = Path("/usr/share/zoneinfo")  # Django checks here too
    try:
        known = ZoneInfo(value) and (not system.exists() or (system / value).exists())
    except (KeyError, ValueError, OSError):
        known = False
    if not known:
        raise ValueError(f"is {value!r}; it has to be a time zone of this system, such as Asia/Shanghai")
    return value


def secret_key(value: str) -> str:
    if len(value) < 20 or value.startswith("django-insecure") or is_repetitive(value):
        raise ValueError("is too short or a known placeholder; set a random text of 50 characters")
    return value


def secret_keys(value: str) -> list[str]:
    return [secret_key(word) for word in re.split(r"[,\s]+", value) if word]


def callback_secret(value: str) -> str:
    value = code(value)
    if not re.fullmatch(r"[\w-]{20,200}", value, re.ASCII) or is_repetitive(value):
        raise ValueError(
            "has to be 20 to 200 letters, digits, - or _ at random; empty, no callbacks are taken"
        )
    return value


def is_repetitive(value: str) -> bool:
    return len(set(value)) < 5  # as Django's own check of SECRET_KEY, security.W009


def header_value(value: str) -> str:
    shown = code(value)
    if not re.fullmatch(r"[ -~]*", shown) or re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError("has characters that no header can carry; copy it again")
    return shown


def fernet_keys(value: str) -> list[str]:
    for key in words(value):
        try:
            Fernet(key)
        except ValueError:
            raise ValueError("has a key that is none: each is 32 bytes in URL-safe base64") from None
    return words(value)


def days_of(defaults: dict[str, int]) -> Callable[[str], dict[str, int]]:
    """Return a cast that parses `events=100,runs=0` into all days by name; 0 stands for ever.

    The pages and reports read what happened in the last 30 days.
    """

    def cast(value: str) -> dict[str, int]:
        days = dict(defaults)
        for pair in words(value):
            name, _equals, number = (part.strip() for part in pair.partition("="))
            known = name in days and re.fullmatch(r"\d{1,5}", number, re.ASCII)
            if not known or 0 < int(number) < 31:
                raise ValueError(
                    f"has {pair!r}; it has to be a list such as events=400,runs=90, with 31 days or more, or 0 to "
                    f"delete none, for any of {', '.join(days)}"
                )
            days[name] = int(number)
        return days

    return cast


def named_codes(value: str) -> dict[int, str]:
    """Parse `1=广州,2=南京` into {1: "广州", 2: "南京"}, in the same order."""
    codes: dict[int, str] = {}
    for pair in words(value):
        number, _equals, title = (part.strip() for part in pair.partition("="))
        if not re.fullmatch(r"\d{1,4}", number, re.ASCII) or not title:
            raise ValueError(f"has {pair!r}; it has to be a list such as 1=广州,2=南京")
        if int(number) in codes:
            raise ValueError(f"has the code {int(number)} twice")
        codes[int(number)] = title
    return codes
