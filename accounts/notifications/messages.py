"""Texts of messages, in the channel's language.

A message says what happened, why, since when, what happens next, and links to the page. No wId, wcId, phone
number or code is ever in it, because it passes through third-party services. The link of a scan link is in the one
message that a person sends.
"""

import re
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import QuerySet
from django.urls import NoReverseMatch, reverse
from django.utils import timezone, translation
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from accounts.models import Account, Channel, Delivery, Drop, Notification, Rule, ScanLink
from accounts.models.notification import UNUSABLE
from accounts.proxies import proxy_name
from accounts.reasons import Reason, advice
from accounts.states import DropKind, NextStep, NotificationKind, ScanReason

# The shortest limit among the services is WeCom's: 2,048 bytes including the title.
TITLE_BYTES, BODY_BYTES = 150, 1800
LINES = 15
LABEL = 60
HIDDEN = "…"
NAMES_OF_OTHERS = re.compile(r"wxid_\w+|(?<!\d)(?:\+?86)?1\d{10}(?!\d)|\b[0-9a-f]{8}-[0-9a-f-]{20,}\b")
# Characters that chat services turn into a mention or a link.
MENTIONS = str.maketrans({"@": "＠", "<": "‹", ">": "›", "`": "'"})


def message(deliveries: list[Delivery], channel: Channel) -> tuple[str, str]:
    """Return the title and text of one message for all these deliveries.

    Each delivery needs its notification with account, drop and incident. The text ends with the message
    number, which stays the same when the message is retried.
    """
    number = min(delivery.pk for delivery in deliveries)
    with translation.override(channel.language):
        title, lines = _single(deliveries[0]) if len(deliveries) == 1 else _digest(deliveries)
        foot = _("Message %(number)s") % {"number": number}
        body = _cut("\n".join(lines), BODY_BYTES)
        return _cut(title, TITLE_BYTES), f"{body}\n{foot}"


def test_message(channel: Channel) -> tuple[str, str]:
    with translation.override(channel.language):
        lines = [_("This is a test message. Notifications for this channel arrive here."), *link("accounts")]
        return _("Test message"), "\n".join(lines)


# --- one notification per message ------------------------------------------------------------------------


def _single(delivery: Delivery) -> tuple[str, list[str]]:
    return WORDS[delivery.notification.kind](delivery.notification, delivery)


def _offline(notification: Notification, _delivery: Delivery) -> tuple[str, list[str]]:
    account = notification.account
    lines = [_("Offline since %(since)s.") % {"since": said(notification.at)}]
    lines += _why(notification.drop, account) + _next(notification.drop)
    return _("Offline: %(label)s") % {"label": label(account)}, [*lines, *link("account", account.pk)]


def _to_scan(notification: Notification, _delivery: Delivery) -> tuple[str, list[str]]:
    account = notification.account
    lines = []
    if notification.drop is not None:
        lines += [
            _("Offline since %(since)s.") % {"since": said(notification.drop.at)},
            *_why(notification.drop, account),
        ]
    because = notification.facts.get("because", "")
    if because in ScanReason.values:
        lines.append(_("Reason for the scan: %(because)s.") % {"because": ScanReason(because).label})
    lines.append(_("Next: open the account’s page, get the QR code and scan it with the account’s phone."))
    return _("Queued for scan: %(label)s") % {"label": label(account)}, [*lines, *link("account", account.pk)]


def _back(notification: Notification, _delivery: Delivery) -> tuple[str, list[str]]:
    account = notification.account
    lines = [_("Back online since %(since)s.") % {"since": said(notification.at)}]
    if notification.drop is not None:
        lines.append(_("Offline for %(time)s.") % {"time": lasted(notification.drop.at, notification.at)})
    return _("Back online: %(label)s") % {"label": label(account)}, [*lines, *link("account", account.pk)]


