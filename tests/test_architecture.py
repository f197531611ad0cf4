"""The rooms: which module may import which of ours. docs/architecture.md shows the same table."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LEAVES = {
    *("admin_cells", "answers", "batches", "clock", "hours", "sightings", "deadlines", "events"),
    *("lines", "paging"),
    *("pictures", "reasons", "roles", "search", "states", "together", "trouble", "vault"),
}
MAY_IMPORT: dict[str, set[str]] = {
    **{leaf: set() for leaf in LEAVES},
    "standing": {"answers"},
    "upstream": {"answers", "deadlines", "standing"},
    "history": {"clock", "events", "reasons", "states"},
    "drops": {"paging", "states"},
    "policies": {"hours"},
    "lib.cron": set(),
    "plans": {"clock", "hours", "lib.cron", "states"},
    "channels": {"hours", "states", "vault"},
    "attempts": {"clock", "history", "lines", "reasons", "states", "vault"},
    "models": {
        *("attempts", "channels", "drops", "history", "hours", "lines", "plans", "policies"),
        *("roles", "search", "sightings", "states", "vault"),
    },
    "leases": {"clock", "history", "models", "states", "together"},
    "tokens": {"answers", "leases", "models", "reasons"},
    "outcome": {
        *("answers", "attempts", "clock", "history", "models", "reasons"),
        *("states", "together", "trouble"),
    },
    "failures": {"answers", "reasons", "states"},
    "login": {
        *("answers", "attempts", "clock", "failures", "history", "leases", "models", "outcome"),
        *("pictures", "reasons", "states", "together", "tokens", "trouble", "upstream"),
    },
    "avatars": {"answers", "leases", "login", "models", "pictures"},
    "absence": {"answers", "clock", "drops", "history", "leases", "login", "models", "states"},
    "settling": {
        *("absence", "answers", "batches", "clock", "history", "login"),
        *("models", "outcome", "reasons", "standing", "states"),
    },
    "presence": {
        *("answers", "clock", "failures", "leases", "login"),
        *("models", "settling", "standing", "states"),
    },
    "recovery": {
        *("answers", "batches", "clock", "history", "hours", "login"),
        *("models", "policies", "reasons", "states"),
    },
    "incidents": {"batches", "clock", "models", "states"},
    "notices": {"batches", "clock", "incidents", "models", "states", "tokens"},
    "wording": {"channels", "lines", "models", "reasons", "states"},
    "sending": {"channels"},
    "telling": {"channels", "clock", "leases", "models", "notices", "sending", "states", "wording"},
    "turns": {"models", "plans", "policies", "recovery", "states"},
    "schedule": {
        *("batches", "clock", "history", "models", "plans"),
        *("states", "telling", "turns"),
    },
    "waits": {"answers", "attempts", "clock", "leases", "login", "models", "states"},
    "tasks": {
        *("absence", "avatars", "events", "leases", "login"),
        *("models", "presence", "recovery", "schedule", "telling", "waits"),
    },
    "worker": {"leases", "login", "tasks", "waits"},
    "access": {"models", "roles"},
    "forms": {"access", "answers", "history", "hours", "lines", "models", "states"},
    "finding": {"access", "models", "paging", "search", "states"},
    "lists": {"finding", "paging", "states"},
    "context": {"access", "models", "paging", "tokens"},
    "watch": {
        *("attempts", "clock", "events", "history", "models"),
        *("roles", "states", "together", "tokens"),
    },
    "feed": {"batches", "events", "watch"},
    "panels": {
        *("access", "clock", "events", "forms", "login"),
        *("models", "paging", "pictures", "states", "watch"),
    },
    "desk": {
        *("access", "finding", "forms", "history", "login", "models"),
        *("presence", "recovery", "schedule", "states", "tasks"),
    },
    "views": {
        *("access", "events", "forms", "lists", "login"),
        *("models", "panels", "presence", "states", "tasks"),
    },
    "urls": {"desk", "feed", "hooks", "views"},
    "admin_recovery": {"admin_cells", "admin_filters", "admin_lists", "models"},
    "admin_filters": {"access", "models", "paging"},
    "admin_lists": {"admin_cells", "attempts", "login", "models", "paging", "search"},
    "admin_telling": {
        *("access", "admin_cells", "admin_filters", "admin_lists", "channels"),
        *("hours", "models", "sending", "states", "telling"),
    },
    "admin_plans": {"access", "admin_cells", "admin_lists", "models", "plans", "roles", "schedule"},
    "admin_actions": {"access", "login", "models", "schedule", "states", "tasks"},
    "admin": {
        *("admin_actions", "admin_cells", "admin_filters", "admin_lists", "admin_plans"),
        *("admin_recovery", "admin_telling", "forms"),
        *("login", "models", "paging", "reasons", "states"),
    },
    "hooks": {"answers", "tasks"},
    "apps": set(),
    "templatetags.looks": {"access", "lines", "models", "paging", "reasons", "states"},
    "management.commands.relogin": {
        *("clock", "login", "models", "reasons", "recovery", "states", "tasks"),
    },
    "management.commands.up": {"management.commands.first_operator"},
    "management.commands.serve": {"feed"},
    "management.commands.presence": {"models", "presence", "reasons", "states"},
    "management.commands.callback": {"answers", "login"},
    "management.commands.migrate": {"search"},
    "management.commands.first_operator": {"access"},
}
ONLY_HERE = {
    "requests": {"sending", "upstream"},
    "apprise": {"sending"},
    "urllib3": {"deadlines", "upstream"},
    "redis": {"events"},
    "zxingcpp": {"pictures"},
}
LINES, FUNCTION_LINES = 400, 40


def modules(folder: str) -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / folder).with_suffix("").parts)
        if "migrations" not in name and not name.endswith("__init__"):
            found[name] = path
    return found


ACCOUNTS = modules("accounts")
OURS = {
    **{
        f"{folder}.{name}": path
        for folder in ("accounts", "wkportal", "simulator")
        for name, path in modules(folder).items()
    }
}


def imports(path: Path) -> set[str]:
    """Every module named by an import statement, `from a import b` counting as both `a` and `a.b`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_module_has_its_place_in_the_table():
    assert set(ACCOUNTS) == set(MAY_IMPORT) & set(ACCOUNTS)


