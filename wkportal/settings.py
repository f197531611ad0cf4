"""All settings, and the only place that reads the environment.

A missing or wrong value stops the start with one sentence that names the variable. Values come from the
process environment first, then from `var/run.env` (what `manage.py up` started: ports, the simulator) and
`var/secrets.env` (generated at the first run, mode 0600).
"""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import environ
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from wkportal import sqlite

BASE_DIR = Path(__file__).resolve().parent.parent


def text(name: str, default: str = "") -> str:
    """The variable as it was written: a password may begin with "$", which Env.str() takes for a reference."""
    return os.environ.get(name, default)


VAR_DIR = Path(text("VAR_DIR") or BASE_DIR / "var").resolve()
for name in ("run.env", "secrets.env"):
    if (VAR_DIR / name).is_file():
        environ.Env.read_env(VAR_DIR / name, overwrite=False)


def required(name: str, hint: str) -> str:
    value = text(name).strip()
    if not value:
        raise ImproperlyConfigured(f"{name} is not set. {hint}")
    return value


def boolean(name: str, default: bool) -> bool:
    raw = text(name).strip().lower()
    if raw in ("", "1", "true", "yes", "on", "0", "false", "no", "off"):
        return default if raw == "" else raw in ("1", "true", "yes", "on")
    raise ImproperlyConfigured(f"{name} is {raw!r}; it has to be 1 or 0.")


def number(name: str, default: int, low: int, high: int) -> int:
    raw = text(name).strip() or str(default)
    if not re.fullmatch(r"\d{1,9}", raw) or not low <= int(raw) <= high:
        raise ImproperlyConfigured(f"{name} is {raw!r}; it has to be a whole number from {low} to {high}.")
    return int(raw)


def words(name: str, default: str = "") -> list[str]:
    return [word.strip() for word in (text(name).strip() or default).split(",") if word.strip()]