def _incident(notification: Notification, delivery: Delivery) -> tuple[str, list[str]]:
    count, left = _counted(notification, delivery)
    title = ngettext("%(count)s account dropped", "%(count)s accounts dropped at once", count)
    lines = [
        _("Started %(since)s. Still offline: %(left)s.") % {"since": said(notification.at), "left": left},
        *_shares(notification),
        _("Next: the accounts are recovered one by one. Those that need a scan are added to the scan queue."),
        _("You won’t be notified about each account, only once more when the incident ends."),
    ]
    return title % {"count": count}, [*lines, *link("incident", notification.incident_id)]


def _incident_over(notification: Notification, delivery: Delivery) -> tuple[str, list[str]]:
    count, left = _counted(notification, delivery)
    title = ngettext(
        "Incident ended: %(count)s account had dropped",
        "Incident ended: %(count)s accounts had dropped",
        count,
    )
    began = notification.incident.at
    lines = [
        _("Started %(since)s, lasted %(time)s.")
        % {"since": said(began), "time": lasted(began, notification.at)},
        *_shares(notification),
    ]
    if left:
        lines.append(_("Still offline because paused: %(left)s.") % {"left": left})
    else:
        lines.append(_("All accounts are back online."))
    return title % {"count": count}, [*lines, *link("incident", notification.incident_id)]


def _upstream(notification: Notification, _delivery: Delivery) -> tuple[str, list[str]]:
    facts = notification.facts
    if facts.get("over"):
        began = datetime.fromisoformat(facts["since"])
        lines = [_("Resolved. The problem started %(since)s.") % {"since": said(began)}]
        if facts.get("presence"):
            return _("Presence checks work again"), lines
        return _("WKTeam access restored"), lines
    lines = [_("Started %(since)s.") % {"since": said(notification.at)}]
    why = facts.get("why", "")
    if why in Reason.values:
        lines += [str(Reason(why).label), str(advice(why))]
    if facts.get("text"):
        lines.append(
            _("WKTeam message: “%(words)s”")
            % {"words": plain(NAMES_OF_OTHERS.sub(HIDDEN, facts["text"]), 200)}
        )
    if facts.get("presence"):
        lines.append(_("Until WKTeam responds, pages show the last known state of each account."))
        return _("Presence checks are failing"), [*lines, *link("accounts")]
    lines.append(_("No account can log in until then."))
    return _("WKTeam access denied"), [*lines, *link("accounts")]


