"""Plans and due times: which scheduled time runs, whose turn it is, and what the record says. The clock is the test's."""

import threading
from contextlib import contextmanager
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction

from accounts.lib import db_clock
from accounts.models import (
    Account,
    Channel,
    Delivery,
    Drop,
    LoginAttempt,
    Notification,
    Plan,
    PlanResult,
    PlanRun,
    RecoveryPolicy,
    Rule,
    Tag,
    WaitsWorker,
)
from accounts.models.plan import Outcome, PlanMethod
from accounts.relogin import plan_choice, plan_entries, plan_runs, recover
from accounts.states import AccountState, AttemptState, EventType, Method, NotificationKind, Trigger
from tests.support.factories import make_account, make_attempt
from tests.support.processes import DEADLINE, until
from tests.support.scenarios import fresh
from tests.support.stack import Stack
from tests.support.threads import running

MONDAY = datetime(2026, 6, 1, 0, 0, tzinfo=UTC)  # 8:00 in Shanghai
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


class Clock:
    def __init__(self, now: datetime):
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def go(self, to: datetime | timedelta) -> list[int]:
        """Later, with one tick there: the attempts begun."""
        self.now = self.now + to if isinstance(to, timedelta) else to
        WaitsWorker.objects.update(alive_until=self.now + HOUR)
        return plan_runs.tick()


@pytest.fixture
def at(db, monkeypatch):
    """The clock, with a worker that has slots and a policy that lets prompts through."""
    made = Clock(MONDAY)
    monkeypatch.setattr(db_clock, "now", made)
    WaitsWorker.objects.create(name="w", alive_until=MONDAY + HOUR)
    RecoveryPolicy.objects.update(is_default=False)
    RecoveryPolicy.objects.create(name="ours", is_default=True, prompts_a_minute=600)
    return made


def make_plan(**fields) -> Plan:
    fields.setdefault("name", f"plan {Plan.objects.count() + 1}")
    if "crontab" not in fields and "at" not in fields:
        fields["crontab"] = "0 9 * * *"
    fields.setdefault("time_zone", "Asia/Shanghai")
    tags = fields.pop("tags", [])
    plan = Plan(**fields)
    plan.full_clean()
    plan.save()
    plan.tags.set(tags)
    return plan


def offline(number: int = 1, **fields) -> list[Account]:
    return [
        make_account(wc_id=f"wxid_off_{n}", state=AccountState.OFFLINE, label=f"off {n}", **fields)
        for n in range(number)
    ]


def entries(run: PlanRun) -> dict[str, str]:
    return {entry.account.label: entry.outcome for entry in run.entries.select_related("account")}


def end(attempt_id: int, state: str = AttemptState.EXPIRED) -> None:
    attempt = LoginAttempt.objects.get(pk=attempt_id)
    attempt.state = AttemptState.PREPARING
    assert attempt.move(state, now=db_clock.now())


# --- scheduled times -----------------------------------------------------------------------------------


def test_a_plan_runs_at_its_scheduled_time_and_not_before(at):
    plan = make_plan()
    assert plan.next_at == MONDAY + HOUR
    at.go(MONDAY + 59 * MINUTE)
    assert not PlanRun.objects.exists()
    at.go(MONDAY + HOUR)
    run = PlanRun.objects.get()
    assert (run.plan, run.scheduled_at, run.plan_name, run.due) == (plan, MONDAY + HOUR, plan.name, 0)
    assert fresh(plan).next_at == MONDAY + 25 * HOUR
    at.go(MINUTE)
    at.go(MINUTE)
    assert PlanRun.objects.count() == 1
    assert not fresh(run).is_open


def test_weekdays_and_a_time_are_a_plan_too(at):
    plan = make_plan(weekdays="1,7", at=time(7, 30), time_zone="Europe/Berlin")
    assert plan.expression == "30 7 * * 0,1"
    assert plan.next_at == MONDAY + timedelta(hours=5, minutes=30)


