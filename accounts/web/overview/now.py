"""The upper half of the overview: what needs a person, incidents, the health of the system, what happened meanwhile."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Q
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts import permissions
from accounts.attention import groups
from accounts.attention.groups import Need
from accounts.attention.incident_progress import Part, progress_of
from accounts.lib import db_clock
from accounts.models import Account, AccountEvent, Drop, Incident, IncidentNote, LoginAttempt, WaitsWorker
from accounts.models.login_attempt import QUEUED
from accounts.models.operators.scan_run import ScanSource
from accounts.presence import sweep
from accounts.states import DetectedBy, EventType, Method
from accounts.templatetags.accounts_tags import words_for_ago
from accounts.upstream import developer_account, token_store
from accounts.web.visible_accounts import VisibleAccounts

NAMES_SHOWN, INCIDENTS_SHOWN, NOTES_SHOWN = 4, 3, 5
# Who was not here for longer learns nothing from the numbers of the time between.
AWAY_MOST = timedelta(days=30)
DROPS_LOOKED_AT = 200


@dataclass(frozen=True, slots=True)
class Health:
    """One part of the system. `level`: "", "slow" (look at it) or "down"."""

    title: str | Promise
    value: str
    level: str = ""


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


def health(user) -> list[Health]:
    now, presence = db_clock.now(), sweep.seen()
    workers = WaitsWorker.objects.filter(alive_until__gt=now).count()
    free = max(0, workers * settings.WAIT_SLOTS - LoginAttempt.objects.open().count())
    queued = LoginAttempt.objects.open().filter(QUEUED).count()
    refused = token_store.refused() is not None
    known = presence is not None and presence.unknown_since is None
    return [
        Health(_("WKTeam connection"), _("refused") if refused else _("OK"), "down" if refused else ""),
        Health(_("Who is online"), _("known") if known else _("unknown"), "" if known else "slow"),
        Health(
            _("Workers"),
            ngettext("%(n)s, %(free)s slot free", "%(n)s, %(free)s slots free", free)
            % {"n": workers, "free": free},
            "down" if not workers else "slow" if not free else "",
        ),
        Health(_("Queue"), str(queued), "slow" if queued and not free else ""),
        _developer_account(now, with_seats=permissions.sees_all(user)),
        _callbacks(now),
    ]


def _developer_account(now: datetime, *, with_seats: bool) -> Health:
    """Say when it ends and which of its seats are taken; that number is for those who see every account."""
    account, said, level = developer_account.known(), [], ""
    if account is not None and account.seats is not None and with_seats:
        said.append(_("%(taken)s of %(seats)s seats") % {"taken": account.online, "seats": account.seats})
    if account is None or account.ends_at is None:
        said.append(_("end not known"))
    else:
        days = (account.ends_at - now).days
        said.append(ngettext("%(n)s day left", "%(n)s days left", days) % {"n": max(0, days)})
        level = "" if account.warning is None else "slow" if account.warning else "down"
    return Health(_("Developer account"), " · ".join(said), level)


def _callbacks(now: datetime) -> Health:
    """Say when WKTeam's last callback reported a drop: without them, a drop is noticed minutes later."""
    last = Drop.objects.order_by("-id").values_list("detected_by", "at")[:DROPS_LOOKED_AT]
    at = next((at for by, at in last if by == DetectedBy.CALLBACK), None)
    if at is None:
        return Health(
            _("WKTeam callback"), _("none received"), "slow" if len(last) == DROPS_LOOKED_AT else ""
        )
    return Health(_("WKTeam callback"), words_for_ago((now - at).total_seconds()))


# --- what needs a person -----------------------------------------------------------------------------------

ACTIONS = {
    Need.VERIFICATION: gettext_lazy("Enter code"),
    Need.SCAN: gettext_lazy("Start scanning"),
    Need.FAILED: gettext_lazy("Scan"),
}
SOURCES = {Need.SCAN: ScanSource.SCAN_QUEUE, Need.FAILED: ScanSource.FAILED_LOGIN}


def todo(visible: VisibleAccounts) -> list[Todo]:
    """Return what accounts need a person for, by kind, the most urgent first."""
    found = []
    for need in Need:
        accounts = groups.needing(visible.rows.kept(), need)
        if number := accounts.count():
            first = accounts.order_by("place_key", "pk").only("label", "nickname", "wc_id")
            found.append(_todo(need, number, list(first[:NAMES_SHOWN])))
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
