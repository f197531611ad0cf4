"""Leases on login attempts: which process waits for which phone.

A process renews all its leases, whatever their number, with one UPDATE of its own row (`WaitsWorker`) every
RENEW_SECONDS. If it dies, its leases lapse after LEASE, and the living waits workers claim the attempts.

The fencing token is `lease_epoch`. Each claim increments it, and so does a wait that starts again after a
verification. When a wait saves what it learned, it compares the epoch. Example:

1. Worker A claims an attempt (lease_epoch 1), then freezes for longer than LEASE.
2. Worker B claims the orphaned attempt (lease_epoch 2) and repeats the call for the same wId.
3. A resumes and writes "failed" where lease_epoch = 1. No row matches, so B's wait is not affected.
4. A registers again, finds epoch 2 in the row, and cuts the call that it still makes under the lost lease.

Only a success is saved regardless of the epoch: the phone confirmed it. `success` has its own fencing token.

A process holds at most WAIT_SLOTS leases. Attempts beyond that stay in the database for another worker.
"""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings
from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import F
from django.db.models.functions import Coalesce

from accounts.lib import db_clock, db_errors
from accounts.lib.group_commit import GroupCommit
from accounts.lib.rows import DueCheck
from accounts.metrics import families
from accounts.models import LoginAttempt, WaitsWorker
from accounts.models.event import gathered, record
from accounts.models.login_attempt import GRACE, LEASED
from accounts.states import AttemptState, EventType
from accounts.upstream.responses import PROFILE_FIELDS

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=9)
RENEW_SECONDS = 3
CHECKS_FOR_LOST = 3
TAKEN_AT_ONCE = 200
# Thousands of waits keep these fields in memory: enough to fetch the QR code, wait, and save a success.
WHAT_A_WAIT_NEEDS = (
    *("account", "state", "seq", "w_id", "proxy", "verify_code", "codes_tried", "sent_at", "queued_at"),
    *("method", "trigger", "device_type", "old_w_id"),
    *("deadline_at", "lease_owner", "lease_epoch", "wait_started_at", "resumed_at", "qr_shown_at"),
    *("account__state", "account__wc_id", "account__team", "account__merged_into", "account__proxy"),
    *("account__first_login_at", "account__avatar__source_url"),
    *(f"account__{name}" for name in PROFILE_FIELDS),
)


class Lease:
    """One attempt, held by this process.

    Use it as a context manager: the end of the block releases the lease, also if its greenlet is killed.
    `cut` ends the outside call in progress under the lease, if any; `end` calls it when the lease is lost.
    """

    __slots__ = ("attempt", "cut", "epoch", "lost", "over")

    def __init__(self, attempt: LoginAttempt):
        self.attempt = attempt
        self.epoch = attempt.lease_epoch
        self.lost = False
        self.over = False  # the attempt has ended, and its lease with it
        self.cut: Callable[[], None] | None = None

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_exc) -> None:
        _holder.give_back(self)

    def end(self) -> None:
        """Mark the lease as lost and cut its outside call."""
        self.lost = True
        if self.cut is not None:
            self.cut()