def test_after_downtime_only_the_latest_missed_run_is_started(at):
    plan = make_plan(crontab="0 */6 * * *")
    at.go(MONDAY + timedelta(days=3, hours=1, minutes=5))
    run = PlanRun.objects.get()
    assert run.scheduled_at.astimezone(ZoneInfo("Asia/Shanghai")).isoformat()[:16] == "2026-06-04T06:00"
    assert fresh(plan).next_at == MONDAY + timedelta(days=3, hours=4)
    at.go(MINUTE)
    assert PlanRun.objects.count() == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "begin", "hours", "expected"),
    [
        ("30 2 * * *", datetime(2026, 3, 28, 23, tzinfo=UTC), 27, 2),
        ("30 2 * * *", datetime(2026, 10, 24, 23, tzinfo=UTC), 27, 2),
        # Each hour that passed, on the day of 23 hours and on that of 25.
        ("0 * * * *", datetime(2026, 3, 28, 22, 30, tzinfo=UTC), 6, 6),
        ("0 * * * *", datetime(2026, 10, 24, 22, 30, tzinfo=UTC), 6, 6),
    ],
)
def test_when_the_clocks_change_no_run_is_lost_or_doubled(at, line, begin, hours, expected):
    at.now = begin
    plan = make_plan(crontab=line, time_zone="Europe/Berlin")
    while (passed := at.now - begin) < timedelta(hours=hours):
        # By day nothing is due.
        at.go(30 * MINUTE if passed < 6 * HOUR or passed >= 23 * HOUR else 6 * HOUR)
    runs = list(PlanRun.objects.order_by("scheduled_at"))
    assert len(runs) == expected == len({run.scheduled_at for run in runs})
    assert all(timedelta() <= run.began_at - run.scheduled_at < 30 * MINUTE for run in runs)
    assert fresh(plan).next_at > at.now


def test_a_run_that_was_missed_over_a_change_of_the_clocks_is_started_once(at):
    at.now = datetime(2026, 3, 28, 12, tzinfo=UTC)
    make_plan(crontab="30 2 * * *", time_zone="Europe/Berlin")
    at.go(datetime(2026, 3, 29, 12, tzinfo=UTC))
    assert [run.scheduled_at for run in PlanRun.objects.all()] == [datetime(2026, 3, 29, 1, tzinfo=UTC)]


def test_a_scheduled_time_runs_once_also_when_two_start_it(at):
    plan = make_plan()
    scheduled_at = plan.next_at
    at.now = scheduled_at
    assert plan_runs.run(plan, scheduled_at) is not None
    assert plan_runs.run(plan, scheduled_at) is None
    at.go(MINUTE)
    at.go(HOUR)
    assert PlanRun.objects.count() == 1
    assert fresh(plan).next_at == scheduled_at + timedelta(days=1)


def test_a_plan_that_is_off_misses_nothing(at):
    plan = make_plan()
    plan.active = False
    plan.save()
    at.go(timedelta(days=2))
    assert fresh(plan).next_at is None
    plan.active = True
    plan.save()
    assert fresh(plan).next_at == MONDAY + timedelta(days=2, hours=1)
    at.go(MINUTE)
    assert not PlanRun.objects.exists()


def test_a_change_of_something_else_does_not_move_a_run_that_is_due(at):
    plan = make_plan()
    at.now = MONDAY + HOUR + MINUTE
    plan.most_a_minute = 3
    plan.save()
    plan_runs.tick()
    assert PlanRun.objects.get().scheduled_at == MONDAY + HOUR


def test_while_a_run_is_still_on_the_next_one_is_left_out(at):
    make_plan(crontab="0 * * * *", most_a_minute=1, method=PlanMethod.SCAN)
    offline(100)
    at.go(MONDAY + HOUR)
    at.go(MONDAY + 2 * HOUR)
    second, first = PlanRun.objects.all()
    assert (second.skipped, second.is_open, second.entries.count()) == (True, False, 0)
    assert first.is_open


def test_a_plan_goes_with_its_team(at, people):
    plan = make_plan(team=people.east, method=PlanMethod.SCAN)
    offline(1, team=people.east)
    at.go(MONDAY + HOUR)
    people.east.delete()
    at.go(timedelta(days=1))
    assert not Plan.objects.exists()
    assert [run.plan_name for run in PlanRun.objects.all()] == [plan.name]


# --- which accounts ------------------------------------------------------------------------------------


