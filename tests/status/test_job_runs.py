"""The jobs write when they ran: rarely, and also which of them failed."""

import pytest

from accounts import tasks
from accounts.models import JobRun
from accounts.status import job_runs
from accounts.status.facts import JOBS


@pytest.fixture(autouse=True)
def runs(monkeypatch):
    fresh = job_runs.JobRuns()
    monkeypatch.setattr(job_runs, "note", fresh.note)
    monkeypatch.setattr(job_runs, "write", fresh.write)
    return fresh


def test_each_step_of_the_jobs_is_known_to_the_status(db):
    tasks.tick()
    assert set(JobRun.objects.values_list("name", flat=True)) == set(JOBS) - {"delete_old_rows"}


def test_a_step_that_fails_is_named_until_it_runs_again(db, monkeypatch, runs):
    monkeypatch.setattr(tasks.expire, "end_overdue", lambda: {}["missing"])
    tasks.end_overdue()
    failed = JobRun.objects.get()
    assert (failed.name, failed.error, failed.ran_at) == ("end_overdue", "KeyError", None)
    monkeypatch.undo()
    runs.note("end_overdue")
    runs.write_at = 0.0
    runs.write()
    again = JobRun.objects.get()
    assert again.error == "" and again.ran_at > again.failed_at == failed.failed_at


def test_a_deletion_of_old_rows_that_fails_is_named(db, monkeypatch):
    monkeypatch.setattr(tasks.retention, "delete_old", lambda seconds: {}["missing"])
    tasks.delete_old_rows()
    assert JobRun.objects.get().error == "KeyError"


def test_what_ran_is_written_at_most_every_ten_seconds_with_one_statement(
    db, runs, django_assert_num_queries
):
    for name in JOBS:
        runs.note(name)
    with django_assert_num_queries(1):
        runs.write()
    runs.note("plans")
    with django_assert_num_queries(0):
        runs.write()
    assert runs.errors == {"plans": ""}


def test_a_database_that_takes_no_rows_ends_no_job(db, runs, monkeypatch, caplog):
    def full(rows, columns):
        raise job_runs.DatabaseError("disk full")

    monkeypatch.setattr(job_runs, "_upsert", full)
    runs.note("plans")
    runs.write()
    assert "was not written: DatabaseError" in caplog.text
