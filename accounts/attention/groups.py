"""Which group an account is in, and what it needs a person for. Each account is in exactly one group.

The conditions here are tested account by account, and `needing` and `waiting` find their accounts by an index: there
are few of them among many. Accounts are expected as `Account.objects.kept()` returns them.
"""

from collections.abc import Iterable
from functools import cache

from django.db import models
from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery
from django.utils.translation import gettext_lazy as _

from accounts.lib.lists.keyset_pagination import InOnce, for_each
from accounts.models import Account, Drop, LoginAttempt
from accounts.models.account_queries import of_accounts
from accounts.states import AccountState, AttemptState, Trigger


class AccountGroup(models.TextChoices):
    """In the order of their tabs. The last three are the states of accounts that no login and no person is at."""

    ATTENTION = "attention", _("Needs attention")
    WAITING = "waiting", _("Waiting")
    OFFLINE = AccountState.OFFLINE.value, _("Offline")
    ONLINE = AccountState.ONLINE.value, _("Online")
    NEW = AccountState.NEW.value, _("New")


class Need(models.TextChoices):
    """What an account needs a person for, the most urgent first. Each account has at most one."""

    VERIFICATION = "verification", _("Verification waiting")
    SCAN = "scan", _("Queued for scan")
    FAILED = "failed", _("Last login failed")


G = AccountGroup
URGENCY = (G.ATTENTION, G.WAITING, G.OFFLINE, G.NEW, G.ONLINE)
VERIFYING = (AttemptState.CODE_REQUIRED, AttemptState.PAGE_REQUIRED)
UNSUCCESSFUL = (AttemptState.FAILED, AttemptState.EXPIRED)

_QUEUED = Q(queued_for_scan_at__isnull=False, keep_online=True)
# Nobody wants a paused account online. A login that succeeded late has `bound_seq`, however its attempt ended.
_UNANSWERED = Q(login_seq__gt=F("bound_seq")) & Q(keep_online=True) & ~Q(state=AccountState.ONLINE)


@cache
def _verifying() -> Q:
    return Q(for_each(_open_attempts().filter(state__in=VERIFYING)))


@cache
def _failed() -> Q:
    """Match accounts that are not online and whose last login failed or timed out.

    After a failed phone prompt of recovery, recovery decides what is next: it says itself when it needs a person.
    """
    recovering = Drop.objects.open().filter(account=OuterRef("account"), next_at__isnull=False)
    # Found before it is tested: otherwise all older logins of an account whose last one succeeded would be read.
    last = LoginAttempt.objects.last_of(OuterRef(OuterRef("pk")), OuterRef(OuterRef("login_seq")))
    unsuccessful = LoginAttempt.objects.filter(pk=Subquery(last), state__in=UNSUCCESSFUL)
    of_ours = unsuccessful.exclude(Q(for_each(recovering)), trigger=Trigger.RECOVERY)
    return _UNANSWERED & Q(for_each(of_ours))


def last_failures(accounts: Iterable[Account]) -> dict[int, LoginAttempt]:
    """Return the last logins of these accounts, by account ID, where they failed or timed out."""
    asked = [account.pk for account in accounts if account.login_seq > account.bound_seq]
    last = Account.objects.filter(pk__in=asked).last_logins().light()
    # The state is no condition of the query: SQLite would then read every login that ever failed.
    return {attempt.account_id: attempt for attempt in last if attempt.state in UNSUCCESSFUL}


def need_of(
    account: Account, attempt: LoginAttempt | None, failure: LoginAttempt | None, drop: Drop | None
) -> str:
    """Return what an account that was read needs a person for, "" for nothing.

    `attempt`: the one in progress. `failure`: its last login, if it failed or timed out. `drop`: the open one.
    """
    if attempt and attempt.state in VERIFYING:
        return Need.VERIFICATION
    if account.queued_for_scan_at and account.keep_online:
        return Need.SCAN
    if attempt or not failure or not account.keep_online or account.state == AccountState.ONLINE:
        return ""
    recovering = failure.trigger == Trigger.RECOVERY and drop is not None and drop.next_at is not None
    return "" if recovering else Need.FAILED