def test_whom_a_plan_takes(at, people):
    tag, other = Tag.objects.create(name="vip"), Tag.objects.create(name="other")
    a, b, c, d, e = offline(5, team=people.east)
    for account in (a, b):
        account.tags.add(tag, other)
    Account.objects.filter(pk=c.pk).update(team=people.west)
    Account.objects.filter(pk=d.pk).update(keep_online=False)
    Account.objects.filter(pk=e.pk).update(merged_into=a)
    online = make_account(w_id="w1", label="on", team=people.east)
    new = make_account(label="new")

    def taken(**fields) -> set[str]:
        ids = plan_choice.choose(make_plan(**fields), at.now).taken
        return set(Account.objects.filter(pk__in=ids).values_list("label", flat=True))

    assert taken() == {"off 0", "off 1", "off 2"}
    assert taken(tags=[tag, other]) == {"off 0", "off 1"}
    assert taken(team=people.west) == {"off 2"}
    assert taken(state="") == {"off 0", "off 1", "off 2", "on", "new"}
    assert taken(state=AccountState.ONLINE) == {online.label}
    Account.objects.filter(pk__in=[b.pk, new.pk]).update(relogin_at=at.now)
    Account.objects.filter(pk=a.pk).update(relogin_at=at.now + MINUTE)
    assert taken(state="", only_due=True) == {"off 1", "new"}


def test_a_run_takes_at_most_so_many_and_records_who_is_left(at):
    accounts = offline(5)
    for number, account in enumerate(accounts):
        Account.objects.filter(pk=account.pk).update(last_login_at=MONDAY - number * HOUR)
    make_plan(most_a_run=2, method=PlanMethod.SCAN)
    at.go(MONDAY + HOUR)
    run = PlanRun.objects.get()
    assert run.due == 5
    assert entries(run) == {
        "off 4": Outcome.TO_SCAN,
        "off 3": Outcome.TO_SCAN,
        **{f"off {n}": Outcome.LEFT for n in range(3)},
    }


@pytest.mark.slow
def test_a_run_keeps_its_pace(at):
    offline(7)
    make_plan(most_a_minute=3, method=PlanMethod.SCAN)
    at.go(MONDAY + HOUR)
    assert Account.objects.filter(queued_for_scan_at__isnull=False).count() == 3
    for seconds in (2, 2, 2, 12, 20, 20):
        at.go(timedelta(seconds=seconds))
    assert Account.objects.filter(queued_for_scan_at__isnull=False).count() == 3
    at.go(timedelta(seconds=2))
    assert Account.objects.filter(queued_for_scan_at__isnull=False).count() == 6
    assert PlanRun.objects.get().is_open
    at.go(MINUTE)
    assert not PlanRun.objects.get().is_open
    assert set(entries(PlanRun.objects.get()).values()) == {Outcome.TO_SCAN}


def test_a_plan_that_is_switched_off_stops_its_run(at):
    offline(3)
    plan = make_plan(most_a_minute=1, method=PlanMethod.SCAN)
    at.go(MONDAY + HOUR)
    plan.active = False
    plan.save()
    at.go(2 * MINUTE)
    run = PlanRun.objects.get()
    assert sorted(entries(run).values()) == [Outcome.LEFT, Outcome.LEFT, Outcome.TO_SCAN]
    assert not run.is_open
    assert Account.objects.filter(relogin_at=run.scheduled_at).count() == 1


def test_somebody_runs_it_now_and_is_named(at, people):
    offline(1)
    plan = make_plan(active=False, method=PlanMethod.SCAN)
    run = plan_runs.run_now(plan, people.admin)
    plan_runs.tick()
    assert (run.asked_by_name, entries(run)) == ("admin", {"off 0": Outcome.TO_SCAN})
    assert fresh(plan).next_at is None


# --- what happens to each ------------------------------------------------------------------------------


