"""Real processes, each of which answers Prometheus: what dies is seen by status, page and metrics at the next look."""

import json
import re
import signal
from datetime import timedelta

import pytest
import requests
from django.core.management import call_command
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from accounts import tasks
from accounts.lib import pubsub
from accounts.models import JobRun, LoginAttempt, Presence, WaitsWorker
from accounts.status import facts
from accounts.status.facts import BEAT_LATE
from tests.status.test_alerts import expressions
from tests.support.processes import ROOT, reserve_port, until
from tests.support.scenarios import ends, running_stack, waiting
from tests.support.stack import Operator, Stack
from wkportal.celery import Scheduler

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
NAMES = re.compile(r"\bwkportal_\w+|\bprocess_\w+")


class Measured(Stack):
    """Each process answers Prometheus on a port of its own."""

    def __init__(self, *names: str, **env: str):
        super().__init__(*names, **env)
        self.metrics = {name: reserve_port() for name in self.names}

    def environment(self, name: str) -> dict[str, str]:
        return {**super().environment(name), "METRICS_PORT": str(self.metrics[name])}

    def text_of(self, name: str) -> str:
        return requests.get(f"http://127.0.0.1:{self.metrics[name]}/metrics", timeout=20).text

    def value(self, name: str, metric: str, **labels: str) -> float | None:
        for family in text_string_to_metric_families(self.text_of(name)):
            for sample in family.samples:
                if sample.name == metric and sample.labels == labels:
                    return sample.value
        return None


running = running_stack(
    "web", "waits", "jobs", "beat", kind=Measured, WK_TIMEOUT_SECONDS="2", WAIT_SLOTS="50"
)


class Look:
    """One look at each of the outlets: the state of a fact, the same in all of them."""

    def __init__(self, stack: Measured, admin, capsys):
        self.stack, self.admin, self.capsys = stack, Operator(stack, admin), capsys

    def state(self, name: str) -> str:
        with pytest.raises(SystemExit):
            call_command("status", "--json")
        found = {fact["name"]: fact["state"] for fact in json.loads(self.capsys.readouterr().out)["facts"]}
        page = self.admin.get("/status/").text
        shown = re.search(rf'data-fact="{name}"\s+data-state="(\w+)"', page)[1]
        number = self.stack.value("web", "wkportal_status", fact=name)
        assert {found[name], shown, ("ok", "warning", "fault")[int(number)]} == {shown}
        return shown


@pytest.fixture
def look(stack, live, upstream, capsys):
    made = Look(stack, live.admin, capsys)
    for name in ("workers", "beat", "jobs", "presence", "broker", "queue"):
        until(lambda name=name: made.state(name) == "ok", f"{name} does not become ok")
    return made


def test_a_dead_waits_worker_is_seen(stack, look):
    stack.kill("waits")
    until(lambda: look.state("workers") == "fault", "nobody misses the worker")
    assert stack.value("web", "wkportal_waits_workers") == 0
    stack.start("waits")
    until(lambda: look.state("workers") == "ok", "nobody sees the new worker")


def test_a_dead_beat_is_seen_and_not_taken_for_a_dead_worker(stack, look):
    stack.kill("beat")
    # As if it had been dead for a minute: a living one renews this at once.
    pubsub._client().expire(pubsub.BEAT_KEY, pubsub.BEAT_KEPT - 2 * BEAT_LATE)
    assert look.state("beat") == "fault"
    assert stack.value("web", "wkportal_beat_age_seconds") >= 2 * BEAT_LATE
    stack.start("beat")
    until(lambda: look.state("beat") == "ok", "nobody sees the new beat")


def test_dead_jobs_and_a_full_queue_are_seen(stack, look):
    stack.kill("jobs")
    JobRun.objects.update(ran_at=timezone.now() - timedelta(seconds=2 * facts.JOB_LATE))
    assert look.state("jobs") == "fault"
    for _n in range(Scheduler.most_queued):
        tasks.put_into_queue(tasks.tick)
    assert look.state("broker") == "fault"
    assert stack.value("web", "wkportal_task_queue_messages", queue="jobs") >= Scheduler.most_queued
    pubsub._client().delete("jobs")  # nothing in it is needed
    stack.start("jobs")
    until(lambda: look.state("broker") == look.state("jobs") == "ok", "nobody sees the new worker")


