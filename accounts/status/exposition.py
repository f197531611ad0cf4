"""The facts for Prometheus, read from the database when it asks. Each web process gives the same ones."""

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from accounts.lib import db_errors
from accounts.status import facts
from accounts.status.facts import Fact

log = logging.getLogger(__name__)

# Prometheus gives up after 10 s, and with it everything that this process counts itself.
PATIENCE_SECONDS = 4
# By the names that facts have for their numbers: what they are, and the label of those that are many.
GAUGES: dict[str, tuple[str, str]] = {
    "task_queue_messages": ("Messages in Redis that no worker has received.", "queue"),
    "beat_age_seconds": ("Since beat sent a task.", ""),
    "job_age_seconds": ("Since a periodic job, or a step of one, last ran.", "job"),
    "jobs_failing": ("Periodic jobs whose last run failed.", ""),
    "waits_workers": ("Waits workers that live.", ""),
    "wait_slots_free": ("Logins that the living waits workers can hold besides those they hold.", ""),
    "logins_held": ("Logins that the living waits workers hold.", ""),
    "logins_queued": ("Logins that wait for a free slot.", ""),
    "login_queue_age_seconds": ("Since the first queued login waits for a slot; 0 without one.", ""),
    "logins_overdue": ("Logins that did not end within 20 s after their deadline.", ""),
    "presence_age_seconds": ("Since WKTeam last said who is online.", ""),
    "accounts_online": ("Accounts that WKTeam's last answer listed as online.", ""),
    "developer_account_seats": ("Accounts that may be online at a time.", ""),
    "developer_account_seats_taken": ("Accounts that are online, also those without a record.", ""),
    "developer_account_seconds_left": ("Until the developer account ends; below 0 once it has.", ""),
    "callback_age_seconds": ("Since WKTeam's last callback that an account is offline.", ""),
    "channels_disabled": ("Notification channels that were disabled after failures.", ""),
    "deliveries_late": ("Deliveries that are due for more than 10 minutes; 1000 stands for more.", ""),
}


class StatusCollector(Collector):
    """Reads the facts in a thread of its own, so that a silent database delays no answer for long."""

    def __init__(self):
        self.reader = ThreadPoolExecutor(1, "status")
        self.reading: Future | None = None

    def describe(self) -> list[Metric]:
        """Return nothing: otherwise the registry would read the database to learn the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        found = self._facts()
        up = GaugeMetricFamily("wkportal_database_up", "Whether the database answered.")
        up.add_metric([], found is not None)
        yield up
        status = GaugeMetricFamily(
            "wkportal_status", "0: ok, 1: warning, 2: fault; as on the page Status.", labels=["fact"]
        )
        numbers = {}
        for fact in found or [Fact("database", "", "", facts.State.FAULT)]:
            status.add_metric([fact.name], fact.state)
            numbers |= fact.numbers
        yield status
        for name, (text, label) in GAUGES.items():
            gauge = GaugeMetricFamily(f"wkportal_{name}", text, labels=[label] if label else [])
            number = numbers.get(name)
            for key, value in (number if isinstance(number, dict) else {"": number}).items():
                if value is not None:
                    gauge.add_metric([key] if label else [], value)
            yield gauge

    def _facts(self) -> list[Fact] | None:
        """Return the facts, None without an answer in time. While one reading hangs, no other is begun."""
        if self.reading is None or self.reading.done():
            self.reading = self.reader.submit(_read)
        try:
            return self.reading.result(PATIENCE_SECONDS)
        except Exception as error:  # one that fails here must not hide what the process counts itself
            log.warning("the facts for metrics were not read: %s", type(error).__name__)
            return None


def _read() -> list[Fact]:
    try:
        return facts.collect()
    finally:
        db_errors.release_connection()
