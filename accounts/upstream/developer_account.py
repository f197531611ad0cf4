"""The developer account: its seats, its end, and when `/member/login` is asked again what they are.

Only a sign-in tells them (`availableNumber`, `overdueTime`), and only some servers' do. WKTeam's docs advise one
sign-in, as its Authorization is permanent; a further one brings the same value. So a sign-in for these figures alone
is rare: once if none was read yet, once a day near the end or with few seats left, and once an hour while a prompt
waits for a seat. With WK_AUTHORIZATION there is none: then nothing is known, and nothing is limited.

A figure can be outdated, missing, or mean something else than we think, so it limits only what the portal does without
need: phone prompts, and those only while it is fresh and fits what WKTeam says about who is online.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q, QuerySet

from accounts.lib import db_clock
from accounts.models import Account, Drop, LoginAttempt, UnmanagedAccount, UpstreamAccess
from accounts.states import AccountState, NextStep
from accounts.upstream import configured, token_store
from accounts.upstream.errors import UpstreamError

log = logging.getLogger(__name__)

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
WARN_DAYS = (1, 7, 14)
# A figure that could not be read again for so long limits nothing.
FRESH_FOR = 2 * DAY
# With fewer free seats than this share, the figures are read every day.
FEW = 0.1


@dataclass(frozen=True, slots=True)
class DeveloperAccount:
    """What the last sign-in told, and how many accounts are online now, with and without a record.

    `seats` and `ends_at` are None where it told none.
    """

    seats: int | None
    online: int
    ends_at: datetime | None
    read_at: datetime
    now: datetime

    @property
    def is_fresh(self) -> bool:
        return self.now - self.read_at < FRESH_FOR

    @property
    def limit(self) -> int | None:
        """Return how many accounts may be online, None if that is not known.

        More accounts online than seats contradict the number: then it is no limit.
        """
        known = self.seats is not None and self.is_fresh and self.online <= self.seats
        return self.seats if known else None

    @property
    def is_full(self) -> bool:
        return self.limit == self.online

    @property
    def warning(self) -> int | None:
        """Return the step of WARN_DAYS that the end has reached; 0 once it has passed, None if it is far or unknown."""
        if self.ends_at is None:
            return None
        left = self.ends_at - self.now
        return 0 if left <= timedelta() else next((days for days in WARN_DAYS if left <= days * DAY), None)


def known(row: UpstreamAccess | None = None) -> DeveloperAccount | None:
    """Return what is known of the developer account, or None. `row`: that of the WKTeam connection, None to read it."""
    row = row or token_store.access()
    if row is None or row.read_at is None or settings.WK_AUTHORIZATION:
        return None
    if row.seats is None and row.ends_at is None:
        return None
    online = 0 if row.seats is None else _online()
    return DeveloperAccount(row.seats, online, row.ends_at, row.read_at, db_clock.now())


def _online() -> int:
    mine = Account.objects.filter(state=AccountState.ONLINE, merged_into=None)
    return mine.count() + UnmanagedAccount.objects.count()


def free_seats() -> int | None:
    """Return how many more accounts may come online, None if that is not known.

    A login in progress of an account that is not online may take a seat, so it counts.
    """
    account = known()
    if account is None or account.limit is None:
        return None
    coming = LoginAttempt.objects.open().exclude(account__state=AccountState.ONLINE)
    return account.limit - account.online - coming.count()


def free_seats_beside(attempt: LoginAttempt) -> int | None:
    """Return `free_seats` for an attempt that is about to send its prompt: of the other logins, those sent before it.

    Locks the WKTeam connection for the caller's transaction, if there is a limit: one prompt at a time is counted.
    """
    row = token_store.access()
    account = known(row)
    if account is None or account.limit is None:
        return None
    UpstreamAccess.objects.select_for_update(no_key=True).filter(pk=row.pk).values_list("pk").first()
    online = _online()  # counted again: another process may have had the lock
    before = LoginAttempt.objects.open().filter(sent_at__isnull=False).exclude(pk=attempt.pk)
    coming = before.exclude(account__state=AccountState.ONLINE)
    return account.limit - online - coming.count()


# --- reading it again --------------------------------------------------------------------------------------


def may_read() -> bool:
    return bool(settings.WK_PASSWORD) and not settings.WK_AUTHORIZATION


def due(now: datetime) -> Iterator[QuerySet]:
    """Yield the rows of connections whose figures may have to be read again."""
    yield UpstreamAccess.objects.filter(Q(read_due_at=None) | Q(read_due_at__lte=now))


def is_due() -> bool:
    """Return whether it is time to check if the figures must be read again. One query."""
    row = token_store.access() if may_read() else None
    return row is not None and (row.read_due_at is None or row.read_due_at <= db_clock.now())


def read_if_needed() -> bool:
    """Sign in to read the figures again, if they are needed. Return whether they were read. At most once an hour."""
    row, now = token_store.access(), db_clock.now()
    if row is None or not is_due():
        return False
    mine = UpstreamAccess.objects.filter(pk=row.pk, read_due_at=row.read_due_at)
    if not mine.update(read_due_at=now + HOUR) or not _is_needed(row, now):
        return False
    client = configured.client()
    try:
        return client.tokens.sign_in_again(row, client.sign_in)
    except UpstreamError as error:
        log.warning("the developer account could not be read: %s", type(error).__name__)
        return False


def _is_needed(row: UpstreamAccess, now: datetime) -> bool:
    if row.read_at is None:
        return True
    age, account = now - row.read_at, known(row)
    if account is None:
        return False
    if age >= HOUR and Drop.objects.open().filter(next_step=NextStep.SEATS).exists():
        return True
    ends_soon = account.ends_at is not None and account.ends_at - now < (max(WARN_DAYS) + 1) * DAY
    few_seats = account.seats is not None and account.online >= (1 - FEW) * account.seats
    return age >= DAY and (ends_soon or few_seats)
