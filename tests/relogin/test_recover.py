"""The recovery ladder: what `decide` says, by table; what `tick` does about it, over days of a clock of its own."""

import random
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, time, timedelta

import pytest
import time_machine
from django.utils import timezone

from accounts.logins import popup, success, wait
from accounts.models import Account, AccountEvent, Drop, LoginAttempt, RecoveryPolicy, WaitsWorker
from accounts.models.recovery_policy import default_policy, policy_for
from accounts.relogin import decide, recover
from accounts.relogin.decide import Decision, Prompt, decide_step
from accounts.states import DropKind, EventType, Method, NextStep, ScanReason, Trigger
from accounts.upstream.responses import LoggedIn, Profile
from tests.support.factories import fresh, make_account, make_attempt
from tests.support.processes import DEADLINE
from tests.support.threads import in_thread

NOW = datetime(2026, 7, 1, 4, 0, tzinfo=UTC)  # noon in Shanghai
S, M, H = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


# --- decide ----------------------------------------------------------------------------------------------


def policy(**fields) -> RecoveryPolicy:
    return RecoveryPolicy(**{"prompts_a_day": 3, "prompts_a_minute": 10, "pause_minutes": 5} | fields)


def tried(*minutes_ago: float, **fields) -> list[Prompt]:
    """Prompts that ended so long ago, each sent a minute before that."""
    ends = [NOW - m * M for m in sorted(minutes_ago, reverse=True)]
    return [Prompt(end - M, end, **{"reason": "not_tapped"} | fields) for end in ends]


def decided(
    *, prompts=(), step=NextStep.WAITING, prompts_sent=None, at=NOW - 2 * H, ahead=0, free=5, luck=0.0, **how
):
    kind, on_list = how.pop("kind", DropKind.ORDINARY), how.pop("on_list", None)
    wc_id, hours = how.pop("wc_id", "wxid_a"), how.pop("hours", {})
    prompts = list(prompts)
    known = sum(p.at >= at for p in prompts)
    drop = Drop(
        kind=kind, next_step=step, at=at, prompts_sent=known if prompts_sent is None else prompts_sent
    )
    account = Account(wc_id=wc_id, state="offline", queued_for_scan_at=on_list, **hours)
    return decide_step(drop, account, policy(**how), prompts, ahead, free, NOW, luck)


def window(start: str, end: str, zone: str = "Asia/Shanghai") -> dict:
    ends = {"hours_from": time.fromisoformat(start), "hours_until": time.fromisoformat(end)}
    return ends | {"time_zone": zone}


POPUP = Decision(NextStep.POPUP, NOW)
SINCE_POPUP = {"step": NextStep.POPUP}
AFTER_PAUSE = {"step": NextStep.BACK_OFF}


def scan(why: str) -> Decision:
    return Decision(NextStep.SCAN, None, why)


