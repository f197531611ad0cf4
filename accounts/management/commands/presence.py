import json
import sys
import unicodedata
from datetime import datetime

from django.core.management.base import BaseCommand
from django.utils import timezone

from accounts.models import Account
from accounts.presence import reconcile, sweep
from accounts.reasons import Reason
from accounts.states import AccountState, DetectedBy

ALL_ONLINE, NOT_KNOWN, SOME_ARE_NOT = 0, 1, 3
Checked = tuple[Account, datetime | None]  # with its last_checked()
COLUMNS = ("account", "wcId", "state", "since", "last checked")


class Command(BaseCommand):
    help = (
        "Runs a presence check and saves the result. Exit codes: 0: every account that is kept online is online; "
        "3: some are not; 1: WKTeam gave no usable answer."
    )

    def add_arguments(self, parser) -> None:
        parser.add_argument("--json", action="store_true", help="a JSON document instead of a table")
        parser.add_argument(
            "--all",
            action="store_true",
            help="every account, not only those that are kept online and are not online",
        )

    def handle(self, **options) -> None:
        swept = sweep.check(DetectedBy.CHECK)
        rows = Account.objects.kept().order_by("label_key", "pk")
        missing = rows.filter(keep_online=True).exclude(state=AccountState.ONLINE)
        shown = rows if options["all"] else missing
        presence = sweep.seen()
        checked = [(account, account.last_checked(presence)) for account in shown]
        if options["json"]:
            self.stdout.write(as_json(swept, checked))
        else:
            self.stdout.write(as_table(checked) + summary(swept))
        if not swept.known:
            sys.exit(NOT_KNOWN)
        sys.exit(SOME_ARE_NOT if missing.exists() else ALL_ONLINE)


def as_json(swept: reconcile.SweepResult, accounts: list[Checked]) -> str:
    """Return JSON: known, unknown_why, online, verified, discovered; absent, offline, back: IDs; accounts."""
    document = {
        "known": swept.known,
        "unknown_why": swept.unknown_why,
        "online": swept.online,
        "verified": swept.verified,
        "discovered": swept.unmanaged,
        "absent": list(swept.absent),
        "offline": list(swept.offline),
        "back": list(swept.back),
        "accounts": [
            {
                "id": account.pk,
                "label": account.label,
                "wcId": account.wc_id,
                "wId": account.w_id,
                "state": account.state,
                "since": account.state_since.isoformat(),
                "verified": checked_at.isoformat() if checked_at else None,
                "keep_online": account.keep_online,
            }
            for account, checked_at in accounts
        ],
    }
    return json.dumps(document, ensure_ascii=False)


def as_table(accounts: list[Checked]) -> str:
    rows = [COLUMNS, *(cells(*checked) for checked in accounts)]
    if len(rows) == 1:
        return ""
    widths = [max(width(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = [
        "  ".join(cell + " " * (size - width(cell)) for cell, size in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", ""])


def cells(account: Account, checked_at: datetime | None) -> tuple[str, ...]:
    def at(moment) -> str:
        return timezone.localtime(moment).strftime("%m-%d %H:%M:%S") if moment else "-"

    return (
        account.display_name,
        account.wc_id or "-",
        account.state,
        at(account.state_since),
        at(checked_at),
    )


def width(text: str) -> int:
    """Return the width in terminal columns: a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def summary(swept: reconcile.SweepResult) -> str:
    if not swept.known:
        return f"Presence unknown: {Reason(swept.unknown_why).label} Nothing was changed."
    parts = [f"{swept.online} online at WKTeam, {swept.verified} checked"]
    for count, what in (
        (len(swept.offline), "went offline"),
        (len(swept.absent), "missed for the first time"),
        (len(swept.back), "found online"),
        (swept.unmanaged, "unmanaged"),
    ):
        if count:
            parts.append(f"{count} {what}")
    return ", ".join(parts) + "."
