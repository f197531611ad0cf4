"""The world the tests run in, made before Django reads its settings: a pytest plugin, loaded by `-p`.

Each process that runs tests (pytest itself, or each worker of pytest-xdist) has a Valkey, a simulator of the upstream and
a database of its own. TEST_DATABASE names the kind of database: `sqlite` (default), or `postgres`: one server a run, ours
or the one that TEST_POSTGRES_URL names. All data is in memory where the machine has room for it there.
"""

import gc
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support import preloaded, services
from tests.support.processes import ROOT, reserve_port
from tests.support.simulator import Simulator

gc.disable()  # until everything is imported and collected
# Otherwise each of hundreds of processes compiles every module again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
DATABASE = os.environ.get("TEST_DATABASE", "sqlite")
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
CANARIES = {
    "SECRET_KEY": "canary-secret-key-0123456789-abcdefghijklmnopqrstuvwxyz",
    "WK_PASSWORD": "canary-password-of-the-developer",
    "REDIS_PASSWORD": services.PASSWORD,
}
# For a phone: longer than a busy machine takes for all that happens meanwhile. A test in which it runs out sets its own.
WAIT_SECONDS = 300
MEMORY, ENOUGH = Path("/dev/shm"), 2 << 30


def make_run_folder() -> Path:
    """For all processes of this run; it goes with the last of them, however the run ends."""
    memory = MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH else None
    folder = Path(tempfile.mkdtemp(prefix="wkt-", dir=memory)).resolve()
    os.environ["TEST_RUN_FOLDER"] = str(folder)
    command = [sys.executable, str(ROOT / "tests" / "support" / "guard.py"), str(folder)]
    global guard
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    return folder


def url_on_server(name: str) -> str:
    """Of this database on the PostgreSQL of the run."""
    return urlsplit(postgres_url)._replace(path=f"/{name}").geturl()


RUN = services.run_folder() if WORKER else make_run_folder()
FOLDER = RUN / (WORKER or "main")
FOLDER.mkdir()
postgres = services.Postgres(RUN / "pg")
postgres_url = os.environ.get("TEST_POSTGRES_URL") or postgres.direct_url("postgres")
database = f"{RUN.name}-{FOLDER.name}" if DATABASE == "postgres" else str(FOLDER / "test.sqlite3")
database_url = url_on_server(database) if DATABASE == "postgres" else f"sqlite:///{database}"
valkey = services.Valkey(FOLDER)
redis_url = valkey.direct_url
simulator = Simulator(
    port=reserve_port(),
    account="canary-developer",
    password=CANARIES["WK_PASSWORD"],
    wait_seconds=WAIT_SECONDS,
)
os.environ.update(
    SECRET_KEY=CANARIES["SECRET_KEY"],
    REDIS_URL=redis_url,
    DATABASE_URL=database_url,
    WK_BASE_URL=f"http://127.0.0.1:{simulator.options['port']}",
    WK_ACCOUNT="canary-developer",
    WK_PASSWORD=CANARIES["WK_PASSWORD"],
    WK_LOGIN_WAIT_SECONDS=str(WAIT_SECONDS),
    WK_TIMEOUT_SECONDS="4",
    WK_PRIVATE_TARGETS="1",
    VAR_DIR=str(FOLDER),
    STATIC_ROOT=str(RUN / "static"),
    ALLOWED_HOSTS="localhost,127.0.0.1,testserver",
)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """What tests write is in memory too: most are databases of their own, which wait for a disk at each commit."""
    config.option.basetemp = config.option.basetemp or str(RUN / "tmp")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Before the workers start, what they share; then, in each process that runs tests, what it has for itself."""
    if not WORKER and DATABASE == "postgres":
        start_postgres()
    if not session.config.pluginmanager.hasplugin("dsession"):
        valkey.start()
        simulator.start()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What needs no database runs once, with SQLite; what says that it needs a certain one, with that one.

    Of what `usually` runs on one database, the other's half is long.
    """
    kept = [item for item in items if DATABASE in databases_of(item)]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if DATABASE not in databases_of(item)])
        items[:] = kept
    for item in items:
        if only_seldom(item):
            item.add_marker(pytest.mark.long)
        if shares_a_fixture(item):
            keep_together(item)


@pytest.hookimpl(trylast=True, specname="pytest_collection_modifyitems")
def pytest_longest_first(items: list[pytest.Item]) -> None:
    """So that no worker is left alone at the end. pytest takes no function for a hook whose name begins otherwise.

    What empties the database stays where pytest-django puts it: behind all that needs the rows of a new one.
    """
    items.sort(
        key=lambda item: not item.get_closest_marker("live") or "transactional_db" in item.fixturenames
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """All objects of now stay to the end: to look through them again and again took a sixth of the tests' time."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()


def shares_a_fixture(item: pytest.Item) -> bool:
    """Whether something of ours is made once for its module, such as running processes.

    pytest-django's own for a class, which has no place in our files, cost nothing.
    """
    found = item._fixtureinfo.name2fixturedefs.values()
    return any(
        fixture.scope in ("module", "class") and fixture.baseid for fixtures in found for fixture in fixtures
    )


def keep_together(item: pytest.Item) -> None:
    """One worker runs all of its module: `--dist loadgroup` goes by what follows an @ in the test's id.

    For the mark `xdist_group`, xdist 3.8 appends that where pytest 9.2 does not read it, and groups nothing:
    https://github.com/pytest-dev/pytest-xdist/issues/1386
    """
    if WORKER:
        item._id = type(item.id).parse(f"{item.nodeid}@{item.location[0]}")
        assert item.nodeid.endswith(f"@{item.location[0]}")


def only_seldom(item: pytest.Item) -> bool:
    """Whether it says that it shows nothing of this database which another test does not; what commits always may."""
    marker = item.get_closest_marker("usually")
    return bool(marker) and DATABASE not in marker.args and "transactional_db" not in item.fixturenames


def databases_of(item: pytest.Item) -> tuple[str, ...]:
    if marker := item.get_closest_marker("database"):
        return marker.args
    needs = "django_db_setup" in item.fixturenames or item.get_closest_marker("django_db")
    return ("sqlite", "postgres") if needs else ("sqlite",)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    preloaded.stop()
    simulator.stop()
    valkey.kill()
    if not WORKER:
        guard.stdin.close()
        guard.wait()


def start_postgres() -> None:
    if os.environ.get("TEST_POSTGRES_URL"):
        services.create_database(postgres_url, services.TEMPLATE, "template1")
        services.migrate(url_on_server(services.TEMPLATE))
    else:
        postgres.copy_template()
        postgres.start()


def make_database() -> None:
    if DATABASE == "sqlite":
        services.migrated_sqlite(FOLDER / "test.sqlite3")
    else:
        services.create_database(postgres_url, database, services.TEMPLATE)


def drop_database() -> None:
    if DATABASE == "postgres":
        services.drop_database(postgres_url, database)
