"""The numbers of each chart of the overview as a table, which people load as CSV."""

from collections.abc import Callable, Iterator

from django.http import HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts.lib import db_clock
from accounts.reports import at_risk
from accounts.reports.at_risk import Risk
from accounts.reports.figures import Figures, Scan
from accounts.reports.history import DECLINED, OPEN, History
from accounts.states import AttemptState
from accounts.web.exchange.cells import csv_text
from accounts.web.visible_accounts import VisibleAccounts

RISKS_MOST = 10_000
OUTCOMES = {
    AttemptState.SUCCEEDED.value: gettext_lazy("Logged in"),
    AttemptState.EXPIRED.value: gettext_lazy("Timed out"),
    DECLINED: gettext_lazy("Declined on the phone"),
    AttemptState.FAILED.value: gettext_lazy("Failed"),
    AttemptState.CANCELLED.value: gettext_lazy("Cancelled"),
    OPEN: gettext_lazy("In progress"),
}


def figures_of(visible: VisibleAccounts, history: History) -> Figures:
    """Return the figures of the accounts that the person may see."""
    return Figures(history, timezone.get_current_timezone(), None if visible.are_all else visible.rows)


def risks_of(visible: VisibleAccounts, history: History, most: int) -> tuple[list[Risk], int]:
    return at_risk.at_risk(visible.rows_without_index, history, most)


def reason_of(risk: Risk) -> str:
    if risk.rule == at_risk.FIRST_DAY:
        return _("first day: expect one drop within 24 hours of the first login")
    if risk.rule == at_risk.OFTEN_DROPPED:
        return _("dropped %(n)s times in 30 days") % {"n": risk.number}
    text = ngettext(
        "online for %(n)s day, longer than 95%% of finished sessions",
        "online for %(n)s days, longer than 95%% of finished sessions",
        risk.number,
    )
    return text % {"n": risk.number}


def _logins_today(visible: VisibleAccounts, history: History) -> Iterator[tuple]:
    yield _("Outcome"), _("Logins")
    for outcome, number in figures_of(visible, history).today().items():
        yield OUTCOMES[outcome], number


def _success_rate(visible: VisibleAccounts, history: History) -> Iterator[tuple]:
    yield _("Day"), _("Logged in"), _("Not logged in")
    for day in figures_of(visible, history).success():
        yield day.date, day.succeeded, day.other


def _time_to_scan(visible: VisibleAccounts, history: History) -> Iterator[tuple]:
    yield _("Day"), _("Scans"), "p50 (s)", "p90 (s)"
    days, week = figures_of(visible, history).time_to_scan()
    yield from (_scan(day.date, day) for day in days)
    yield _scan(_("7 days"), week)


def _scan(name: object, scan: Scan) -> tuple:
    return name, scan.number, *("" if seconds is None else seconds for seconds in (scan.p50, scan.p90))


def _drops_by_proxy(visible: VisibleAccounts, history: History) -> Iterator[tuple]:
    yield _("Proxy"), _("Drops"), _("Accounts")
    for bar in figures_of(visible, history).drops_by_proxy():
        yield bar.name, bar.drops, bar.accounts


def _drops_by_hour(visible: VisibleAccounts, history: History) -> Iterator[tuple]:
    yield _("Hour"), _("Drops")
    for bar in figures_of(visible, history).drops_by_hour():
        yield bar.name, bar.drops


def _at_risk(visible: VisibleAccounts, history: History) -> Iterator[tuple]:
    yield _("Account"), "wcId", _("Reason")
    for risk in risks_of(visible, history, RISKS_MOST)[0]:
        yield risk.account.display_name, risk.account.wc_id or "", reason_of(risk)


TABLES: dict[str, Callable[[VisibleAccounts, History], Iterator[tuple]]] = {
    "logins-today": _logins_today,
    "success-rate": _success_rate,
    "time-to-scan": _time_to_scan,
    "drops-by-proxy": _drops_by_proxy,
    "drops-by-hour": _drops_by_hour,
    "at-risk": _at_risk,
}


def as_csv(name: str, visible: VisibleAccounts) -> HttpResponse:
    """Return a table as a file. It begins with a byte order mark, without which Excel misreads Chinese."""
    text = "\ufeff" + csv_text(TABLES[name](visible, History(db_clock.now())))
    response = HttpResponse(text, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response
