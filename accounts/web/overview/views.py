"""The first page: what needs a person now, and whether today is normal."""

from contextlib import suppress
from datetime import datetime

from django.contrib.auth.decorators import login_required
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts import permissions
from accounts.lib import db_clock
from accounts.models import LastVisit
from accounts.reports.at_risk import COUNTED
from accounts.reports.figures import WEEK, rate_of
from accounts.reports.history import OPEN, History
from accounts.web.overview import charts, now, tables
from accounts.web.visible_accounts import VisibleAccounts

RISKS_SHOWN, PROXIES_SHOWN = 5, 6


@require_GET
@never_cache
@login_required
def overview(request: HttpRequest) -> HttpResponse:
    visible, history = VisibleAccounts(request.user), History(db_clock.now())
    return render(request, "overview/overview.html", {**_now(visible, history), **_charts(visible, history)})


@require_GET
@never_cache
@login_required
def overview_now(request: HttpRequest) -> HttpResponse:
    ctx = _now(VisibleAccounts(request.user), History(db_clock.now()))
    return render(request, "overview/_now.html", ctx)


@require_GET
@never_cache
@login_required
def overview_charts(request: HttpRequest) -> HttpResponse:
    ctx = _charts(VisibleAccounts(request.user), History(db_clock.now()))
    return render(request, "overview/_charts.html", ctx)


@require_GET
@never_cache
@login_required
def report(request: HttpRequest, name: str) -> HttpResponse:
    if name not in tables.TABLES:
        raise Http404
    return tables.as_csv(name, VisibleAccounts(request.user))


def _now(visible: VisibleAccounts, history: History) -> dict:
    user = visible.user
    todo = now.todo(visible)
    risks, at_risk_total = tables.risks_of(visible, history, RISKS_SHOWN)
    return {
        "today": date_format(timezone.localdate(), pgettext("today, as Django writes dates", "l, j F")),
        "health": now.health(user),
        "has_accounts": visible.rows.exists(),
        "todo": todo,
        "todo_total": sum(one.number for one in todo),
        "incidents": now.incidents(user),
        "risks": [
            {"account": risk.account, "risk": risk, "reason": tables.reason_of(risk)} for risk in risks
        ],
        "at_risk_total": f"{COUNTED}+" if at_risk_total > COUNTED else at_risk_total,
        "since": now.since(visible, _left_at(user)),
        "teams": permissions.teams_of(user),
        "may_add": permissions.may_add(user),
        "may_log_in": permissions.may_log_in(user),
    }


def _left_at(user) -> datetime | None:
    """Record that the person looks at this page. Return when the person left it before that, None if unknown."""
    with suppress(DatabaseError):  # it may take no rows now, as with a full disk: people read on
        return LastVisit.seen(user)
    return None


def _charts(visible: VisibleAccounts, history: History) -> dict:
    figures = tables.figures_of(visible, history)
    today, days, (scans, scans_of_week) = figures.today(), figures.success(), figures.time_to_scan()
    hours, proxies = figures.drops_by_hour(), figures.drops_by_proxy()
    return {
        "outcomes": [
            (outcome, tables.OUTCOMES[outcome], today[outcome]) for outcome in today if outcome != OPEN
        ],
        "logins_ended": sum(number for outcome, number in today.items() if outcome != OPEN),
        "logins_open": today[OPEN],
        "rate_week": _percent(rate_of(days[-WEEK:])),
        "rate_month": _percent(rate_of(days)),
        "days_chart": charts.stacked_days(days),
        "scan_chart": charts.lines(scans),
        "scan_p50": _seconds(scans_of_week.p50),
        "scan_p90": _seconds(scans_of_week.p90),
        "first_day": date_format(figures.days.dates[0], pgettext("a day, as Django writes dates", "j M")),
        "hours_chart": charts.hours(hours),
        "busiest": max(hours, key=lambda bar: bar.drops),
        "proxies": proxies[:PROXIES_SHOWN],
        "proxy_most": max((bar.drops for bar in proxies), default=0),
        "proxy_out": next((bar for bar in proxies if bar.times), None),
    }


def _seconds(number: int | None) -> str:
    return "—" if number is None else _("{n} s").replace("{n}", str(number))


def _percent(rate: float | None) -> str:
    return "—" if rate is None else f"{100 * rate:.1f}%"