@pytest.mark.parametrize(
    ("given", "then"),
    [
        # A prompt first.
        ({}, POPUP),
        ({"free": 1}, POPUP),
        # Where it does not help, or is not wanted.
        ({"kind": DropKind.FIRST_NIGHT}, scan("first_night")),
        ({"kind": DropKind.AT_ONCE}, scan("at_once")),
        ({"popup": False}, scan("no_prompts")),
        ({"prompts_a_day": 0}, scan("no_prompts")),
        ({"wc_id": None}, scan("no_prompts")),
        ({"kind": DropKind.FIRST_NIGHT, "scan": False}, Decision(NextStep.NOTHING, None, "first_night")),
        ({"popup": False, "scan": False}, Decision(NextStep.NOTHING, None, "no_prompts")),
        # Between prompts: five minutes after the first, ten after the second, and some chance.
        ({"prompts": tried(1), **SINCE_POPUP}, Decision(NextStep.BACK_OFF, NOW + 4 * M)),
        ({"prompts": tried(1), "luck": 1.0, **SINCE_POPUP}, Decision(NextStep.BACK_OFF, NOW + 6.5 * M)),
        ({"prompts": tried(30, 1), **SINCE_POPUP}, Decision(NextStep.BACK_OFF, NOW + 9 * M)),
        ({"prompts": tried(1, reason="prompt_declined"), **SINCE_POPUP}, Decision(NextStep.BACK_OFF, NOW + 4 * M)),
        ({"prompts": tried(1, reason="prompt_refused"), **SINCE_POPUP}, Decision(NextStep.BACK_OFF, NOW + 4 * M)),
        ({"prompts": tried(5), **SINCE_POPUP}, POPUP),
        # A pause that was served is not begun again by another chance.
        ({"prompts": tried(6), "luck": 1.0, **SINCE_POPUP}, Decision(NextStep.BACK_OFF, NOW + 1.5 * M)),
        ({"prompts": tried(6), "luck": 1.0, **AFTER_PAUSE}, POPUP),
        # A prompt by hand, while this one paused, is paused for too.
        ({"prompts": tried(30, 1), "prompts_sent": 1, **AFTER_PAUSE}, Decision(NextStep.BACK_OFF, NOW + 9 * M)),
        ({"prompts": tried(1), "prompts_sent": 0}, Decision(NextStep.BACK_OFF, NOW + 4 * M)),
        # People ask: no pause.
        ({"prompts": tried(1)}, POPUP),
        ({"prompts": tried(1, reason="prompt_refused", text="请重新扫码登录")}, POPUP),
        ({"on_list": NOW - H}, POPUP),
        # What no phone has shown doubles no pause and is not counted.
        ({"prompts": tried(30, 20, 1, reached=False), **SINCE_POPUP}, Decision(NextStep.BACK_OFF, NOW + 4 * M)),
        ({"prompts": tried(60, 50, 40, 30, reached=False), **SINCE_POPUP}, POPUP),
        # Those before the drop are counted for the day, and paused for not at all.
        ({"prompts": tried(200, 150), "at": NOW - H, **SINCE_POPUP}, POPUP),
        ({"prompts": tried(200, 150, 140), "at": NOW - H}, scan("used_up")),
        # Used up.
        ({"prompts": tried(90, 60, 1), **SINCE_POPUP}, scan("used_up")),
        ({"prompts": tried(90, 60, 1)}, scan("used_up")),
        ({"prompts": tried(90, 60, 1), "scan": False}, Decision(NextStep.CAP, NOW - 91 * M + 24 * H)),
        ({"prompts": tried(90, 60, 30, 1), "prompts_a_day": 2, "scan": False}, Decision(NextStep.CAP, NOW - 31 * M + 24 * H)),
        ({"prompts": tried(24 * 60, 60, 30), "at": NOW - 48 * H, **SINCE_POPUP}, POPUP),
        # Refused for good.
        ({"prompts": tried(60, reason="prompt_refused", text="二次登录失败，请重新扫码登录"), **SINCE_POPUP}, scan("refused")),
        ({"prompts": tried(60, 30, reason="prompt_refused"), **SINCE_POPUP}, scan("refused")),
        ({"prompts": tried(60, reason="new_device_check"), **SINCE_POPUP}, scan("refused")),
        ({"prompts": tried(60, reason="prompt_refused"), "scan": False, **SINCE_POPUP}, POPUP),
        ({"on_list": NOW - H, "prompts": tried(60), **SINCE_POPUP}, scan("asked")),
        # The policy's hours and those of the phone's owner.
        (window("09:00", "18:00"), POPUP),
        (window("13:00", "18:00"), Decision(NextStep.HOURS, NOW + H)),
        (window("22:00", "06:00"), Decision(NextStep.HOURS, NOW + 10 * H)),
        ({"hours": window("12:30", "13:00")}, Decision(NextStep.HOURS, NOW + 30 * M)),
        ({"hours": window("06:00", "07:00", "Europe/Berlin")}, POPUP),
        ({**window("09:00", "18:00"), "hours": window("08:00", "11:00")}, Decision(NextStep.HOURS, NOW + 21 * H)),
        ({**window("09:00", "11:00"), "hours": window("20:00", "21:00")}, scan("never_open")),
        ({"kind": DropKind.FIRST_NIGHT, **window("13:00", "18:00")}, scan("first_night")),
        ({"prompts": tried(1), **window("13:00", "18:00"), **SINCE_POPUP}, Decision(NextStep.BACK_OFF, NOW + 4 * M)),
        # Pace and slots.
        ({"ahead": 9}, POPUP),
        ({"ahead": 10}, Decision(NextStep.WAITING, NOW + M)),
        ({"ahead": 25}, Decision(NextStep.WAITING, NOW + 2 * M)),
        ({"free": 0}, Decision(NextStep.WAITING, NOW + 10 * S)),
        ({"free": -3, "ahead": 50}, Decision(NextStep.WAITING, NOW + 10 * S)),
    ],
)  # fmt: skip
def test_what_comes_next(given, then):
    assert decided(**given) == then


