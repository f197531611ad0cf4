"""The upper half of the overview: what needs a person, incidents, the health of the system, what happened meanwhile."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Q, Window
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from accounts import permissions
from accounts.attention import groups
from accounts.attention.groups import Need
from accounts.attention.incident_progress import Part, progress_of
from accounts.lib import db_clock
from accounts.models import Account, AccountEvent, Drop, Incident, IncidentNote
from accounts.models.operators.scan_run import ScanSource
from accounts.states import EventType, Method
from accounts.status import facts
from accounts.status.facts import Fact
from accounts.status.reading import Reading
from accounts.web.visible_accounts import VisibleAccounts

NAMES_SHOWN, INCIDENTS_SHOWN, NOTES_SHOWN = 4, 3, 5
# Who was not here for longer learns nothing from the numbers of the time between.
AWAY_MOST = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Todo:
    """`source`: of the scan run that works it off, "" if none does. `address`: of the page that shows it."""

    need: str
    title: str
    number: int
    names: str
    address: str
    action: str | Promise
    source: str


def health(user) -> list[Fact]:
    """Return the facts of the status that concern everybody's work."""
    reading = Reading()
    return [
        facts.upstream(reading),
        facts.presence(reading),
        facts.workers(reading),
        facts.queue(reading),
        facts.developer_account(reading, with_seats=permissions.sees_all(user)),
        facts.callbacks(reading),
    ]


# --- what needs a person -----------------------------------------------------------------------------------

ACTIONS = {
    Need.VERIFICATION: gettext_lazy("Enter code"),
    Need.SCAN: gettext_lazy("Start scanning"),
    Need.FAILED: gettext_lazy("Scan"),
}
SOURCES = {Need.SCAN: ScanSource.SCAN_QUEUE, Need.FAILED: ScanSource.FAILED_LOGIN}


def todo(visible: VisibleAccounts) -> list[Todo]:
    """Return what accounts need a person for, by kind, the most urgent first."""
    found, every = [], visible.rows_without_index.kept()
    for need in Need:
        accounts = groups.needing(every, need).annotate(number=Window(Count("pk")))
        first = accounts.order_by("place_key", "pk").only("label", "nickname", "wc_id")
        if first := list(first[:NAMES_SHOWN]):
            found.append(_todo(need, first[0].number, first))
    return found


def _todo(need: Need, number: int, first: list[Account]) -> Todo:
    names = ", ".join(account.display_name for account in first) + (" …" if number > len(first) else "")
    address = (
        reverse("account", args=[first[0].pk]) if number == 1 else f"{reverse('accounts')}?group=attention"
    )
    return Todo(need, str(need.label), number, names, address, ACTIONS[need], SOURCES.get(need, ""))


def incidents(user) -> list[dict]:
    """Return the newest open incidents of the person's accounts, with their progress."""
    seen, found = Account.objects.visible_to(user), []
    rows = Incident.objects.filter(ended_at=None).of(seen).select_related("assignee").order_by("-pk")
    for incident in rows[:INCIDENTS_SHOWN]:
        progress = progress_of(incident.drops.of(seen), with_rows=False)
        left = [
            {"part": part, "number": progress.numbers[part]}
            for part in Part
            if part != Part.BACK and progress.numbers[part]
        ]
        found.append({"incident": incident, "progress": progress, "left": left})
    return found


# --- hand-over -----------------------------------------------------------------------------------------------


def since(visible: VisibleAccounts, left_at: datetime | None) -> dict | None:
    """Return what happened to the person's accounts since then: numbers, and the notes of others."""
    if left_at is None or left_at < db_clock.now() - AWAY_MOST:
        return None
    drops = visible.of(Drop.objects.filter(at__gt=left_at))
    back, scanned = Q(ended_at__isnull=False), Q(ended_by=Method.QR)
    queued = visible.of(AccountEvent.objects.filter(happened=EventType.TO_SCAN, at__gt=left_at))
    return {
        "at": left_at,
        "queued": queued.count(),
        "notes": _notes(visible.user, left_at),
        **drops.aggregate(
            drops=Count("pk"),
            alone=Count("pk", filter=back & ~scanned),
            scanned=Count("pk", filter=back & scanned),
        ),
    }


def _notes(user, left_at: datetime) -> list:
    seen = Incident.objects.of(Account.objects.visible_to(user))
    notes = IncidentNote.objects.filter(at__gt=left_at, incident__in=seen).exclude(author=user)
    return list(notes.exclude(text="").order_by("-id")[:NOTES_SHOWN])