@pytest.mark.long
def test_a_sleeping_jobs_worker_is_seen_as_a_dead_one(stack, look):
    stack.send("jobs", signal.SIGSTOP)
    JobRun.objects.update(ran_at=timezone.now() - timedelta(seconds=2 * facts.JOB_LATE))
    assert look.state("jobs") == "fault"
    stack.send("jobs", signal.SIGCONT)
    until(lambda: look.state("jobs") == "ok", "it does not run again")


def test_a_silent_upstream_is_seen(stack, look, upstream):
    upstream.fault("/queryLoginWx", "hang")
    Presence.objects.update(due_at=timezone.now())
    until(lambda: look.state("presence") == "warning", "its silence is not seen")
    results = {"path": "/queryLoginWx", "result": "timeout"}
    assert stack.value("jobs", "wkportal_upstream_call_seconds_count", **results) >= 1
    Presence.objects.update(unknown_since=timezone.now() - timedelta(seconds=2 * facts.SILENT_LONG))
    assert look.state("presence") == "fault"
    upstream.clear()
    Presence.objects.update(due_at=timezone.now())
    until(lambda: look.state("presence") == "ok", "its answer is not seen")


def test_logins_that_find_no_slot_are_seen(stack, look, operator, live):
    WaitsWorker.objects.all().delete()
    stack.send("waits", signal.SIGSTOP)
    WaitsWorker.objects.all().delete()
    attempt = operator.log_in(live.account())
    LoginAttempt.objects.filter(pk=attempt.pk).update(
        state="preparing", sent_at=None, queued_at=timezone.now() - timedelta(minutes=2)
    )
    assert look.state("queue") == "warning"
    assert stack.value("web", "wkportal_login_queue_age_seconds") >= 120


def test_what_processes_count_is_what_they_did_and_names_nobody(stack, look, operator, live, upstream):
    before = stack.value("waits", "wkportal_logins_total", **SUCCESS) or 0
    account = live.account(label="canary label of an account")
    attempt = waiting(operator, upstream, account)
    assert stack.value("waits", "wkportal_waits_in_flight") == 1
    assert stack.value("waits", "wkportal_wait_slots") == 50
    upstream.phone("confirm", wId=attempt.w_id)
    ends(attempt)
    until(lambda: stack.value("waits", "wkportal_logins_total", **SUCCESS) == before + 1)
    assert stack.value("waits", "wkportal_scan_seconds_count") >= 1
    requests_of = {"view": "start_login", "method": "POST", "status": "302"}
    assert stack.value("web", "wkportal_http_requests_total", **requests_of) >= 1
    account.refresh_from_db()
    texts = "".join(map(stack.text_of, stack.names))
    for personal in ("canary label", account.wc_id, account.w_id):
        assert personal not in texts


SUCCESS = {"outcome": "succeeded", "method": "qr", "trigger": "operator"}


def test_rules_and_dashboard_name_only_metrics_that_the_processes_expose(stack, look):
    exposed: dict[str, set[str]] = {}
    for name in stack.names:
        for family in text_string_to_metric_families(stack.text_of(name)):
            ends_with = {
                "counter": ("_total",),
                "histogram": ("_bucket", "_sum", "_count"),
                "info": ("_info",),
            }
            for ending in ends_with.get(family.type, ("",)):
                labels = {label for sample in family.samples for label in sample.labels}
                exposed.setdefault(family.name + ending, set()).update(labels)
    named = {metric for expression in expressions() for metric in NAMES.findall(expression)}
    assert named - set(exposed) == set()
    # Each metric of ours is in the dashboard, in a rule, or at least in the manual.
    text = (ROOT / "docs" / "operations.md").read_text()
    manual = set(NAMES.findall(text.partition("### Prometheus")[2].partition("\n## ")[0]))
    ours = {name for name in exposed if name.startswith("wkportal_")}
    ours = {re.sub("_(bucket|sum|count)$", "", name) if "_seconds_" in name else name for name in ours}
    assert ours - manual == set()
    assert {name for name in manual if name.startswith("wkportal_")} - ours == set()