def test_pauses_double_and_end_somewhere():
    given = policy(pause_minutes=5)
    assert [given.pause_after(n) for n in (0, 1, 2, 3, 4)] == [5 * M, 5 * M, 10 * M, 20 * M, 40 * M]
    assert given.pause_after(40) == policy(pause_minutes=720).pause_after(20) == 12 * H


# --- tick ------------------------------------------------------------------------------------------------


@pytest.fixture
def default(transactional_db):
    """The policy that every new portal has: rows of migrations are gone after a test with real commits."""
    return RecoveryPolicy.objects.get_or_create(name="Default", defaults={"is_default": True})[0]


@pytest.fixture
def worker(committed, default):
    """A waits worker lives."""
    return WaitsWorker.objects.create(name="w", alive_until=timezone.now() + timedelta(days=30))


def dropped(account: Account | None = None, **fields) -> Drop:
    if account is None:
        n = Account.objects.count() + 1
        account = make_account(wc_id=f"wxid_{n:04}", state="offline")
    now = timezone.now()
    return Drop.objects.create(account=account, w_id="w-old", **{"at": now, "next_at": now} | fields)


def recorded(what: str) -> list[tuple[int, str]]:
    return list(AccountEvent.objects.filter(happened=what).order_by("id").values_list("account", "detail"))


def ignored(attempt: LoginAttempt) -> None:
    """Sent, and nobody tapped."""
    attempt = fresh(attempt)
    assert popup.mark_prompt_sent(attempt, attempt.lease_epoch)
    assert attempt.move("expired", reason="not_tapped")


def test_a_drop_gets_a_prompt_then_pauses_then_is_to_be_scanned(worker):
    drop = dropped()
    with time_machine.travel(timezone.now() + S, tick=False) as clock:
        for n in (1, 2, 3):
            (attempt_id,) = recover.tick()
            assert recover.tick() == []
            attempt = LoginAttempt.objects.get(pk=attempt_id)
            assert (attempt.method, attempt.trigger, attempt.state) == ("popup", "recovery", "preparing")
            assert (fresh(drop).next_step, fresh(drop).prompts_sent) == (NextStep.POPUP, n)
            clock.shift(10 * S)
            assert recover.tick() == []  # it is on the phone
            ignored(attempt)
            assert recover.tick() == []
            if n < 3:
                pause = fresh(drop).next_at - timezone.now()
                assert fresh(drop).next_step == NextStep.BACK_OFF
                assert 5 * M * 2 ** (n - 1) <= pause <= 7.5 * M * 2 ** (n - 1)
                clock.shift(pause)
    drop = fresh(drop)
    assert (drop.next_step, drop.next_at, drop.prompts_sent) == (NextStep.SCAN, None, 3)
    assert drop.account.queued_for_scan_at is not None
    assert recorded(EventType.TO_SCAN) == [(drop.account_id, ScanReason.USED_UP)]


def test_a_prompt_that_is_accepted_ends_it(worker, upstream):
    drop = dropped()
    (attempt_id,) = recover.tick()
    upstream.person(drop.account.wc_id, prompt="accept")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(in_thread, wait.wait_for_phone, attempt_id).result(DEADLINE)
    account = fresh(drop.account)
    assert (account.state, account.w_id) == ("online", upstream.online[account.wc_id])
    with time_machine.travel(timezone.now() + H):
        assert recover.tick() == []
    assert LoginAttempt.objects.count() == 1


def test_a_first_day_drop_is_queued_for_scan_at_once(worker):
    drop, later = dropped(kind=DropKind.FIRST_NIGHT), dropped(kind=DropKind.FIRST_NIGHT)
    Account.objects.filter(pk=later.account_id).update(relogin_at=timezone.now() - H)
    assert recover.tick() == []
    account = fresh(drop.account)
    assert account.queued_for_scan_at is not None
    assert account.relogin_at == account.queued_for_scan_at
    assert fresh(later.account).relogin_at < account.relogin_at
    assert not LoginAttempt.objects.exists()
    assert recorded(EventType.TO_SCAN) == [(d.account_id, ScanReason.FIRST_NIGHT) for d in (drop, later)]