class _Holder:
    """The leases of this process, and the thread that renews them."""

    def __init__(self):
        self.lock = threading.Lock()
        self.taking = threading.Lock()
        self.held: dict[int, Lease] = {}  # by attempt
        self.unreleased: set[tuple[int, int]] = set()
        self.unsure: set[int] = set()  # claims that failed here but may have been committed
        self.pid = 0
        self.name = ""
        self.renewed_at = 0.0  # of our monotonic clock
        self.works = False  # a worker renews also while it holds no lease
        self.lapsed = False
        self.checks_for_lost = 0
        self.stopped = threading.Event()

    def start(self) -> str:
        """Return the name under which this process holds leases; start renewing if it does not yet.

        A forked child gets its own name and starts without leases. A late renewal registers the process
        again.
        """
        with self.lock:
            if self.pid != os.getpid():
                self.pid = os.getpid()
                self.name = f"{socket.gethostname()[:50]}:{self.pid}:{secrets.token_hex(4)}"
                self.held, self.unreleased, self.unsure, self.renewed_at = {}, set(), set(), 0.0
                self.stopped = threading.Event()
                threading.Thread(
                    target=self.renew_for_ever, args=(self.stopped,), name="leases", daemon=True
                ).start()
        late = time.monotonic() - self.renewed_at
        if late > RENEW_SECONDS + 1:
            self.lapsed |= self.works and self.renewed_at > 0 and late > LEASE.total_seconds()
            self.register()
        return self.name

    @property
    def free_slots(self) -> int:
        return settings.WAIT_SLOTS - len(self.held)

    def hold(self, attempt: LoginAttempt) -> Lease:
        lease = self.held[attempt.pk] = Lease(attempt)
        return lease

    def give_back(self, lease: Lease) -> None:
        key = (lease.attempt.pk, lease.epoch)
        # If the database is unreachable now, the renewal thread releases it later.
        self.unreleased.add(key)
        self.held.pop(key[0], None)
        try:
            if not (lease.over or lease.lost):
                release(*key, self.name)
            self.unreleased.discard(key)
        except (DatabaseError, InterfaceError):
            log.warning("attempt %s: its lease will be given back when the database is there again", key[0])

    def renew_for_ever(self, stopped: threading.Event) -> None:
        pause = RENEW_SECONDS
        while not stopped.wait(pause):
            try:
                self.renew()
                pause = RENEW_SECONDS
            except Exception:  # the next renewal may work; if this thread ended, all leases would lapse
                log.exception("leases were not renewed")
                db_errors.release_connection()
                pause = 1
            # Keeps its own connection: during a burst of answers it would have to queue for one.
            if not (self.held or self.works):
                db_errors.release_connection()
        db_errors.release_connection()

    def renew(self) -> None:
        """Renew first: a row that another transaction locks must not keep all leases from being renewed."""
        if self.held or self.works:
            self.renew_all()
        for key in list(self.unreleased):
            release(*key, self.name)
            self.unreleased.discard(key)
        if self.unsure:
            self.let_go_of_what_nobody_waits_for()

    def renew_all(self) -> None:
        now = db_clock.now()
        me = WaitsWorker.objects.filter(name=self.name)
        if not me.filter(alive_until__gt=now).update(alive_until=now + LEASE):
            self.lapsed = True
            self.register()
        self.renewed_at = time.monotonic()
        if self.checks_for_lost:
            self.checks_for_lost -= 1
            self.find_lost()

    def let_go_of_what_nobody_waits_for(self) -> None:
        if not self.taking.acquire(blocking=False):
            return  # renewal must not wait for a claim in progress; the next renewal tries again
        try:
            unsure = [attempt_id for attempt_id in self.unsure if attempt_id not in self.held]
            LoginAttempt.objects.filter(pk__in=unsure, lease_owner=self.name).update(lease_owner="")
            self.unsure.clear()
        finally:
            self.taking.release()

    def register(self) -> None:
        alive = {"alive_until": db_clock.now() + LEASE, "slots": settings.WAIT_SLOTS}
        WaitsWorker.objects.update_or_create(name=self.name, defaults=alive)
        self.renewed_at = time.monotonic()
        # Other workers may have claimed our leases meanwhile; such a claim may commit after our first check.
        self.checks_for_lost = CHECKS_FOR_LOST

    def find_lost(self) -> None:
        held = dict(self.held)
        epochs = LoginAttempt.objects.filter(pk__in=list(held)).values_list("pk", "lease_epoch")
        for pk, epoch in epochs:
            if epoch > held[pk].epoch:
                log.warning("attempt %s: another worker took the wait over; this one lets go", pk)
                held[pk].end()


_holder = _Holder()


def release(attempt_id: int, epoch: int, owner: str) -> None:
    LoginAttempt.objects.filter(pk=attempt_id, lease_owner=owner, lease_epoch=epoch).update(lease_owner="")


def claim(attempt_ids: list[int], owner: str) -> list[LoginAttempt | None]:
    """Claim attempts for `owner`, in one transaction; return them in the order of `attempt_ids`.

    None stands for each attempt that a living worker holds, that waits no more, or whose row is locked.
    Each claim increments the attempt's lease epoch and records an event.
    """
    now = db_clock.now()
    waiting = LoginAttempt.objects.claimable(now).filter(pk__in=attempt_ids).order_by("pk")
    with transaction.atomic(), gathered():
        # One lock order everywhere prevents deadlocks. A row that another claim locks is skipped, not
        # awaited: that claim is as good.
        rows = waiting.select_related("account__avatar").only(*WHAT_A_WAIT_NEEDS)
        rows = rows.select_for_update(of=("self",), skip_locked=True)
        found = _without_living_owners(list(rows), now)
        LoginAttempt.objects.filter(pk__in=list(found)).update(
            lease_owner=owner,
            lease_epoch=F("lease_epoch") + 1,
            wait_started_at=Coalesce(F("wait_started_at"), now),
        )
        resumed = [attempt for attempt in found.values() if attempt.is_started]
        if resumed:
            LoginAttempt.objects.filter(pk__in=[a.pk for a in resumed]).update(resumed_at=now)
            transaction.on_commit(lambda: families.CLAIMS_RESUMED.inc(len(resumed)), robust=True)
        for attempt in found.values():
            attempt.lease_owner, attempt.lease_epoch = owner, attempt.lease_epoch + 1
            attempt.resumed_at = now if attempt.is_started else attempt.resumed_at
            happened = EventType.WAIT_RESUMED if attempt.is_started else EventType.WAIT_TAKEN
            record(attempt.account, happened, attempt=attempt, at=now)
    return [found.get(attempt_id) for attempt_id in attempt_ids]


