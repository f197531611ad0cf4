"""Who waits for which phone: a lease on the attempt's row, renewed while the process that holds it lives.

All leases of a process are renewed by one UPDATE every few seconds, whatever their number. When the process
dies they run out, and the waits workers that live take the rows up. The epoch, one higher at each claim, is
compared whenever a wait writes, so that a process that slept past its lease cannot overwrite its successor; when
it wakes, it finds its leases gone and ends the calls that it still makes under them.

A process holds at most WAIT_SLOTS leases: what it has no slot for stays in the database for another.
"""

import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import F
from django.db.models.functions import Coalesce

from accounts import clock
from accounts.history import gathered, record
from accounts.models import LoginAttempt
from accounts.states import Happened
from accounts.together import Together

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=9)
RENEW_SECONDS = 3
TAKEN_AT_ONCE = 200


def give_back_connection() -> None:
    """Return the database connection before something slow: thousands wait, and they must not hold one each."""
    if not connection.in_atomic_block:
        connection.close()


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
        self.held: set[Lease] = set()
        self.unreleased: set[tuple[int, int]] = set()
        self.pid = 0
        self.name = ""
        self.stopped = threading.Event()

    def start(self) -> str:
        """The name under which this process holds leases; starts renewing them. A forked child is another holder."""
        with self.lock:
            if self.pid != os.getpid():
                self.pid = os.getpid()
                self.name = f"{socket.gethostname()[:50]}:{self.pid}:{secrets.token_hex(4)}"
                self.held, self.unreleased, self.stopped = set(), set(), threading.Event()
                threading.Thread(
                    target=self.renew_for_ever, args=(self.stopped,), name="leases", daemon=True
                ).start()
            return self.name

    @property
    def free_slots(self) -> int:
        return settings.WAIT_SLOTS - len(self.held)

    def hold(self, attempt: LoginAttempt) -> Lease:
        lease = Lease(attempt)
        self.held.add(lease)
        return lease

    def give_back(self, lease: Lease) -> None:
        key = (lease.attempt.pk, lease.epoch)
        self.unreleased.add(
            key
        )  # where the database is away at this moment, the renewing thread does it later
        self.held.discard(lease)
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
            finally:
                give_back_connection()

    def renew(self) -> None:
        for key in list(self.unreleased):
            release(*key, self.name)
            self.unreleased.discard(key)
        held = {(lease.attempt.pk, lease.epoch): lease for lease in list(self.held) if not lease.lost}
        if not held:
            return
        mine = LoginAttempt.objects.held_by(self.name)
        if mine.update(lease_until=clock.now() + LEASE) < len(held):
            self.find_lost(held, set(mine.values_list("pk", "lease_epoch")))

    def find_lost(self, held: dict[tuple[int, int], Lease], mine: set[tuple[int, int]]) -> None:
        """Of those that were not renewed: who waits for another holder now. (One that ended here still listens.)"""
        gone = held.keys() - mine
        rows = LoginAttempt.objects.filter(pk__in=[pk for pk, _epoch in gone])
        epochs = dict(rows.values_list("pk", "lease_epoch"))
        for pk, epoch in gone:
            if epochs.get(pk, epoch) > epoch:
                log.warning("attempt %s: another worker took the wait over; this one lets go", pk)
                held[pk, epoch].end()


_holder = _Holder()


def release(attempt_id: int, epoch: int, owner: str) -> None:
    LoginAttempt.objects.filter(pk=attempt_id, lease_owner=owner, lease_epoch=epoch).update(
        lease_owner="", lease_until=None
    )


def claim(attempt_ids: list[int], owner: str) -> list[LoginAttempt | None]:
    """The attempts, with their leases taken by `owner`; None for each that is held, or waits no more."""
    now = clock.now()
    # With what is needed to write a success down without reading again.
    free = LoginAttempt.objects.to_wait_for(now).light().select_related("account__avatar")
    with transaction.atomic(), gathered():
        # In one order everywhere, and never behind somebody else who claims: their claim is as good.
        rows = (
            free.filter(pk__in=attempt_ids).order_by("pk").select_for_update(of=("self",), skip_locked=True)
        )
        found = {attempt.pk: attempt for attempt in rows}
        LoginAttempt.objects.filter(pk__in=list(found)).update(
            lease_owner=owner,
            lease_epoch=F("lease_epoch") + 1,
            lease_until=now + LEASE,
            wait_started_at=Coalesce(F("wait_started_at"), now),
        )
        resumed = [attempt for attempt in found.values() if attempt.was_waited_for]
        if resumed:
            LoginAttempt.objects.filter(pk__in=[a.pk for a in resumed]).update(resumed_at=now)
        for attempt in found.values():
            attempt.lease_owner, attempt.lease_epoch = owner, attempt.lease_epoch + 1
            attempt.resumed_at = now if attempt.was_waited_for else attempt.resumed_at
            happened = Happened.WAIT_RESUMED if attempt.was_waited_for else Happened.WAIT_TAKEN
            record(attempt.account, happened, attempt=attempt, at=now)
    return [found.get(attempt_id) for attempt_id in attempt_ids]


def _take(attempt_ids: list[int]) -> list[Lease | None]:
    owner = _holder.start()
    slots = max(0, _holder.free_slots)
    wanted = list(dict.fromkeys(attempt_ids))[:slots]
    taken = dict(zip(wanted, claim(wanted, owner) if wanted else [], strict=True))
    leases = [taken.pop(attempt_id, None) for attempt_id in attempt_ids]  # a doubled message takes it once
    return [lease and _holder.hold(lease) for lease in leases]


_together = Together(_take, TAKEN_AT_ONCE)


def take(attempt_id: int) -> Lease | None:
    """The lease on an attempt; None when it is not to be had, or this process has no slot left."""
    return _together(attempt_id)


def take_unattended() -> list[Lease]:
    """Leases on waits that no living worker holds and that no message brought to one, as many as slots are free."""
    most = min(TAKEN_AT_ONCE, _holder.free_slots)
    if most <= 0:
        return []
    waiting = LoginAttempt.objects.unattended(clock.now()).order_by("queued_at").values_list("pk", flat=True)
    found = list(waiting[:most])
    return [lease for lease in _take(found) if lease is not None] if found else []
