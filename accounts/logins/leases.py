"""Who waits for which phone: a lease on the attempt's row, renewed while the process that holds it lives.

A process renews all its leases at once, whatever their number, by one UPDATE of its own row (`WaitsWorker`) every
few seconds. When it dies they run out, and the waits workers that live take the rows up. The epoch, one higher at
each claim, is compared whenever a wait writes, so that a process that slept past its lease cannot overwrite its
successor; when it wakes, it finds its leases gone and ends the calls that it still makes under them.

A process holds at most WAIT_SLOTS leases: what it has no slot for stays in the database for another.
"""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import F
from django.db.models.functions import Coalesce

from accounts.lib import db_clock, db_errors
from accounts.lib.group_commit import GroupCommit
from accounts.models import LoginAttempt, WaitsWorker
from accounts.models.event import gathered, record
from accounts.models.login_attempt import GRACE
from accounts.states import AttemptState, EventType

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=9)
RENEW_SECONDS = 3
LOOKS_FOR_LOST = 3
TAKEN_AT_ONCE = 200
# Kept in memory by each of thousands: enough to ask for the code, to wait, and to write a success down.
WHAT_A_WAIT_NEEDS = (
    *("account", "state", "seq", "w_id", "proxy", "verify_code", "codes_tried", "sent_at", "queued_at"),
    *("method", "trigger", "device_type", "old_w_id"),
    *("deadline_at", "lease_owner", "lease_epoch", "wait_started_at", "resumed_at", "qr_shown_at"),
    *("account__state", "account__wc_id", "account__team", "account__merged_into", "account__proxy"),
    *("account__nickname", "account__wechat_number", "account__sex", "account__region", "account__mobile"),
    *("account__signature", "account__avatar_url", "account__first_login_at", "account__avatar__source_url"),
)


class Lease:
    """One attempt, held by this process. Use it as a context: what ends the block, also a killed greenlet, ends it.

    `cut` ends the outside call that is made under it, if there is one; it is called when the lease was `lost`.
    """

    __slots__ = ("attempt", "cut", "epoch", "lost", "over")

    def __init__(self, attempt: LoginAttempt):
        self.attempt = attempt
        self.epoch = attempt.lease_epoch
        self.lost = False
        self.over = False  # the row has ended, and its lease with it
        self.cut: Callable[[], None] | None = None

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_exc) -> None:
        _holder.give_back(self)

    def end(self) -> None:
        self.lost = True
        if self.cut is not None:
            self.cut()