@pytest.mark.parametrize("name", ACCOUNTS)
def test_a_module_imports_only_what_its_place_allows(name):
    ours = {
        full.removeprefix("accounts.") for full in imports(ACCOUNTS[name]) if full.startswith("accounts.")
    }
    assert ours & set(ACCOUNTS) <= MAY_IMPORT[name]


def test_the_table_has_no_cycle():
    order: list[str] = []
    left = dict(MAY_IMPORT)
    while left:
        free = [name for name, needs in left.items() if needs.isdisjoint(left)]
        assert free, f"a cycle among {sorted(left)}"
        order += free
        for name in free:
            del left[name]
    assert order.index("models") < order.index("login") < order.index("tasks") < order.index("views")


@pytest.mark.parametrize("library", ONLY_HERE)
def test_a_library_has_one_door(library):
    users = {
        name.removeprefix("accounts.")
        for name, path in OURS.items()
        if any(full.split(".")[0] == library for full in imports(path))
    }
    assert users == ONLY_HERE[library]


@pytest.mark.parametrize("name", OURS)
def test_no_import_hides_in_a_function(name):
    tree = ast.parse(OURS[name].read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    hidden = [
        node.lineno
        for f in functions
        for node in ast.walk(f)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert hidden == []


@pytest.mark.parametrize("name", OURS)
def test_a_file_and_its_functions_stay_readable(name):
    text = OURS[name].read_text()
    assert len(text.splitlines()) <= LINES
    long = [
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno >= FUNCTION_LINES
    ]
    assert long == []


def test_no_room_without_a_subject():
    assert not {Path(name.replace(".", "/")).name for name in OURS} & {
        "utils",
        "helpers",
        "services",
        "common",
        "managers",
    }


def test_nothing_listens_to_signals():
    listeners = [
        name
        for name, path in OURS.items()
        if "@receiver" in path.read_text() or "_save.connect" in path.read_text()
    ]
    assert listeners == []


@pytest.mark.parametrize("name", [name for name in OURS if name.startswith("simulator.")])
def test_the_simulator_knows_nothing_of_us(name):
    foreign = {full.split(".")[0] for full in imports(OURS[name])} & {
        "django",
        "accounts",
        "wkportal",
        "celery",
    }
    assert foreign == set()


def test_the_environment_is_read_in_one_place():
    """Beside settings.py: what prepares a first run before there are settings, and the three entry points."""
    readers = {
        name
        for name, path in OURS.items()
        if re.search(r"os\.environ|environ\.Env|wkportal\.env import", path.read_text())
    }
    assert readers - {"wkportal.celery", "wkportal.asgi", "wkportal.wsgi"} <= {
        "wkportal.env",
        "wkportal.settings",
        "wkportal.embedded",
        "wkportal.supervisor",
        "accounts.management.commands.up",
        "accounts.management.commands.first_operator",
    }
