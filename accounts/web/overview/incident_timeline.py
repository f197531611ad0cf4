"""What happened in an incident, in order: drops, recovery, people, the way back."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Min, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.attention.incident_progress import Progress
from accounts.models import AccountEvent, Drop, Incident, IncidentNote, LoginAttempt
from accounts.models.drop import IncidentNoteKind
from accounts.states import EventType, Method, Trigger
from accounts.templatetags.accounts_tags import words_for


@dataclass(frozen=True, slots=True)
class Entry:
    at: datetime
    text: str


def timeline(
    incident: Incident, drops: QuerySet[Drop], progress: Progress, notes: list[IncidentNote]
) -> list[Entry]:
    entries = [_dropped(progress), *_recovery(incident, drops), *_people(notes), *_back(progress)]
    if incident.ended_at:
        entries.append(Entry(incident.ended_at, _("Incident ended")))
    return sorted(filter(None, entries), key=lambda entry: entry.at)


def _dropped(progress: Progress) -> Entry:
    took = words_for((progress.last_at - progress.first_at).total_seconds())
    text = ngettext(
        "%(n)s account dropped within %(time)s", "%(n)s accounts dropped within %(time)s", progress.total
    ) % {"n": progress.total, "time": took}  # fmt: skip
    return Entry(progress.first_at, text)


def _recovery(incident: Incident, drops: QuerySet[Drop]):
    accounts = drops.order_by().values("account")
    counted = {"number": Count("pk"), "first": Min("created_at")}
    prompts = LoginAttempt.objects.filter(
        account__in=accounts, created_at__gte=incident.at, trigger=Trigger.RECOVERY, method=Method.POPUP
    )
    if incident.ended_at:
        prompts = prompts.filter(created_at__lte=incident.ended_at)
    if (sent := prompts.aggregate(**counted))["number"]:
        text = ngettext(
            "Recovery sent %(n)s phone prompt", "Recovery sent %(n)s phone prompts", sent["number"]
        )
        yield Entry(sent["first"], text % {"n": sent["number"]})
    queued = AccountEvent.objects.filter(
        account__in=accounts, at__gte=incident.at, happened=EventType.TO_SCAN
    )
    if incident.ended_at:
        queued = queued.filter(at__lte=incident.ended_at)
    found = queued.aggregate(number=Count("account", distinct=True), first=Min("at"))
    if found["number"]:
        text = ngettext("%(n)s account queued for scan", "%(n)s accounts queued for scan", found["number"])
        yield Entry(found["first"], text % {"n": found["number"]})


def _people(notes: list[IncidentNote]):
    said = {
        IncidentNoteKind.TAKEN: _("%(name)s took it"),
        IncidentNoteKind.RELEASED: _("%(name)s released it"),
    }
    for note in notes:
        if note.kind in said:
            yield Entry(note.at, said[note.kind] % {"name": note.author_name})


def _back(progress: Progress):
    """Say when the first, half and all of them were back."""
    total = progress.total
    for number in sorted({1, (total + 1) // 2, total}):
        if 0 < number <= len(progress.back_at):
            text = _("%(n)s of %(total)s back online") % {"n": number, "total": total}
            yield Entry(progress.back_at[number - 1], text)
