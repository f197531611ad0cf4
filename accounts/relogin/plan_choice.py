"""Which accounts a plan takes, which it leaves out and why: for its runs, and to look at before one."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import F, Q

from accounts.models import Account, LoginAttempt, Plan
from accounts.models.plan import LeftOut, Outcome, PlanMethod
from accounts.states import AccountState


@dataclass(frozen=True, slots=True)
class Choice:
    """`taken`: IDs of the accounts of a run, in order. `later`: those beyond its limit. `left_out`: numbers by LeftOut."""

    taken: list[int]
    later: list[int]
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def due(self) -> int:
        return len(self.taken) + len(self.later)


def choose(plan: Plan, now: datetime) -> Choice:
    """Return what a run of the plan takes now.

    Accounts queued for scan come last. The others come in order of their last login, oldest first.
    """
    scope = Account.objects.filter(merged_into=None)
    if tags := list(plan.tags.values_list("pk", flat=True)):
        scope = scope.filter(pk__in=Account.tags.through.objects.filter(tag__in=tags).values("account"))
    if plan.team_id:
        scope = scope.filter(team=plan.team_id)
    wanted, left_out = scope, {}
    for why, condition in _conditions(plan, now).items():
        if number := wanted.exclude(condition).count():
            left_out[why.value] = number
        wanted = wanted.filter(condition)
    ordered = wanted.order_by(
        F("queued_for_scan_at").asc(nulls_first=True), F("last_login_at").asc(nulls_first=True), "pk"
    )
    ids = list(ordered.values_list("pk", flat=True))
    return Choice(ids[: plan.most_a_run], ids[plan.most_a_run :], left_out)


def _conditions(plan: Plan, now: datetime) -> dict[LeftOut, Q]:
    """Return what accounts must meet, in the order in which they are tested, by why those that don't are left out."""
    conditions = {LeftOut.ARCHIVED: ~Q(state=AccountState.ARCHIVED)}
    if plan.state:
        conditions[LeftOut.STATE] = Q(state=plan.state)
    conditions[LeftOut.PAUSED] = Q(keep_online=True)
    if plan.only_due:
        conditions[LeftOut.NOT_DUE] = Q(relogin_at__isnull=False, relogin_at__lte=now)
    return conditions


def skipped(account: Account, method: str, is_logging_in: bool) -> str:
    """Return the result for an account of a run for which nothing is started, "" if something is."""
    if account.queued_for_scan_at is not None:
        return Outcome.LISTED
    if is_logging_in:
        return Outcome.BUSY
    if method == PlanMethod.POPUP and not account.wc_id:
        return Outcome.NO_PROMPT
    return ""


def dry_run(plan: Plan, choice: Choice) -> tuple[list[Account], Counter]:
    """Return the accounts for which a run would start something, and how many of the others have which result."""
    logging_in = set(LoginAttempt.objects.open().values_list("account", flat=True))
    known = Account.objects.only("label", "nickname", "wc_id", "queued_for_scan_at").in_bulk(choice.taken)
    accounts = [known[pk] for pk in choice.taken if pk in known]
    results = [skipped(account, plan.method, account.pk in logging_in) for account in accounts]
    started = [account for account, result in zip(accounts, results, strict=True) if not result]
    return started, Counter(filter(None, results))
