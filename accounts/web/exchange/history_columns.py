"""The columns of login attempts, events and drops as CSV files, by their heads."""

from array import array
from collections.abc import Callable, Iterator
from datetime import datetime

from django.db.models import Model, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import permissions
from accounts.lib.rows import in_batches
from accounts.models import AccountEvent, Drop, LoginAttempt
from accounts.proxies import proxy_name

Columns = dict[str, Callable[[Model], object]]
READ_AT_ONCE = 500


def attempt_columns(user) -> Columns:
    shown = {
        **_account(),
        _("Login attempt"): lambda attempt: attempt.pk,
        _("Requested"): lambda attempt: moment(attempt.created_at),
        _("Ended"): lambda attempt: moment(attempt.ended_at),
        _("Method"): _word(LoginAttempt, "method"),
        _("Trigger"): _word(LoginAttempt, "trigger"),
        _("By"): lambda attempt: attempt.asked_by_name,
        _("Proxy"): lambda attempt: proxy_name(attempt.proxy),
        _("State"): _word(LoginAttempt, "state"),
        _("Reason"): _word(LoginAttempt, "reason"),
        _("WKTeam response code"): lambda attempt: attempt.upstream_code,
        _("WKTeam message"): lambda attempt: attempt.upstream_text,
        _("Scanned by"): lambda attempt: attempt.other_name,
    }
    if permissions.may_log_in(user):
        shown["wId"] = lambda attempt: attempt.w_id
    return shown


def event_columns() -> Columns:
    return {
        **_account(),
        _("Event ID"): lambda event: event.pk,
        _("Time"): lambda event: moment(event.at),
        _("Event"): _word(AccountEvent, "happened"),
        _("Login attempt"): lambda event: event.attempt_id or "",
        _("From state"): lambda event: event.from_state,
        _("To state"): lambda event: event.to_state,
        _("Reason"): _word(AccountEvent, "reason"),
        _("Details"): lambda event: event.words,
        _("By"): lambda event: event.actor_name,
    }


def drop_columns() -> Columns:
    return {
        **_account(),
        _("Drop"): lambda drop: drop.pk,
        _("Detected"): lambda drop: moment(drop.at),
        _("Recovered"): lambda drop: moment(drop.ended_at),
        _("Type"): _word(Drop, "kind"),
        _("Detected by"): _word(Drop, "detected_by"),
        _("Online since"): lambda drop: moment(drop.online_since),
        _("Proxy"): lambda drop: proxy_name(drop.proxy),
        _("Incident"): lambda drop: drop.incident_id or "",
        _("Recovery"): _word(Drop, "next_step"),
        _("Prompts"): lambda drop: drop.prompts_sent,
        _("Recovered by"): _word(Drop, "ended_by"),
        _("WKTeam message"): lambda drop: drop.reason_text,
    }


def table(columns: Columns, rows: QuerySet, whole: QuerySet) -> Iterator[list]:
    """Yield the heads, then the rows in their order. Their IDs are read once, and then `whole` rows by their IDs."""
    yield list(columns)
    ids = array("q", rows.values_list("pk", flat=True).iterator(chunk_size=10_000))
    for some in in_batches(ids, READ_AT_ONCE):
        found = whole.select_related("account").in_bulk(some)
        yield from ([value(found[pk]) for value in columns.values()] for pk in some if pk in found)


def moment(at: datetime | None) -> str:
    return timezone.localtime(at).strftime("%Y-%m-%d %H:%M:%S") if at else ""


def _word(model: type[Model], column: str) -> Callable[[Model], str]:
    """Return what reads the word for a row's choice. Django would translate all choices for each row."""
    words = {value: str(word) for value, word in model._meta.get_field(column).flatchoices}
    return lambda row: words.get(getattr(row, column), getattr(row, column))


def _account() -> Columns:
    return {
        _("Account"): lambda row: row.account.display_name,
        "wcId": lambda row: row.account.wc_id or "",
    }
