"""What a row of the account list says besides the account's own columns."""

from django.db.models import Count
from django.utils import timezone

from accounts.attention import groups
from accounts.models import Account, Drop
from accounts.reports.account_days import months_of
from accounts.web.history.month_bar import bar


def describe(accounts: list[Account], user) -> list[Account]:
    """Add to each account what its row says, with as many queries for many accounts as for one.

    `failure`: its last login, if it failed or timed out. `drop`: the open one, with `others`, the number of accounts
    that dropped together with it. `need`: what it needs a person for.
    """
    failures = groups.last_failures(accounts)
    drops = {drop.account_id: drop for drop in Drop.objects.open().filter(account__in=accounts)}
    others = together({drop.incident_id for drop in drops.values()} - {None}, user)
    for account in accounts:
        account.failure, account.drop = failures.get(account.pk), drops.get(account.pk)
        if account.drop:
            account.drop.others = others.get(account.drop.incident_id, 1) - 1
        account.need = groups.need_of(account, account.open_attempt, account.failure, account.drop)
    return accounts


def add_months(accounts: list[Account]) -> None:
    """Add `month`, the last 30 days, and `month_bar` to each account that has logged in, with one query."""
    months = months_of(accounts, timezone.now(), timezone.get_current_timezone())
    for account in accounts:
        account.month = months.get(account.pk)
        account.month_bar = account.month and bar(account.month)


def together(incidents: set[int], user) -> dict[int, int]:
    """Return how many accounts that the user sees dropped in each of these incidents."""
    drops = Drop.objects.of(Account.objects.visible_to(user)).filter(incident__in=incidents)
    return dict(drops.order_by().values_list("incident").annotate(Count("pk")))
