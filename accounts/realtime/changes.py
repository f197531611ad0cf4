"""Changes that open pages must learn of and that no published event announces.

They are: revoked rights, rows whose event was lost, logins that no worker waits for, and denied WKTeam
access. One check covers all streams of a process.
"""

import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.models import Group, Permission
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db.models import Min, Q
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from accounts.lib import db_clock
from accounts.lib.group_commit import GroupCommit
from accounts.lib.pubsub import PublishedEvent
from accounts.models import AccountEvent, Drop, IncidentNote, LoginAttempt, Role, WaitsWorker
from accounts.models.login_attempt import CLOSED_AFTER
from accounts.models.signing_in.second_factor import TAKEN
from accounts.upstream import token_store

EVERY_TEAM = frozenset({-1})
SEE, SEE_ALL = "view_account", "view_every_account"
# A row may be committed this long (seconds) after one with a higher ID and is still found.
COMMIT_SECONDS = 10
# Seconds. A task message brings a wait to a worker within milliseconds. Otherwise, as when the task queue is
# unreachable, a worker finds the wait within seconds.
NO_WORKER_AFTER, NO_WORKER_WITHOUT_QUEUE_AFTER = 5, 8
EVENTS_MOST = 500
# So many of the newest rows are read for pages whose streams were interrupted, and when polling begins.
REPLAYED_MOST = 2000
NOTES_MOST = 50
# Those whose sessions Django checks alike.
BACKENDS = {"django.contrib.auth.backends.ModelBackend", "accounts.web.signing_in.provider.Backend"}
# Open pages learn of an overdue login by the next check. Older ones are not searched for: while PostgreSQL may
# remove no versions of rows, as during a dump, their index keeps an entry of each login that has ended since.
OVERDUE_FOR = timedelta(minutes=1)


# --- rights --------------------------------------------------------------------------------------------


class Rights(NamedTuple):
    """What a user may view, and what else ends the streams of that user when it changes."""

    teams: frozenset[int]
    roles: frozenset[int]
    auth_hash: str  # changes with the password, like that of the user's sessions

    def is_ended_by(self, now: "Rights") -> bool:
        return (self.roles, self.auth_hash) != (now.roles, now.auth_hash)


def rights(user_ids: set[int], session_keys: set[str]) -> tuple[dict[int, Rights], set[str]]:
    """Return ({user: rights} of the users who may still view accounts, the sessions that are still valid).

    Same result as ModelBackend for each user; the number of queries does not depend on the number of users.
    """
    groups = _groups(user_ids)
    may = _who_may(groups)
    roles = set(Role.objects.values_list("group", flat=True))
    found = {}
    people = get_user_model().objects.filter(pk__in=user_ids, is_active=True)
    for user in people.only("is_superuser", "password"):
        if user.is_superuser or (user.pk in may[SEE] and user.pk in may[SEE_ALL]):
            teams = EVERY_TEAM
        elif user.pk in may[SEE]:
            teams = frozenset(groups[user.pk] - roles)
        else:
            continue
        found[user.pk] = Rights(teams, frozenset(groups[user.pk] & roles), user.get_session_auth_hash())
    alive = Session.objects.filter(session_key__in=session_keys, expire_date__gt=timezone.now())
    return found, set(alive.values_list("session_key", flat=True))


def _groups(user_ids: set[int]) -> defaultdict[int, set[int]]:
    groups = defaultdict(set)
    members = get_user_model().groups.through.objects.filter(user_id__in=user_ids)
    for user, group in members.values_list("user_id", "group_id"):
        groups[user].add(group)
    return groups


def _who_may(groups: dict[int, set[int]]) -> dict[str, set[int]]:
    """Return {permission: users}: the keys of `groups` with it by a group, and all users with it directly."""
    these = Q(permission__codename__in=(SEE, SEE_ALL), permission__content_type__app_label="accounts")
    may: dict[str, set[int]] = {SEE: set(), SEE_ALL: set()}
    carriers: dict[str, set[int]] = {SEE: set(), SEE_ALL: set()}
    by_group = Group.permissions.through.objects.filter(these)
    for codename, group in by_group.values_list("permission__codename", "group_id"):
        carriers[codename].add(group)
    own = get_user_model().user_permissions.through.objects.filter(these)
    for codename, user in own.values_list("permission__codename", "user_id"):
        may[codename].add(user)
    for user, of in groups.items():
        for codename, carrying in carriers.items():
            if not carrying.isdisjoint(of):
                may[codename].add(user)
    return may