def _limits(notification: Notification, _delivery: Delivery) -> tuple[str, list[str]]:
    facts = notification.facts
    if "ends_at" in facts:
        ends_at = datetime.fromisoformat(facts["ends_at"])
        days = -((notification.at - ends_at) // timedelta(days=1))
        title = ngettext(
            "Developer account ends in %(count)s day", "Developer account ends in %(count)s days", days
        )
        lines = [
            _("It ends on %(date)s. No account can log in after that.") % {"date": day(ends_at)},
            _("Next: an admin must renew it with WKTeam."),
        ]
        return title % {"count": days}, [*lines, *link("accounts")]
    seats = facts.get("seats", 0)
    used = ngettext(
        "The %(count)s seat of the developer account is taken.",
        "All %(count)s seats of the developer account are taken.",
        seats,
    )
    lines = [
        used % {"count": seats},
        _("No phone prompts are sent until a seat is free."),
        _("Next: log out accounts that aren’t needed, or have an admin buy seats from WKTeam."),
    ]
    return _("No free seat at WKTeam"), [*lines, *link("accounts")]


def _plan(notification: Notification, _delivery: Delivery) -> tuple[str, list[str]]:
    counts = notification.facts.get("counts", {})
    titles = {
        "due": pgettext("of a plan’s run", "due"),
        "online": pgettext("of a plan’s run", "online"),
        "to_scan": pgettext("of a plan’s run", "queued for scan"),
        "failed": pgettext("of a plan’s run", "failed"),
        "left": pgettext("of a plan’s run", "remaining"),
    }
    parts = [f"{titles[name]} {counts[name]}" for name in titles if name in counts]
    lines = [_("Run at %(since)s.") % {"since": said(notification.at)}, " · ".join(parts)]
    title = _("Plan “%(name)s” finished") % {"name": plain(notification.facts.get("name", ""), LABEL)}
    return title, [line for line in [*lines, *link("to_scan")] if line]


def _channel(notification: Notification, _delivery: Delivery) -> tuple[str, list[str]]:
    name = plain(notification.facts.get("name", ""), LABEL)
    why = notification.facts.get("why", "")
    lines = [
        _("This channel stopped sending notifications at %(since)s.") % {"since": said(notification.at)},
        _("Reason: %(words)s") % {"words": plain(str(UNUSABLE.get(why, why)), 200)},
        _("Next: an admin must correct its address and enable it again."),
    ]
    return _("Channel “%(name)s” disabled") % {"name": name}, lines


def _scan_link(notification: Notification, _delivery: Delivery) -> tuple[str, list[str]]:
    scan_link = ScanLink.objects.get(pk=notification.facts["link"])
    lines = [
        _("Open this link and follow its steps. Best on a second screen, with the phone at hand."),
        *link("scan_link", scan_link.token),
        _("Valid until %(until)s. Asked for by %(name)s.")
        % {"until": said(scan_link.expires_at), "name": plain(scan_link.created_by_name, LABEL)},
    ]
    return _("Please log in: %(label)s") % {"label": label(notification.account)}, lines


WORDS: dict[str, Callable[[Notification, Delivery], tuple[str, list[str]]]] = {
    NotificationKind.OFFLINE: _offline,
    NotificationKind.TO_SCAN: _to_scan,
    NotificationKind.BACK: _back,
    NotificationKind.INCIDENT: _incident,
    NotificationKind.INCIDENT_OVER: _incident_over,
    NotificationKind.UPSTREAM: _upstream,
    NotificationKind.LIMITS: _limits,
    NotificationKind.PLAN: _plan,
    NotificationKind.CHANNEL: _channel,
    NotificationKind.SCAN_LINK: _scan_link,
}


# --- several notifications in one message ----------------------------------------------------------------


def _digest(deliveries: list[Delivery]) -> tuple[str, list[str]]:
    shorts = {
        NotificationKind.INCIDENT: pgettext("numbers in a message", "incidents"),
        NotificationKind.UPSTREAM: pgettext("numbers in a message", "WKTeam"),
        NotificationKind.LIMITS: pgettext("numbers in a message", "developer account"),
        NotificationKind.CHANNEL: pgettext("numbers in a message", "channels disabled"),
        NotificationKind.TO_SCAN: pgettext("numbers in a message", "queued for scan"),
        NotificationKind.OFFLINE: pgettext("numbers in a message", "offline"),
        NotificationKind.BACK: pgettext("numbers in a message", "back online"),
        NotificationKind.INCIDENT_OVER: pgettext("numbers in a message", "incidents ended"),
        NotificationKind.PLAN: pgettext("numbers in a message", "plans finished"),
    }
    order = list(shorts)
    counts = Counter(delivery.notification.kind for delivery in deliveries)
    title = " · ".join(f"{shorts[kind]} {counts[kind]}" for kind in order if counts[kind])
    ordered = sorted(deliveries, key=lambda one: (order.index(one.notification.kind), one.notification.at))
    lines = [_line(delivery) for delivery in ordered[:LINES]]
    if (more := len(ordered) - LINES) > 0:
        lines.append(ngettext("and %(count)s more", "and %(count)s more", more) % {"count": more})
    where = link("to_scan") if counts[NotificationKind.TO_SCAN] else link("accounts")
    return title, [*lines, *where]


def _line(delivery: Delivery) -> str:
    """Return one line of a digest, such as “10-01 09:42 Offline: Shop 7”."""
    return f"{said(delivery.notification.at)} {_single(delivery)[0]}"


# --- parts -----------------------------------------------------------------------------------------------


def _why(drop: Drop | None, account: Account) -> list[str]:
    """Return the explanation of a first-day or immediate drop, if it is one, and the WKTeam message."""
    lines = []
    if drop is not None and drop.kind == DropKind.FIRST_NIGHT:
        lines.append(
            _(
                "Dropped within a day of its first login. This is normal and happens once; scan it "
                "one more time."
            )
        )
    if drop is not None and drop.kind == DropKind.AT_ONCE:
        lines.append(
            _(
                "Dropped within a minute of login. Choose another proxy in the same region before "
                "the next login."
            )
        )
    if drop is not None and drop.reason_text:
        words = without_names(drop.reason_text, drop.w_id, account)
        lines.append(_("WKTeam message: “%(words)s”") % {"words": plain(words, 200)})
    return lines


def _next(drop: Drop | None) -> list[str]:
    if drop is None:
        return []
    step = NextStep(drop.next_step).label if drop.next_step in NextStep.values else drop.next_step
    if drop.next_at is not None and drop.next_step in (NextStep.BACK_OFF, NextStep.HOURS, NextStep.CAP):
        return [_("Progress: %(step)s, until %(time)s.") % {"step": step, "time": said(drop.next_at)}]
    return [_("Progress: %(step)s.") % {"step": step}]


def _shares(notification: Notification) -> list[str]:
    incident = notification.incident
    if incident.shares == "proxy":
        return [_("All of them use the proxy %(line)s.") % {"line": proxy_name(int(incident.shared))}]
    if incident.shares == "region":
        return [_("All of them are in %(region)s.") % {"region": plain(incident.shared, LABEL)}]
    return [_("They have only the time in common.")]


def _counted(notification: Notification, delivery: Delivery) -> tuple[int, int]:
    """Return (accounts in the incident, accounts still offline), of the accounts that the rule covers."""
    drops = of_rule(notification.incident.drops.all(), delivery.rule)
    return drops.count(), drops.open().count()


def of_rule(drops: QuerySet, rule: Rule | None) -> QuerySet:
    """Return the drops of accounts in the rule's teams. A rule without teams covers all accounts."""
    teams = [team.pk for team in rule.teams.all()] if rule is not None else []
    return drops.filter(account__team__in=teams) if teams else drops


def label(account: Account) -> str:
    """Return the account's name for a message.

    Never the wcId, which pages show for an account without a name.
    """
    return plain(account.label or account.nickname, LABEL) or f"#{account.pk}"


def plain(text: str, most: int) -> str:
    """Return one line of printable text that no chat service reads as markup, a mention or a link.

    `most`: length limit in characters.
    """
    line = " ".join("".join(char if char.isprintable() else " " for char in str(text)).split())
    return Truncator(line.translate(MENTIONS)).chars(most)


def without_names(text: str, w_id: str, account: Account) -> str:
    """Return the WKTeam message with wId, wcId, phone number and WeChat ID hidden.

    These must not leave the portal.
    """
    for name in (w_id, account.wc_id, account.w_id, account.mobile, account.wechat_id):
        if name:
            text = text.replace(name, HIDDEN)
    return NAMES_OF_OTHERS.sub(HIDDEN, text)


def said(at: datetime) -> str:
    """Return a time in the portal's default time zone as month-day hour:minute."""
    return timezone.localtime(at, timezone.get_default_timezone()).strftime("%m-%d %H:%M")


def day(at: datetime) -> str:
    """Return a date in the portal's default time zone as year-month-day."""
    return timezone.localtime(at, timezone.get_default_timezone()).strftime("%Y-%m-%d")


def lasted(began: datetime, ended: datetime) -> str:
    minutes = max(1, round((ended - began).total_seconds() / 60))
    if minutes < 120:
        return ngettext("%(count)s minute", "%(count)s minutes", minutes) % {"count": minutes}
    hours = round(minutes / 60)
    return ngettext("%(count)s hour", "%(count)s hours", hours) % {"count": hours}


def link(name: str, *args: int | str) -> list[str]:
    """Return the URL of a page, or nothing if WK_PUBLIC_URL is not set."""
    if not settings.WK_PUBLIC_URL:
        return []
    try:
        return [settings.WK_PUBLIC_URL.rstrip("/") + reverse(name, args=args)]
    except NoReverseMatch:
        return [settings.WK_PUBLIC_URL]


def _cut(text: str, most: int) -> str:
    """Cut a text to at most `most` bytes of UTF-8."""
    if len(text.encode()) <= most:
        return text
    return text.encode()[: most - 3].decode(errors="ignore") + "…"