def http_address(name: str, value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise ImproperlyConfigured(f"{name} is {value!r}; it has to look like http://host:port.")
    if parts.username or parts.password:
        raise ImproperlyConfigured(
            f"{name} holds a user name or a password; give those in WK_ACCOUNT and WK_PASSWORD."
        )
    return value.rstrip("/")


def fernet_keys(name: str) -> list[str]:
    keys = words(name)
    for key in keys:
        try:
            Fernet(key)
        except ValueError:
            raise ImproperlyConfigured(
                f"{name} has a key that is none: each is 32 bytes in URL-safe base64."
            ) from None
    return keys


def named_codes(name: str, default: str) -> dict[int, str]:
    """`1=广州,2=南京` as {1: "广州", 2: "南京"}; the order is kept."""
    codes = {}
    for pair in words(name, default):
        code, equals, title = pair.partition("=")
        if not equals or not re.fullmatch(r"\d{1,4}", code.strip()) or not title.strip():
            raise ImproperlyConfigured(f"{name} has {pair!r}; it has to be a list such as 1=广州,2=南京.")
        codes[int(code)] = title.strip()
    return codes


# --- the process ---------------------------------------------------------------------------------------

SECRET_KEY = required(
    "SECRET_KEY", "Run `make run` once, which writes one to var/secrets.env, or set a long random text."
)
if len(SECRET_KEY) < 20 or SECRET_KEY.startswith("django-insecure"):
    raise ImproperlyConfigured(
        "SECRET_KEY is too short or a known placeholder; set a random text of 50 characters."
    )
DEBUG = boolean("DEBUG", False)
ALLOWED_HOSTS = words("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
if "*" in ALLOWED_HOSTS and not DEBUG:
    raise ImproperlyConfigured(
        "ALLOWED_HOSTS is '*'; name the hosts that people type, or set DEBUG=1 on a test machine."
    )
HTTPS = boolean("HTTPS", False)  # behind a proxy that terminates TLS and sets X-Forwarded-Proto itself
CSRF_TRUSTED_ORIGINS = words("CSRF_TRUSTED_ORIGINS")
# Fernet keys for secrets at rest; the first one encrypts. None: a key from SECRET_KEY.
FIELD_KEYS = fernet_keys("FIELD_KEYS")
LOG_LEVEL = text("LOG_LEVEL", "INFO").upper()
if LOG_LEVEL not in ("DEBUG", "INFO", "WARNING", "ERROR"):
    raise ImproperlyConfigured(f"LOG_LEVEL is {LOG_LEVEL!r}; it has to be DEBUG, INFO, WARNING or ERROR.")

# --- the upstream --------------------------------------------------------------------------------------

WK_BASE_URL = http_address(
    "WK_BASE_URL",
    required("WK_BASE_URL", "It is the address of the upstream's API, such as http://203.0.113.7:9899."),
)
WK_ACCOUNT = text("WK_ACCOUNT")
WK_PASSWORD = text("WK_PASSWORD")
WK_AUTHORIZATION = text("WK_AUTHORIZATION")
if not re.fullmatch(r"[ -~]*", WK_AUTHORIZATION):
    raise ImproperlyConfigured("WK_AUTHORIZATION has characters that no header can carry; copy it again.")
if not WK_AUTHORIZATION and not (WK_ACCOUNT and WK_PASSWORD):
    missing = "WK_PASSWORD" if WK_ACCOUNT else "WK_ACCOUNT"
    raise ImproperlyConfigured(
        f"{missing} is not set. Give WK_ACCOUNT and WK_PASSWORD, or WK_AUTHORIZATION alone."
    )
WK_LOGIN_WAIT_SECONDS = number("WK_LOGIN_WAIT_SECONDS", 150, 1, 900)
WK_TIMEOUT_SECONDS = number("WK_TIMEOUT_SECONDS", 15, 1, 120)
WK_LOGIN_TYPE = text("WK_LOGIN_TYPE", "2").strip()
if WK_LOGIN_TYPE and not re.fullmatch(r"\d{1,3}", WK_LOGIN_TYPE):
    raise ImproperlyConfigured(
        f"WK_LOGIN_TYPE is {WK_LOGIN_TYPE!r}; it has to be a whole number, or empty to send none."
    )
WK_DEVICE_TYPE = text("WK_DEVICE_TYPE").strip()
WK_PROXIES = named_codes("WK_PROXIES", "1=广州,2=南京,3=杭州,4=上海,5=深圳")
WK_QR_HOSTS = [host.lower() for host in words("WK_QR_HOSTS")]
WK_AVATAR_HOSTS = [host.lower() for host in words("WK_AVATAR_HOSTS", "wx.qlogo.cn,mmhead.c2c.wechat.com")]
WAIT_SLOTS = number("WAIT_SLOTS", 10_000, 1, 100_000)
# How often the upstream is asked who is online; a tenth more or less, by chance.
WK_PRESENCE_SECONDS = number("WK_PRESENCE_SECONDS", 60, 5, 3600)
# Where the upstream reaches this portal, and the part of the address by which it is known; empty: no notices.
WK_PUBLIC_URL = text("WK_PUBLIC_URL").strip()
if WK_PUBLIC_URL:
    WK_PUBLIC_URL = http_address("WK_PUBLIC_URL", WK_PUBLIC_URL)
WK_CALLBACK_SECRET = text("WK_CALLBACK_SECRET").strip()
if WK_CALLBACK_SECRET and not re.fullmatch(r"[\w-]{20,200}", WK_CALLBACK_SECRET, re.ASCII):
    raise ImproperlyConfigured(
        "WK_CALLBACK_SECRET has to be 20 to 200 letters, digits, - or _; empty, no notices are taken."
    )

# --- Django --------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "accounts",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_htmx",
    "axes",
    "django_celery_beat",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
    "wkportal.outage.answers_without_database",
    "wkportal.middleware.one_thread",
]
ROOT_URLCONF = "wkportal.urls"
ASGI_APPLICATION = "wkportal.asgi.application"
WSGI_APPLICATION = "wkportal.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "accounts.context.upstream_alarm",
                "accounts.context.keeping_online",
            ],
        },
    }
]
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{validator}"}
    for validator in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "sign_in"
LOGIN_REDIRECT_URL = "accounts"
LOGOUT_REDIRECT_URL = "sign_in"
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_TEMPLATE = "accounts/sign_in_locked.html"
AXES_VERBOSE = False
AXES_ENABLE_ADMIN = False

LANGUAGE_CODE = "en"
LANGUAGES = [("zh-hans", "简体中文"), ("en", "English")]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = text("TIME_ZONE", "Asia/Shanghai")
USE_TZ = True

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = Path(text("STATIC_ROOT") or BASE_DIR / "staticfiles")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_NAME = "__Host-session" if HTTPS else "wkportal_session"
CSRF_COOKIE_NAME = "__Host-csrf" if HTTPS else "wkportal_csrf"
SESSION_COOKIE_AGE = 14 * 24 * 3600
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}

# --- database ------------------------------------------------------------------------------------------