@pytest.mark.slow
def test_accounts_online_are_prompted_and_what_came_of_it_is_recorded(at):
    first, second = (make_account(w_id=f"w{n}", label=f"on {n}") for n in range(2))
    make_plan(state=AccountState.ONLINE, method=PlanMethod.POPUP)
    begun = at.go(MONDAY + HOUR)
    attempts = LoginAttempt.objects.filter(pk__in=begun).order_by("account")
    assert [(a.method, a.trigger, a.account_id) for a in attempts] == [
        (Method.POPUP, Trigger.SCHEDULE, first.pk),
        (Method.POPUP, Trigger.SCHEDULE, second.pk),
    ]
    run = PlanRun.objects.get()
    assert entries(run) == {"on 0": Outcome.PROMPTED, "on 1": Outcome.PROMPTED}
    assert fresh(first).relogin_at == run.scheduled_at
    end(attempts[0].pk)
    Account.objects.filter(pk=second.pk).update(last_login_at=at.now)
    end(attempts[1].pk, AttemptState.CANCELLED)
    at.go(timedelta(seconds=2))
    assert entries(run) == {"on 0": Outcome.DECLINED, "on 1": Outcome.ONLINE}
    assert fresh(first).queued_for_scan_at is None
    # The time that the run set is answered by the run: nobody is prompted a second time for it.
    for minutes in (1, 1, 1, 12, 15):
        assert at.go(minutes * MINUTE) == []


def test_a_prompt_in_vain_puts_the_account_onto_the_list(at):
    account = make_account(w_id="w1", label="on")
    make_plan(state=AccountState.ONLINE, method=PlanMethod.LADDER)
    (begun,) = at.go(MONDAY + HOUR)
    end(begun)
    at.go(timedelta(seconds=2))
    assert fresh(account).queued_for_scan_at == at.now
    assert entries(PlanRun.objects.get()) == {"on": Outcome.TO_SCAN}
    assert account.events.filter(happened=EventType.TO_SCAN).count() == 1


def test_an_account_with_an_open_drop_is_left_to_recovery_and_followed(at):
    (account,) = offline(1)
    drop = Drop.objects.create(
        account=account, w_id="w", at=at.now, next_step="back_off", next_at=at.now + 9 * HOUR
    )
    make_plan()
    at.go(MONDAY + HOUR)
    assert entries(PlanRun.objects.get()) == {"off 0": Outcome.RECOVERY}
    attempt = LoginAttempt.objects.get()
    assert (attempt.method, attempt.trigger) == (Method.POPUP, Trigger.RECOVERY)
    assert recover.queue_for_scan(account, at=at.now)
    at.go(MINUTE)
    assert entries(PlanRun.objects.get()) == {"off 0": Outcome.TO_SCAN}
    assert fresh(drop).ended_at is None


def test_what_stands_in_the_way_is_recorded(at):
    busy, listed, paused, gone = offline(4)
    make_attempt(busy, deadline_at=MONDAY + 9 * HOUR)
    Account.objects.filter(pk=listed.pk).update(queued_for_scan_at=MONDAY)
    new = make_account(label="new")
    plan = make_plan(state="", method=PlanMethod.POPUP)
    at.now = MONDAY + HOUR
    run = plan_runs.run(plan, at.now)
    Account.objects.filter(pk=paused.pk).update(keep_online=False)
    Account.objects.filter(pk=gone.pk).update(merged_into=busy)
    plan_runs.tick()
    assert entries(run) == {
        "off 0": Outcome.BUSY,
        "off 1": Outcome.LISTED,
        "off 2": Outcome.CHANGED,
        "off 3": Outcome.CHANGED,
        new.label: Outcome.NO_PROMPT,
    }
    assert LoginAttempt.objects.count() == 1


def test_an_account_that_came_back_before_its_turn_is_left_alone(at):
    (account,) = offline(1)
    plan = make_plan(method=PlanMethod.SCAN)
    run = plan_runs.run(plan, at.now)
    Account.objects.filter(pk=account.pk).update(state=AccountState.ONLINE, w_id="w9")
    plan_runs.tick()
    assert entries(run) == {"off 0": Outcome.CHANGED}
    assert fresh(account).queued_for_scan_at is None


@pytest.mark.parametrize(
    ("method", "outcome"), [(PlanMethod.POPUP, Outcome.CAP), (PlanMethod.LADDER, Outcome.TO_SCAN)]
)
def test_no_more_prompts_than_the_policy_allows(at, method, outcome):
    RecoveryPolicy.objects.update(prompts_a_day=1)
    account = make_account(w_id="w1", label="on")
    make_attempt(
        account, AttemptState.EXPIRED, method=Method.POPUP, created_at=MONDAY, sent_at=MONDAY, ended_at=MONDAY
    )
    make_plan(state=AccountState.ONLINE, method=method)
    assert at.go(MONDAY + HOUR) == []
    assert entries(PlanRun.objects.get()) == {"on": outcome}