def test_a_policy_without_steps_says_so_once(worker):
    none = RecoveryPolicy.objects.create(name="none", popup=False, scan=False)
    drop = dropped(make_account(wc_id="wxid_a", state="offline", policy=none))
    recover.tick()
    assert recover.recover_now([drop]) == 1
    assert fresh(drop).next_step == NextStep.NOTHING
    assert recorded(EventType.RECOVERY_ENDED) == [(drop.account_id, ScanReason.NO_PROMPTS)]


def test_drops_that_recovery_leaves_alone(worker, committed):
    ended = dropped(ended_at=timezone.now())
    online = dropped(make_account(w_id="w-1"))
    later = dropped(next_at=timezone.now() + M)
    merged = dropped(make_account(wc_id="wxid_j", state="offline", merged_into=online.account))
    busy = dropped()
    make_attempt(busy.account)
    assert recover.tick() == []
    assert recover.recover_now([ended, online, merged, busy]) == 0
    assert {fresh(d).next_step for d in (ended, online, later, merged, busy)} == {NextStep.WAITING}
    LoginAttempt.objects.get().move("expired", reason="not_scanned")
    assert len(recover.tick()) == 1


def test_a_paused_account_is_left_alone_and_due_at_once_when_it_is_resumed(worker):
    drop, listed = dropped(next_step=NextStep.BACK_OFF, next_at=timezone.now() + H), dropped()
    recover.queue_for_scan(listed.account)
    Account.objects.update(keep_online=False)
    assert recover.tick() == []
    assert recover.recover_now([drop]) == 0
    assert (fresh(drop).next_step, fresh(drop).next_at) == (NextStep.PAUSED, None)
    assert fresh(listed.account).queued_for_scan_at is None

    Account.objects.update(keep_online=True)
    assert len(recover.tick()) == 2


def test_no_prompt_without_a_slot(worker, settings):
    settings.WAIT_SLOTS = 2
    other = make_attempt(make_account())
    first, second = dropped(), dropped()
    assert len(recover.tick()) == 1
    assert (fresh(second).next_step, fresh(first).next_step) == (NextStep.WAITING, NextStep.POPUP)
    other.move("expired", reason="not_scanned")
    with time_machine.travel(timezone.now() + decide.SLOTS_AGAIN + S):
        assert len(recover.tick()) == 1

    WaitsWorker.objects.update(alive_until=timezone.now())
    third = dropped()
    assert recover.tick() == []
    assert fresh(third).next_at > timezone.now()


