import hashlib
import json
import logging
from pathlib import Path

import kombu
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection

from accounts.management.commands.first_operator import first_operator
from wkportal.celery import app as celery_app

log = logging.getLogger("wkportal")

PYTHON = ".venv/bin/python"


class Command(BaseCommand):
    help = "Runs everything on this machine: database, broker, simulator, web, workers and beat."

    def add_arguments(self, parser) -> None:
        parser.add_argument(
            "--prepare",
            action="store_true",
            help="only make the database and the static files ready, and print what the processes need as JSON",
        )
        parser.add_argument(
            "--own-broker", action="store_true", help="with --prepare: Redis is not started yet"
        )

    def handle(self, *, prepare: bool, own_broker: bool, **options) -> str:
        """What supervises the processes is `wkportal.local.up`: without Django it needs a sixth of the memory."""
        if not prepare:
            raise CommandError("Start it from a shell: manage.py up.")
        log.info("wkportal %s: up", settings.VERSION)
        if not own_broker:
            find_broker()
        find_database()
        call_command("migrate", interactive=False, verbosity=0, skip_checks=False)
        name, password = first_operator()
        collect_static()
        return json.dumps(
            {
                "sign_in": sign_in(name, password),
                "has_new_password": password is not None,
                "hosts": settings.ALLOWED_HOSTS,
                "slots": settings.WAIT_SLOTS,
                "log_level": settings.LOG_LEVEL,
                "metrics_port": settings.METRICS_PORT,
            }
        )


def sign_in(name: str, password: str) -> str:
    """Return how to sign in, for people. `name` and `password` as from `first_operator`."""
    if password:
        word = f"{password}   (shown only this once)"
    elif name:
        word = "the one in DJANGO_SUPERUSER_PASSWORD"
    else:
        operators = get_user_model()._default_manager.filter(is_superuser=True)
        name = operators.order_by("pk")[0].get_username()
        word = f"was set at the first run; for a new one: {PYTHON} manage.py changepassword {name}"
    return f"    user name  {name}\n    password   {word}"


def find_database() -> None:
    """Raise CommandError immediately if the database does not answer: the pool would try for 2 minutes."""
    probe = connection.copy()
    probe.settings_dict["OPTIONS"].pop("pool", None)
    if probe.vendor == "postgresql":
        probe.settings_dict["OPTIONS"]["connect_timeout"] = 5
    try:
        probe.ensure_connection()
    except OperationalError as error:
        raise CommandError(f"The database that DATABASE_URL names does not answer: {error}") from None
    finally:
        probe.close()


def find_broker() -> None:
    """Raise CommandError if Redis does not answer, instead of a minute of retries in every process."""
    try:
        with celery_app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=2, interval_start=0.2)
    except kombu.exceptions.OperationalError as error:
        raise CommandError(f"The Redis that REDIS_URL names does not answer: {error}") from None


# --- static files --------------------------------------------------------------------------------------


def collect_static() -> None:
    """Collect the static files only if one was added, removed or changed: later starts must be fast.

    Raises CommandError if STATIC_ROOT cannot be used.
    """
    files = [
        (path, storage.path(path))
        for finder in get_finders()
        for path, storage in finder.list(["CVS", ".*", "*~"])
    ]
    state = [
        f"{path} {Path(full).stat().st_size} {Path(full).stat().st_mtime_ns}" for path, full in sorted(files)
    ]
    stamp = hashlib.sha256("\n".join(state).encode()).hexdigest()
    stamp_file = Path(settings.STATIC_ROOT) / ".collected"
    if stamp_file.exists() and stamp_file.read_text() == stamp:
        return
    try:
        call_command("collectstatic", interactive=False, verbosity=0)
        stamp_file.write_text(stamp)
    except OSError as error:
        raise CommandError(
            f"STATIC_ROOT is {settings.STATIC_ROOT}, which cannot be used: {error.strerror}."
        ) from None