def _without_living_owners(rows: list[LoginAttempt], now: datetime) -> dict[int, LoginAttempt]:
    """Return {ID: attempt} of those that nobody living holds now.

    A worker may have registered and claimed a row since the statement that locked it began: such a statement of
    PostgreSQL returns the row as it is now, but looks for the owner in the snapshot of its beginning.
    """
    owners = {attempt.lease_owner for attempt in rows if attempt.is_leased}
    workers = WaitsWorker.objects.filter(name__in=owners, alive_until__gt=now)
    living = set(workers.values_list("name", flat=True)) if owners else set()
    return {attempt.pk: attempt for attempt in rows if attempt.lease_owner not in living}


def _take(attempt_ids: list[int]) -> list[Lease | None]:
    owner, held = _holder.start(), _holder.held
    with _holder.taking:
        slots = max(0, _holder.free_slots)
        wanted = [attempt_id for attempt_id in dict.fromkeys(attempt_ids) if attempt_id not in held][:slots]
        try:
            taken = dict(zip(wanted, claim(wanted, owner) if wanted else [], strict=True))
        except BaseException:
            _holder.unsure.update(wanted)
            raise
        # A duplicate message claims its attempt once.
        leases = [taken.pop(attempt_id, None) for attempt_id in attempt_ids]
        return [lease and _holder.hold(lease) for lease in leases]


# Group commit: `_take` may run in the thread and the transaction of another caller.
_together = GroupCommit(_take, TAKEN_AT_ONCE, unwanted=Lease.__exit__)


def begin() -> bool:
    """Register this process as a waits worker and keep it registered; idempotent.

    Returns whether its own leases lapsed since the last call. If so, those of other workers may have lapsed
    for the same cause.
    """
    _holder.works = True
    families.SLOTS.set(settings.WAIT_SLOTS)
    families.WAITS.set_function(lambda: len(_holder.held))
    _holder.start()
    lapsed, _holder.lapsed = _holder.lapsed, False
    return lapsed


def forget_old_workers() -> None:
    """Delete the rows of workers whose leases lapsed more than 1 day ago."""
    WaitsWorker.objects.filter(alive_until__lt=db_clock.now() - timedelta(days=1)).delete()


def take(attempt_id: int) -> Lease | None:
    """Claim an attempt and return its lease; None if it cannot be claimed or no slot is free.

    Concurrent calls share one transaction: the claim may run in the thread and the transaction of another
    caller. Call it outside a transaction. Raises Interrupted if that caller was killed; the claim may have
    been committed.
    """
    return _together(attempt_id)


_orphans = DueCheck({"orphaned": lambda now: (LoginAttempt.objects.unattended(now),)})


def claim_orphaned(of_the_dead: bool = True) -> list[Lease]:
    """Claim orphaned attempts and return their leases: at most one per free slot and TAKEN_AT_ONCE per call.

    Orphaned: no living worker holds the attempt, and no message brought it to one. `of_the_dead` False
    leaves out attempts whose last holder seems to be dead; only attempts without a holder are claimed.
    """
    most = min(TAKEN_AT_ONCE, _holder.free_slots)
    if most <= 0 or not _orphans(db_clock.now()):
        return []
    lost = [
        attempt_id for attempt_id, lease in list(_holder.held.items()) if lease.lost
    ]  # their steps are still ending
    waiting = LoginAttempt.objects.unattended(db_clock.now()).exclude(pk__in=lost).order_by("queued_at")
    if not of_the_dead:
        waiting = waiting.exclude(LEASED)
    found = list(waiting.values_list("pk", flat=True)[:most])
    return [lease for lease in _take(found) if lease is not None] if found else []


def seconds_left(attempt: LoginAttempt) -> float:
    """Return the seconds until the deadline plus GRACE, the time for a late answer; may be negative."""
    return (attempt.deadline_at + GRACE - db_clock.now()).total_seconds()


def still_waiting(lease: Lease) -> bool:
    """Return whether the attempt still waits under this lease; True if the database is unreachable."""
    waiting = LoginAttempt.objects.filter(
        pk=lease.attempt.pk, lease_epoch=lease.epoch, state=AttemptState.WAITING
    )
    try:
        return waiting.exists()
    except (DatabaseError, InterfaceError):
        return True
