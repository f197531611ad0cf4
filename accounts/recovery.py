"""What is done about a drop, step by step: a prompt on the phone, then a scan; in the hours for it, and not too often.

`decide` says what comes next and why, from what it is given alone. `tick` looks at all drops that are due and does
it; it may run any number of times, anywhere. It asks nobody outside, and puts nothing into a queue: who calls it does.
A code that nobody is there to scan is not asked for: the account goes onto the list "To scan".
"""

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from accounts import clock, login
from accounts.answers import SCAN_WANTED
from accounts.batches import in_batches
from accounts.history import gathered, record
from accounts.hours import next_within_all
from accounts.models import Account, Drop, LoginAttempt, RecoveryPolicy, WaitsWorker
from accounts.policies import default_policy
from accounts.reasons import Reason
from accounts.states import AccountState, Because, DropKind, Happened, Method, NextStep, Trigger

log = logging.getLogger(__name__)

DAY, MINUTE = timedelta(hours=24), timedelta(minutes=1)
# When no slot is free, it is looked again after this long.
SLOTS_AGAIN = timedelta(seconds=10)
# The chance that is added to a pause, at most: half of it.
JITTER = 0.5
AT_A_TIME, MOST_AT_A_TICK = 200, 1000
# Where a prompt ended with one of these, no phone has shown it: it counts for nothing but a pause.
UNSENT = frozenset(
    {Reason.UNREACHABLE, Reason.SIGN_IN_REFUSED, Reason.DEVELOPER_FROZEN, Reason.DEVELOPER_EXPIRED}
)
dice = random.Random()  # noqa: S311 - chance in pauses, no secret


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that ended without a login. `reached`: a phone may have shown it."""

    at: datetime
    ended_at: datetime
    reason: str = ""
    text: str = ""
    reached: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """The next step; when it is looked at again (None: only when people ask); why, as a code of `Because`."""

    step: str
    at: datetime | None = None
    why: str = ""


def decide(
    drop: Drop,
    account: Account,
    policy: RecoveryPolicy,
    prompts: list[Prompt],
    ahead: int,
    free: int,
    now: datetime,
    luck: float = 0.0,
) -> Decision:
    """What to do about a drop now, of an account that is offline, wanted online, and has no open attempt.

    `prompts` are the account's of the last 24 hours, oldest first; `ahead` is how many of its policy come before it
    within a minute; `free` how many waits have room; `luck` (0 to 1) is the chance in its pause.
    """
    ours = [prompt for prompt in prompts if prompt.at >= drop.at]
    # Looked at for the first time, asked for by people, or held up after its pause: it need not pause now.
    straight = drop.next_step == NextStep.LOOK and len(ours) <= drop.popups
    why = _no_prompt(drop, account, policy) or ("" if straight else _scan_wanted(account, ours))
    if why:
        return _to_scan(policy, why)
    room = _room(account, policy, prompts, ahead, free, now)
    if room.why or (room.step == NextStep.CAP and policy.scan):
        return _to_scan(policy, room.why or Because.USED_UP)
    if room.step != NextStep.CAP and ours and not straight:
        ready = ours[-1].ended_at + policy.pause_after(sum(prompt.reached for prompt in ours))
        at = ready + (ready - ours[-1].ended_at) * JITTER * luck
        paused = drop.next_step == NextStep.BACK_OFF and ready <= now
        if at > now and not paused:
            return Decision(NextStep.BACK_OFF, at)
    return room


def _no_prompt(drop: Drop, account: Account, policy: RecoveryPolicy) -> str:
    """Why a prompt would not help; "" where it may."""
    if drop.kind == DropKind.FIRST_NIGHT:
        return Because.FIRST_NIGHT
    if drop.kind == DropKind.AT_ONCE:
        return Because.AT_ONCE
    return "" if policy.popup and policy.popups_a_day and account.wc_id else Because.NO_PROMPTS


def _scan_wanted(account: Account, ours: list[Prompt]) -> str:
    if account.to_scan_since is not None:
        return Because.ASKED
    refusals = [p for p in ours if p.reason in (Reason.PROMPT_REFUSED, Reason.NEW_DEVICE_CHECK)]
    final = any(p.reason == Reason.NEW_DEVICE_CHECK or SCAN_WANTED.search(p.text) for p in refusals)
    return Because.REFUSED if final or len(refusals) > 1 else ""


def _to_scan(policy: RecoveryPolicy, why: str) -> Decision:
    return Decision(NextStep.SCAN if policy.scan else NextStep.NOTHING, None, why)


def _room(
    account: Account, policy: RecoveryPolicy, prompts: list[Prompt], ahead: int, free: int, now: datetime
) -> Decision:
    """POPUP where a prompt may go out right now, else what it waits for: CAP, HOURS or LOOK (its turn, a slot)."""
    counted = sorted(prompt.at for prompt in prompts if prompt.reached and prompt.at > now - DAY)
    if len(counted) >= policy.popups_a_day:
        oldest = counted[-policy.popups_a_day] if policy.popups_a_day else now
        return Decision(NextStep.CAP, oldest + DAY)
    opens = next_within_all([policy, account], now)
    if opens is None:
        return Decision(NextStep.HOURS, None, Because.NEVER_OPEN)
    if opens > now:
        return Decision(NextStep.HOURS, opens)
    if free <= 0:
        return Decision(NextStep.LOOK, now + SLOTS_AGAIN)
    if ahead >= policy.popups_a_minute:
        return Decision(NextStep.LOOK, now + MINUTE * (ahead // policy.popups_a_minute))
    return Decision(NextStep.POPUP, now)


# --- all drops that are due ------------------------------------------------------------------------------


def tick() -> list[int]:
    """Look at every drop that is due; returns the ids of the attempts begun, for a worker of the queue `waits`."""
    now = clock.now()
    _follow_pauses(now)
    begun: list[int] = []
    due = _recoverable().filter(next_at__lte=now)
    if not due.exists():
        return begun
    for _batch in range(MOST_AT_A_TICK // AT_A_TIME):
        with transaction.atomic():
            policies = _Policies()
            found = list(_held(due.order_by("next_at", "id"))[:AT_A_TIME])
            begun += _settle(found, policies, now)
        if len(found) < AT_A_TIME:
            break
    return begun


def recover_now(drops: Iterable[Drop], by=None) -> int:
    """People ask for these: nothing is paused for, but caps, hours and pace hold. Returns how many were taken up.

    Not taken up are those that are over, or whose account is paused or has an open attempt.
    """
    taken = 0
    for ids in in_batches([drop.pk for drop in drops], AT_A_TIME):
        now = clock.now()
        with transaction.atomic():
            policies = _Policies()
            found = list(_held(_recoverable().filter(pk__in=ids).order_by("id")))
            _settle(found, policies, now, asked=True, by=by)
        taken += len(found)
    return taken


def prompt(
    account: Account, *, trigger: str = Trigger.SCHEDULE, by=None
) -> tuple[LoginAttempt | None, NextStep]:
    """Begin a prompt on the account's phone, also while it is online, if all that holds for prompts allows it now.

    The attempt and POPUP; or None and what is in the way: CAP, HOURS, BACK_OFF (this minute's are used up), LOOK (no
    slot), NOTHING (paused, an open attempt, or a wcId that is not known).
    """
    now = clock.now()
    with transaction.atomic():
        policies = _Policies()
        account = Account.objects.select_for_update(of=("self",), no_key=True).get(pk=account.pk)
        usable = account.keep_online and account.wc_id and not account.joined_to_id
        if not usable or LoginAttempt.objects.open().filter(account=account).exists():
            return None, NextStep.NOTHING
        policy = policies.of(account)
        prompts = _prompts([account.pk], now)[account.pk]
        ahead, free = _ahead(now, policies)[policy.pk], _free_slots(now)
        room = _room(account, policy, prompts, ahead, free, now)
        if room.step != NextStep.POPUP:
            paced = room.step == NextStep.LOOK and free > 0
            return None, NextStep.BACK_OFF if paced else NextStep(room.step)
        attempt, _new = login.begin(account, method=Method.POPUP, trigger=trigger, queued=True, by=by)
        return attempt, NextStep.POPUP


def to_scan(account: Account, *, at: datetime | None = None, detail: str = Because.ASKED, by=None) -> bool:
    """Put the account onto the list "To scan"; False: it is there already."""
    now = at or clock.now()
    with transaction.atomic():
        if not Account.objects.filter(pk=account.pk, to_scan_since=None).update(to_scan_since=now):
            return False
        account.to_scan_since = now
        record(account, Happened.TO_SCAN, detail=detail, by=by, at=now)
    return True


class _Policies:
    """All policies, held until the transaction ends: what is begun is counted by one at a time."""

    def __init__(self):
        self.all = {policy.pk: policy for policy in RecoveryPolicy.objects.select_for_update(no_key=True)}
        found = [policy for policy in self.all.values() if policy.is_default]
        self.default = found[0] if found else default_policy()

    def of(self, account: Account) -> RecoveryPolicy:
        return self.all.get(account.policy_id, self.default)


def _recoverable() -> QuerySet[Drop]:
    """Open drops that something can be done about."""
    attempts = LoginAttempt.objects.open().filter(account=OuterRef("account"))
    return Drop.objects.open().filter(
        ~Exists(attempts),
        account__state=AccountState.OFFLINE,
        account__keep_online=True,
        account__joined_to=None,
    )


def _held(drops: QuerySet[Drop]) -> QuerySet[Drop]:
    """With their accounts; those that somebody else holds are left to the next look."""
    rows = drops.select_related("account")
    return rows.select_for_update(of=("self", "account"), skip_locked=True, no_key=True)


def _follow_pauses(now: datetime) -> None:
    """Of an account that is not wanted online nothing is done, and nobody has to scan it; later it is due at once."""
    unwanted = Drop.objects.open().filter(account__keep_online=False).exclude(next_step=NextStep.PAUSED)
    Account.objects.filter(to_scan_since__isnull=False, keep_online=False).update(to_scan_since=None)
    unwanted.update(next_step=NextStep.PAUSED, next_at=None)
    wanted = Drop.objects.open().filter(account__keep_online=True, next_step=NextStep.PAUSED)
    wanted.update(next_step=NextStep.LOOK, next_at=now)


def _prompts(account_ids: list[int], now: datetime) -> dict[int, list[Prompt]]:
    """The prompts of these accounts that ended, whoever began them: those of the last 24 hours."""
    rows = LoginAttempt.objects.filter(
        account_id__in=account_ids,
        method=Method.POPUP,
        created_at__gt=now - DAY - login.QUEUED_FOR,
        ended_at__isnull=False,
    )
    found: dict[int, list[Prompt]] = defaultdict(list)
    columns = ("account_id", "created_at", "sent_at", "ended_at", "reason", "upstream_text")
    for account_id, created, sent, ended, reason, text in rows.order_by("id").values_list(*columns):
        reached = sent is not None and reason not in UNSENT
        found[account_id].append(Prompt(sent or created, ended, reason, text, reached))
    return found


def _ahead(now: datetime, policies: _Policies) -> Counter:
    """By policy: the prompts that are on their way, or went out within the last minute."""
    rows = LoginAttempt.objects.filter(
        Q(sent_at__gt=now - MINUTE) | Q(sent_at=None, ended_at=None),
        method=Method.POPUP,
        created_at__gt=now - MINUTE - login.QUEUED_FOR,
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
    """What was decided about a batch: each drop with its decision."""

    prompted: list[Drop] = field(default_factory=list)
    scanned: list[tuple[Drop, str]] = field(default_factory=list)
    ended: list[tuple[Drop, str]] = field(default_factory=list)


def _settle(drops: list[Drop], policies: _Policies, now: datetime, asked: bool = False, by=None) -> list[int]:
    """Decide about each, and do it. All rows are held by the caller's transaction."""
    if not drops:
        return []
    prompts = _prompts([drop.account_id for drop in drops], now)
    ahead, free, steps = _ahead(now, policies), _free_slots(now), _Steps()
    for drop in drops:
        theirs, policy = prompts[drop.account_id], policies.of(drop.account)
        known, before = sum(prompt.at >= drop.at for prompt in theirs), drop.next_step
        if asked:
            drop.next_step, drop.popups = NextStep.LOOK, known
        how = decide(drop, drop.account, policy, theirs, ahead[policy.pk], free, now, dice.random())
        # A turn that was given is one less for those who come after.
        turn = how.step == NextStep.POPUP or (how.step == NextStep.LOOK and free > 0)
        ahead[policy.pk] += turn
        free -= how.step == NextStep.POPUP
        _note(steps, drop, how, before)
        drop.next_step, drop.next_at = how.step, how.at
        drop.popups = known + (how.step == NextStep.POPUP)
    begun = [attempt_id for drop in steps.prompted if (attempt_id := _begin(drop, by))]
    _write(drops)
    with gathered():
        _put_onto_the_list(steps.scanned, now, by)
        for drop, why in steps.ended:
            record(drop.account, Happened.RECOVERY_ENDED, detail=why, by=by, at=now)
    return begun