def _rights_of(asked: list[tuple[int, str]]) -> list[Rights | None]:
    found, sessions = rights({user for user, _key in asked}, {key for _user, key in asked})
    return [found.get(user) if key in sessions else None for user, key in asked]


# rights_of((user, session key)): None for a user who may not view accounts. After a restart all browsers ask
# within seconds.
# Group commit: `_rights_of` may run in the thread and the transaction of another caller.
rights_of = GroupCommit(_rights_of)


def admitted(session_keys: list[str]) -> list[tuple[int, Rights] | None]:
    """Return (user, rights) for each session whose user may view accounts, None for the others.

    The checks of Django's session and authentication middleware, with as many queries for hundreds as for one.
    Also None for a session that these would change, such as one signed with an old SECRET_KEY, and for one that has
    yet to take its second step.
    """
    backends = BACKENDS.intersection(settings.AUTHENTICATION_BACKENDS)
    rows = Session.objects.filter(session_key__in=session_keys, expire_date__gt=timezone.now())
    owners: dict[str, tuple[int, str]] = {}
    taken: set[str] = set()
    for row in rows:
        data = SessionStore().decode(row.session_data)
        if data.get(BACKEND_SESSION_KEY) in backends:
            taken |= {row.session_key} if TAKEN in data else set()
            owners[row.session_key] = int(data[SESSION_KEY]), data.get(HASH_SESSION_KEY, "")
    found, _sessions = rights({user for user, _hash in owners.values()}, set())
    required = _who_needs_second_step(set(found))
    may = {
        key: (user, found[user])
        for key, (user, auth_hash) in owners.items()
        if user in found
        and constant_time_compare(auth_hash, found[user].auth_hash)
        and (key in taken or user not in required)
    }
    return [may.get(key) for key in session_keys]


def _who_needs_second_step(users: set[int]) -> set[int]:
    """Return those of the users who have to take a second step: `signing_in.second_step.is_required` for many."""
    if settings.REQUIRE_TWO_STEP != "admins":
        return users if settings.REQUIRE_TWO_STEP == "all" else set()
    manages = Q(codename="manage_people", content_type__app_label="accounts")
    permission = Permission.objects.filter(manages).values("pk")
    of_admins = Q(is_staff=True) | Q(is_superuser=True)
    of_admins |= Q(groups__permissions__in=permission) | Q(user_permissions__in=permission)
    return set(get_user_model().objects.filter(of_admins, pk__in=users).values_list("pk", flat=True))


# --- rows without an event -----------------------------------------------------------------------------


class Rows:
    """Tracks which event rows had no published event."""

    def __init__(self):
        self.published: set[int] = set()
        self.floor: int | None = None  # rows up to here are old
        self.newest = 0
        self.moved_at = 0.0
        self.moved = False

    @property
    def passed_on(self) -> int | None:
        """The ID up to which all rows were passed on; None if that is not known yet."""
        return self.floor if self.moved else None

    def heard(self, event: PublishedEvent) -> bool:
        """Record the event. Return whether it is the first for its row."""
        first = event.id not in self.published
        self.published.add(event.id)
        return first

    def missed(self, ids: list[int]) -> list[int]:
        """Return those of `ids` (rows above the floor) without an event.

        The floor rises to rows that were read COMMIT_SECONDS ago. The first call only sets it, below the rows that
        are there: between them, others may still be committed.
        """
        if self.floor is None:
            self.floor, self.newest = min(ids, default=0), max(ids, default=0)
            self.published.update(ids)
            self.moved_at = time.monotonic()
            return []
        missed = [number for number in ids if number not in self.published]
        if time.monotonic() - self.moved_at > COMMIT_SECONDS:
            self.floor, self.newest = self.newest, max([*ids, self.newest])
            self.published = {number for number in self.published if number > self.floor}
            self.moved_at = time.monotonic()
            self.moved = True
        return missed


@dataclass(frozen=True, slots=True)
class Seen:
    """Result of one check: IDs of event rows and of the newest notes, the alarm, the logins that need attention."""

    ids: list[int]
    notes: frozenset[int]
    alarm: tuple[str, str] | None
    alone: dict[PublishedEvent, int]


