"""Recovery decisions: the next step of a drop. Pure functions; every input is an argument."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from accounts.lib.time_windows import next_within_all
from accounts.models import Account, Drop, RecoveryPolicy
from accounts.reasons import Reason
from accounts.states import DropKind, NextStep, ScanReason
from accounts.upstream.responses import SCAN_WANTED

DAY, MINUTE = timedelta(hours=24), timedelta(minutes=1)
# How long to wait before the next try when no worker slot is free.
SLOTS_AGAIN = timedelta(seconds=10)
# How long until the next look for a free seat of the developer account.
SEATS_AGAIN = MINUTE
# Jitter added to a pause: at most half of the pause.
JITTER = 0.5


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
    """The next step of a drop.

    `at`: time of the next decision; None: only when a person asks. `why`: a code of `ScanReason`.
    """

    step: str
    at: datetime | None = None
    why: str = ""


def decide_step(
    drop: Drop,
    account: Account,
    policy: RecoveryPolicy,
    prompts: list[Prompt],
    ahead: int,
    free: int,
    now: datetime,
    luck: float = 0.0,
    seats: int | None = None,
) -> Decision:
    """Decide the next step of a drop. The account is offline, kept online and has no attempt in progress.

    `prompts`: the account's prompts of the last 24 hours, oldest first. `ahead`: prompts of its policy that
    come before it within a minute. `free`: free worker slots. `luck`: jitter, from 0 to 1. `seats`: free seats of
    the developer account, None if that is not known.
    """
    ours = [prompt for prompt in prompts if prompt.at >= drop.at]
    # First decision, requested by a person, or delayed after its pause: no further pause is needed.
    straight = drop.next_step == NextStep.WAITING and len(ours) <= drop.prompts_sent
    why = _no_prompt(drop, account, policy) or ("" if straight else _scan_wanted(account, ours))
    if why:
        return _to_scan(policy, why)
    room = prompt_room(account, policy, prompts, ahead, free, now, seats)
    if room.why or (room.step == NextStep.CAP and policy.scan):
        return _to_scan(policy, room.why or ScanReason.USED_UP)
    if room.step != NextStep.CAP and ours and not straight:
        ready = ours[-1].ended_at + policy.pause_after(sum(prompt.reached for prompt in ours))
        at = ready + (ready - ours[-1].ended_at) * JITTER * luck
        paused = drop.next_step == NextStep.BACK_OFF and ready <= now
        if at > now and not paused:
            return Decision(NextStep.BACK_OFF, at)
    return room


def _no_prompt(drop: Drop, account: Account, policy: RecoveryPolicy) -> str:
    """Return why a prompt would not help, as a code of `ScanReason`; "" if it may."""
    if drop.kind == DropKind.FIRST_NIGHT:
        return ScanReason.FIRST_NIGHT
    if drop.kind == DropKind.AT_ONCE:
        return ScanReason.AT_ONCE
    return "" if policy.popup and policy.prompts_a_day and account.wc_id else ScanReason.NO_PROMPTS


def _scan_wanted(account: Account, ours: list[Prompt]) -> str:
    if account.queued_for_scan_at is not None:
        return ScanReason.ASKED
    refusals = [p for p in ours if p.reason in (Reason.PROMPT_REFUSED, Reason.NEW_DEVICE_CHECK)]
    final = any(p.reason == Reason.NEW_DEVICE_CHECK or SCAN_WANTED.search(p.text) for p in refusals)
    return ScanReason.REFUSED if final or len(refusals) > 1 else ""


def _to_scan(policy: RecoveryPolicy, why: str) -> Decision:
    return Decision(NextStep.SCAN if policy.scan else NextStep.NOTHING, None, why)


def prompt_room(
    account: Account,
    policy: RecoveryPolicy,
    prompts: list[Prompt],
    ahead: int,
    free: int,
    now: datetime,
    seats: int | None = None,
) -> Decision:
    """Return POPUP if a prompt may be sent now, else what it waits for.

    CAP: the daily limit. HOURS: prompt hours; `at` None means that they never open. SEATS: a free seat of the
    developer account. WAITING: a worker slot, or the prompts ahead of it in this minute.
    """
    counted = sorted(prompt.at for prompt in prompts if prompt.reached and prompt.at > now - DAY)
    if len(counted) >= policy.prompts_a_day:
        oldest = counted[-policy.prompts_a_day] if policy.prompts_a_day else now
        return Decision(NextStep.CAP, oldest + DAY)
    opens = next_within_all([policy, account], now)
    if opens is None:
        return Decision(NextStep.HOURS, None, ScanReason.NEVER_OPEN)
    if opens > now:
        return Decision(NextStep.HOURS, opens)
    if seats is not None and seats <= 0:
        return Decision(NextStep.SEATS, now + SEATS_AGAIN)
    if free <= 0:
        return Decision(NextStep.WAITING, now + SLOTS_AGAIN)
    if ahead >= policy.prompts_a_minute:
        return Decision(NextStep.WAITING, now + MINUTE * (ahead // policy.prompts_a_minute))
    return Decision(NextStep.POPUP, now)
