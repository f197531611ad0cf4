"""Which accounts a bulk action leaves out, and why: the same answer before it starts and for each account in its turn."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime

from accounts.bulk import actions
from accounts.models import Account, Drop, LoginAttempt
from accounts.models.operators.bulk_run import BulkAction, BulkReason
from accounts.models.recovery_policy import Policies
from accounts.relogin import recover
from accounts.states import AccountState, DropKind, NextStep

A, R = BulkAction, BulkReason
# What a prompt waits for for longer than a minute. The pace of policies only spreads prompts over minutes.
NO_PROMPT_NOW = {NextStep.CAP: R.CAP, NextStep.HOURS: R.HOURS, NextStep.SEATS: R.SEATS}


class Eligible:
    """The answers about some accounts, which are read at once."""

    def __init__(self, action: str, value: dict, accounts: list[Account], now: datetime):
        self.value, self.now = value, now
        self._why = _RULES[action]
        ids = [account.pk for account in accounts]
        self.busy: set[int] = set()
        self.first_nights: set[int] = set()
        self.tags: dict[int, set[str]] = {}
        self.steps: dict[int, str] = {}
        if action == A.PROMPT:
            busy = LoginAttempt.objects.open().filter(account__in=ids)
            self.busy = set(busy.values_list("account", flat=True))
            drops = Drop.objects.open().filter(account__in=ids, kind=DropKind.FIRST_NIGHT)
            self.first_nights = set(drops.values_list("account", flat=True))
            self.steps = recover.prompt_steps(accounts, now)
        if action in (A.TAG, A.UNTAG):
            uses = Account.tags.through.objects.filter(account__in=ids)
            for pk, name in uses.values_list("account", "tag__name"):
                self.tags.setdefault(pk, set()).add(name)

    def why_not(self, account: Account) -> str:
        """Return why the account is left out, "" if it is not."""
        return self._why(self, account)


def _log_in(_facts: Eligible, account: Account) -> str:
    return R.ONLINE if account.state == AccountState.ONLINE else ""


def _prompt(facts: Eligible, account: Account) -> str:
    if not account.keep_online:
        return R.PAUSED
    if account.state == AccountState.NEW or not account.wc_id:
        return R.NEVER
    if account.state == AccountState.ONLINE:
        return R.ONLINE
    if account.pk in facts.busy:
        return R.BUSY
    if account.pk in facts.first_nights:
        return R.FIRST_NIGHT
    return NO_PROMPT_NOW.get(facts.steps.get(account.pk, ""), "")


def _check(_facts: Eligible, account: Account) -> str:
    return R.NEVER if account.state == AccountState.NEW else ""


def _same(column: str, name: str) -> Callable[[Eligible, Account], str]:
    return lambda facts, account: R.UNCHANGED if getattr(account, column) == facts.value[name] else ""


def _proxy(facts: Eligible, account: Account) -> str:
    if account.has_own_proxy:
        return R.USES_OWN_PROXY
    return R.UNCHANGED if account.proxy == facts.value["proxy"] else ""


def _archive(_facts: Eligible, account: Account) -> str:
    return R.LOG_OUT_FIRST if account.state == AccountState.ONLINE else ""


def _due(facts: Eligible, account: Account) -> str:
    at = actions.moment(facts.value)
    if account.relogin_at == at:
        return R.UNCHANGED
    return R.PAUSED if at and not account.keep_online else ""


_RULES: dict[str, Callable[[Eligible, Account], str]] = {
    A.LOG_IN: _log_in,
    A.PROMPT: _prompt,
    A.CHECK: _check,
    A.TAG: lambda facts, a: "" if set(facts.value["tags"]) - facts.tags.get(a.pk, set()) else R.UNCHANGED,
    A.UNTAG: lambda facts, a: "" if set(facts.value["tags"]) & facts.tags.get(a.pk, set()) else R.UNCHANGED,
    A.TEAM: _same("team_id", "team"),
    A.PROXY: _proxy,
    A.PLACE: _same("place", "place"),
    A.POLICY: _same("policy_id", "policy"),
    A.PAUSE: lambda _facts, account: "" if account.keep_online else R.UNCHANGED,
    A.RESUME: lambda _facts, account: R.UNCHANGED if account.keep_online else "",
    A.ARCHIVE: _archive,
    A.DUE: _due,
}


def minutes_at_pace(accounts: list[Account]) -> int:
    """Return after how many minutes the last of these prompts is sent: each policy has its own number a minute."""
    policies = Policies()
    numbers = Counter(policies.of(account).pk for account in accounts)
    paces = {pk: policies.all.get(pk, policies.default).prompts_a_minute for pk in numbers}
    return max(((number - 1) // paces[pk] for pk, number in numbers.items()), default=0)