def test_outside_of_its_owners_hours_nobody_is_prompted(at):
    hours = {"hours_from": time(20, 0), "hours_until": time(22, 0), "time_zone": "Asia/Shanghai"}
    account = make_account(w_id="w1", label="on", **hours)
    make_plan(state=AccountState.ONLINE, method=PlanMethod.POPUP)
    assert at.go(MONDAY + HOUR) == []
    assert entries(PlanRun.objects.get()) == {"on": Outcome.HOURS}
    # A due time waits for them.
    plan_runs.make_due(Account.objects.filter(pk=account.pk), at.now + HOUR, None)
    assert at.go(MONDAY + 3 * HOUR) == []
    assert at.go(MONDAY + 12 * HOUR + 5 * MINUTE) != []


def test_without_a_slot_nobody_is_prompted_and_nobody_is_lost(at, settings):
    settings.WAIT_SLOTS = 1
    for number in range(2):
        make_account(w_id=f"w{number}", label=f"on {number}")
    make_plan(state=AccountState.ONLINE, method=PlanMethod.POPUP)
    (begun,) = at.go(MONDAY + HOUR)
    assert at.go(MINUTE) == []
    end(begun)
    (second,) = at.go(MINUTE)
    assert second != begun


# --- due times -----------------------------------------------------------------------------------------


def test_each_account_that_is_due_is_taken_once(at):
    online = make_account(w_id="w1", label="on")
    new = make_account(label="new")
    paused = make_account(w_id="w2", label="paused", keep_online=False)
    everybody = Account.objects.filter(pk__in=[online.pk, new.pk, paused.pk])
    assert plan_runs.make_due(everybody, MONDAY + HOUR, None) == 3
    assert at.go(MONDAY + 59 * MINUTE) == []
    (begun,) = at.go(MONDAY + HOUR)
    run = PlanRun.objects.get()
    assert run.plan is None
    assert entries(run) == {"on": Outcome.PROMPTED, "new": Outcome.TO_SCAN}
    assert fresh(new).queued_for_scan_at == at.now
    end(begun)
    for _minute in range(5):
        assert at.go(MINUTE) == []
    assert entries(run) == {"on": Outcome.TO_SCAN, "new": Outcome.TO_SCAN}
    assert fresh(online).queued_for_scan_at is not None
    assert PlanRun.objects.count() == 1
    # Switched on again, it is due at once; another time is another turn.
    Account.objects.filter(pk=paused.pk).update(keep_online=True)
    assert len(at.go(MINUTE)) == 1


def test_an_account_that_logs_in_before_its_time_is_not_due_any_more(at):
    account = make_account(w_id="w1", label="on")
    plan_runs.make_due(Account.objects.filter(pk=account.pk), MONDAY + HOUR, None)
    attempt = make_attempt(account)
    assert account.go_online(attempt.seq, "w2", MONDAY + MINUTE, attempt)
    assert at.go(MONDAY + 2 * HOUR) == []
    assert not PlanRun.objects.exists()


def test_who_set_a_due_time_is_written_down(at, people):
    account = make_account(w_id="w1")
    plan_runs.make_due(Account.objects.filter(pk=account.pk), MONDAY + HOUR, people.operator)
    event = account.events.get()
    assert (event.happened, event.detail, event.actor_name) == (EventType.CHANGED, "relogin_at", "operator")
    plan_runs.make_due(Account.objects.filter(pk=account.pk), None, people.operator)
    assert fresh(account).relogin_at is None


def test_two_plans_of_one_moment_prompt_an_account_once(at):
    account = make_account(w_id="w1", label="on")
    make_plan(state=AccountState.ONLINE, method=PlanMethod.POPUP)
    make_plan(state=AccountState.ONLINE, method=PlanMethod.POPUP)
    assert len(at.go(MONDAY + HOUR)) == 1
    at.go(timedelta(seconds=2))
    assert sorted(PlanResult.objects.values_list("outcome", flat=True)) == [Outcome.BUSY, Outcome.PROMPTED]
    assert fresh(account).relogin_at == MONDAY + HOUR


