import asyncio
import hashlib
import logging
import socket
import sys
from functools import partial
from pathlib import Path

import kombu
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection

from accounts.management.commands.first_operator import first_operator
from wkportal import celery_app
from wkportal.local import services
from wkportal.local.supervisor import (
    Process,
    Step,
    Supervisor,
    http_answers,
    port_answers,
    with_metrics_ports,
)

log = logging.getLogger("wkportal")

# Celery's messages between workers are of no use here, and cost one message per worker every few seconds.
ALONE = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
PYTHON = ".venv/bin/python"


class Command(BaseCommand):
    help = "Runs everything on this machine: database, broker, simulator, web, workers and beat."

    def handle(self, **options) -> None:
        self.plan = services.plan
        if self.plan is None:
            raise CommandError("Start it from a shell: manage.py up.")
        log.info("wkportal %s: up", settings.VERSION)
        self.password, self.sign_in = None, ""
        # Stopped in reverse: beat sends no more work, then the workers and the web end, and the broker last.
        stages = [
            valkey(self.plan),
            Step("broker", find_broker),
            Step("database", self.make_database_ready),
            Step("second terminal", self.plan.write_run_file),
            Step("static files", collect_static),
            simulator(self.plan),
            with_metrics_ports(settings.METRICS_PORT, [web(self.plan), waits(), jobs(), beat()]),
        ]
        supervisor = Supervisor(stages, self.announcement, remove=[self.plan.run_file])
        try:
            code = supervisor.run()
        finally:
            if self.password:  # generated, but the start failed before the announcement showed it
                self.stdout.write(self.sign_in)
        sys.exit(code)

    def make_database_ready(self) -> None:
        find_database()
        call_command("migrate", interactive=False, verbosity=0, skip_checks=False)
        name, self.password = first_operator()
        if self.password:
            word = f"{self.password}   (shown only this once)"
        elif name:
            word = "the one in DJANGO_SUPERUSER_PASSWORD"
        else:
            operators = get_user_model()._default_manager.filter(is_superuser=True)
            name = operators.order_by("pk")[0].get_username()
            word = f"was set at the first run; for a new one: {PYTHON} manage.py changepassword {name}"
        self.sign_in = f"    user name  {name}\n    password   {word}"

    def announcement(self) -> str:
        self.password = None  # this text shows it
        plan = self.plan
        lines = ["", f"  wkportal runs: {plan.web_address}", "", self.sign_in]
        if plan.simulator_address:
            lines.append(f"    upstream   simulated at {plan.simulator_address}/ (WK_BASE_URL is not set)")
        if not services.is_loopback(plan.host):
            names = [name for name in settings.ALLOWED_HOSTS if not services.is_loopback(name.strip("[]"))]
            lines.append(f"    network    {', '.join(f'http://{name}:{plan.port}/' for name in names)}")
        return "\n".join([*lines, "", "  Ctrl-C stops everything.", "", ""])


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


# --- the processes -------------------------------------------------------------------------------------


def valkey(plan: services.Plan) -> list[Process]:
    if not plan.valkey_command:
        return []
    hint = f"Its last words are in {plan.valkey_log}."
    return [Process("valkey", plan.valkey_command, ready=partial(services.valkey_answers, plan), hint=hint)]


def simulator(plan: services.Plan) -> list[Process]:
    if not plan.simulator_command:
        return []
    host, port = services.reachable(plan.host), int(plan.simulator_address.rpartition(":")[2])
    return [Process("simulator", plan.simulator_command, ready=partial(port_answers, host, port))]


def web(plan: services.Plan) -> Process:
    command = [sys.executable, sys.argv[0], "serve", "--host", plan.host, "--port", str(plan.port)]
    named = [host.lstrip(".") for host in settings.ALLOWED_HOSTS if host != "*"]
    header = named[0] if named else "localhost"
    ready = partial(http_answers, services.reachable(plan.host), plan.port, "/healthz", header)
    return Process("web", command, ready=ready)


def waits() -> Process:
    # A short grace, just enough for an idle worker: a wait that is cut off is resumed from its row.
    # A few more greenlets than slots: a full pool would stop Celery from reading its messages.
    slots = str(settings.WAIT_SLOTS + 100)
    return worker("waits", ["-P", "gevent", "-c", slots, *ALONE], grace=5)


def jobs() -> Process:
    return worker("jobs", ["-P", "threads", "-c", "4", *ALONE], grace=10)


def worker(queue: str, arguments: list[str], grace: float) -> Process:
    command = [*celery("worker"), "-Q", queue, "-n", f"{queue}@%h", *arguments]
    node = f"{queue}@{socket.gethostname()}"
    return Process(queue, command, ready=partial(asyncio.to_thread, worker_answers, node), grace=grace)


def beat() -> Process:
    return Process("beat", celery("beat"))


def celery(kind: str) -> list[str]:
    # root may run it on a test machine; Celery's warning about root would fill the first screen.
    command = [sys.executable, "-W", "ignore::Warning:celery.platforms", "-m", "celery", "-A", "wkportal"]
    return [*command, "--quiet", "--skip-checks", kind, "-l", settings.LOG_LEVEL]


def worker_answers(node: str) -> bool:
    return bool(celery_app.control.inspect([node], timeout=0.5).ping())


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