def _open_attempts() -> QuerySet:
    return LoginAttempt.objects.open().filter(account=OuterRef("pk"))


@cache
def _needs_attention() -> Q:
    return _QUEUED | _verifying() | _failed()


def in_group(group: str) -> Q:
    """Match the accounts of a group, account by account."""
    if group == G.ATTENTION:
        return _needs_attention()
    if group == G.WAITING:
        return Q(for_each(_open_attempts())) & ~_needs_attention()
    return Q(state=group) & unattended()


def unattended() -> Q:
    """Match the accounts that no login and no person is at: those of the groups that are named like states."""
    return ~Q(for_each(_open_attempts())) & ~_needs_attention()


def groups_of(accounts: QuerySet) -> dict[int, str]:
    """Return the group of each of a few accounts, by account ID.

    Their attempts are read together: while an old snapshot of PostgreSQL is held, a condition that is tested account
    by account would read the entries of all attempts that have ended since, for each account.
    """
    rows = list(accounts.only("state", "keep_online", "queued_for_scan_at", "login_seq", "bound_seq"))
    ids = [account.pk for account in rows]
    open_ones = LoginAttempt.objects.open().light().filter(account__in=ids)
    attempts = {attempt.account_id: attempt for attempt in open_ones}
    failures = last_failures(rows)
    drops = {drop.account_id: drop for drop in Drop.objects.open().filter(account__in=failures)}
    found = {}
    for account in rows:
        attempt = attempts.get(account.pk)
        if need_of(account, attempt, failures.get(account.pk), drops.get(account.pk)):
            found[account.pk] = G.ATTENTION.value
        else:
            found[account.pk] = G.WAITING.value if attempt else account.state
    return found


def needing(accounts: QuerySet, need: str) -> QuerySet:
    """Return those of the accounts that need a person for this."""
    if need == Need.VERIFICATION:
        return _with_attempt(accounts, LoginAttempt.objects.open().filter(state__in=VERIFYING))
    if need == Need.SCAN:
        return accounts.filter(_QUEUED).exclude(_verifying())
    return accounts.filter(_failed()).exclude(_QUEUED)


def needing_attention(accounts: QuerySet) -> QuerySet:
    """Return the accounts of the group ATTENTION: those with any need."""
    return _any_of(*(needing(accounts, need) for need in Need))


def waiting(accounts: QuerySet) -> QuerySet:
    """Return the accounts of the group WAITING: a login is in progress, and none needs a person for more."""
    return _with_attempt(accounts, LoginAttempt.objects.open()).exclude(_needs_attention())


def count_attended(accounts: QuerySet) -> dict[str, tuple[int, int]]:
    """Count the accounts of the groups ATTENTION and WAITING, by their state. Every other one is in that state's group."""
    every = _with_attempt(accounts, LoginAttempt.objects.open())
    attended = _any_of(every, *(needing(accounts, need) for need in (Need.SCAN, Need.FAILED)))
    counted = (
        attended.order_by()
        .values_list("state")
        .annotate(Count("pk"), attention=Count("pk", filter=_needs_attention()))
    )
    return {state: (attention, number - attention) for state, number, attention in counted}


def _with_attempt(accounts: QuerySet, attempts: QuerySet) -> QuerySet:
    """Return those of the accounts that have one of these attempts in progress, beginning with the attempts."""
    return Account.objects.filter(InOnce(F("pk"), of_accounts(attempts, accounts).values("account")))


def _any_of(*found: QuerySet) -> QuerySet:
    """Return the accounts of all querysets, each found by its own index."""
    first, *others = (rows.order_by().values("pk") for rows in found)
    return Account.objects.filter(InOnce(F("pk"), first.union(*others)))
