"""The upstream client from the settings."""

import logging
import math
import time
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from accounts.lib import db_errors
from accounts.lib.group_commit import GroupCommit
from accounts.models import Account, LoginAttempt, UnmanagedAccount
from accounts.upstream.client import Client
from accounts.upstream.errors import UpstreamError
from accounts.upstream.token_store import KeptTokens
from accounts.upstream.transport import Route

log = logging.getLogger(__name__)
RECONCILE_SECONDS = 4
COUNTED_SECONDS = 30
_counted = [0, -math.inf]  # how many accounts we know, and until when that counts


def client() -> Client:
    """Return the client for the settings; one per process, because it caches the Authorization."""
    return _client(
        settings.WK_BASE_URL,
        settings.WK_ACCOUNT,
        settings.WK_PASSWORD,
        settings.WK_AUTHORIZATION,
        seconds=settings.WK_TIMEOUT_SECONDS,
        login_type=settings.WK_LOGIN_TYPE,
        device_type=settings.WK_DEVICE_TYPE,
        sign_in_words=tuple(settings.WK_SIGN_IN_WORDS),
        accounts=known_accounts,
        route=Route(settings.WK_CA_BUNDLE, settings.WK_HTTP_PROXY),
    )


@lru_cache(maxsize=8)
def _client(base_url: str, account: str, password: str, authorization: str, **options) -> Client:
    return Client(base_url, account, password, KeptTokens(base_url, account, authorization), **options)


def known_accounts() -> int:
    """Return how many accounts we know, at most COUNTED_SECONDS old; older while the database is unreachable."""
    count, until = _counted
    if time.monotonic() > until:
        with suppress(DatabaseError, InterfaceError):
            count = Account.objects.exclude(wc_id=None).count() + UnmanagedAccount.objects.count()
        db_errors.release_connection()
        _counted[:] = count, time.monotonic() + COUNTED_SECONDS
    return count


def client_for(attempt: LoginAttempt) -> Client:
    """Return the client with the attempt's own device type, if it has one."""
    own = attempt.device_type
    return replace(client(), device_type=own) if own else client()


def online_instances() -> dict[str, str]:
    """Return {wId: wcId} of all online accounts, {} without a usable answer within RECONCILE_SECONDS.

    Concurrent callers share one `/queryLoginWx` call: it may run in the thread and the transaction of
    another caller. Releases that thread's database connection outside a transaction. Raises Interrupted if
    that caller was killed.
    """
    return _online(None)


def _ask_who_is_online(askers: list) -> list[dict[str, str]]:
    db_errors.release_connection()
    found = {}
    try:
        found = {entry.w_id: entry.wc_id for entry in client().online(RECONCILE_SECONDS)}
    except UpstreamError as error:
        log.warning("who is online is not known: %s", type(error).__name__)
    return [found] * len(askers)


# Group commit: `_ask_who_is_online` may run in the thread and the transaction of another caller.
_online = GroupCommit(_ask_who_is_online, most=10_000)
