"""Accounts, login attempts and events as CSV files: those that the reader may see, as the list is filtered."""

from collections.abc import Callable, Iterator

from django.contrib.auth.decorators import login_required
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from accounts import permissions
from accounts.lib.rows import in_batches
from accounts.models import Account, AccountEvent, LoginAttempt
from accounts.web import selection
from accounts.web.account_list import AccountList
from accounts.web.exchange import columns
from accounts.web.exchange.cells import CsvResponse
from accounts.web.exchange.history_columns import Columns, attempt_columns, event_columns, moment

READ_AT_ONCE = 500
ACCOUNTS_AT_ONCE = 50  # whose attempts or events are read


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def export_accounts(request: HttpRequest) -> HttpResponse:
    """Send the accounts of the list that the query string names; posted by the selection bar, the selected ones."""
    if request.method == "POST":
        accounts = selection.chosen(request.user, request.POST)
    else:
        accounts = AccountList.of(request.user, request.GET).selection()
    selected = "selection" if request.method == "POST" else ""
    return CsvResponse("accounts", _accounts(request.user, accounts), filters=selected)


@require_GET
@never_cache
@login_required
def export_attempts(request: HttpRequest, account_id: int | None = None) -> HttpResponse:
    """Send the login attempts of an account, or of those of the list that the query string names."""
    accounts, account = _accounts_of(request, account_id)
    return CsvResponse(f"attempts-{account_id or 'all'}", _attempts(request.user, accounts), about=account)


@require_GET
@never_cache
@login_required
def export_events(request: HttpRequest, account_id: int | None = None) -> HttpResponse:
    """Send the events of an account, or of those of the list that the query string names."""
    accounts, account = _accounts_of(request, account_id)
    return CsvResponse(f"events-{account_id or 'all'}", _events(accounts), about=account)


def _accounts_of(request: HttpRequest, account_id: int | None) -> tuple[QuerySet[Account], Account | None]:
    if account_id is None:
        return AccountList.of(request.user, request.GET).selection(), None
    account = permissions.account_to_see(request, account_id)
    return Account.objects.filter(pk=account.pk), account


# --- the tables -------------------------------------------------------------------------------------------


def _accounts(user, accounts: QuerySet[Account]) -> Iterator[list]:
    """Yield the heads, then a row for each account. First the columns that an import reads, then its state."""
    typed = {str(columns.HEADS[name]): value for name, value in columns.VALUES.items()}
    shown = {**typed, **_state_columns()}
    if permissions.may_log_in(user):
        shown["wId"] = lambda account: account.w_id
    yield list(shown)
    for batch in _batches(accounts.select_related("team", "policy").defer("search_text")):
        columns.read_tag_names(batch)
        yield from ([value(account) for value in shown.values()] for account in batch)


def _state_columns() -> dict[str, Callable[[Account], object]]:
    """Return {head: value} of what the portal knows about an account. Its own proxy is secret: yes or no."""
    return {
        _("Own proxy"): lambda account: columns.yes(account.has_own_proxy),
        _("State"): lambda account: account.get_state_display(),
        _("In this state since"): lambda account: moment(account.state_since),
        _("Nickname"): lambda account: account.nickname,
        _("WeChat ID"): lambda account: account.wechat_id,
        _("First login"): lambda account: moment(account.first_login_at),
        _("Last login"): lambda account: moment(account.last_login_at),
        _("Last drop"): lambda account: moment(account.last_offline_at),
        _("Reason for the last drop"): lambda account: account.last_offline_reason,
        _("Scheduled re-login"): lambda account: moment(account.relogin_at),
    }


def _attempts(user, accounts: QuerySet[Account]) -> Iterator[list]:
    """Yield the heads, then a row for each login attempt: by account, its oldest first."""
    return _history(
        accounts, LoginAttempt.objects.light().defer("page_url", "verify_code"), attempt_columns(user)
    )


def _events(accounts: QuerySet[Account]) -> Iterator[list]:
    """Yield the heads, then a row for each event: by account, its oldest first."""
    return _history(accounts, AccountEvent.objects.all(), event_columns())


def _history(accounts: QuerySet[Account], rows: QuerySet, columns: Columns) -> Iterator[list]:
    yield list(columns)
    for account, row in _rows(accounts, rows):
        row.account = account
        yield [value(row) for value in columns.values()]


def _rows(accounts: QuerySet[Account], rows: QuerySet) -> Iterator[tuple[Account, models.Model]]:
    """Yield each account with each of its rows. The IDs of an account's rows are read once, by their index.

    A row that is another account's by the time it is read is left out: that one may not be visible.
    """
    for batch in _batches(accounts.only("label", "nickname", "wc_id"), ACCOUNTS_AT_ONCE):
        of = {account.pk: account for account in batch}
        keys = rows.filter(account__in=batch).order_by("account", "pk").values_list("pk", flat=True)
        for some in in_batches(list(keys), READ_AT_ONCE):
            found = rows.in_bulk(some)
            still = [found[key] for key in some if key in found and found[key].account_id in of]
            yield from ((of[row.account_id], row) for row in still)


def _batches(rows: QuerySet, size: int | None = None) -> Iterator[list]:
    """Yield the rows in the order of their IDs, each batch with its own query: no cursor stays open between two."""
    last = 0
    while batch := list(rows.filter(pk__gt=last).order_by("pk")[: size or READ_AT_ONCE]):
        last = batch[-1].pk
        yield batch
