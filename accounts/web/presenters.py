"""Context of the pages of an account and of a login: state, panel, history, and the reader's rights."""

from base64 import b64encode

from django.conf import settings
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from accounts import permissions
from accounts.lib import db_clock, images, pubsub
from accounts.logins import control, expire
from accounts.models import Account, LoginAttempt
from accounts.models.audit import shown
from accounts.models.audit.entry import AuditKind
from accounts.presence import sweep
from accounts.realtime import changes
from accounts.states import AttemptState, Method
from accounts.web.forms import DueForm, VerificationCodeForm
from accounts.web.history.account_page import (
    DROPS_LISTED,
    DROPS_SHOWN,
    HistoryFilter,
    history_of,
    history_query,
    month_shown,
)
from accounts.web.history.attempt_page import earlier_logins, timeline, way
from accounts.web.history.month_bar import bar

EVENTS_SHOWN = 100
SHOWN_LIVE = [
    *("state", "w_id", "state_since", "checked_at", "absent", "keep_online", "relogin_at"),
    *("queued_for_scan_at", "last_offline_at", "last_offline_reason"),
    *("assignee", "assigned_at", "assignment_note", "pause_reason", "silenced_until"),
]


def live_account(request: HttpRequest, account: Account) -> dict:
    """Return the context of the upper part of an account's page: state and panel.

    The panel shows the attempt in progress, or the last one. Ends an overdue attempt of the account first.
    """
    expire.expire_on_read(account)
    account.refresh_from_db(fields=SHOWN_LIVE)
    newest = account.attempts.light().select_related("asked_by").order_by("-id").first()
    if newest is not None:
        newest.account = account
    return {
        "account": account,
        "drop": account.drops.open().first(),
        "merged": merged_into(request, account),
        **panel(request, newest),
        **rights(request),
    }


def history_of_account(request: HttpRequest, account: Account) -> dict:
    """Return the context of an account's page below the panel, without the reader's rights."""
    chosen = HistoryFilter(request.GET, account)
    history = history_of(account, chosen, request.GET.get("page", ""))
    month = month_shown(request, account)
    drops = month.drops if month else []
    return {
        "account": account,
        "presence": sweep.seen(),
        "history": history,
        "history_filter": chosen,
        "history_query": history_query(chosen, request.GET.get("page", "") if history.previous else ""),
        "newer_query": history_query(chosen, history.previous),
        "older_query": history_query(chosen, history.next),
        "month": month,
        "month_bar": bar(month) if month else None,
        "drops": drops[:DROPS_SHOWN],
        "more_drops": drops[DROPS_SHOWN:DROPS_LISTED],
        "unlisted_drops": max(0, len(drops) - DROPS_LISTED),
        "due_form": DueForm(instance=account),
    }


def live_attempt(request: HttpRequest, attempt: LoginAttempt) -> dict:
    """Return the context of an attempt's page: the attempt with its panel and timeline.

    Ends an overdue attempt of the account first.
    """
    expire.expire_on_read(attempt.account)
    attempt.refresh_from_db()
    of_account = attempt.events.filter(Q(account=attempt.account) | Q(from_state__gt=""))
    events = list(of_account.order_by("id")[:EVENTS_SHOWN])
    return {
        "account": attempt.account,
        "merged": merged_into(request, attempt.account),
        "way": way(attempt, events),
        "earlier": earlier_logins(attempt, db_clock.now()),
        "timeline": timeline(events),
        "drop": attempt.account.drops.open().first(),
        **panel(request, attempt),
        **rights(request),
    }


def merged_into(request: HttpRequest, account: Account) -> QuerySet[Account]:
    """Return the records that the reader sees and that the portal merged into this account a short time ago."""
    merged = Account.objects.visible_to(request.user).filter(merged_into=account).select_related("team")
    return control.merged_by_portal(merged, db_clock.now()).prefetch_related("tags")


def panel(
    request: HttpRequest, attempt: LoginAttempt | None, code_form: VerificationCodeForm | None = None
) -> dict:
    """Return the context of the login panel."""
    now = db_clock.now()
    alone = changes.seconds_alone(attempt, now) if attempt else 0
    queue_unreachable = alone > 0 and not pubsub.ping()
    no_worker = alone > (
        changes.NO_WORKER_WITHOUT_QUEUE_AFTER if queue_unreachable else changes.NO_WORKER_AFTER
    )
    return {
        "attempt": attempt,
        "by_prompt": attempt is not None and attempt.method == Method.POPUP,
        "qr_data": qr_data(request, attempt),
        "page_code": page_code(request, attempt),
        "seconds_left": attempt.seconds_left(now) if attempt else 0,
        "wait_seconds": settings.WK_LOGIN_WAIT_SECONDS,
        "no_worker": no_worker,
        "queue_unreachable": queue_unreachable and not no_worker,
        "code_form": code_form or VerificationCodeForm(),
        "next_to_scan": next_to_scan(request, attempt),
        **_other_account(request, attempt),
    }


def _other_account(request: HttpRequest, attempt: LoginAttempt | None) -> dict[str, bool]:
    """Return what a reader may do about the account that scanned instead: see it, say that it is the one meant."""
    other = attempt.other_account_id if attempt else None
    visible = other is not None and Account.objects.visible_to(request.user).filter(pk=other).exists()
    meant = visible and permissions.may_edit(request.user) and control.may_be_meant(attempt)
    return {"other_visible": visible, "may_be_meant": meant}


def qr_data(request: HttpRequest, attempt: LoginAttempt | None) -> str:
    """Return the QR code as a data URL, which saves a request before the scan.

    Only for users who may log in.
    """
    return code_data(attempt) if attempt is not None and permissions.may_log_in(request.user) else ""


def code_data(attempt: LoginAttempt) -> str:
    """Return the QR code for a page that shows it now."""
    if attempt.state != AttemptState.WAITING or not attempt.qr_png:
        return ""
    shown.record(attempt, AuditKind.CODE_SHOWN)
    return as_data(attempt.qr_png)


def page_code(request: HttpRequest, attempt: LoginAttempt | None) -> str:
    """Return the URL of a verification page as a QR code for the phone. Only for users who may log in."""
    return page_data(attempt) if attempt is not None and permissions.may_log_in(request.user) else ""


def page_data(attempt: LoginAttempt) -> str:
    """Return the verification page's address for a page that shows it now."""
    if attempt.state != AttemptState.PAGE_REQUIRED or not attempt.page_url:
        return ""
    shown.record(attempt, AuditKind.PAGE_SHOWN)
    return as_data(images.code_png(attempt.page_url))


def as_data(png: bytes) -> str:
    return "data:image/png;base64," + b64encode(png).decode()


def next_to_scan(request: HttpRequest, attempt: LoginAttempt | None) -> Account | None:
    """After a login has ended, return the next account of the scan queue without an attempt in progress."""
    if attempt is None or attempt.is_open or not permissions.may_log_in(request.user):
        return None
    waiting = Account.objects.visible_to(request.user).to_scan().exclude(pk=attempt.account_id)
    busy = LoginAttempt.objects.open().filter(account__in=waiting.values("pk")).values("account")
    return waiting.exclude(pk__in=busy).first()


def rights(request: HttpRequest) -> dict[str, bool]:
    user = request.user
    return {
        "may_log_in": permissions.may_log_in(user),
        "may_edit": permissions.may_edit(user),
        "may_add": permissions.may_add(user),
    }