DATABASE_URL = text("DATABASE_URL") or f"sqlite:///{VAR_DIR / 'wkportal.sqlite3'}"
DATABASES = {"default": environ.Env.db_url_config(DATABASE_URL)}
if DATABASES["default"].get("ENGINE") == "django.db.backends.sqlite3":
    # A deferred transaction that reads and then writes fails at once when another process wrote meanwhile;
    # an immediate one waits its turn.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "factory": sqlite.Connection,
        # With long tables the pages that a list needs would otherwise be read from the file again for each.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA mmap_size=268435456;",
    }
elif DATABASES["default"].get("ENGINE") == "django.db.backends.postgresql":
    # A connection that a restart of the server killed is noticed when it is taken from the pool.
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    # A row that a frozen process holds must not stop everybody else, and the server takes it from that process.
    # These tables stay in memory or lie on an SSD: to fetch rows one by one costs what it costs in sequence.
    DATABASES["default"].setdefault("OPTIONS", {}).setdefault(
        "options",
        "-c lock_timeout=3s -c idle_in_transaction_session_timeout=10s -c random_page_cost=1.1",
    )
    # Thousands of waits answer in bursts: they queue for a connection here instead of exhausting the server.
    DATABASES["default"].setdefault("OPTIONS", {})["pool"] = {
        "min_size": 1,
        "max_size": number("DATABASE_POOL", 20, 1, 500),
        # A server that is away is said so to whoever clicks, and is tried again soon: the pool's own pauses
        # between two tries would grow to minutes.
        "timeout": 10,
        "reconnect_timeout": 4,
    }
else:
    raise ImproperlyConfigured("DATABASE_URL has to begin with postgres:// or sqlite:///.")

# --- Redis and Celery ----------------------------------------------------------------------------------

REDIS_URL = text("REDIS_URL", "redis://127.0.0.1:6379/0")
if urlsplit(REDIS_URL).scheme not in ("redis", "rediss"):
    raise ImproperlyConfigured("REDIS_URL has to begin with redis:// or rediss://.")

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = TIME_ZONE
# Early acknowledgement: a message is a hint. What repeats a wait after a crash is the attempt's lease.
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# A Redis that answers writes with an error (a replica after a failover, a full disk) is away, and no reason to die.
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
CELERY_BROKER_POOL_ACQUIRE_TIMEOUT = 5
CELERY_TASK_PUBLISH_RETRY_POLICY = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.2,
    "interval_max": 0.5,
}
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 1800,
    # Without a read timeout a half-open connection stops a worker, or a click, for ever.
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "health_check_interval": 25,
    "max_connections": 1000,
}
CELERY_TASK_DEFAULT_QUEUE = "jobs"
CELERY_TASK_ROUTES = {"accounts.tasks.wait_for_phone": {"queue": "waits"}}
CELERY_BEAT_SCHEDULER = "wkportal.beat:Scheduler"
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "beat-schedule")
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": "accounts.tasks.sweep", "schedule": 2.0, "options": {"expires": 4}},
    "tick": {"task": "accounts.tasks.tick", "schedule": 2.0, "options": {"expires": 4}},
    "forget-what-is-old": {"task": "accounts.tasks.forget_what_is_old", "schedule": 24 * 3600.0},
}
CELERY_WORKER_REDIRECT_STDOUTS = False

# --- logs ----------------------------------------------------------------------------------------------

SECRETS = [SECRET_KEY, WK_PASSWORD, WK_AUTHORIZATION, WK_CALLBACK_SECRET, *FIELD_KEYS]
SECRETS += [urlsplit(url).password or "" for url in (DATABASE_URL, REDIS_URL)]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {
            "()": "wkportal.redaction.RedactingFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s: %(message)s",
            "secrets": SECRETS,
        }
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "plain"},
        "nowhere": {"class": "logging.NullHandler"},
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        # At DEBUG these print request paths, SQL parameters or message bodies: addresses and secrets among them.
        "urllib3": {"level": "WARNING"},
        "django.db.backends": {"level": "WARNING"},
        "PIL": {"level": "WARNING"},
        "axes": {"level": "WARNING"},
        # It names addresses that are secrets. What it says about a message is kept with the message.
        "apprise": {"level": "WARNING", "handlers": ["nowhere"], "propagate": False},
        "django.request": {"level": "WARNING"},
        # One line per run of a task that runs every two seconds tells nobody anything.
        "celery.app.trace": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
        "celery.utils.functional": {"level": "WARNING"},
    },
}
