"""The store of the Authorization: encrypted in the database and shared by all processes.

One sign-in serves all threads and processes that wait for a new Authorization.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db import DatabaseError

from accounts.lib import db_clock
from accounts.lib.db_errors import release_connection
from accounts.lib.rows import RowLease
from accounts.models import UpstreamAccess
from accounts.reasons import Reason
from accounts.upstream.errors import (
    DeveloperExpired,
    DeveloperFrozen,
    Refused,
    SignInRefused,
    Unreachable,
    UpstreamError,
)
from accounts.upstream.sign_in_response import SignIn

log = logging.getLogger(__name__)

# For this long after a refused sign-in, the other waiting processes raise the same refusal without a retry.
REFUSED_FOR = timedelta(seconds=20)
CLEAR_SECONDS = 20
WHY: dict[type[UpstreamError], str] = {
    DeveloperFrozen: Reason.DEVELOPER_FROZEN,
    DeveloperExpired: Reason.DEVELOPER_EXPIRED,
    SignInRefused: Reason.SIGN_IN_REFUSED,
}


def access() -> UpstreamAccess | None:
    """Return the row of the WKTeam connection, without its Authorization; None before the first call."""
    rows = UpstreamAccess.objects.filter(base_url=settings.WK_BASE_URL, account=settings.WK_ACCOUNT)
    return rows.defer("authorization").first()


def refused() -> UpstreamAccess | None:
    """Return the row of the WKTeam connection if WKTeam refuses access, or None."""
    row = access()
    return row if row is not None and row.refused_at else None


class KeptTokens:
    """The Authorization of one developer account at one base URL; it is never sent to another base URL.

    `given`: the Authorization from the settings, "" for none. Calls that may take minutes follow a read or a
    renewal, so both release the database connection.
    """

    def __init__(self, base_url: str, account: str, given: str):
        self.base_url, self.account, self.given = base_url, account, given
        self.lock = threading.Lock()
        self.known = ""
        self.clear_again_at = self.failed_at = 0.0
        self.failure = UpstreamError()
        self.asking = threading.Lock()
        self.last_asked: tuple[str, float, bool | None] = ("", 0.0, None)

    def current(self) -> str:
        if not self.known:
            self.known = self.given or self.row().authorization
            release_connection()
        return self.known

    def is_refused(self, authorization: str, ask: Callable[[], bool | None]) -> bool | None:
        """Return `ask()`. Concurrent callers share the result of one that began after they called."""
        called = time.monotonic()
        with self.asking:
            asked_for, began, refused = self.last_asked
            if asked_for != authorization or began < called:
                began, refused = time.monotonic(), ask()
                self.last_asked = (authorization, began, refused)
            return refused

    def accepted(self) -> None:
        """Clear a saved refusal: WKTeam accepted the Authorization. Writes at most once in CLEAR_SECONDS."""
        if time.monotonic() > self.clear_again_at:
            self.clear_again_at = time.monotonic() + CLEAR_SECONDS
            self.write(self.rows().exclude(refused_at=None), refused_at=None, refused_why="", refused_text="")

    def row(self) -> UpstreamAccess:
        return UpstreamAccess.objects.get_or_create(base_url=self.base_url, account=self.account)[0]

    def rows(self):
        return UpstreamAccess.objects.filter(base_url=self.base_url, account=self.account)

    def signed_in(self, answer: SignIn) -> None:
        """Save the seats and the end of the developer account, also that this sign-in told none."""
        found = {"seats": answer.seats, "ends_at": answer.ends_at}
        self.write(self.rows(), **found, read_at=db_clock.now())

    def sign_in_again(self, seen: UpstreamAccess, sign_in: Callable[[], str]) -> bool:
        """Sign in although the Authorization is accepted, because the answer also describes the developer account.

        Returns False if another process signs in, or has since `seen` was read. Saves no alarm if WKTeam refuses:
        it accepts the Authorization, and calls that it refuses tell that by themselves.
        """
        lease = self.claim(seen)
        if lease is None:
            return False
        with lease:
            release_connection()
            self.known = self.keep(sign_in())
        return True

    @staticmethod
    def write(rows, **changes) -> None:
        """Update the rows; log a database error instead of raising, so that WKTeam's answer is not lost."""
        try:
            rows.update(**changes)
        except DatabaseError as error:
            log.warning("the state of the sign-in was not written: %s", type(error).__name__)

    def renew(self, refused: str, sign_in: Callable[[], str], began: float) -> str:
        """Return an Authorization other than `refused`, or the same one if it was issued again after `began`.

        `began`: time.monotonic() when the refused call began. One process signs in; other threads and
        processes that wait use its result. Raises the sign-in's error to all that waited, Unreachable if
        another process signs in for more than WK_TIMEOUT_SECONDS + 5 s.
        """
        asked = time.monotonic()
        with self.lock:
            if self.failed_at > asked:
                raise type(self.failure)(self.failure.text, self.failure.code)
            try:
                self.known = self.taken_or_signed_in(refused, sign_in, began)
            except UpstreamError as error:
                self.failed_at, self.failure = time.monotonic(), error
                raise
            finally:
                release_connection()
            return self.known

    def taken_or_signed_in(self, refused: str, sign_in: Callable[[], str], began: float) -> str:
        patience = time.monotonic() + settings.WK_TIMEOUT_SECONDS + 5
        while True:
            row, now = self.row(), db_clock.now()
            since = now - timedelta(seconds=time.monotonic() - began)
            is_new = row.authorization != refused or (row.renewed_at or since) > since
            if row.authorization and is_new:
                return row.authorization
            if row.refused_at and row.refused_at > now - REFUSED_FOR:
                raise self.kept_refusal(row)
            lease = self.claim(row)
            if lease is not None:
                with lease:
                    return self.sign_in_for_all(sign_in)
            if time.monotonic() > patience:
                raise Unreachable("another process is still signing in")
            release_connection()
            time.sleep(0.1)

    def claim(self, seen: UpstreamAccess) -> RowLease | None:
        """Claim the sign-in; return None if another process signs in, or has since `seen` was read."""
        unchanged = UpstreamAccess.objects.filter(renewed_at=seen.renewed_at, refused_at=seen.refused_at)
        length = timedelta(seconds=settings.WK_TIMEOUT_SECONDS + 5)
        return RowLease.claim(unchanged, seen.pk, "renewing_until", length)

    def sign_in_for_all(self, sign_in: Callable[[], str]) -> str:
        release_connection()
        try:
            value = sign_in()
        except Refused as error:
            self.alarm(error)
            raise
        return self.keep(value)

    def keep(self, value: str) -> str:
        known = {"authorization": value, "renewed_at": db_clock.now()}
        self.write(self.rows(), **known, refused_at=None, refused_why="", refused_text="")
        return value

    def alarm(self, error: UpstreamError) -> None:
        """Save that WKTeam refuses the sign-in, for the pages and for the next caller."""
        why = WHY.get(type(error), Reason.SIGN_IN_REFUSED)
        log.error("the upstream does not let us in: %s (code %s)", why, error.code)
        self.clear_again_at = 0.0
        self.write(
            self.rows(),
            refused_at=db_clock.now(),
            refused_why=why,
            refused_text=error.text,
        )

    @staticmethod
    def kept_refusal(row: UpstreamAccess) -> UpstreamError:
        kind = {why: kind for kind, why in WHY.items()}.get(row.refused_why, SignInRefused)
        return kind(row.refused_text)
