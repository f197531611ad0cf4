"""Beat: sends the jobs of the settings whatever happens around it, and few while no worker receives them."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings

from tests.support import environment, preloaded
from tests.support.processes import DEADLINE, until
from tests.support.services import Valkey
from tests.support.stack import CELERY, ROOT
from wkportal.celery import Scheduler
from wkportal.celery import app as celery_app

DATABASE_AWAY = {
    "sqlite": "sqlite:////nowhere/none.sqlite3",
    "postgres": "postgres://nobody@127.0.0.1:1/none",
}[environment.DATABASE]


class Messages:
    """What beat has put into the queue of a Valkey of its own."""

    def __init__(self, valkey: Valkey):
        self.valkey = valkey

    def of(self, task: str) -> list[dict]:
        with self.valkey.client as client:
            found = [json.loads(text)["headers"] for text in client.lrange("jobs", 0, -1)]
        return [headers for headers in found if headers["task"] == f"accounts.tasks.{task}"]

    def __len__(self) -> int:
        return self.valkey.say("LLEN", "jobs")

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


@pytest.fixture
def scheduler(valkey):
    made = Scheduler(celery_app)
    made.connection = celery_app.connection_for_write(valkey.url)
    yield made
    made.close()


def test_jobs_keep_what_the_settings_say_about_them(scheduler):
    assert set(scheduler.schedule) == set(settings.CELERY_BEAT_SCHEDULE)
    entry = scheduler.schedule["tick"]
    assert (entry.task, entry.options) == ("accounts.tasks.tick", {"expires": 4})
    # None is put off by restarts for longer than that.
    assert all(entry.schedule.run_every.total_seconds() <= 3600 for entry in scheduler.schedule.values())


@pytest.mark.slow
def test_with_nobody_to_receive_them_messages_are_few(scheduler, messages, caplog):
    """However long that lasts: one message every two seconds would be 43,200 in a day."""
    for _time in range(2 * Scheduler.most_queued):
        for entry in scheduler.schedule.values():
            scheduler.apply_entry(entry, producer=scheduler.producer)
    assert len(messages) == Scheduler.most_queued
    assert caplog.text.count("wait for a jobs worker") == 1
    messages.forget()
    scheduler.apply_entry(scheduler.schedule["tick"], producer=scheduler.producer)
    assert len(messages.of("tick")) == 1


def test_beat_rests_until_a_job_is_due(scheduler, messages, monkeypatch):
    """Also in the last moments before: each time that it wakes up, it sends something or sets its next rest."""
    now = celery_app.now()
    monkeypatch.setattr(celery_app, "now", lambda: now)
    for _time in range(40):
        # A clock goes on, however short the rest is: a time has six decimals, the seconds until then have more.
        now += timedelta(seconds=scheduler.tick(), microseconds=1)
    assert len(messages) >= 15


# --- real processes --------------------------------------------------------------------------------------


@contextmanager
def started(valkey: Valkey, folder: Path, *options: str):
    env = os.environ | {"REDIS_URL": valkey.url, "DATABASE_URL": DATABASE_AWAY, "VAR_DIR": str(folder)}
    command = [sys.executable, *CELERY, "--skip-checks", "beat", *options]
    with (folder / "beat.log").open("wb") as log:
        process = preloaded.start(command, env, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def beat(valkey: Valkey, folder: Path):
    """It has to run to the end of the `with`."""
    with started(valkey, folder) as process:
        yield process
        assert process.poll() is None, (folder / "beat.log").read_text()


def jobs_go_on(messages: Messages) -> None:
    messages.forget()
    until(lambda: len(messages.of("tick")) > 1, "beat sends no jobs")
    assert all(headers["expires"] for headers in messages.of("tick"))


@pytest.mark.live
def test_beat_needs_no_database_and_no_file(messages, valkey, tmp_path):
    with beat(valkey, tmp_path):
        jobs_go_on(messages)
    assert [path.name for path in tmp_path.iterdir()] == ["beat.log"]


@pytest.mark.live
def test_beat_goes_on_when_a_worker_is_back(messages, valkey, tmp_path):
    """The worker is stopped with a full queue, and then receives all of it."""
    valkey.say("RPUSH", "jobs", *(["{}"] * (Scheduler.most_queued - 1)))
    with beat(valkey, tmp_path):
        log = tmp_path / "beat.log"
        until(lambda: "wait for a jobs worker" in log.read_text(), "beat does not notice")
        assert len(messages) == Scheduler.most_queued
        jobs_go_on(messages)


@pytest.mark.live
def test_beat_outlives_redis(messages, valkey, tmp_path):
    with beat(valkey, tmp_path):
        jobs_go_on(messages)
        valkey.kill()
        log = tmp_path / "beat.log"
        until(
            lambda: "Trying again" in log.read_text() or "Error" in log.read_text(),
            "beat did not notice",
        )
        valkey.start()
        jobs_go_on(messages)


@pytest.mark.live
def test_beat_begins_without_redis_and_ends_without_it(messages, valkey, tmp_path):
    valkey.kill()
    try:
        with started(valkey, tmp_path) as process:
            log = tmp_path / "beat.log"
            until(lambda: "Trying again" in log.read_text(), "beat did not notice")
            process.terminate()
            assert process.wait(DEADLINE) == 0
        with beat(valkey, tmp_path):
            until(lambda: "Trying again" in log.read_text(), "beat did not notice")
            valkey.start()
            jobs_go_on(messages)
    finally:
        if valkey.process is None:
            valkey.start()


def sends(valkey: Valkey) -> bool:
    """Whether somebody has sent a message and hears nothing."""
    with valkey.client as client:
        return any(known["cmd"] == "lpush" and "b" in known["flags"] for known in client.client_list())


@pytest.mark.live
def test_beat_ends_when_it_is_stopped_in_the_middle_of_sending(messages, valkey, tmp_path):
    with started(valkey, tmp_path) as process:
        jobs_go_on(messages)
        valkey.say("CLIENT", "PAUSE", "60000", "WRITE")
        try:
            until(lambda: sends(valkey), "beat sends nothing")
            process.terminate()
            assert process.wait(DEADLINE) == 0
        finally:
            valkey.say("CLIENT", "UNPAUSE")


@pytest.mark.live
def test_beat_ends_at_its_next_round_when_the_exception_of_the_signal_is_lost(messages, valkey, tmp_path):
    """As any exception is that comes while an object is deleted."""
    code = (
        "import os, signal, sys\n"
        "from celery.__main__ import main\n"
        "from wkportal.celery import Scheduler\n"
        "class Deleted:\n"
        "    def __del__(self): os.kill(os.getpid(), signal.SIGTERM)\n"
        "tick = Scheduler.tick\n"
        "def tick_with_signal(self, *args, **kwargs):\n"
        "    Deleted()\n"
        "    return tick(self, *args, **kwargs)\n"
        "Scheduler.tick = tick_with_signal\n"
        "sys.argv = ['celery', '-A', 'wkportal', '--skip-checks', 'beat']\n"
        "sys.exit(main())\n"
    )
    env = os.environ | {"REDIS_URL": valkey.url, "VAR_DIR": str(tmp_path)}
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=DEADLINE
    )
    assert "Exception ignored in" in process.stderr
    assert process.returncode == 0
