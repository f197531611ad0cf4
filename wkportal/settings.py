"""All settings. The README lists the environment variables that they read.

A missing or wrong value stops the start with one sentence that names the variable. Values come first from the
process environment, then from `var/run.env` (addresses of what `manage.py up` started, such as the
simulator), then from `var/secrets.env` (generated at the first run, mode 0600).
"""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from accounts.lib.typed_text import code, line
from wkportal import __version__
from wkportal.database.sqlite import SqliteConnection
from wkportal.env import (
    Env,
    allowed_hosts,
    between,
    callback_secret,
    certificate_file,
    check_provider,
    database_url,
    days_of,
    directory,
    fernet_keys,
    header_value,
    http_url,
    issuer_url,
    lower_case_words,
    named_codes,
    one_of,
    origins,
    picture_hosts,
    proxy_url,
    redis_url,
    roles_of_groups,
    secret_key,
    secret_keys,
    sentry_dsn,
    time_zone,
    words,
)
from wkportal.logs.config import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = __version__

# Read by pypinyin at its import: without its list of words it needs 13 MB instead of 58.
os.environ.setdefault("PYPINYIN_NO_PHRASES", "true")

env = Env()
VAR_DIR = env("VAR_DIR", cast=directory(0o700), default=BASE_DIR / "var")
for name in ("run.env", "secrets.env"):
    environ.Env.read_env(VAR_DIR / name)

# --- security ------------------------------------------------------------------------------------------

SECRET_KEY = env("SECRET_KEY", cast=secret_key, default="")
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "SECRET_KEY is not set. Run `make run` once, which writes one to var/secrets.env, or set a long random text."
    )
# Earlier ones: what they signed, such as sessions, stays valid.
SECRET_KEY_FALLBACKS = env("SECRET_KEY_FALLBACKS", cast=secret_keys, default=[])
# Fernet keys for secrets at rest. The first one encrypts. None: a key is derived from SECRET_KEY.
FIELD_KEYS = env("FIELD_KEYS", cast=fernet_keys, default=[])
DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env("ALLOWED_HOSTS", cast=allowed_hosts, default=["localhost", "127.0.0.1", "[::1]"])
if "*" in ALLOWED_HOSTS and not DEBUG:
    raise ImproperlyConfigured(
        "ALLOWED_HOSTS is '*'; name the hosts that people type, or set DEBUG=1 on a test machine."
    )
CSRF_TRUSTED_ORIGINS = env("CSRF_TRUSTED_ORIGINS", cast=origins, default=[])
# Behind a proxy that terminates TLS and sets X-Forwarded-Proto itself.
HTTPS = env.bool("HTTPS", default=False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = HTTPS
SESSION_COOKIE_NAME = "__Host-session" if HTTPS else "wkportal_session"
CSRF_COOKIE_NAME = "__Host-csrf" if HTTPS else "wkportal_csrf"
SESSION_COOKIE_AGE = 14 * 24 * 3600
# A session that was not used for so long ends. 0: none ends before its age.
SESSION_IDLE_HOURS = env("SESSION_IDLE_HOURS", cast=between(0, 336), default=0)
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
# Not for other names of the domain, and not for the lists of browsers: both are its owner's to decide.
HSTS_SECONDS = env("HSTS_SECONDS", cast=between(0, 100_000_000), default=365 * 24 * 3600)
SECURE_HSTS_SECONDS = HSTS_SECONDS if HTTPS else 0
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
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

# --- applications --------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "accounts",
    "wkportal",  # for its commands: two of them are Django's with an entry in the audit log
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_htmx",
    "axes",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "wkportal.middleware.observe_requests",
    "wkportal.middleware.CompressPages",
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
    "wkportal.database.outage.answers_without_database",
    "accounts.web.people.sessions.note_sign_ins",
    "wkportal.middleware.know_origin",
    "accounts.web.signing_in.second_step.ask_for_second_step",
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
                "accounts.web.context_processors.appearance",
                "accounts.web.context_processors.upstream_alarm",
                "accounts.web.context_processors.keeping_online",
            ],
        },
    }
]