def poll(floor: int | None) -> Seen:
    """Check the database: all rows above the floor, or the newest if there is no floor yet."""
    rows = AccountEvent.objects.values_list("pk", flat=True)
    ids = rows.order_by("-pk")[:REPLAYED_MOST] if floor is None else rows.filter(pk__gt=floor)
    notes = IncidentNote.objects.order_by("-pk").values_list("pk", flat=True)[:NOTES_MOST]
    refused = token_store.refused()
    alarm = refused and (refused.refused_why, refused.refused_text)
    return Seen(list(ids), frozenset(notes), alarm, alone(db_clock.now()))


def note_events(notes: frozenset[int]) -> list[PublishedEvent]:
    """Return an event without a row for each team of the incidents that these notes are about."""
    drops = Drop.objects.filter(incident__notes__in=notes).order_by()
    teams = drops.values_list("account__team_id").annotate(one=Min("account_id"))
    return [PublishedEvent(0, account, team, None, "") for team, account in teams]


def unpublished_events(ids: list[int]) -> list[PublishedEvent]:
    """Return the events that were to be published for these rows."""
    names = (
        "pk",
        "account_id",
        "account__team_id",
        "attempt_id",
        "attempt__state",
        "account__state",
        "left_team",
    )
    return [
        PublishedEvent(number, account, team, attempt, attempt_state or account_state, left_team)
        for number, account, team, attempt, attempt_state, account_state, left_team in (
            AccountEvent.objects.filter(pk__in=ids).order_by("pk").values_list(*names)
        )
    ]


def newest_events(above: int) -> tuple[int, list[PublishedEvent]]:
    """Return the events of the newest rows above an ID, and the ID above which none is left out."""
    rows = AccountEvent.objects.filter(pk__gt=above).order_by("-pk")
    ids = list(rows.values_list("pk", flat=True)[:REPLAYED_MOST])
    return (ids[-1] if len(ids) == REPLAYED_MOST else above), unpublished_events(ids)


# --- logins without a worker ---------------------------------------------------------------------------


def seconds_alone(attempt: LoginAttempt, now: datetime, workers: dict[str, datetime] | None = None) -> float:
    """Return for how many seconds no living worker has held a login that needs one; 0 if one does.

    `workers`: {name: alive until}, None to read it.
    """
    if not attempt.needs_worker:
        return 0.0
    if workers is None:
        workers = _workers(attempt.lease_owner) if attempt.is_leased else {}
    left_at = workers.get(attempt.lease_owner)
    since = attempt.queued_at or attempt.qr_shown_at or attempt.created_at
    return max(0.0, (now - max(since, left_at or since)).total_seconds())


def _workers(*names: str) -> dict[str, datetime]:
    return dict(WaitsWorker.objects.filter(name__in=names).values_list("name", "alive_until"))


def alone(now: datetime) -> dict[PublishedEvent, int]:
    """Return {event: number} for logins that no worker holds or that are overdue. The number grows with time.

    The event makes the page of the login reload and show it. Reading an overdue login ends it. Those that have
    been overdue for OVERDUE_FOR are left out.
    """
    attempts = LoginAttempt.objects.light().select_related("account")
    old = now - timedelta(seconds=NO_WORKER_AFTER)
    waiting = attempts.claimable(now).filter(Q(queued_at=None) | Q(queued_at__lt=old))[:EVENTS_MOST]
    workers = _workers(*{attempt.lease_owner for attempt in waiting})
    found = {}
    for attempt in waiting:
        seconds = seconds_alone(attempt, now, workers)
        if seconds > NO_WORKER_AFTER:
            found[_event(attempt)] = 1 + (seconds > NO_WORKER_WITHOUT_QUEUE_AFTER)
    overdue = attempts.past(CLOSED_AFTER, now).filter(deadline_at__gt=now - CLOSED_AFTER - OVERDUE_FOR)
    for attempt in overdue[:EVENTS_MOST]:
        found[_event(attempt)] = 3
    return found


def _event(attempt: LoginAttempt) -> PublishedEvent:
    """Return an event without a row: its ID is 0."""
    return PublishedEvent(0, attempt.account_id, attempt.account.team_id, attempt.pk, attempt.state)
