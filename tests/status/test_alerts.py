"""deploy/prometheus and deploy/grafana: their names, their sections in the runbook, and promtool's own checks."""

import json
import re
import subprocess

import pytest
import yaml

from accounts.status import exposition, facts, runbook
from tests.support.processes import ROOT, program_path

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "wkportal.json"


def rules() -> list[dict]:
    return [
        rule
        for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    ]


def expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    shown = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return [*shown, *(rule["expr"] for rule in rules())]


def test_each_fact_that_rules_and_dashboard_name_exists():
    known = {made.__name__ for made in facts.FACTS}
    found = {fact for text in expressions() for fact in re.findall(r'fact="(\w+)"', text)}
    assert found <= known and len(found) > 3


def test_each_alert_and_each_fact_has_its_section_in_the_runbook():
    sections = {section.anchor for section in runbook.sections()}
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["alert"].lower() in sections, rule["alert"]
    alerts = {rule["alert"].lower() for rule in rules()}
    assert {anchor for anchor in sections if anchor.startswith("wkportal")} == alerts
    text = (ROOT / "accounts" / "status" / "facts.py").read_text()
    assert {name.lower() for name in re.findall('"(Wkportal[A-Za-z]+)"', text)} <= alerts


def test_gauges_of_facts_have_names_of_base_units():
    for name in exposition.GAUGES:
        assert not re.search("_(ms|minutes|hours|days|percent|total)$", name)


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "alerts.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_agrees(arguments):
    path = program_path("promtool", "WK_REQUIRE_PROMTOOL", "it did not check deploy/prometheus")
    done = subprocess.run([path, *arguments], cwd=PROMETHEUS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