# --- database ------------------------------------------------------------------------------------------

SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": VAR_DIR / "wkportal.sqlite3"}
DATABASES = {"default": env("DATABASE_URL", cast=database_url, default=SQLITE)}
DATABASE_POOL = env("DATABASE_POOL", cast=between(1, 500), default=20)
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # A deferred transaction that reads and then writes fails at once if another process wrote meanwhile.
    # An immediate one waits for the lock.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "factory": SqliteConnection,
        # mmap_size: without it each list would read its pages of long tables from the file again.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA mmap_size=268435456;",
    }
else:
    # Detects a connection that a server restart closed when it is taken from the pool.
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    DATABASES["default"]["OPTIONS"] = {
        # A row lock of a frozen process must not block all others: the server ends that process's session.
        # These tables are in memory or on an SSD: random reads cost about as much as sequential ones.
        "options": "-c lock_timeout=3s -c idle_in_transaction_session_timeout=10s -c random_page_cost=1.1",
        # A host that vanished: seconds to connect, and (in ms) to confirm what was sent. PostgresConnection gives
        # up a server that is connected but silent.
        "connect_timeout": 3,
        "tcp_user_timeout": 6000,
        "keepalives_idle": 10,
        "keepalives_interval": 3,
        "keepalives_count": 2,
        **DATABASES["default"].get("OPTIONS", {}),
        # Thousands of waits end in bursts: they queue for a connection here instead of exhausting the server.
        "pool": {
            "connection_class": import_string("wkportal.database.postgres.PostgresConnection"),
            "min_size": 1,
            "max_size": DATABASE_POOL,
            # Report an unreachable server to the person who waits, and retry soon: the pool's own backoff would
            # grow to minutes.
            "timeout": 10,
            "reconnect_timeout": 4,
        },
    }

# Days for which history is kept, by the names in accounts.maintenance.retention. 0: for ever.
KEPT_DAYS = dict.fromkeys(
    ("events", "attempts", "drops", "incidents", "links", "sign_ins", "admin_log", "audit"), 400
)
KEPT_DAYS |= dict.fromkeys(("deliveries", "runs", "avatars"), 90)
KEPT_DAYS["failed_sign_ins"] = 31  # what is typed as a username is often a password
RETENTION_DAYS = env("RETENTION_DAYS", cast=days_of(KEPT_DAYS), default=KEPT_DAYS)

# --- signing in ----------------------------------------------------------------------------------------

AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
# The company's OpenID Connect provider. Empty: there is none.
OIDC_ISSUER = env("OIDC_ISSUER", cast=issuer_url, default="")
OIDC_CLIENT_ID = env("OIDC_CLIENT_ID", cast=code, default="")
OIDC_CLIENT_SECRET = env("OIDC_CLIENT_SECRET", cast=str.strip, default="")
OIDC_CA_BUNDLE = env("OIDC_CA_BUNDLE", cast=certificate_file, default="")  # empty: the public authorities
OIDC_NAME = env("OIDC_NAME", cast=line, default="SSO")
OIDC_SCOPES = env("OIDC_SCOPES", cast=words, default=["openid", "profile"])
OIDC_USERNAME_CLAIM = env("OIDC_USERNAME_CLAIM", cast=code, default="preferred_username")
OIDC_GROUPS_CLAIM = env("OIDC_GROUPS_CLAIM", cast=code, default="groups")
# (group, role or team) pairs. None: admins give roles and teams here.
OIDC_GROUPS = env("OIDC_GROUPS", cast=roles_of_groups, default=[])
# Who may sign in with a password.
LOCAL_SIGN_IN = env("LOCAL_SIGN_IN", cast=one_of("all", "superusers"), default="all")
check_provider(
    OIDC_ISSUER, OIDC_CLIENT_ID, OIDC_CLIENT_SECRET, OIDC_SCOPES, OIDC_GROUPS or LOCAL_SIGN_IN != "all"
)
if OIDC_ISSUER:
    AUTHENTICATION_BACKENDS.append("accounts.web.signing_in.provider.Backend")
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{validator}"}
    for validator in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
