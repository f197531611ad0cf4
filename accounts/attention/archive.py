"""The archive: accounts that are kept with their history, out of every list and job.

An online account is not archived: its login would go on at WKTeam with nobody to look after it. It is logged out
first. An archived account that comes online after all is never lost:

| What is learned | What becomes of it |
|---|---|
| a login of ours succeeds late, or its phone scans another account's QR code | restored, online, paused |
| WKTeam's list names it with a wId that is not ours | an unmanaged account; adopting it restores it |
"""

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from accounts.lib import db_clock
from accounts.logins import control
from accounts.models import Account, LoginAttempt
from accounts.models.event import gathered, record
from accounts.models.operators.assignable import UNASSIGNED
from accounts.states import AccountState, EventType


def archive(accounts: QuerySet[Account], *, by) -> int:
    """Cancel the logins of the accounts, and archive them. Return how many; online ones are left out.

    They are paused, so that a restored account does nothing before a person says so.
    """
    offline = accounts.filter(state__in=(AccountState.NEW, AccountState.OFFLINE), merged_into=None)
    going_on = LoginAttempt.objects.open().light().filter(account__in=offline.values("pk"))
    for attempt in going_on.select_related("account"):
        control.cancel(attempt, by=by)
    # Before the accounts are locked: a login that succeeds now locks its attempt first.
    now, busy = db_clock.now(), LoginAttempt.objects.open().filter(account=OuterRef("pk"))
    with transaction.atomic(), gathered():
        free = offline.filter(~Exists(busy)).order_by("pk")
        rows = list(free.select_for_update(of=("self",), no_key=True))
        mine = Account.objects.filter(pk__in=[account.pk for account in rows])
        mine.pause()
        mine.update(
            state=AccountState.ARCHIVED,
            state_since=now,
            relogin_at=None,
            queued_for_scan_at=None,
            silenced_until=None,
            **UNASSIGNED,
        )
        for account in rows:
            old, account.state = account.state, AccountState.ARCHIVED
            record(account, EventType.ARCHIVED, old=old, new=account.state, by=by, at=now)
    return len(rows)


def restore(accounts: QuerySet[Account], *, by) -> int:
    """Bring archived accounts back: offline and paused, or never logged in. Return how many."""
    now = db_clock.now()
    with transaction.atomic(), gathered():
        archived = accounts.filter(state=AccountState.ARCHIVED, merged_into=None).order_by("pk")
        rows = list(archived.select_for_update(of=("self",), no_key=True))
        for account in rows:
            account.state = AccountState.NEW if account.last_login_at is None else AccountState.OFFLINE
            account.state_since = now
        Account.objects.bulk_update(rows, ["state", "state_since"])
        for account in rows:
            record(account, EventType.RESTORED, old=AccountState.ARCHIVED, new=account.state, by=by, at=now)
    return len(rows)