def test_a_due_account_that_a_plan_takes_at_the_same_moment_is_taken_once(at):
    account = make_account(w_id="w1", label="on")
    plan_runs.make_due(Account.objects.filter(pk=account.pk), MONDAY + HOUR, None)
    make_plan(state=AccountState.ONLINE, method=PlanMethod.POPUP, only_due=True)
    assert len(at.go(MONDAY + HOUR)) == 1
    assert PlanRun.objects.get().plan is not None


# --- notifications --------------------------------------------------------------------------------


def test_a_run_is_notified_once_when_it_is_settled(at):
    channel = Channel.objects.create(name="desk", url="json://127.0.0.1:9/")
    Rule.objects.create(channel=channel, kinds=[NotificationKind.PLAN])
    for number in range(3):
        make_account(w_id=f"w{number}", label=f"on {number}")
    make_plan(name="Nights", state=AccountState.ONLINE, method=PlanMethod.POPUP, most_a_run=2)
    make_plan(name="Nobody", state=AccountState.OFFLINE)
    first, second = at.go(MONDAY + HOUR)
    at.go(MINUTE)
    assert not Notification.objects.exists()
    for attempt_id in (first, second):
        end(attempt_id)
    Account.objects.filter(attempts=first).update(last_login_at=at.now)
    for _minute in range(3):
        at.go(MINUTE)
    counts = {"due": 3, "online": 1, "to_scan": 0, "left": 2}
    assert [notification.facts for notification in Notification.objects.all()] == [
        {"name": "Nights", "counts": counts}
    ]
    assert Delivery.objects.count() == 1


# --- two at once ---------------------------------------------------------------------------------------


def at_once(step, number: int = 4) -> list:
    """What `step` returns to each of so many threads that call it at the same moment."""
    found, start = [], threading.Barrier(number)

    def call() -> None:
        try:
            start.wait()
            found.append(step())
        finally:
            connection.close()

    threads = [threading.Thread(target=call) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_many_ticks_at_the_same_moment_do_everything_once(committed, monkeypatch):
    now = Clock(MONDAY)
    monkeypatch.setattr(db_clock, "now", now)
    WaitsWorker.objects.create(name="w", alive_until=MONDAY + 2 * HOUR)
    RecoveryPolicy.objects.update(prompts_a_minute=600)
    accounts = [make_account(w_id=f"w{n}", label=f"on {n}") for n in range(6)]
    plan_runs.make_due(Account.objects.filter(pk__in=[a.pk for a in accounts[4:]]), MONDAY + HOUR, None)
    make_plan(state=AccountState.ONLINE, method=PlanMethod.POPUP, most_a_minute=3)
    now.now = MONDAY + HOUR
    begun = [attempt_id for part in at_once(plan_runs.tick) for attempt_id in part]
    begun += plan_runs.tick()
    run = PlanRun.objects.get(plan__isnull=False)
    assert run.entries.count() == 6
    assert len(begun) == len(set(begun)) == LoginAttempt.objects.count() == 3
    assert PlanResult.objects.filter(outcome=Outcome.PROMPTED).count() == 3


@contextmanager
def another_tick_before(table: str):
    """A whole tick of somebody else comes just before the first query that names this table."""
    played = []

    def play(execute, sql, params, many, context):
        if not played and f'"{table}"' in sql:
            played.append(sql)
            plan_runs.tick()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(play):
        yield
    assert played


def test_who_finds_due_accounts_that_somebody_else_takes_meanwhile_makes_no_empty_run(at):
    account = make_account(label="new")
    plan_runs.make_due(Account.objects.filter(pk=account.pk), MONDAY, None)
    with another_tick_before("accounts_planrun"):
        plan_runs.tick()
    assert entries(PlanRun.objects.get()) == {"new": Outcome.TO_SCAN}


# --- the rest ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"crontab": ""}, "Enter when to run"),
        ({"crontab": "", "weekdays": "1"}, "Enter when to run"),
        ({"crontab": "", "at": time(9)}, "Enter when to run"),
        ({"crontab": "0 9 * * *", "weekdays": "1", "at": time(9)}, "not both"),
        ({"crontab": "0 9 * *"}, "five fields"),
        ({"time_zone": "Mars/Olympus"}, "Unknown time zone"),
        ({"most_a_run": 0}, "greater than or equal to 1"),
    ],
)
def test_a_plan_that_cannot_run_is_refused_with_a_sentence(at, fields, said):
    with pytest.raises(ValidationError) as error:
        make_plan(**fields)
    assert said in " ".join(error.value.messages)


