"""Decisions of people about accounts: what is written, with one event for each account, in one transaction."""

from collections.abc import Callable

from django.db import transaction
from django.db.models import QuerySet

from accounts.lib.rows import in_batches
from accounts.models import Account
from accounts.models.event import gathered, record

WRITTEN_AT_ONCE = 500


def change(
    accounts: QuerySet[Account],
    happened: str,
    write: Callable[[QuerySet[Account]], object],
    *,
    by,
    detail: str = "",
    published_most: int | None = None,
) -> int:
    """Lock the accounts, write what `write` does to them and an event for each. Return how many they were.

    `published_most`: as in `gathered()`. Call it outside of that.
    """
    teams: dict[int, int | None] = {}
    with transaction.atomic(), gathered(published_most):
        rows = list(accounts.order_by("pk").select_for_update(of=("self",), no_key=True))
        for ids in in_batches([account.pk for account in rows], WRITTEN_AT_ONCE):
            those = Account.objects.filter(pk__in=ids)
            write(those)
            teams |= dict(those.values_list("pk", "team"))
        for account in rows:
            before, account.team_id = account.team_id, teams[account.pk]
            record(account, happened, detail=detail, by=by, team_before=before)
    return len(rows)