def _write(drops: list[Drop]) -> None:
    """What many have in common by one UPDATE: one that says it row by row takes Django many times as long."""
    alike: dict[tuple, list[int]] = defaultdict(list)
    for drop in drops:
        alike[drop.next_step, drop.next_at, drop.popups].append(drop.pk)
    for (step, at, popups), ids in alike.items():
        Drop.objects.filter(pk__in=ids).update(next_step=step, next_at=at, popups=popups)


def _note(steps: _Steps, drop: Drop, how: Decision, before: str) -> None:
    if how.step == NextStep.POPUP:
        steps.prompted.append(drop)
    elif how.step == NextStep.SCAN:
        steps.scanned.append((drop, how.why))
    elif how.step == NextStep.NOTHING != before:
        steps.ended.append((drop, how.why))


def _begin(drop: Drop, by) -> int | None:
    """It stays due: as soon as its attempt has ended without a login, it is looked at again."""
    attempt, new = login.begin(
        drop.account, method=Method.POPUP, trigger=Trigger.RECOVERY, queued=True, by=by
    )
    return attempt.pk if new else None


def _put_onto_the_list(scanned: list[tuple[Drop, str]], now: datetime, by) -> None:
    new = [(drop, why) for drop, why in scanned if drop.account.to_scan_since is None]
    accounts = Account.objects.filter(pk__in=[drop.account_id for drop, _why in new])
    accounts.update(to_scan_since=now)
    nights = [drop.account_id for drop, why in scanned if why == Because.FIRST_NIGHT]
    if nights:
        due_later = Q(relogin_at=None) | Q(relogin_at__gt=now)
        Account.objects.filter(due_later, pk__in=nights).update(relogin_at=now)
    for drop, why in new:
        drop.account.to_scan_since = now
        record(drop.account, Happened.TO_SCAN, detail=why, by=by, at=now)
