"""Beat: the jobs of the settings whatever the database does, the plans as they are in it."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from accounts.models import Plan
from tests.support import environment
from tests.support.services import Postgres, Valkey, using_database
from tests.support.stack import CELERY, ROOT, poll
from wkportal import celery_app
from wkportal.beat import Scheduler

JOBS = set(settings.CELERY_BEAT_SCHEDULE)


def make_plan(**fields) -> Plan:
    return Plan.objects.create(name=f"plan {Plan.objects.count()}", **({"crontab": "* * * * *"} | fields))


@pytest.fixture
def scheduler(committed, tmp_path):
    return Scheduler(celery_app, schedule_filename=str(tmp_path / "alive"))


def test_jobs_keep_what_the_settings_say_about_them(scheduler):
    entry = scheduler.schedule["sweep"]
    assert (entry.task, entry.options) == ("accounts.tasks.sweep", {"expires": 4})
    assert set(scheduler.schedule) == JOBS
    # A job of every day is not put off by restarts.
    assert all(entry.is_due().is_due for entry in scheduler.schedule.values())
    assert not PeriodicTask.objects.exists()


def test_plans_come_change_and_go(scheduler):
    scheduler.look()
    plan = make_plan()
    scheduler.look()
    entry = scheduler.schedule[f"plan {plan.pk}"]
    assert (entry.task, entry.args, entry.options["expires"]) == ("accounts.tasks.run_plan", [plan.pk], 120)
    assert not entry.is_due().is_due
    plan.crontab = "5 4 * * *"
    plan.save()
    scheduler.look()
    assert scheduler.schedule[f"plan {plan.pk}"].schedule.hour == {4}
    plan.active = False
    plan.save()
    scheduler.look()
    assert set(scheduler.schedule) == JOBS
    plan.active = True
    plan.save()
    scheduler.look()
    plan.delete()
    scheduler.look()
    assert set(scheduler.schedule) == JOBS


def test_what_was_sent_is_remembered_when_plans_are_read_again(scheduler):
    plan = make_plan()
    scheduler.look()
    entry = scheduler.reserve(scheduler.schedule[f"plan {plan.pk}"])
    make_plan()
    scheduler.look()
    assert scheduler.schedule[entry.name].last_run_at == entry.last_run_at


def test_a_row_that_cannot_be_read_keeps_no_other_from_its_turn(scheduler):
    plan = make_plan()
    bad = CrontabSchedule.objects.create(minute="99")
    PeriodicTask.objects.create(name="bad", task="x", crontab=bad)
    scheduler.look()
    assert set(scheduler.schedule) == {*JOBS, f"plan {plan.pk}"}


def test_while_the_database_is_away_it_goes_on_with_what_it_knows(scheduler, tmp_path, caplog):
    plan = make_plan()
    scheduler.look()
    nowhere = {
        "sqlite": f"sqlite:///{tmp_path}/there/is/none",
        "postgres": "postgres://nobody@127.0.0.1:1/none",
    }
    with using_database(nowhere[environment.DATABASE]):
        for _time in range(3):
            scheduler.look()
    assert set(scheduler.schedule) == {*JOBS, f"plan {plan.pk}"}
    assert caplog.text.count("the database is away") == 1
    Plan.objects.all().delete()
    scheduler.look()
    assert set(scheduler.schedule) == JOBS


def test_one_that_was_told_to_end_does_so_at_its_next_round(scheduler):
    """Also when the exception of the signal's handler was lost, as any is that comes while an object is deleted."""
    scheduler.close()
    with pytest.raises(SystemExit):
        scheduler.tick()


# --- real processes --------------------------------------------------------------------------------------


class Messages:
    """What beat has put into the queue of a Valkey of its own."""

    def __init__(self, valkey: Valkey):
        self.valkey = valkey

    def of(self, task: str) -> list[dict]:
        with self.valkey.client as client:
            found = [json.loads(text) for text in client.lrange("jobs", 0, -1)]
        return [
            message["headers"] for message in found if message["headers"]["task"] == f"accounts.tasks.{task}"
        ]

    def forget(self) -> None:
        self.valkey.say("DEL", "jobs")


