"""Scan links: a phone's owner logs in one account through a link, without a sign-in here.

An account has at most one active link. It ends when the account logs in, by whatever way, when it runs out, or when a
person revokes it. What the page of a link can do: ask for a QR code or a phone prompt, send a verification code.
"""

import hashlib
import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q, QuerySet

from accounts.lib import db_clock
from accounts.logins import control, expire, start
from accounts.models import Account, Channel, LoginAttempt, Notification, Rule, ScanLink, ScanLinkOpening
from accounts.models.event import record
from accounts.models.operators.scan_link import ORDER, LinkState
from accounts.notifications import outbox
from accounts.reasons import Reason
from accounts.states import AccountState, AttemptState, EventType, Method, NotificationKind, Trigger

# So often a link's page may ask WKTeam, and so many times in a row without anybody's asking.
MOST_CODES, MOST_PROMPTS, RENEWALS = 20, 5, 3
# Openings of one link within OPENINGS_WITHIN; further ones are refused.
MOST_OPENINGS, OPENINGS_WITHIN = 60, timedelta(hours=1)
SCANNED = (AttemptState.CODE_REQUIRED, AttemptState.PAGE_REQUIRED)
ENDINGS = {
    LinkState.DONE: EventType.LINK_DONE,
    LinkState.EXPIRED: EventType.LINK_EXPIRED,
    LinkState.REVOKED: EventType.LINK_REVOKED,
}


class TooOften(Exception):
    """The link's page asked for more than a link may."""


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


# --- what people here do -----------------------------------------------------------------------------------


def may_have(account: Account) -> bool:
    """Return whether a link makes sense: for an account that can be logged in, and is not online."""
    return account.state in (AccountState.NEW, AccountState.OFFLINE) and account.merged_into_id is None


def create(account: Account, lasts: timedelta, *, by) -> ScanLink:
    """Create the account's link; an active one is revoked. The token is in `token`."""
    token, now = secrets.token_urlsafe(24), db_clock.now()
    with transaction.atomic():
        Account.objects.select_for_update(of=("self",), no_key=True).get(pk=account.pk)
        for old in account.scan_links.active():
            end(old, LinkState.REVOKED, now, by=by)
        link = ScanLink.objects.create(
            account=account,
            token_digest=_digest(token),
            token=token,
            created_by=by,
            created_by_name=by.get_username(),
            created_at=now,
            expires_at=now + lasts,
        )
        record(account, EventType.LINK_CREATED, by=by, at=now)
    return link


def end(link: ScanLink, state: str, now: datetime, *, by=None) -> bool:
    """End the link; return False if it has ended already. A login that its page asked for goes on."""
    with transaction.atomic():
        if not ScanLink.objects.active().filter(pk=link.pk).update(state=state, ended_at=now, token=""):
            return False
        link.state, link.ended_at, link.token = state, now, ""
        record(link.account, ENDINGS[state], attempt=link.attempt, by=by, at=now)
    return True


def channels_for(account: Account) -> QuerySet[Channel]:
    """Return the channels that a link may be sent by: those that are notified of the account's team."""
    rules = Rule.objects.filter(Q(teams=None) | Q(teams=account.team_id))
    return Channel.objects.active().filter(rules__in=rules).distinct().defer("url")


def send(link: ScanLink, channel: Channel) -> None:
    """Send the link by a channel. The message is written when it is sent: no other row holds the token."""
    now = db_clock.now()
    notification = Notification(
        key=f"scan_link:{link.pk}:{channel.pk}:{now.timestamp()}",
        kind=NotificationKind.SCAN_LINK,
        account=link.account,
        facts={"link": link.pk},
        at=now,
    )
    with transaction.atomic():
        outbox.send_to(channel, notification)
        _advance(link, LinkState.SENT, sent_at=now)
        record(link.account, EventType.LINK_SENT, detail=channel.name, at=now)


# --- what the link's page does -----------------------------------------------------------------------------


def find(token: str) -> ScanLink | None:
    rows = ScanLink.objects.select_related("account__team", "attempt", "created_by")
    link = rows.filter(token_digest=_digest(token)).first()
    if link is not None:
        expire.expire_on_read(link.account)
        settle(link)
    return link


