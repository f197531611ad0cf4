"""A scan run and the phones that answer it, by rows alone."""

from datetime import timedelta

from django.utils import timezone

from accounts.logins.success import complete_login
from accounts.models import Account, LoginAttempt, ScanRun, ScanRunItem
from accounts.models.operators.scan_run import ScanSource, ScanState
from accounts.scanning import queue
from accounts.scanning.advance import Advance
from accounts.states import AttemptState
from accounts.upstream.responses import LoggedIn, Profile
from tests.support.factories import fresh


def run_of(person, accounts: list[Account]) -> ScanRun:
    chosen = Account.objects.filter(pk__in=[account.pk for account in accounts])
    return queue.start_run(person, ScanSource.SELECTION, chosen)


def look(run: ScanRun, places: int = 1, *, seconds: float = 0) -> Advance:
    """What a page that looks at the run does, so many seconds from now."""
    return Advance(fresh(run), places, now=timezone.now() + timedelta(seconds=seconds)).step()


def shown(run: ScanRun) -> ScanRunItem | None:
    return run.items.filter(state=ScanState.SHOWN).select_related("attempt", "account").first()


def ready(run: ScanRun) -> ScanRunItem | None:
    return run.items.filter(state=ScanState.READY).select_related("attempt", "account").first()


def code_arrives(item: ScanRunItem, *, seconds: float = 0) -> LoginAttempt:
    """A worker has fetched the QR code, so many seconds from now."""
    now = timezone.now() + timedelta(seconds=seconds)
    attempt = fresh(item).attempt
    assert attempt.move(
        AttemptState.WAITING, now=now, sent_at=now, qr_shown_at=now, w_id=f"w-{attempt.pk}", qr_text="code"
    )
    return attempt


def ends(item: ScanRunItem, to: str, reason: str = "") -> None:
    assert fresh(item).attempt.move(to, reason=reason)


def phone_confirms(item: ScanRunItem) -> None:
    account = fresh(item.account)
    wc_id = account.wc_id or f"wxid_{account.pk}"
    complete_login(fresh(item).attempt, LoggedIn(Profile(wc_id=wc_id, w_id=f"w-{item.attempt_id}")))