def test_a_plan_that_is_deleted_keeps_its_record(at):
    offline(2)
    plan = make_plan(most_a_minute=1, method=PlanMethod.SCAN)
    at.go(MONDAY + HOUR)
    plan.delete()
    at.go(2 * MINUTE)
    run = PlanRun.objects.get()
    assert (run.plan, run.plan_name, run.is_open) == (None, plan.name, False)
    assert sorted(entries(run).values()) == [Outcome.LEFT, Outcome.TO_SCAN]


# --- real processes ------------------------------------------------------------------------------------


@pytest.mark.live
def test_two_beats_and_two_jobs_workers_run_a_scheduled_time_once(live, upstream):
    """A run that was missed while nothing ran, and a due time; the phones answer their prompts."""
    RecoveryPolicy.objects.update(prompts_a_minute=600)
    accounts = []
    for number in range(3):
        upstream.person(f"wxid_plan_{number}")
        accounts.append(
            make_account(label=f"p{number}", wc_id=f"wxid_plan_{number}", state=AccountState.OFFLINE)
        )
    plan = make_plan(crontab="0 0 1 1 *", method=PlanMethod.POPUP)
    Plan.objects.filter(pk=plan.pk).update(next_at=plan.next_at.replace(year=plan.next_at.year - 1))
    with Stack("waits", "jobs-1", "jobs-2", "beat-1", "beat-2"):
        for account in accounts:
            upstream.wait(wcId=account.wc_id, prompt=True)
            upstream.phone("accept", wcId=account.wc_id)
        settled = lambda: PlanResult.objects.filter(outcome=Outcome.ONLINE).count() == 3  # noqa: E731
        until(settled, "the run is not settled")
        new = make_account(label="new")
        plan_runs.make_due(Account.objects.filter(pk=new.pk), db_clock.now(), None)
        until(lambda: fresh(new).queued_for_scan_at, "the due time was not answered")
    assert [run.plan_name for run in PlanRun.objects.order_by("pk")] == [plan.name, ""]
    assert LoginAttempt.objects.count() == upstream.calls("/secondLogin") == 3
    assert fresh(plan).next_at > db_clock.now()


@pytest.mark.database("postgres")
def test_two_people_who_click_run_now_at_the_same_moment_start_one_run(committed):
    plan = make_plan()
    began, go_on = threading.Event(), threading.Event()

    def first() -> None:
        with transaction.atomic():
            plan_runs.run_now(plan, committed.operator)
            began.set()
            go_on.wait(DEADLINE)

    def blocked() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return bool(cursor.fetchone()[0])

    with running(first):
        assert began.wait(DEADLINE)
        with running(plan_runs.run_now, plan, committed.mate) as second:
            until(lambda: second.done() or blocked())
            go_on.set()
    assert [run.skipped for run in PlanRun.objects.order_by("began_at")] == [False, True]


def test_a_plan_that_was_deleted_meanwhile_does_not_run(at):
    plan = make_plan()
    Plan.objects.filter(pk=plan.pk).delete()
    assert plan_runs.run_now(plan, None) is None


@pytest.mark.slow
def test_accounts_outside_their_hours_do_not_hold_up_the_others(at):
    shut = {"hours_from": time(20, 0), "hours_until": time(22, 0), "time_zone": "Asia/Shanghai"}
    waiting = offline(plan_runs.TAKEN_AT_ONCE + 5, **shut)
    ready = make_account(wc_id="wxid_ready", state=AccountState.OFFLINE)
    plan_runs.make_due(Account.objects.filter(pk__in=[account.pk for account in waiting]), MONDAY, None)
    plan_runs.make_due(Account.objects.filter(pk=ready.pk), MONDAY + MINUTE, None)
    assert at.go(2 * MINUTE) == []
    begun = at.go(plan_entries.HOURS_AGAIN)
    assert [LoginAttempt.objects.get(pk=pk).account for pk in begun] == [ready]