def opened(link: ScanLink, address: str | None) -> None:
    """Record that somebody opened the page. Raises TooOften after MOST_OPENINGS."""
    now = db_clock.now()
    if link.openings.filter(at__gt=now - OPENINGS_WITHIN).count() >= MOST_OPENINGS:
        raise TooOften
    ScanLinkOpening.objects.create(link=link, at=now, address=address)
    if link.is_active and link.opened_at is None:
        with transaction.atomic():
            _advance(link, LinkState.OPENED, opened_at=now)
            record(link.account, EventType.LINK_OPENED, detail=address or "", at=now)


def attempt_of(link: ScanLink) -> LoginAttempt | None:
    """Return the login that the page shows: the account's in progress, also one of somebody else, or the link's last one."""
    return link.account.attempts.open().first() or link.attempt


def ask(link: ScanLink, method: str) -> int | None:
    """Ask for a QR code or a phone prompt. Return the ID of a login whose wait has to be queued for a worker.

    One in progress by the other method is cancelled first. Raises TooOften.
    """
    ScanLink.objects.filter(pk=link.pk).update(renewals=0)
    return _ask(link, method)


def renew(link: ScanLink) -> int | None:
    """Replace a QR code that ran out while somebody looks, RENEWALS times in a row. Returns as `ask`."""
    attempt = link.attempt
    ran_out = attempt and attempt.state == AttemptState.EXPIRED and attempt.method == Method.QR
    if not ran_out or not link.is_active or attempt_of(link).is_open:
        return None
    mine = ScanLink.objects.active().filter(pk=link.pk, renewals__lt=RENEWALS, codes__lt=MOST_CODES)
    if not mine.filter(attempt=attempt).update(renewals=F("renewals") + 1):
        return None
    return _ask(link, Method.QR)


def _ask(link: ScanLink, method: str) -> int | None:
    account, prompt = link.account, method == Method.POPUP
    if not link.is_active or link.expires_at <= db_clock.now() or (prompt and not account.wc_id):
        return None
    going_on = account.attempts.open().first()
    if going_on is not None and going_on.method == method:
        return _show(link, going_on)
    column, most = ("prompts", MOST_PROMPTS) if prompt else ("codes", MOST_CODES)
    mine = ScanLink.objects.active().filter(pk=link.pk, **{f"{column}__lt": most})
    if not mine.update(**{column: F(column) + 1}):
        raise TooOften
    if going_on is not None and not control.withdraw(going_on):
        return _show(link, going_on)
    attempt, begun = start.start_login(
        account, by=link.created_by, trigger=Trigger.LINK, method=method, queued=prompt
    )
    _show(link, attempt)
    return attempt.pk if begun and (prompt or start.fetch_qr_code(attempt)) else None


def _show(link: ScanLink, attempt: LoginAttempt) -> None:
    ScanLink.objects.filter(pk=link.pk).update(attempt=attempt)
    link.attempt = attempt


# --- what follows by itself --------------------------------------------------------------------------------


def settle(link: ScanLink) -> None:
    """Bring the link up to date with its account and its login. One that shows a QR code does not run out."""
    if not link.is_active:
        return
    now, account, attempt = db_clock.now(), link.account, link.attempt
    if attempt is not None and (attempt.state in SCANNED or attempt.reason == Reason.WRONG_ACCOUNT):
        _advance(link, LinkState.SCANNED, scanned_at=link.scanned_at or now)
    logged_in = account.last_login_at is not None and account.last_login_at > link.created_at
    if logged_in or (attempt is not None and attempt.state == AttemptState.SUCCEEDED):
        end(link, LinkState.DONE, now)
    elif account.is_archived or account.merged_into_id:
        end(link, LinkState.REVOKED, now)
    elif link.expires_at <= now and not (attempt is not None and attempt.is_open):
        end(link, LinkState.EXPIRED, now)


def due(now: datetime) -> Iterator[QuerySet]:
    yield ScanLink.objects.over(now)


def settle_due() -> None:
    for link in ScanLink.objects.over(db_clock.now()).select_related("account", "attempt")[:100]:
        settle(link)


def _advance(link: ScanLink, state: str, **changes) -> None:
    """Move the link forward to `state`; one that is further keeps its state."""
    if link.state in ORDER and ORDER.index(link.state) < ORDER.index(state):
        changes["state"] = state
    ScanLink.objects.active().filter(pk=link.pk).update(**changes)
    for name, value in changes.items():
        setattr(link, name, value)