# Who has to set up a second step before any other page: a code of an app after the password.
REQUIRE_TWO_STEP = env("REQUIRE_TWO_STEP", cast=one_of("off", "admins", "all"), default="off")
LOGIN_URL = "sign_in"
LOGIN_REDIRECT_URL = "overview"
LOGOUT_REDIRECT_URL = "sign_in"
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
# Who is locked out writes no rows: anybody could fill the table.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_HANDLER = "wkportal.sign_in_limits.Handler"
AXES_ENABLE_ACCESS_FAILURE_LOG = True  # what the limit of an address counts
AXES_LOCKOUT_TEMPLATE = "accounts/sign_in_locked.html"
# A failed sign-in is kept with what was sent, but for these.
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "code"]
AXES_VERBOSE = False
AXES_ENABLE_ADMIN = False

# --- languages and time --------------------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("zh-hans", "简体中文"), ("en", "English")]
LOCALE_PATHS = [BASE_DIR / "locale"]
LANGUAGE_COOKIE_AGE = 365 * 24 * 3600  # not shorter than a session: people keep the language that they chose
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
TIME_ZONE = env("TIME_ZONE", cast=time_zone, default="Asia/Shanghai")
USE_TZ = True
FORMAT_MODULE_PATH = "wkportal.formats"

# --- static files --------------------------------------------------------------------------------------

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = env("STATIC_ROOT", cast=directory(), default=BASE_DIR / "staticfiles")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# --- Redis and Celery ----------------------------------------------------------------------------------

