"""What import-linter (pyproject.toml) cannot say about the structure of the code."""

import ast
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for folder in ("accounts", "wkportal", "simulator")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "migrations" not in path.parts
}
MODULE_LINES, FUNCTION_LINES, FOLDER_MODULES = 400, 40, 10


@cache
def trees() -> dict[str, ast.Module]:
    return {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def functions(tree: ast.Module) -> list:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_imports_go_one_way():
    """In a process of its own, because import-linter sets up logging again."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-logo"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_no_import_hides_in_a_function():
    hidden = {
        f"{name}:{node.lineno}"
        for name, tree in trees().items()
        for function in functions(tree)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert hidden == set()


@pytest.mark.slow
def test_modules_and_functions_stay_readable():
    long = {name for name, path in MODULES.items() if len(path.read_text().splitlines()) > MODULE_LINES}
    long |= {
        f"{name}.{function.name}"
        for name, tree in trees().items()
        for function in functions(tree)
        if function.end_lineno - function.lineno >= FUNCTION_LINES
    }
    assert long == set()


def test_folders_hold_few_modules():
    counts = Counter(
        path.parent.relative_to(ROOT).as_posix()
        for name, path in MODULES.items()
        if path.name != "__init__.py" and not name.startswith("simulator")
    )
    assert {folder for folder, count in counts.items() if count > FOLDER_MODULES} == set()


def test_no_module_without_a_subject():
    vague = {"utils", "helpers", "common", "managers", "misc"}
    assert {name for name in MODULES if name.rpartition(".")[2] in vague} == set()


def test_nothing_listens_to_signals():
    signals = re.compile(r"@receiver|_(save|delete|changed)\.connect\(")
    assert {name for name, path in MODULES.items() if signals.search(path.read_text())} == set()


@pytest.mark.parametrize(
    ("library", "users"),
    {
        "apprise": {f"accounts.notifications.{name}" for name in ("addresses", "robots", "transports")},
        "zxingcpp": {"accounts.lib.images"},
        "urllib3": {"accounts.upstream.transport"},
    }.items(),
)
def test_a_library_has_one_door(library, users):
    imports = re.compile(rf"^(?:from|import) {library}\b", re.MULTILINE)
    assert {name for name, path in MODULES.items() if imports.search(path.read_text())} == users


def test_the_environment_is_read_in_one_place():
    """Beside settings.py: what prepares a first run before there are settings, and the three entry points."""
    reads = re.compile(r"os\.environ|environ\.(Env|FileAwareEnv)|wkportal\.env import")
    readers = {name for name, path in MODULES.items() if reads.search(path.read_text())}
    assert readers - {"wkportal.celery", "wkportal.asgi", "wkportal.wsgi"} <= {
        "wkportal.env",
        "wkportal.settings",
        "wkportal.local.preparation",
        "wkportal.local.supervisor",
        "wkportal.local.up",
        "accounts.management.commands.first_operator",
    }
