"""deploy/systemd, by systemd's own checks, against docker-compose.yml and the settings. Needs `systemd-analyze`."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT, program_path
from tests.wkportal.test_compose import SERVICES, filled_in
from tests.wkportal.test_settings import settings_with, variables_read  # noqa: F401 (a fixture)

UNITS = ROOT / "deploy" / "systemd"
COMMON = UNITS / "wkportal-.service.d" / "common.conf"
EXAMPLE = (UNITS / "wkportal.env.example").read_text(encoding="utf-8")
BIN = "/opt/wkportal/.venv/bin/"
FILES = {
    "migrate": "wkportal-migrate.service",
    "web": "wkportal-web@.service",
    "waits": "wkportal-waits@.service",
    "jobs": "wkportal-jobs.service",
    "beat": "wkportal-beat.service",
}
# As the services of docker-compose.yml: no others, and each as often as wkportal.target wants it.
WANTED = {
    "wkportal-migrate.service",
    "wkportal-web@8000.service",
    "wkportal-web@8001.service",
    "wkportal-waits@1.service",
    "wkportal-jobs.service",
    "wkportal-beat.service",
}


def values(path: Path, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)


def only(name: str, key: str) -> str:
    (value,) = values(UNITS / FILES[name], key)
    return value


def environment(*paths: Path) -> dict[str, str]:
    pairs = [pair for path in paths for value in values(path, "Environment") for pair in shlex.split(value)]
    return dict(pair.split("=", 1) for pair in pairs)


def example(marked: str) -> dict[str, str]:
    """The lines of the example that are set (""), or that show a default ("#")."""
    return dict(re.findall(rf"^{marked}([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))


def analyze(*arguments: object) -> subprocess.CompletedProcess:
    path = program_path(
        "systemd-analyze", "WK_REQUIRE_SYSTEMD", "the units in deploy/systemd were not checked"
    )
    return subprocess.run([path, *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture
def installed(tmp_path):
    """The units as on a machine that has the code and this Python."""
    folder = tmp_path / "units"
    shutil.copytree(UNITS, folder)
    for path in (*folder.glob("*.service"), folder / COMMON.relative_to(UNITS)):
        text = path.read_text(encoding="utf-8").replace(f"{BIN}python", sys.executable)
        path.write_text(text.replace("/opt/wkportal", str(ROOT)), encoding="utf-8")
    return folder


# --- systemd's own checks --------------------------------------------------------------------------------


def test_systemd_accepts_every_unit_and_line(installed):
    done = analyze(
        "verify", "--man=no", installed / "wkportal.target", *(installed / unit for unit in WANTED)
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_service_is_locked_up(installed):
    """Systemd's measure: 0 is a process that can do nothing, 96 one without any protection."""
    for unit in WANTED:
        done = analyze("security", "--offline=true", "--no-pager", "--threshold=20", installed / unit)
        assert done.returncode == 0, done.stdout


# --- against docker-compose.yml --------------------------------------------------------------------------


def test_the_target_starts_every_service():
    wanted = " ".join(values(UNITS / "wkportal.target", "Wants")).split()
    assert set(wanted) == WANTED
    assert {path.name for path in UNITS.glob("*.service")} == set(FILES.values())


@pytest.mark.parametrize("name", FILES)
def test_a_command_is_that_of_compose(name):
    here = only(name, "ExecStart").replace(BIN, "").replace("%%", "%").replace("$$", "$")
    if name == "web":
        here = here.replace("--host 127.0.0.1 --port %i", "--host 0.0.0.0 --port 8000")
    if name == "waits":
        here = here.replace("waits-%i@", "waits@")
    assert shlex.split(here) == [filled_in(word) for word in SERVICES[name]["command"]]


@pytest.mark.parametrize("name", sorted(set(FILES) - {"migrate"}))
def test_a_process_has_the_time_of_compose_to_stop_and_comes_back(name):
    assert f"{only(name, 'TimeoutStopSec')}s" == SERVICES[name]["stop_grace_period"]
    assert only(name, "Restart") == "always"
    assert values(COMMON, "StartLimitIntervalSec") == ["0"]


# --- against the settings --------------------------------------------------------------------------------


def test_the_example_names_every_variable_that_the_settings_read():
    set_here = {"VAR_DIR", "STATIC_ROOT", "METRICS_PORT"}
    assert example("").keys() | example("#").keys() == variables_read() - set_here
    given = environment(COMMON, *(UNITS / file for file in FILES.values())).keys()
    assert set_here <= given
    # EnvironmentFile has priority: what a unit decides must not stand there too.
    assert not set_here & (example("").keys() | example("#").keys())


def test_the_defaults_in_the_example_are_those_of_the_settings(settings_with):  # noqa: F811
    def read(**more: str) -> dict:
        return {name: value for name, value in settings_with(**more).items() if name in variables_read()}

    assert read(**example("#")) == read()
    commands = environment(COMMON)
    assert {name: commands[name] for name in ("LOG_LEVEL", "WAIT_SLOTS")} == {
        name: example("#")[name] for name in ("LOG_LEVEL", "WAIT_SLOTS")
    }


def test_each_process_on_a_machine_has_a_metrics_port_of_its_own():
    ports = set()
    for unit in WANTED - {"wkportal-migrate.service"}:
        template, _at, instance = unit.removesuffix(".service").partition("@")
        file = f"{template}@.service" if instance else unit
        ports.add(environment(UNITS / file)["METRICS_PORT"].replace("%i", instance))
    assert len(ports) == len(WANTED) - 1
    assert ports == {port for port in ports if 1024 < int(port) < 32768}  # above: the system's own choice
