"""Template tags that show a state, a time or a link of the list. They decide nothing."""

import json
from datetime import datetime

from django import template
from django.conf import settings
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from accounts import permissions, reasons
from accounts.attention.groups import Need
from accounts.lib.lists.keyset_pagination import COUNT_LIMIT
from accounts.models import Account, Avatar, Drop, LoginAttempt, Presence
from accounts.proxies import proxy_choices as choices_of_proxies
from accounts.proxies import proxy_name
from accounts.reasons import Reason
from accounts.roles import RoleCode
from accounts.states import AccountState, AttemptState, DropKind, Method

register = template.Library()

MINUTE, HOUR, DAY = 60, 3600, 86_400
# (limit in seconds, unit in seconds, text). The browser updates times with the same table.
UNITS = (
    (MINUTE, 1, gettext_lazy("{n} s")),
    (HOUR, MINUTE, gettext_lazy("{n} min")),
    (DAY, HOUR, gettext_lazy("{n} h")),
    (2 * DAY, DAY, gettext_lazy("{n} day")),
    (60 * DAY, DAY, gettext_lazy("{n} days")),
    (float("inf"), 30 * DAY, gettext_lazy("{n} months")),
)
JUST_NOW = 3
RECENT_SECONDS = 600
ATTEMPT_KINDS = {
    AttemptState.PREPARING: "waiting",
    AttemptState.WAITING: "waiting",
    AttemptState.CODE_REQUIRED: "due",
    AttemptState.PAGE_REQUIRED: "due",
    AttemptState.SUCCEEDED: "online",
    AttemptState.FAILED: "failed",
    AttemptState.EXPIRED: "expired",
}


# --- states ---------------------------------------------------------------------------------------------


@register.filter
def last_checked(account: Account, presence: Presence | None) -> datetime | None:
    return account.last_checked(presence)


@register.inclusion_tag("accounts/_chip.html")
def account_chip(account: Account) -> dict:
    kind = {AccountState.ONLINE: "online", AccountState.NEW: "new"}.get(account.state, "")
    dropped = account.state == AccountState.OFFLINE and account.keep_online
    return {"kind": "failed" if dropped else kind, "label": account.get_state_display()}


@register.inclusion_tag("accounts/_chip.html")
def attempt_chip(attempt: LoginAttempt) -> dict:
    prompted = attempt.method == Method.POPUP and attempt.state == AttemptState.WAITING
    label = _("Waiting for confirmation") if prompted else attempt.get_state_display()
    return {"kind": ATTEMPT_KINDS.get(attempt.state, ""), "label": label}


@register.inclusion_tag("accounts/_chip.html")
def row_chip(account: Account) -> dict:
    """The chip of an account as `account_rows.describe` returns it: the login in progress, the need, the state."""
    if attempt := account.open_attempt:
        chip = attempt_chip(attempt)
        prompted = attempt.method == Method.POPUP and attempt.state == AttemptState.WAITING
        label = pgettext("chip of a login whose prompt is shown", "On the phone")
        return {**chip, "label": label} if prompted else chip
    if account.need == Need.SCAN:
        return {"kind": "due", "label": Need.SCAN.label}
    return attempt_chip(account.failure) if account.need == Need.FAILED else account_chip(account)


@register.inclusion_tag("accounts/_chip.html")
def drop_chip(drop: Drop) -> dict:
    expected = drop.kind == DropKind.FIRST_NIGHT
    return {"kind": "due" if expected else "failed", "label": drop.get_kind_display()}


@register.filter
def state_label(code: str) -> str:
    """Return the title of an account's or attempt's state, from its code in an event row."""
    known = {**dict(AccountState.choices), **dict(AttemptState.choices)}
    return str(known.get(code, code))


@register.filter
def reason_label(code: str) -> str:
    return str(dict(Reason.choices).get(code, code))


@register.filter
def advice(code: str) -> Promise | str:
    return reasons.advice(code)


@register.simple_tag
def version() -> str:
    return settings.VERSION


@register.simple_tag
def last_w_id(history: list[LoginAttempt]) -> str:
    """Return the wId of the newest login that succeeded, among the attempts on this page of the history."""
    return next((past.w_id for past in history if past.state == AttemptState.SUCCEEDED), "")


# --- times ----------------------------------------------------------------------------------------------