@pytest.fixture(scope="module")
def valkey():
    with Valkey(environment.FOLDER / "beat-valkey") as running:
        yield running


@pytest.fixture
def messages(valkey):
    made = Messages(valkey)
    made.forget()
    return made


@contextmanager
def started(valkey: Valkey, database_url: str, folder: Path):
    env = os.environ | {"REDIS_URL": valkey.url, "DATABASE_URL": database_url}
    command = [sys.executable, *CELERY, "--skip-checks", "beat", "-s", str(folder / "beat")]
    with (folder / "beat.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def beat(valkey: Valkey, database_url: str, folder: Path):
    """It has to run to the end of the `with`."""
    with started(valkey, database_url, folder) as process:
        yield process
        assert process.poll() is None, (folder / "beat.log").read_text()


def make_plan_of_each_second() -> None:
    """A plan's own turn comes once a minute at the most: too seldom for a test to wait for."""
    plan = make_plan()
    row = PeriodicTask.objects.get(name=f"plan {plan.pk}")
    row.crontab = None
    row.interval = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.SECONDS)
    row.save()


def jobs_go_on(messages: Messages) -> None:
    messages.forget()
    poll(lambda: len(messages.of("sweep")) > 2, 30, "beat sends no jobs")
    assert all(headers["expires"] for headers in messages.of("sweep"))


@pytest.mark.live
@pytest.mark.skipif(environment.DATABASE != "postgres", reason="needs PostgreSQL")
def test_beat_outlives_postgres_and_begins_without_it(valkey, messages, tmp_path, django_db_blocker):
    with django_db_blocker.unblock(), Postgres(environment.FOLDER / "beat-pg") as postgres:
        postgres.make_database("beat")
        with using_database(postgres.direct_url("beat")):
            call_command("migrate", verbosity=0)
            make_plan_of_each_second()
            connection.close()
            with beat(valkey, postgres.url("beat"), tmp_path):
                poll(lambda: messages.of("run_plan"), 30, "beat sends no plan")
                with postgres.stopped():
                    jobs_go_on(messages)
                jobs_go_on(messages)
            with postgres.stopped(), beat(valkey, postgres.url("beat"), tmp_path):
                jobs_go_on(messages)
                postgres.start()
                poll(lambda: messages.of("run_plan"), 30, "beat does not find the plan")
                postgres.stop()


@pytest.mark.live
@pytest.mark.skipif(environment.DATABASE != "sqlite", reason="needs SQLite")
def test_beat_sends_jobs_while_another_process_holds_the_database(valkey, messages, tmp_path, committed):
    holder = sqlite3.connect(settings.DATABASES["default"]["TEST"]["NAME"], isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with beat(valkey, environment.live_database_url, tmp_path):
            jobs_go_on(messages)
            holder.execute("ROLLBACK")
            make_plan_of_each_second()
            poll(lambda: messages.of("run_plan"), 30, "beat does not find the plan")
    finally:
        holder.close()


@pytest.mark.live
def test_beat_outlives_redis(messages, valkey, tmp_path, committed):
    with beat(valkey, environment.live_database_url, tmp_path):
        jobs_go_on(messages)
        valkey.kill()
        poll(
            lambda: (
                "Trying again" in (tmp_path / "beat.log").read_text()
                or "Error" in (tmp_path / "beat.log").read_text()
            ),
            30,
            "beat did not notice",
        )
        valkey.start()
        jobs_go_on(messages)


def sends(valkey: Valkey) -> bool:
    """Whether somebody has sent a message and hears nothing."""
    with valkey.client as client:
        return any(known["cmd"] == "lpush" and "b" in known["flags"] for known in client.client_list())


@pytest.mark.live
def test_beat_ends_when_it_is_told_to_in_the_middle_of_sending(messages, valkey, tmp_path, committed):
    with started(valkey, environment.live_database_url, tmp_path) as process:
        jobs_go_on(messages)
        valkey.say("CLIENT", "PAUSE", "60000", "WRITE")
        try:
            poll(lambda: sends(valkey), 30, "beat sends nothing")
            process.terminate()
            assert process.wait(20) == 0
        finally:
            valkey.say("CLIENT", "UNPAUSE")
