"""The upstream client that the settings name."""

import logging
from dataclasses import replace
from functools import lru_cache

from django.conf import settings

from accounts.lib import db_errors
from accounts.lib.group_commit import GroupCommit
from accounts.models import LoginAttempt
from accounts.upstream.client import Client
from accounts.upstream.errors import UpstreamError
from accounts.upstream.token_store import KeptTokens

log = logging.getLogger(__name__)
RECONCILE_SECONDS = 4


def client() -> Client:
    """The upstream as the settings name it; one for the process, because it knows the Authorization."""
    return _client(
        settings.WK_BASE_URL,
        settings.WK_ACCOUNT,
        settings.WK_PASSWORD,
        settings.WK_AUTHORIZATION,
        seconds=settings.WK_TIMEOUT_SECONDS,
        login_type=settings.WK_LOGIN_TYPE,
        device_type=settings.WK_DEVICE_TYPE,
    )


@lru_cache(maxsize=8)
def _client(base_url: str, account: str, password: str, authorization: str, **options) -> Client:
    return Client(base_url, account, password, KeptTokens(base_url, account, authorization), **options)


def client_for(attempt: LoginAttempt) -> Client:
    """The same, as the device that this attempt asks for."""
    own = attempt.device_type
    return replace(client(), device_type=own) if own else client()


def online_instances() -> dict[str, str]:
    """{wId: wcId} of everybody online, {} when the upstream does not say. One call for all who ask at a time."""
    return _online(None)


def _ask_who_is_online(askers: list) -> list[dict[str, str]]:
    db_errors.release_connection()
    found = {}
    try:
        found = {entry.w_id: entry.wc_id for entry in client().online(RECONCILE_SECONDS)}
    except UpstreamError as error:
        log.warning("who is online is not known: %s", type(error).__name__)
    return [found] * len(askers)


_online = GroupCommit(_ask_who_is_online, most=10_000)