@pytest.mark.slow
def test_many_drops_are_prompted_at_the_pace_of_their_policy(worker):
    slow = RecoveryPolicy.objects.create(name="slow", prompts_a_minute=2)
    default = [dropped() for _n in range(13)]
    own = [dropped(make_account(wc_id=f"wxid_s{n}", state="offline", policy=slow)) for n in range(3)]
    began = timezone.now()
    with time_machine.travel(began, tick=False) as clock:
        sent: dict[str, list[int]] = defaultdict(list)
        for _second in range(70):
            for attempt_id in recover.tick():
                attempt = LoginAttempt.objects.get(pk=attempt_id)
                sent[attempt.account.policy_id or 0].append((timezone.now() - began) // S)
                ignored(attempt)
            clock.shift(S)
    for policy_id, pace, drops in ((0, 10, default), (slow.pk, 2, own)):
        seconds = sent[policy_id]
        assert len(seconds) == len(drops)
        assert all(len([s for s in seconds if at < s <= at + 60]) <= pace for at in range(-1, 70))
        assert max(seconds) <= 60 * (-(-len(drops) // pace) - 1) + 5


def asked_at_once(drops: list[Drop], by) -> int:
    return recover.recover_now(drops, by=by)


def asked_of_the_next_tick(drops: list[Drop], by) -> int:
    count = recover.ask(Drop.objects.filter(pk__in=[drop.pk for drop in drops]), by=by)
    recover.tick()
    return count


@pytest.mark.parametrize("asked_for", [asked_at_once, asked_of_the_next_tick])
def test_those_who_ask_do_not_wait_but_keep_the_pace_and_the_caps(asked_for, worker, default, committed):
    pace = default.prompts_a_minute
    drops = [dropped(next_step=NextStep.BACK_OFF, next_at=timezone.now() + H) for _n in range(pace + 2)]
    for drop in drops:
        sent = timezone.now() + S
        prompt = {"method": "popup", "sent_at": sent, "created_at": sent, "reason": "prompt_declined"}
        make_attempt(drop.account, "failed", **prompt)
    used_up = dropped()
    for n in range(3):
        sent = timezone.now() - n * H
        make_attempt(used_up.account, "failed", method="popup", sent_at=sent, created_at=sent)
    with time_machine.travel(timezone.now() + 2 * M, tick=False) as clock:
        assert recover.tick() == []
        assert asked_for([*drops, used_up], committed.operator) == pace + 3
        asked = LoginAttempt.objects.open()
        assert asked.count() == pace
        assert {attempt.asked_by for attempt in asked} == {committed.operator}
        assert fresh(used_up).next_step == NextStep.SCAN
        LoginAttempt.objects.open().update(sent_at=timezone.now())
        clock.shift(61 * S)
        assert len(recover.tick()) == 2


@pytest.mark.parametrize(
    ("reason", "sent", "goes_on"),
    [
        ("unreachable", True, True), ("sign_in_refused", True, True), ("developer_frozen", True, True),
        ("developer_expired", True, True), ("no_worker", False, True), ("prompt_declined", True, False),
        ("not_tapped", True, False), ("no_answer", True, False),
    ],
)  # fmt: skip
def test_only_prompts_that_a_phone_may_have_shown_use_up_those_of_a_day(reason, sent, goes_on, worker):
    drop = dropped()
    for n in (1, 2, 3):
        at = timezone.now() - n * H
        times = {"created_at": at, "sent_at": at if sent else None}
        make_attempt(drop.account, "failed", method="popup", reason=reason, **times)
    assert len(recover.tick()) == goes_on
    assert fresh(drop).next_step == (NextStep.POPUP if goes_on else NextStep.SCAN)


def test_an_account_in_the_scan_queue_can_be_prompted_and_stays_in_the_queue(worker):
    drop = dropped(next_step=NextStep.SCAN, next_at=None)
    recover.queue_for_scan(drop.account)
    assert recover.recover_now([drop]) == 1
    ignored(LoginAttempt.objects.get())
    assert recover.tick() == []
    assert (fresh(drop).next_step, len(recorded(EventType.TO_SCAN))) == (NextStep.SCAN, 1)


def test_ticks_at_once_do_it_once(worker, default):
    drops = [dropped() for _n in range(30)]
    nights = [dropped(kind=DropKind.FIRST_NIGHT) for _n in range(10)]
    barrier = threading.Barrier(4)

    def tick():
        barrier.wait()
        return recover.tick()

    with ThreadPoolExecutor(4) as pool:
        begun = [
            n for future in [pool.submit(in_thread, tick) for _n in range(4)] for n in future.result(DEADLINE)
        ]
    begun += recover.tick()
    pace = default.prompts_a_minute
    assert len(begun) == len(set(begun)) == LoginAttempt.objects.count() == pace
    assert len(recorded(EventType.TO_SCAN)) == len(nights)
    assert {fresh(drop).next_step for drop in drops} == {NextStep.POPUP, NextStep.WAITING}


@pytest.mark.slow
def test_a_mass_drop_costs_a_bounded_number_of_queries(worker, django_assert_max_num_queries):
    for _n in range(recover.AT_A_TIME + 5):
        dropped(kind=DropKind.FIRST_NIGHT)
    with django_assert_max_num_queries(60):
        recover.tick()
    assert Account.objects.filter(queued_for_scan_at__isnull=False).count() == recover.AT_A_TIME + 5


# --- prompts that others ask for -------------------------------------------------------------------------


def test_a_prompt_for_an_account_that_is_online(worker, committed):
    account = make_account(w_id="w-1")
    attempt, step = recover.start_prompt(account, by=committed.operator)
    assert (step, attempt.trigger, attempt.old_w_id) == (NextStep.POPUP, Trigger.SCHEDULE, "w-1")
    assert recover.start_prompt(account) == (None, NextStep.NOTHING)


def test_what_is_in_the_way_of_a_prompt(worker, default, settings):
    account = make_account(w_id="w-1")

    def blocked(**changes) -> str:
        RecoveryPolicy.objects.filter(pk=default.pk).update(**changes)
        attempt, step = recover.start_prompt(account)
        assert attempt is None
        RecoveryPolicy.objects.filter(pk=default.pk).delete()
        default.save()
        return step

    soon = (timezone.localtime() + 2 * H).time().replace(microsecond=0)
    later = (timezone.localtime() + 3 * H).time().replace(microsecond=0)
    assert blocked(hours_from=soon, hours_until=later) == NextStep.HOURS
    assert blocked(prompts_a_day=0) == NextStep.CAP
    make_attempt(make_account(), "failed", method=Method.POPUP, sent_at=timezone.now())
    assert blocked(prompts_a_minute=1) == NextStep.BACK_OFF
    make_attempt(account, "failed", method=Method.POPUP, sent_at=timezone.now())
    assert blocked(prompts_a_day=1) == NextStep.CAP
    settings.WAIT_SLOTS = 1
    make_attempt(make_account())
    assert blocked() == NextStep.WAITING
    settings.WAIT_SLOTS = 10
    for changes in ({"keep_online": False}, {"merged_into": make_account(), "keep_online": True}):
        Account.objects.filter(pk=account.pk).update(**changes)
        assert blocked() == NextStep.NOTHING
    assert recover.start_prompt(make_account()) == (None, NextStep.NOTHING)


def test_an_account_is_put_onto_the_list_once(committed):
    account, other = make_account(), make_account()
    assert recover.queue_for_scan(account, by=committed.operator)
    assert not recover.queue_for_scan(fresh(account))
    assert recover.queue_for_scan(other)
    Account.objects.filter(pk=other.pk).update(keep_online=False)
    assert list(Account.objects.to_scan()) == [account]
    assert recorded(EventType.TO_SCAN) == [(account.pk, ScanReason.ASKED), (other.pk, ScanReason.ASKED)]


def test_an_account_has_its_own_policy_or_the_default(default):
    own = RecoveryPolicy.objects.create(name="own")
    assert policy_for(make_account(policy=own)) == own
    assert policy_for(make_account()) == default
    RecoveryPolicy.objects.all().delete()
    assert default_policy().prompts_a_day == 3


# --- days of it ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 8))]
)
def test_over_two_days_no_cap_is_exceeded_and_every_account_ends_somewhere(worker, default, seed):
    dice = random.Random(seed)
    caps = {"prompts_a_day": dice.randint(1, 4), "prompts_a_minute": dice.randint(1, 3)}
    hours = window(dice.choice(["08:00", "20:00"]), dice.choice(["18:00", "06:00"]))
    RecoveryPolicy.objects.update(**caps, pause_minutes=dice.randint(1, 60), **hours)
    default.refresh_from_db()
    sent = []
    with time_machine.travel(NOW, tick=False) as clock:
        WaitsWorker.objects.update(alive_until=NOW + timedelta(days=9))
        for n in range(6):
            own = window("10:00", "23:00") if n % 2 else {}
            dropped(make_account(wc_id=f"wxid_{n}", state="offline", **own))
        while timezone.now() < NOW + timedelta(days=2):
            clock.shift(dice.choice([2 * S, 20 * S, 10 * M, H, 3 * H]))
            for attempt_id in recover.tick():
                account = LoginAttempt.objects.get(pk=attempt_id).account
                assert default.is_within(timezone.now()) and account.is_within(timezone.now())
                assert account.state == "offline"
                sent.append((timezone.now(), account.pk))
                if dice.random() < 0.2:
                    accepted(attempt_id)
                else:
                    ignored(LoginAttempt.objects.get(pk=attempt_id))
    assert sent
    for at, pk in sent:
        assert sum(at - M < other <= at for other, _pk in sent) <= default.prompts_a_minute
        of_day = [other for other, other_pk in sent if other_pk == pk and at - 24 * H < other <= at]
        assert len(of_day) <= default.prompts_a_day
    for drop in Drop.objects.open().select_related("account"):
        on_list = drop.account.queued_for_scan_at is not None
        assert on_list == (drop.next_step == NextStep.SCAN)
        assert on_list or drop.next_at is not None


def accepted(attempt_id: int) -> None:
    attempt = LoginAttempt.objects.get(pk=attempt_id)
    popup.mark_prompt_sent(attempt, attempt.lease_epoch)
    success.complete_login(attempt, LoggedIn(Profile(wc_id=attempt.account.wc_id, w_id=f"w-{attempt_id}")))
    Drop.objects.open().filter(account=attempt.account_id).update(ended_at=timezone.now(), ended_by="popup")
