"""deploy/kubernetes, against the schemas of Kubernetes' API, docker-compose.yml and the settings."""

import re
from itertools import chain

import kubernetes_validate
import pytest
import yaml

from tests.support.processes import ROOT
from tests.wkportal.test_compose import OURS, SECOND, SERVICES, filled_in
from tests.wkportal.test_settings import settings_with, variables_read  # noqa: F401 (a fixture)
from wkportal import __version__

FOLDER = ROOT / "deploy" / "kubernetes"
LISTED = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))


def objects(name: str) -> list[dict]:
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


ALL = {path.name: objects(path.name) for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml"}
EACH = list(chain.from_iterable(ALL.values()))
WORKLOADS = {thing["metadata"]["name"]: thing for thing in EACH if thing["kind"] in ("Deployment", "Job")}
PODS = {name: thing["spec"]["template"]["spec"] for name, thing in WORKLOADS.items()}
CONTAINERS = [
    container
    for pod in PODS.values()
    for key in ("initContainers", "containers")
    for container in pod.get(key, [])
]
SETTINGS = objects("settings.yaml")[0]["data"]
SECRETS = objects("secrets.example.yaml")[0]["stringData"]


def main_container(name: str) -> dict:
    return PODS[name]["containers"][0]


def seconds(period: str) -> int:
    return int(period.removesuffix("s"))


# --- the API ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.29", kubernetes_validate.latest_version()])
def test_every_manifest_has_the_schema_of_the_api(version):
    for thing in EACH:
        kubernetes_validate.validate(thing, version, strict=True)


def test_kustomize_applies_every_manifest_but_the_secrets():
    assert set(LISTED["resources"]) == set(ALL) - {"secrets.example.yaml"}
    assert {thing["metadata"].get("namespace") for thing in EACH if thing["kind"] != "Namespace"} == {
        "wkportal"
    }


def test_what_selects_a_pod_finds_one_and_what_is_named_exists():
    labels = {name: thing["spec"]["template"]["metadata"]["labels"] for name, thing in WORKLOADS.items()}
    for thing in EACH:
        selector = thing.get("spec", {}).get("selector", thing.get("spec", {}).get("podSelector", {}))
        selector = selector.get("matchLabels", selector)
        assert not selector or selector in labels.values(), thing["metadata"]
    assert {container["image"] for container in CONTAINERS} == {f"wkportal:{__version__}"}
    assert LISTED["images"] == [
        {"name": "wkportal", "newName": "registry.example.com/wkportal", "newTag": __version__}
    ]
    for container in CONTAINERS:
        assert container["envFrom"] == [
            {"configMapRef": {"name": "settings"}},
            {"secretRef": {"name": "secrets"}},
        ]
    named = {thing["metadata"]["name"] for thing in EACH if thing["kind"] in ("ConfigMap", "Secret")}
    assert named == {"settings", "secrets"}


# --- as docker-compose.yml -------------------------------------------------------------------------------


def test_it_runs_the_services_of_compose():
    assert set(WORKLOADS) == OURS - SECOND  # a second pod


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_command_is_that_of_compose(name):
    assert main_container(name)["command"] == SERVICES[name]["command"]


def test_a_process_has_the_time_of_compose_to_stop():
    for name in WORKLOADS.keys() - {"migrate"}:
        assert PODS[name]["terminationGracePeriodSeconds"] == seconds(SERVICES[name]["stop_grace_period"])


def test_a_worker_lives_while_the_check_of_compose_says_so():
    for name in ("waits", "jobs", "beat"):
        kind, command = SERVICES[name]["healthcheck"]["test"]
        assert (kind, SETTINGS["ALIVE_PATH"] in command) == ("CMD-SHELL", True)
        for probe in ("startupProbe", "livenessProbe"):
            assert main_container(name)[probe]["exec"]["command"] == ["sh", "-c", filled_in(command)]


# --- what must not go wrong ------------------------------------------------------------------------------


def test_web_and_waits_are_never_all_gone_and_beat_is_never_twice():
    budgets = {
        thing["metadata"]["name"]: thing["spec"] for thing in EACH if thing["kind"] == "PodDisruptionBudget"
    }
    assert set(budgets) == {"web", "waits"}
    for name, budget in budgets.items():
        assert WORKLOADS[name]["spec"]["replicas"] > budget["maxUnavailable"] > 0
        assert WORKLOADS[name]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    beat = WORKLOADS["beat"]["spec"]
    assert (beat["replicas"], beat["strategy"]) == (1, {"type": "Recreate"})


def test_web_is_asked_as_a_host_that_it_answers():
    web = main_container("web")
    for probe, path in (
        ("startupProbe", "/healthz"),
        ("livenessProbe", "/healthz"),
        ("readinessProbe", "/readyz"),
    ):
        assert web[probe]["httpGet"]["path"] == path
        assert web[probe]["httpGet"]["httpHeaders"] == [{"name": "Host", "value": "127.0.0.1"}]
    assert "127.0.0.1" in SETTINGS["ALLOWED_HOSTS"].split(",")


def test_a_container_can_do_no_more_than_it_needs():
    for pod in PODS.values():
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert pod["automountServiceAccountToken"] is False
    uid = re.search(r"--uid (\d+)", (ROOT / "Dockerfile").read_text())[1]
    assert uid == "10001"
    for container in CONTAINERS:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["volumeMounts"] == [{"name": "tmp", "mountPath": SETTINGS["VAR_DIR"]}]
        assert {"cpu", "memory"} == container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]


# --- the settings ----------------------------------------------------------------------------------------


def test_every_variable_that_the_settings_read_has_one_place():
    assert set(SETTINGS) | set(SECRETS) == variables_read()
    assert not set(SETTINGS) & set(SECRETS)
    assert not any(SECRETS.values())


def test_the_settings_hold_their_defaults_but_for_what_depends_on_the_place(settings_with):  # noqa: F811
    chosen = {
        "ALIVE_PATH",
        "ALLOWED_HOSTS",
        "WK_BASE_URL",
        "HTTPS",
        "LOG_FORMAT",
        "METRICS_HOST",
        "METRICS_PORT",
        "VAR_DIR",
        "STATIC_ROOT",
    }

    def read(**more: str) -> dict:
        return {name: value for name, value in settings_with(**more).items() if name in variables_read()}

    assert read(**{name: SETTINGS[name] for name in SETTINGS.keys() - chosen}) == read()
