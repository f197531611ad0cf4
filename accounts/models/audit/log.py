"""Writing the audit log, in the transaction of the action.

    from accounts.models.audit import log as audit
    from accounts.models.audit.entry import AuditKind

    audit.record(AuditKind.FACTOR_ADDED, about=person, by=request.user)

Who, by what and from which address come from the request, the task or the command. An event of an account that a person
caused (`accounts.models.event.record` with `by`) is recorded by itself.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from django.db import models

from accounts.lib import db_clock
from accounts.metrics import log_context
from accounts.models.audit import origin as origins
from accounts.models.audit.entry import OF_ACCOUNTS, OF_EVENTS, AuditEntry, AuditKind
from accounts.models.audit.origin import Origin, Way
from accounts.states import AttemptState, EventType, Trigger

if TYPE_CHECKING:
    from accounts.models.event import AccountEvent

WRITTEN_AT_ONCE = 1000
# Each is written for two accounts, with the name of the other one as its detail: that would outlive the other one.
NAMES_ANOTHER = (EventType.MERGED, EventType.UNMERGED)


# Nobody but a person causes these, also where nobody says who it is: a command, or the page of a scan link.
ALWAYS_ACTS = (
    *(
        EventType.LINK_CREATED,
        EventType.LINK_SENT,
        EventType.LINK_OPENED,
        EventType.LOGGED_OUT,
        EventType.UNMERGED,
    ),
    *(EventType.ARCHIVED, EventType.PAUSED, EventType.RESUMED, EventType.SILENCED, EventType.ASSIGNED),
)


def record(
    kind: str,
    *,
    about: models.Model | None = None,
    by=None,
    detail: str = "",
    number: int | None = None,
    name: str = "",
) -> AuditEntry:
    """Write one entry.

    `about`: what it was done to, also an account. `by`: None for the person of the request. `name`: of the subject,
    if there is no row of it, or if the row's own name depends on a language. `detail`: no secret, and nothing personal about an account.
    """
    entry = new_entry(kind, origins.current(), by)
    if about is not None:
        model = about._meta.concrete_model._meta.label_lower
        if model == OF_ACCOUNTS:
            set_account(entry, about, team_names([about]))
        entry.subject, entry.subject_id, entry.subject_name = model, about.pk, str(about)[:200]
    if name:
        entry.subject_name = name[:200]
    entry.detail, entry.number = detail[:1000], number
    entry.save(force_insert=True)
    return entry


def counted(entry: AuditEntry, rows: Iterable[list]) -> Iterator[list]:
    """Pass on the rows of an export, of which the first are its heads. At their end, write how many there were."""
    number = -1
    for row in rows:
        number += 1
        yield row
    AuditEntry.objects.filter(pk=entry.pk, number=None).update(number=number)


def of_events(events: "list[AccountEvent]") -> None:
    """Write an entry for each of the events that a person caused, in the transaction of the events."""
    acts = [event for event in events if _is_act(event)]
    if not acts:
        return
    teams = team_names([event.account for event in acts])
    entries = []
    for event in acts:
        entry = new_entry(
            OF_EVENTS[event.happened], event.origin, event.actor, event.log_context.run(log_context.known)
        )
        entry.at, entry.attempt_id = event.at, event.attempt_id
        set_account(entry, event.account, teams)
        entry.detail = "" if event.happened in NAMES_ANOTHER else event.detail
        if event.happened == EventType.ATTEMPT_MOVED:
            entry.detail = event.to_state
        entries.append(entry)
    AuditEntry.objects.bulk_create(entries, batch_size=WRITTEN_AT_ONCE)


def _is_act(event: "AccountEvent") -> bool:
    """Return whether a person caused the event, or the owner of a phone on the page of a scan link."""
    if event.happened not in OF_EVENTS:
        return False
    if event.actor is not None or event.happened in ALWAYS_ACTS:
        return True
    if event.happened == EventType.ATTEMPT_STARTED:
        by_itself = event.attempt.trigger in (Trigger.SCHEDULE, Trigger.RECOVERY)
        return event.origin.way == Way.COMMAND and not by_itself
    answered = event.from_state in (AttemptState.CODE_REQUIRED, AttemptState.PAGE_REQUIRED)
    by_owner = event.happened == EventType.ATTEMPT_MOVED and event.origin.way == Way.LINK
    return by_owner and (
        event.to_state == AttemptState.CANCELLED or (answered and event.to_state == AttemptState.WAITING)
    )


def new_entry(kind: str, origin: Origin, by=None, fields: dict | None = None) -> AuditEntry:
    """Return an entry without its subject. On the page of a scan link, `by` is who made the link: it did not act."""
    person = None if origin.way == Way.LINK else by or origin.person()
    known = log_context.known() if fields is None else fields
    return AuditEntry(
        at=db_clock.now(),
        kind=AuditKind(kind),
        actor_id=person and person.pk,
        actor_name=person.get_username() if person else "",
        way=origin.way,
        origin=origin.name[:80],
        address=origin.address,
        request_id=str(known.get("request_id", ""))[:64],
        link_id=origin.link,
    )


def set_account(entry: AuditEntry, account: models.Model, teams: dict[int, str]) -> None:
    """Let the entry be about an account."""
    entry.account_id, entry.account_name = account.pk, account.display_name[:100]
    entry.subject, entry.subject_id, entry.subject_name = OF_ACCOUNTS, account.pk, entry.account_name
    entry.team_id = account.team_id
    entry.team_name = teams.get(account.team_id, "")


def team_names(accounts: Iterable[models.Model]) -> dict[int, str]:
    """Return the names by ID. A team that was not read with its account is read once for all of them."""
    field, names, unread = None, {}, set()
    for account in accounts:
        field = field or account._meta.get_field("team")
        if field.is_cached(account):
            if (team := account.team) is not None:
                names[team.pk] = team.name
        elif account.team_id is not None:
            unread.add(account.team_id)
    if missing := unread - names.keys():
        names |= dict(field.related_model._default_manager.filter(pk__in=missing).values_list("pk", "name"))
    return names
