"""How far an incident is: which of its accounts are back, and what the others wait for. Each is in exactly one part."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from django.db import models
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from accounts.models import Account, Drop, LoginAttempt
from accounts.states import AccountState, NextStep

SHOWN_MOST = 100


class Part(models.TextChoices):
    """In the order of the page: what needs a person comes first."""

    SCAN = "scan", _("Queued for scan")
    FAILED = "failed", _("No automatic recovery")
    PHONE = "phone", _("On the phone")
    QUEUED = "queued", _("Waiting for recovery")
    PAUSED = "paused", _("Paused")
    BACK = "back", _("Back online")


@dataclass
class Progress:
    """`numbers`: accounts in each part. `rows`: the first drops of each, in the order of the places of their phones."""

    total: int
    numbers: dict[str, int]
    rows: dict[str, list[Drop]] = field(default_factory=dict)
    first_at: datetime | None = None
    last_at: datetime | None = None
    back_at: list[datetime] = field(default_factory=list)

    @property
    def back(self) -> int:
        return self.numbers[Part.BACK]

    @property
    def left(self) -> int:
        return self.total - self.back


_COLUMNS = ("pk", "account", "at", "ended_at", "next_step", "account__state", "account__keep_online",
            "account__queued_for_scan_at")  # fmt: skip


def progress_of(drops: QuerySet[Drop], with_rows: bool = True) -> Progress:
    """Return the progress of these drops of one incident, each of another account. `with_rows`: read accounts, too.

    The order within a part does not depend on the part: a row that moves takes no other row's place.
    """
    going_on = LoginAttempt.objects.open().filter(account__in=drops.values("account"))
    busy = set(going_on.values_list("account", flat=True))
    ids: dict[str, list[int]] = defaultdict(list)
    times, back_at = [], []
    for pk, account, at, ended_at, *state in drops.order_by("account__place_key", "account").values_list(
        *_COLUMNS
    ):
        times.append(at)
        ids[_part(ended_at, *state, account in busy)].append(pk)
        if ended_at is not None:
            back_at.append(ended_at)
    found = Progress(
        len(times),
        {part: len(ids[part]) for part in Part},
        first_at=min(times, default=None),
        last_at=max(times, default=None),
        back_at=sorted(back_at),
    )
    if with_rows:
        found.rows = _rows({part: ids[part][:SHOWN_MOST] for part in Part})
    return found


def _part(ended_at, next_step: str, state: str, keep_online: bool, queued_at, busy: bool) -> Part:
    if ended_at is not None or state == AccountState.ONLINE:
        return Part.BACK
    if busy:
        return Part.PHONE
    if not keep_online:
        return Part.PAUSED
    if queued_at is not None:
        return Part.SCAN
    return Part.FAILED if next_step == NextStep.NOTHING else Part.QUEUED


def _rows(ids: dict[str, list[int]]) -> dict[str, list[Drop]]:
    """Return the drops with their accounts; `last_attempt` of an account is its last one."""
    every = [pk for some in ids.values() for pk in some]
    drops = Drop.objects.filter(pk__in=every).select_related("account__assignee")
    by_id = {drop.pk: drop for drop in drops.defer("account__note", "account__search_text")}
    accounts = Account.objects.filter(pk__in=[drop.account_id for drop in by_id.values()])
    last = accounts.last_logins().light().select_related("asked_by")
    attempts = {attempt.account_id: attempt for attempt in last}
    for drop in by_id.values():
        drop.account.last_attempt = attempts.get(drop.account_id)
    return {part: [by_id[pk] for pk in some if pk in by_id] for part, some in ids.items()}


def ways_back(drops: QuerySet[Drop]) -> dict[str, int]:
    """Return {method of our login, or "" for another way: number} of the drops that are over."""
    over = drops.filter(ended_at__isnull=False).order_by()
    return dict(over.values_list("ended_by").annotate(number=models.Count("pk")))