class _Holder:
    """This process as a holder of leases."""

    def __init__(self):
        self.lock = threading.Lock()
        self.taking = threading.Lock()
        self.held: dict[int, Lease] = {}  # by attempt
        self.unreleased: set[tuple[int, int]] = set()
        self.unsure: set[int] = set()  # a claim may have been committed without anybody hearing of it
        self.pid = 0
        self.name = ""
        self.renewed_at = 0.0  # of our monotonic clock
        self.works = False  # a worker says that it lives also while it holds nothing
        self.lapsed = False
        self.looks_for_lost = 0
        self.stopped = threading.Event()

    def start(self) -> str:
        """The name under which this process holds leases; from now on it says that it lives.

        A forked child is another holder.
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
        # Where the database is away at this moment, the renewing thread does it later.
        self.unreleased.add(key)
        self.held.pop(key[0], None)
        try:
            if not (lease.over or lease.lost):
                release(*key, self.name)
            self.unreleased.discard(key)
        except (DatabaseError, InterfaceError):
            log.warning("attempt %s: its lease will be given back when the database is there again", key[0])

    def renew_for_ever(self, stopped: threading.Event) -> None:
        while not stopped.wait(RENEW_SECONDS):
            try:
                self.renew()
            except Exception:  # whatever it is, the next round may work, and without rounds all leases lapse
                log.exception("leases were not renewed")
                db_errors.release_connection()
            # A connection of its own is kept: behind a burst of answers it would have to queue for one.
            if not (self.held or self.works):
                db_errors.release_connection()

    def renew(self) -> None:
        for key in list(self.unreleased):
            release(*key, self.name)
            self.unreleased.discard(key)
        if self.unsure:
            self.let_go_of_what_nobody_waits_for()
        if not self.held and not self.works:
            return
        now = db_clock.now()
        me = WaitsWorker.objects.filter(name=self.name)
        if not me.filter(alive_until__gt=now).update(alive_until=now + LEASE):
            self.lapsed = True
            self.register()
        self.renewed_at = time.monotonic()
        if self.looks_for_lost:
            self.looks_for_lost -= 1
            self.find_lost()

    def let_go_of_what_nobody_waits_for(self) -> None:
        if not self.taking.acquire(blocking=False):
            return  # a claim is under way, and renewing must not wait for it: the next round will do
        try:
            unsure = [attempt_id for attempt_id in self.unsure if attempt_id not in self.held]
            LoginAttempt.objects.filter(pk__in=unsure, lease_owner=self.name).update(lease_owner="")
            self.unsure.clear()
        finally:
            self.taking.release()

    def register(self) -> None:
        WaitsWorker.objects.update_or_create(name=self.name, defaults={"alive_until": db_clock.now() + LEASE})
        self.renewed_at = time.monotonic()
        # What we hold may have been taken over meanwhile; who does so right now may commit after our first look.
        self.looks_for_lost = LOOKS_FOR_LOST

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
    """The attempts, with their leases taken by `owner`; None for each that is held, or waits no more."""
    now = db_clock.now()
    waiting = LoginAttempt.objects.to_wait_for(now).filter(pk__in=attempt_ids).order_by("pk")
    with transaction.atomic(), gathered():
        # In one order everywhere, and never behind somebody else who claims: their claim is as good.
        rows = waiting.select_related("account__avatar").only(*WHAT_A_WAIT_NEEDS)
        rows = rows.select_for_update(of=("self",), skip_locked=True)
        found = {attempt.pk: attempt for attempt in rows}
        LoginAttempt.objects.filter(pk__in=list(found)).update(
            lease_owner=owner,
            lease_epoch=F("lease_epoch") + 1,
            wait_started_at=Coalesce(F("wait_started_at"), now),
        )
        resumed = [attempt for attempt in found.values() if attempt.was_waited_for]
        if resumed:
            LoginAttempt.objects.filter(pk__in=[a.pk for a in resumed]).update(resumed_at=now)
        for attempt in found.values():
            attempt.lease_owner, attempt.lease_epoch = owner, attempt.lease_epoch + 1
            attempt.resumed_at = now if attempt.was_waited_for else attempt.resumed_at
            happened = EventType.WAIT_RESUMED if attempt.was_waited_for else EventType.WAIT_TAKEN
            record(attempt.account, happened, attempt=attempt, at=now)
    return [found.get(attempt_id) for attempt_id in attempt_ids]


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
        # A doubled message takes it once.
        leases = [taken.pop(attempt_id, None) for attempt_id in attempt_ids]
        return [lease and _holder.hold(lease) for lease in leases]


_together = GroupCommit(_take, TAKEN_AT_ONCE, unwanted=_holder.give_back)


def begin() -> bool:
    """Say that this process lives and waits for phones, from now on; harmless to repeat.

    Returns whether its own leases ran out since it was asked last: then those of others may have, for the same cause.
    """
    _holder.works = True
    _holder.start()
    lapsed, _holder.lapsed = _holder.lapsed, False
    return lapsed


def forget_old_workers() -> None:
    WaitsWorker.objects.filter(alive_until__lt=db_clock.now() - timedelta(days=1)).delete()


def take(attempt_id: int) -> Lease | None:
    """The lease on an attempt; None when it is not to be had, or this process has no slot left."""
    return _together(attempt_id)


def claim_orphaned(of_the_dead: bool = True) -> list[Lease]:
    """Leases on waits that no living worker holds and that no message brought to one, as many as slots are free.

    Without those `of_the_dead`: only what nobody has held yet.
    """
    most = min(TAKEN_AT_ONCE, _holder.free_slots)
    if most <= 0:
        return []
    lost = [
        attempt_id for attempt_id, lease in list(_holder.held.items()) if lease.lost
    ]  # whose step is not over
    waiting = LoginAttempt.objects.unattended(db_clock.now()).exclude(pk__in=lost).order_by("queued_at")
    if not of_the_dead:
        waiting = waiting.filter(lease_owner="")
    found = list(waiting.values_list("pk", flat=True)[:most])
    return [lease for lease in _take(found) if lease is not None] if found else []


def seconds_left(attempt: LoginAttempt) -> float:
    return (attempt.deadline_at + GRACE - db_clock.now()).total_seconds()


def still_waiting(lease: Lease) -> bool:
    """Whether the attempt still waits, and for us. Where the database is away, nobody says otherwise."""
    waiting = LoginAttempt.objects.filter(
        pk=lease.attempt.pk, lease_epoch=lease.epoch, state=AttemptState.WAITING
    )
    try:
        return waiting.exists()
    except (DatabaseError, InterfaceError):
        return True
