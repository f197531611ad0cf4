"""A step of the tick that is not due may be left out: it would write nothing and queue nothing."""

from datetime import datetime

from django.db import connection

from accounts import tasks


def check_undue_steps(now: datetime) -> None:
    """Run each step that is not due. Raises AssertionError if one of them does anything; what it writes is seen on SQLite."""
    due = tasks.find_due(now)
    queue, tasks.put_into_queue = tasks.put_into_queue, refuse
    try:
        for name in tasks.STEPS.keys() - due:
            before = changes()
            tasks.STEPS[name][0]()
            assert changes() == before, f"{name} is not due, and wrote {changes() - before} rows"
    finally:
        tasks.put_into_queue = queue


def refuse(task, *ids) -> None:
    raise AssertionError(f"{task.name} {ids} is queued by a step that is not due")


def changes() -> int:
    connection.ensure_connection()
    return connection.connection.total_changes if connection.vendor == "sqlite" else 0
