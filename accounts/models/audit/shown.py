"""QR codes and verification pages that somebody was shown: one entry for each login, viewer and address.

It is written before the answer is sent: no code is shown without its entry. Pages refresh every few seconds; a process
remembers what it has written, so that only the first of them writes.
"""

import threading

from django.db import transaction

from accounts.models.audit import log, origin
from accounts.models.audit.entry import AuditEntry, AuditKind
from accounts.models.login_attempt import LoginAttempt

REMEMBERED_MOST = 20_000
_written: set[str] = set()
_lock = threading.Lock()


def record(attempt: LoginAttempt, kind: AuditKind) -> None:
    """`kind`: CODE_SHOWN or PAGE_SHOWN. The viewer is who is signed in, or the scan link on whose page it is shown."""
    entry = log.new_entry(kind, origin.current())
    viewer = f"link {entry.link_id}" if entry.link_id else f"person {entry.actor_id}"
    entry.once = f"{kind} {attempt.pk} {viewer} {entry.address}"
    if entry.once in _written:
        return
    account = attempt.account
    log.set_account(entry, account, log.team_names([account]))
    entry.attempt_id = attempt.pk
    with transaction.atomic():
        AuditEntry.objects.bulk_create([entry], ignore_conflicts=True)
        transaction.on_commit(lambda: _remember(entry.once))


def _remember(once: str) -> None:
    with _lock:
        if len(_written) >= REMEMBERED_MOST:
            _written.clear()
        _written.add(once)
