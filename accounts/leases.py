"""Who waits for which phone: a lease on the attempt's row, renewed while the process that holds it lives.

All leases of a process are renewed by one UPDATE every few seconds, whatever their number. When the process
dies they run out, and the sweep gives the waits to another. The epoch, one higher at each claim, is compared
whenever a wait writes, so that a process that slept past its lease cannot overwrite its successor.
"""

import logging
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts.history import record
from accounts.models import LoginAttempt
from accounts.states import AttemptState, Happened

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=9)
RENEW_SECONDS = 3


def give_back_connection() -> None:
    """Return the database connection before something slow: thousands wait, and they must not hold one each."""
    if not connection.in_atomic_block:
        connection.close()


class _Holder:
    """This process as a holder of leases."""

    def __init__(self):
        self.lock = threading.Lock()
        self.held: set[tuple[int, int]] = set()
        self.to_release: set[tuple[int, int]] = set()
        self.pid = 0
        self.name = ""
        self.stopped = threading.Event()

    def start(self) -> str:
        """The name under which this process holds leases; starts renewing them. A forked child is another holder."""
        with self.lock:
            if self.pid != os.getpid():
                self.pid = os.getpid()
                self.name = f"{socket.gethostname()[:50]}:{self.pid}:{secrets.token_hex(4)}"
                self.held, self.to_release, self.stopped = set(), set(), threading.Event()
                threading.Thread(
                    target=self.renew_for_ever, args=(self.stopped,), name="leases", daemon=True
                ).start()
            return self.name

    def renew_for_ever(self, stopped: threading.Event) -> None:
        while not stopped.wait(RENEW_SECONDS):
            try:
                self.renew()
            except Exception:  # whatever it is, the next round may work, and without rounds all leases lapse
                log.exception("leases were not renewed")
            finally:
                give_back_connection()

    def renew(self) -> None:
        for attempt_id, epoch in list(self.to_release):
            release(attempt_id, self.name, epoch)
            self.to_release.discard((attempt_id, epoch))
        if self.held:
            waits = LoginAttempt.objects.filter(state=AttemptState.WAITING, lease_owner=self.name)
            ids = [attempt_id for attempt_id, _epoch in list(self.held)]
            waits.filter(pk__in=ids).update(lease_until=timezone.now() + LEASE)


_holder = _Holder()


def release(attempt_id: int, owner: str, epoch: int) -> None:
    LoginAttempt.objects.filter(pk=attempt_id, lease_owner=owner, lease_epoch=epoch).update(
        lease_owner="", lease_until=None
    )


def claim(attempt_id: int, owner: str) -> LoginAttempt | None:
    """The attempt, with its lease taken by `owner`; None when it is held, or does not wait any more."""
    now = timezone.now()
    free = Q(lease_until=None) | Q(lease_until__lt=now)
    with transaction.atomic():
        rows = LoginAttempt.objects.filter(free, pk=attempt_id, state=AttemptState.WAITING).update(
            lease_owner=owner,
            lease_epoch=F("lease_epoch") + 1,
            lease_until=now + LEASE,
            wait_started_at=Coalesce(F("wait_started_at"), now),
        )
        if not rows:
            return None
        attempt = LoginAttempt.objects.select_related("account").get(pk=attempt_id)
        happened = Happened.WAIT_RESUMED if attempt.lease_epoch > 1 else Happened.WAIT_TAKEN
        record(attempt.account, happened, attempt=attempt, at=now)
    return attempt


@contextmanager
def held(attempt_id: int) -> Iterator[LoginAttempt | None]:
    """Hold the lease on an attempt while the block runs; None when it is not to be had.

    What ends the block, also a killed greenlet, ends the lease; where the database is away at that moment,
    the renewing thread gives it back later.
    """
    owner = _holder.start()
    attempt = claim(attempt_id, owner)
    if attempt is None:
        yield None
        return
    key = (attempt.pk, attempt.lease_epoch)
    _holder.held.add(key)
    try:
        yield attempt
    finally:
        _holder.held.discard(key)
        try:
            release(attempt.pk, owner, key[1])
        except (DatabaseError, InterfaceError):
            _holder.to_release.add(key)
