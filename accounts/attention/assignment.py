"""Who takes care of an account or of an incident.

Taking asks nobody: who takes it from another person is recorded, and everybody sees it. An account is released when
it comes online, an incident when it ends.
"""

from django.db import transaction
from django.db.models import Q, QuerySet

from accounts.attention.changes import change
from accounts.lib import db_clock, pubsub
from accounts.models import Account, Incident, IncidentNote
from accounts.models.drop import IncidentNoteKind
from accounts.models.operators.assignable import UNASSIGNED
from accounts.states import AccountState, EventType


def take(accounts: QuerySet[Account], *, by, note: str = "") -> int:
    """Assign the accounts that are not online to `by`. Return how many."""
    absent = accounts.kept().exclude(state=AccountState.ONLINE)
    taken = {"assignee": by, "assigned_at": db_clock.now(), "assignment_note": note}
    return change(absent, EventType.ASSIGNED, lambda rows: rows.update(**taken), by=by, detail=note)


def release(accounts: QuerySet[Account], *, by) -> int:
    """Release the accounts, also those of other people. Return how many were taken."""
    taken = accounts.filter(assignee__isnull=False)
    return change(taken, EventType.RELEASED, lambda rows: rows.update(**UNASSIGNED), by=by)


# --- incidents -----------------------------------------------------------------------------------------


def take_incident(incident: Incident, *, by, note: str = "") -> bool:
    """Assign an incident that is not over. Return False if it is over, or if `by` has it with this note."""
    taken = {"assignee": by, "assigned_at": db_clock.now(), "assignment_note": note}
    others = Incident.objects.filter(~Q(assignee=by, assignment_note=note) | Q(assignee=None))
    return _write(incident, others.filter(ended_at=None), taken, IncidentNoteKind.TAKEN, by, note)


def release_incident(incident: Incident, *, by) -> bool:
    taken = Incident.objects.filter(assignee__isnull=False, ended_at=None)
    return _write(incident, taken, UNASSIGNED, IncidentNoteKind.RELEASED, by, "")


def add_note(incident: Incident, text: str, *, by) -> None:
    with transaction.atomic():
        _note(incident, IncidentNoteKind.NOTE, by, text)


def _write(incident: Incident, rows: QuerySet, columns: dict, kind: str, by, text: str) -> bool:
    with transaction.atomic():
        if not rows.filter(pk=incident.pk).update(**columns):
            return False
        _note(incident, kind, by, text)
    return True


def _note(incident: Incident, kind: str, by, text: str) -> None:
    IncidentNote.objects.create(
        incident=incident, kind=kind, text=text, author=by, author_name=by.get_username(), at=db_clock.now()
    )
    transaction.on_commit(lambda: pubsub.publish([pubsub.OTHER_ROWS]), robust=True)
