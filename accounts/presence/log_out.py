"""Logging an account out at WKTeam, because a person asks for it."""

import logging

from django.db import transaction

from accounts.lib import db_errors
from accounts.models import Account
from accounts.models.event import record
from accounts.presence import sweep
from accounts.states import AccountState, EventType
from accounts.upstream import configured, errors
from accounts.upstream.errors import UpstreamError

log = logging.getLogger(__name__)


def log_out(account: Account, by=None) -> UpstreamError | None:
    """Pause the account, so that nothing logs it in again, and log it out by `/member/offline`.

    WKTeam logs it out a little later: the next presence check, which becomes due, takes it offline here. Returns
    the error if WKTeam did not do it. Unless it may have, the account is then not paused, and has its scheduled
    re-login again.
    """
    mine = Account.objects.filter(pk=account.pk)
    with transaction.atomic():
        paused = mine.pause()
        record(account, EventType.LOGGED_OUT, by=by)
    db_errors.release_connection()
    try:
        configured.client().log_out([account.wc_id])
    except UpstreamError as error:
        log.warning("account %s was not logged out: %s (%s)", account.pk, type(error).__name__, error.text)
        if paused and isinstance(error, errors.Refused | errors.Unreachable):
            mine.update(keep_online=True, relogin_at=account.relogin_at)
        return error
    finally:
        if mine.filter(state=AccountState.ONLINE).exists():
            sweep.check_soon()
    return None