REDIS_URL = env("REDIS_URL", cast=redis_url, default="redis://127.0.0.1:6379/0")

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = TIME_ZONE
# Early acknowledgement: a message is a hint. After a crash the attempt's lease lets another worker resume.
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# A Redis that rejects writes (a replica after a failover, a full disk) counts as unreachable: retry.
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
    # Without a read timeout a half-open connection blocks a worker, or a request, indefinitely.
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "health_check_interval": 25,
    "max_connections": 1000,
}
CELERY_TASK_DEFAULT_QUEUE = "jobs"
CELERY_TASK_ROUTES = {"accounts.tasks.wait_for_phone": {"queue": "waits"}}
CELERY_BEAT_SCHEDULER = "wkportal.celery:Scheduler"
CELERY_BEAT_SCHEDULE = {
    "tick": {"task": "accounts.tasks.tick", "schedule": 2.0, "options": {"expires": 4}},
    "forget-what-is-old": {
        "task": "accounts.tasks.forget_what_is_old",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
}
CELERY_WORKER_REDIRECT_STDOUTS = False
# Workers and beat touch this file every few seconds, for a health check that looks at its age. Empty: none.
ALIVE_PATH = env("ALIVE_PATH", cast=str.strip, default="")

# --- WKTeam --------------------------------------------------------------------------------------------

WK_BASE_URL = env("WK_BASE_URL", cast=http_url, default="")
if not WK_BASE_URL:
    raise ImproperlyConfigured(
        "WK_BASE_URL is not set. It is the address of the upstream's API, such as http://203.0.113.7:9899."
    )
WK_ACCOUNT = env("WK_ACCOUNT", cast=code, default="")
WK_PASSWORD = env.str("WK_PASSWORD", default="")
WK_AUTHORIZATION = env("WK_AUTHORIZATION", cast=header_value, default="")
if not WK_AUTHORIZATION and not (WK_ACCOUNT and WK_PASSWORD):
    missing = "WK_PASSWORD" if WK_ACCOUNT else "WK_ACCOUNT"
    raise ImproperlyConfigured(
        f"{missing} is not set. Give WK_ACCOUNT and WK_PASSWORD, or WK_AUTHORIZATION alone."
    )
WK_LOGIN_WAIT_SECONDS = env("WK_LOGIN_WAIT_SECONDS", cast=between(1, 900), default=150)
WK_TIMEOUT_SECONDS = env("WK_TIMEOUT_SECONDS", cast=between(1, 120), default=15)
# Seconds between presence checks, with a random jitter of up to a tenth.
WK_PRESENCE_SECONDS = env("WK_PRESENCE_SECONDS", cast=between(5, 3600), default=60)
WK_LOGIN_TYPE = code(env.str("WK_LOGIN_TYPE", default="2"))  # empty: not sent
if not re.fullmatch(r"\d{0,3}", WK_LOGIN_TYPE, re.ASCII):
    raise ImproperlyConfigured(
        f"WK_LOGIN_TYPE is {WK_LOGIN_TYPE!r}; it has to be a whole number, or empty to send none."
    )
WK_DEVICE_TYPE = env("WK_DEVICE_TYPE", cast=one_of("ipad", "mac", "ipadpro"), default="")
WK_PROXIES = env(
    "WK_PROXIES", cast=named_codes, default={1: "广州", 2: "南京", 3: "杭州", 4: "上海", 5: "深圳"}
)
# Certificate authorities to trust besides the public ones, and an HTTP proxy, for calls to WKTeam.
WK_CA_BUNDLE = env("WK_CA_BUNDLE", cast=certificate_file, default="")
WK_HTTP_PROXY = env("WK_HTTP_PROXY", cast=proxy_url, default="")
# Words in a WKTeam message that may mean that it refuses the Authorization; lower case. Its text for that is not
# documented: these are likely parts of it. WeChat's own refusals have the same words, so they prove nothing.
WK_SIGN_IN_WORDS = env(
    "WK_SIGN_IN_WORDS",
    cast=lower_case_words,
    default=["token", "authoriz", "授权", "认证", "登录失效", "登录已失效", "请登录", "请先登录"],
)
WK_QR_HOSTS = env("WK_QR_HOSTS", cast=picture_hosts, default=[])
WK_AVATAR_HOSTS = env("WK_AVATAR_HOSTS", cast=picture_hosts, default=["wx.qlogo.cn", "mmhead.c2c.wechat.com"])
# Address at which WKTeam reaches this portal, and the secret part of the callback address. Empty: no
# callbacks.
WK_PUBLIC_URL = env("WK_PUBLIC_URL", cast=http_url, default="")
WK_CALLBACK_SECRET = env("WK_CALLBACK_SECRET", cast=callback_secret, default="")
# Messages may be sent to this host and to private networks: services that run beside the portal.
WK_PRIVATE_TARGETS = env.bool("WK_PRIVATE_TARGETS", default=False)
WAIT_SLOTS = env("WAIT_SLOTS", cast=between(1, 100_000), default=10_000)

# Where each process answers Prometheus. None: nowhere.
METRICS_PORT = env("METRICS_PORT", cast=between(1, 65_535), default=None)
METRICS_HOST = env("METRICS_HOST", cast=code, default="127.0.0.1")

# --- logs ----------------------------------------------------------------------------------------------

LOG_LEVEL = env("LOG_LEVEL", cast=one_of("DEBUG", "INFO", "WARNING", "ERROR"), default="INFO")
LOG_FORMAT = env("LOG_FORMAT", cast=one_of("json", "text"), default="text")
# Where errors are reported as well, and under which name of this installation. None: nowhere.
SENTRY_DSN = env("SENTRY_DSN", cast=sentry_dsn, default=None)
SENTRY_ENVIRONMENT = env("SENTRY_ENVIRONMENT", cast=code, default="production")
SECRETS = [SECRET_KEY, WK_PASSWORD, WK_AUTHORIZATION, WK_CALLBACK_SECRET, *FIELD_KEYS, *SECRET_KEY_FALLBACKS]
SECRETS += [DATABASES["default"].get("PASSWORD", ""), urlsplit(REDIS_URL).password or ""]
SECRETS.append(OIDC_CLIENT_SECRET)
SECRETS.append(urlsplit(WK_HTTP_PROXY).password or "")
SECRETS.append(urlsplit(SENTRY_DSN or "").username or "")
LOGGING = logging_config(LOG_LEVEL, LOG_FORMAT, SECRETS, SENTRY_DSN and (SENTRY_DSN, SENTRY_ENVIRONMENT))