def words_for(seconds: float) -> str:
    seconds = max(0, int(seconds))
    for limit, size, words in UNITS:
        if seconds < limit:
            return str(words).replace("{n}", str(seconds // size))
    raise AssertionError("the last unit has no limit")


def words_for_ago(seconds: float) -> str:
    return _("just now") if seconds < JUST_NOW else _("{time} ago").replace("{time}", words_for(seconds))


def exactly(moment: datetime) -> str:
    return timezone.localtime(moment).strftime("%Y-%m-%d %H:%M:%S %Z")


def seconds_since(moment: datetime) -> float:
    return max(0.0, (timezone.now() - moment).total_seconds())


def _time(moment: datetime | None, kind: str, seconds: float, text: str) -> SafeString | str:
    if moment is None:
        return "—"
    return format_html(
        '<time datetime="{}" title="{}" data-{}="{}">{}</time>',
        moment.isoformat(timespec="seconds"), exactly(moment), kind, int(seconds), text,
    )  # fmt: skip


@register.simple_tag
def ago(moment: datetime | None) -> SafeString | str:
    """Return a time such as “2 min ago”, which the browser keeps current."""
    seconds = seconds_since(moment) if moment else 0
    return _time(moment, "ago", seconds, words_for_ago(seconds))


@register.simple_tag
def lasting(moment: datetime | None) -> SafeString | str:
    """Return the time since that moment, such as “12 days”, which the browser keeps current."""
    seconds = seconds_since(moment) if moment else 0
    return _time(moment, "lasting", seconds, words_for(seconds))


@register.simple_tag
def when(moment: datetime | None, short: bool = False) -> SafeString | str:
    """Return a time such as “Today 14:02” or “19 Nov 09:11”, with the exact time on hover. `short`: “14:02” today."""
    if moment is None:
        return "—"
    local, today = timezone.localtime(moment), timezone.localdate()
    if local.date() == today:
        text = ("{time}" if short else _("Today {time}")).replace("{time}", local.strftime("%H:%M"))
    elif local.year == today.year:
        text = date_format(
            local, pgettext("a day and a time of this year, as Django writes dates", "j M H:i")
        )
    else:
        text = local.strftime("%Y-%m-%d %H:%M")
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        moment.isoformat(timespec="seconds"),
        exactly(moment),
        text,
    )


@register.simple_tag
def took(begin: datetime | None, end: datetime | None) -> str:
    """Return a duration such as “0.4 s”, “21 s” or “2 min 30 s”."""
    return duration(None if begin is None or end is None else (end - begin).total_seconds())


@register.filter
def duration(seconds: float | None) -> str:
    """Format seconds as `took` does; "—" for None."""
    if seconds is None:
        return "—"
    seconds = max(0.0, seconds)
    if seconds < 10:
        return str(UNITS[0][2]).replace("{n}", f"{seconds:.1f}")
    whole = round(seconds)
    if whole < MINUTE or whole >= HOUR:
        return words_for(whole)
    rest = f" {words_for(whole % MINUTE)}" if whole % MINUTE else ""
    return words_for(whole) + rest


@register.filter
def clock(seconds: float) -> str:
    """Format the seconds left as m:ss."""
    seconds = max(0, int(seconds))
    return f"{seconds // MINUTE}:{seconds % MINUTE:02}"


@register.filter
def seconds_left(attempt: LoginAttempt) -> float:
    return attempt.seconds_left(timezone.now())


@register.filter
def is_recent(moment: datetime | None) -> bool:
    return moment is not None and seconds_since(moment) < RECENT_SECONDS


@register.simple_tag
def time_words() -> str:
    """Return the table of units and the texts around them as JSON, for the browser."""
    return json.dumps(
        {
            "units": [
                [limit if limit != float("inf") else None, size, str(words)] for limit, size, words in UNITS
            ],
            "ago": _("{time} ago"),
            "now": _("just now"),
            "nowBelow": JUST_NOW,
        },
        ensure_ascii=False,
    )


# --- the list -------------------------------------------------------------------------------------------


@register.simple_tag
def query(search, **changes) -> str:
    """Return the list's query string with some parameters changed."""
    return search.query(**changes)


@register.simple_tag
def current_tab(tabs: list[dict]) -> dict:
    """Return the tab that is shown."""
    return next(tab for tab in tabs if tab["current"])


@register.filter
def capped(count: int) -> str:
    """Format a count: 312, 9,999, or 10,000+ where counting stopped."""
    return f"{COUNT_LIMIT:,}+" if count > COUNT_LIMIT else f"{count:,}"


@register.simple_tag
def know_avatars(accounts: list[Account]) -> str:
    """Set `avatar_made` on these accounts with one query: when their pictures were made. Returns no text."""
    made = dict(Avatar.objects.filter(account__in=accounts).values_list("pk", "fetched_at"))
    for account in accounts:
        account.avatar_made = made.get(account.pk)
    return ""


@register.simple_tag
def avatar(account: Account) -> str:
    """Return the address of the account's picture, "" without one. Another picture has another address."""
    if not account.avatar_url:
        return ""
    if not hasattr(account, "avatar_made"):
        know_avatars([account])
    made = account.avatar_made
    return f"{reverse('avatar', args=[account.pk])}?v={made:%y%m%d%H%M%S%f}" if made else ""


@register.filter
def initial(name: str) -> str:
    return name.strip()[:1].upper() or "?"


# --- people and proxies ---------------------------------------------------------------------------------


@register.simple_tag
def proxy_choices() -> list[tuple[str | int, str]]:
    return choices_of_proxies()


@register.filter("proxy_name")
def name_of_proxy(code: str | int | None) -> str:
    """Return the name of a proxy, from its code as a number or as text; "" without one."""
    return proxy_name(int(code)) if str(code or "").isdecimal() else ""


@register.filter
def role(user) -> str:
    """Name what the user may do, in the words of roles: also who has rights without a role, and without a query."""
    sees_all, operates = permissions.sees_all(user), permissions.may_log_in(user)
    if permissions.may_manage_people(user) or (sees_all and operates):
        return RoleCode.ADMIN.label
    if sees_all:
        return RoleCode.AUDITOR.label
    if permissions.may_manage_members(user):
        return RoleCode.LEAD.label
    if operates:
        return RoleCode.OPERATOR.label
    return RoleCode.VIEWER.label if user.has_perm("accounts.view_account") else _("No role")
