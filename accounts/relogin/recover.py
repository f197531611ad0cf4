"""Recovery in action: phone prompts first, then the scan queue."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from accounts.lib import db_clock
from accounts.lib.rows import in_batches
from accounts.logins import start
from accounts.models import Account, Drop, LoginAttempt, RecoveryPolicy, WaitsWorker
from accounts.models.event import gathered, record
from accounts.models.login_attempt import QUEUED
from accounts.models.recovery_policy import Policies
from accounts.reasons import Reason
from accounts.relogin import decide
from accounts.relogin.decide import DAY, MINUTE, Decision, Prompt
from accounts.states import AccountState, EventType, Method, NextStep, ScanReason, Trigger
from accounts.upstream import developer_account

AT_A_TIME, MOST_AT_A_TICK = 200, 1000
# A prompt that ended with one of these was shown on no phone: it counts only for the pause.
UNSENT = frozenset(
    {
        *(Reason.UNREACHABLE, Reason.CERTIFICATE, Reason.SIGN_IN_REFUSED),
        *(Reason.DEVELOPER_FROZEN, Reason.DEVELOPER_EXPIRED, Reason.NO_SEAT),
    }
)


# --- all drops that are due ------------------------------------------------------------------------------


def due(now: datetime) -> Iterator[QuerySet]:
    """Yield the rows that `tick` works on."""
    yield _paused_in_queue()
    yield _not_yet_paused()
    yield _resumed()
    yield _recoverable().filter(next_at__lte=now)


def tick() -> list[int]:
    """Decide about every drop that is due.

    Return the IDs of the attempts started, for a worker of the queue `waits`.

    At most MOST_AT_A_TICK drops, one transaction for each AT_A_TIME.
    """
    now = db_clock.now()
    _follow_pauses(now)
    begun: list[int] = []
    due = _recoverable().filter(next_at__lte=now)
    if not due.exists():
        return begun
    for _batch in range(MOST_AT_A_TICK // AT_A_TIME):
        with transaction.atomic():
            policies = _locked_policies()
            found = list(_held(due.order_by("next_at", "id"))[:AT_A_TIME])
            begun += _settle(found, policies, now)
        if len(found) < AT_A_TIME:
            break
    return begun


def ask(drops: QuerySet[Drop], by) -> int:
    """Make the next `tick` recover these drops as `recover_now` does. Return how many it will handle."""
    asked = {"asked_by": by, "next_step": NextStep.WAITING, "next_at": db_clock.now()}
    return Drop.objects.filter(pk__in=_recoverable().filter(pk__in=drops.values("pk")).values("pk")).update(
        **asked
    )


def recover_now(drops: Iterable[Drop], by=None) -> int:
    """Recover these drops because a person asks: no pause applies, but daily limit, prompt hours and pace do.

    Skips drops that are over, and those whose account is paused or has an attempt in progress. Returns how
    many were handled.
    """
    taken = 0
    for ids in in_batches([drop.pk for drop in drops], AT_A_TIME):
        now = db_clock.now()
        with transaction.atomic():
            policies = _locked_policies()
            found = list(_held(_recoverable().filter(pk__in=ids).order_by("id")))
            _settle(found, policies, now, asked=True, by=by)
        taken += len(found)
    return taken


def start_prompt(
    account: Account, *, trigger: str = Trigger.SCHEDULE, by=None
) -> tuple[LoginAttempt | None, NextStep]:
    """Start a prompt on the account's phone if all limits allow it now. The account may be online.

    Returns (attempt, POPUP), or (None, reason). CAP: the daily limit. HOURS: prompt hours. SEATS: no free seat,
    which an account that is online has. BACK_OFF: the limit of this minute. WAITING: no worker slot. NOTHING:
    paused, merged, an attempt in progress, or no wcId.
    """
    now = db_clock.now()
    with transaction.atomic():
        policies = _locked_policies()
        account = Account.objects.select_for_update(of=("self",), no_key=True).get(pk=account.pk)
        usable = account.keep_online and account.wc_id and not account.merged_into_id
        if not usable or LoginAttempt.objects.open().filter(account=account).exists():
            return None, NextStep.NOTHING
        policy = policies.of(account)
        prompts = _prompts([account.pk], now)[account.pk]
        ahead, free = _ahead(now, policies)[policy.pk], _free_slots(now)
        seats = None if account.state == AccountState.ONLINE else developer_account.free_seats()
        room = decide.prompt_room(account, policy, prompts, ahead, free, now, seats)
        if room.step != NextStep.POPUP:
            paced = room.step == NextStep.WAITING and free > 0
            return None, NextStep.BACK_OFF if paced else NextStep(room.step)
        attempt, _new = start.start_login(account, method=Method.POPUP, trigger=trigger, queued=True, by=by)
        return attempt, NextStep.POPUP


def prompt_steps(accounts: list[Account], now: datetime) -> dict[int, str]:
    """Return {account ID: step} that `start_prompt` would have, one after another, but for slots and the pace."""
    policies, seats = Policies(), developer_account.free_seats()
    prompts = _prompts([account.pk for account in accounts], now)
    steps: dict[int, str] = {}
    for account in accounts:
        sent = prompts[account.pk]
        steps[account.pk] = decide.prompt_room(account, policies.of(account), sent, 0, 1, now, seats).step
        if seats is not None:
            seats -= steps[account.pk] == NextStep.POPUP
    return steps


def queue_for_scan(
    account: Account, *, at: datetime | None = None, detail: str = ScanReason.ASKED, by=None
) -> bool:
    """Add the account to the scan queue. Return False if it is there already."""
    now = at or db_clock.now()
    with transaction.atomic():
        if not Account.objects.filter(pk=account.pk, queued_for_scan_at=None).update(queued_for_scan_at=now):
            return False
        account.queued_for_scan_at = now
        record(account, EventType.TO_SCAN, detail=detail, by=by, at=now)
    return True


def _locked_policies() -> Policies:
    """Return all policies, locked until the transaction ends, so that one process at a time counts the prompts."""
    return Policies(RecoveryPolicy.objects.select_for_update(no_key=True))


def _recoverable() -> QuerySet[Drop]:
    """Return the open drops that recovery can act on.

    Their accounts are offline, kept online, not merged, and have no attempt in progress.
    """
    attempts = LoginAttempt.objects.open().filter(account=OuterRef("account"))
    return Drop.objects.open().filter(
        ~Exists(attempts),
        account__state=AccountState.OFFLINE,
        account__keep_online=True,
        account__merged_into=None,
    )


def _held(drops: QuerySet[Drop]) -> QuerySet[Drop]:
    """Lock the drops with their accounts. Drops that another process locks are skipped until the next run."""
    rows = drops.select_related("account", "asked_by")
    return rows.select_for_update(of=("self", "account"), skip_locked=True, no_key=True)


def _follow_pauses(now: datetime) -> None:
    """Pause the drops of paused accounts and remove these accounts from the scan queue.

    Resumed ones are due at once.
    """
    _paused_in_queue().update(queued_for_scan_at=None)
    _not_yet_paused().update(next_step=NextStep.PAUSED, next_at=None)
    _resumed().update(next_step=NextStep.WAITING, next_at=now)


def _paused_in_queue() -> QuerySet[Account]:
    return Account.objects.filter(queued_for_scan_at__isnull=False, keep_online=False)


def _not_yet_paused() -> QuerySet[Drop]:
    return Drop.objects.open().filter(account__keep_online=False).exclude(next_step=NextStep.PAUSED)


def _resumed() -> QuerySet[Drop]:
    return Drop.objects.open().filter(account__keep_online=True, next_step=NextStep.PAUSED)


def _prompts(account_ids: list[int], now: datetime) -> dict[int, list[Prompt]]:
    """Return {account ID: prompts} that ended, of the last 24 hours, whatever their trigger."""
    rows = LoginAttempt.objects.filter(
        account_id__in=account_ids,
        method=Method.POPUP,
        created_at__gt=now - DAY - start.QUEUED_FOR,
        ended_at__isnull=False,
    )
    found: dict[int, list[Prompt]] = defaultdict(list)
    columns = ("account_id", "created_at", "sent_at", "ended_at", "reason", "upstream_text")
    for account_id, created, sent, ended, reason, text in rows.order_by("id").values_list(*columns):
        reached = sent is not None and reason not in UNSENT
        found[account_id].append(Prompt(sent or created, ended, reason, text, reached))
    return found


def _ahead(now: datetime, policies: Policies) -> Counter:
    """Return {policy ID: prompts} that are about to be sent or were sent within the last minute."""
    rows = LoginAttempt.objects.filter(
        QUEUED | Q(sent_at__gt=now - MINUTE),
        method=Method.POPUP,
        created_at__gt=now - MINUTE - start.QUEUED_FOR,
    )
    found: Counter = Counter()
    for policy_id, count in rows.values_list("account__policy").annotate(n=Count("id")).order_by():
        found[policy_id if policy_id in policies.all else policies.default.pk] += count
    return found


def _free_slots(now: datetime) -> int:
    living = WaitsWorker.objects.filter(alive_until__gt=now).count()
    return living * settings.WAIT_SLOTS - LoginAttempt.objects.open().count()


@dataclass(slots=True)
class _Steps:
    """What was decided about a batch: drops by next step, with the reason."""

    prompted: list[Drop] = field(default_factory=list)
    scanned: list[tuple[Drop, str]] = field(default_factory=list)
    ended: list[tuple[Drop, str]] = field(default_factory=list)


def _settle(drops: list[Drop], policies: Policies, now: datetime, asked: bool = False, by=None) -> list[int]:
    """Decide about each drop and act. The caller's transaction locks all rows.

    Return the IDs of the attempts started.
    """
    if not drops:
        return []
    prompts = _prompts([drop.account_id for drop in drops], now)
    ahead, free, steps = _ahead(now, policies), _free_slots(now), _Steps()
    seats = developer_account.free_seats()
    for drop in drops:
        theirs, policy = prompts[drop.account_id], policies.of(drop.account)
        known, before = sum(prompt.at >= drop.at for prompt in theirs), drop.next_step
        drop.asked_by = by or drop.asked_by
        if asked or drop.asked_by:
            drop.next_step, drop.prompts_sent = NextStep.WAITING, known
        luck = random.random()  # noqa: S311 - no secret
        how = decide.decide_step(drop, drop.account, policy, theirs, ahead[policy.pk], free, now, luck, seats)
        # A prompt, or a wait for this minute's limit, uses one place of the policy's pace.
        paced = how.step == NextStep.POPUP or (how.step == NextStep.WAITING and free > 0)
        ahead[policy.pk] += paced
        free -= how.step == NextStep.POPUP
        if seats is not None:
            seats -= how.step == NextStep.POPUP
        _note(steps, drop, how, before)
        drop.next_step, drop.next_at = how.step, how.at
        drop.prompts_sent = known + (how.step == NextStep.POPUP)
    begun = [attempt_id for drop in steps.prompted if (attempt_id := _begin(drop))]
    _write(drops)
    with gathered():
        _put_into_scan_queue(steps.scanned, now)
        for drop, why in steps.ended:
            record(drop.account, EventType.RECOVERY_ENDED, detail=why, by=drop.asked_by, at=now)
    return begun


def _write(drops: list[Drop]) -> None:
    """Save with one UPDATE for each distinct result: bulk_update() takes Django many times as long."""
    alike: dict[tuple, list[int]] = defaultdict(list)
    for drop in drops:
        alike[drop.next_step, drop.next_at, drop.prompts_sent].append(drop.pk)
    for (step, at, prompts_sent), ids in alike.items():
        decided = {} if step == NextStep.WAITING else {"asked_by": None}
        Drop.objects.filter(pk__in=ids).update(
            next_step=step, next_at=at, prompts_sent=prompts_sent, **decided
        )


def _note(steps: _Steps, drop: Drop, how: Decision, before: str) -> None:
    if how.step == NextStep.POPUP:
        steps.prompted.append(drop)
    elif how.step == NextStep.SCAN:
        steps.scanned.append((drop, how.why))
    elif how.step == NextStep.NOTHING != before:
        steps.ended.append((drop, how.why))


def _begin(drop: Drop) -> int | None:
    """Start the prompt. The drop stays due: if the attempt ends without a login, the next step is decided."""
    attempt, new = start.start_login(
        drop.account, method=Method.POPUP, trigger=Trigger.RECOVERY, queued=True, by=drop.asked_by
    )
    return attempt.pk if new else None


def _put_into_scan_queue(scanned: list[tuple[Drop, str]], now: datetime) -> None:
    new = [(drop, why) for drop, why in scanned if drop.account.queued_for_scan_at is None]
    accounts = Account.objects.filter(pk__in=[drop.account_id for drop, _why in new])
    accounts.update(queued_for_scan_at=now)
    nights = [drop.account_id for drop, why in scanned if why == ScanReason.FIRST_NIGHT]
    if nights:
        due_later = Q(relogin_at=None) | Q(relogin_at__gt=now)
        Account.objects.filter(due_later, pk__in=nights).update(relogin_at=now)
    for drop, why in new:
        drop.account.queued_for_scan_at = now
        record(drop.account, EventType.TO_SCAN, detail=why, by=drop.asked_by, at=now)
