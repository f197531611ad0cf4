"""Bulk runs: what a dry run says is what happens, to whom it may happen, and what each account's result is."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.attention import archive
from accounts.bulk import actions, execute, runs
from accounts.models import (
    Account,
    BulkRun,
    Drop,
    LoginAttempt,
    Presence,
    RecoveryPolicy,
    Tag,
    WaitsWorker,
)
from accounts.states import AccountState, EventType, Method, Trigger
from tests.support.factories import fresh, make_attempt

HOUR = timedelta(hours=1)


def seen_by(person):
    return Account.objects.visible_to(person).kept()


def start(person, action: str, **value) -> BulkRun:
    return runs.start(person, action, value, seen_by(person))


def results(run: BulkRun) -> dict[str, str]:
    """What became of each account: why not, or else its state."""
    return {item.account.label: item.reason or item.state for item in run.items.select_related("account")}


def done(run: BulkRun) -> dict[str, str]:
    execute.go_on(run.pk)
    return results(run)


@pytest.fixture
def worker(db):
    RecoveryPolicy.objects.update(prompts_a_minute=3)
    return WaitsWorker.objects.create(name="w", alive_until=timezone.now() + HOUR)


def offline(people, label: str, **fields) -> Account:
    return people.account(label=label, wc_id=f"wxid_{label}", state=AccountState.OFFLINE, **fields)


# --- changes ----------------------------------------------------------------------------------------------


def test_each_change_is_written_with_an_event_and_a_result(people):
    vip, policy = Tag.objects.create(name="vip"), RecoveryPolicy.objects.create(name="soft")
    account = people.account(label="a", place="Rack 1 · Slot 1")
    account.tags.add(vip)
    at = (timezone.now() + HOUR).isoformat()
    people.operator.groups.add(people.west)
    for action, value in (
        ("tag", {"tags": ["night", "vip"]}),
        ("untag", {"tags": ["vip"]}),
        ("proxy", {"proxy": 4}),
        ("place", {"place": "Rack 3 · Slot 10"}),
        ("policy", {"policy": policy.pk}),
        ("due", {"at": at}),
        ("pause", {"reason": "holiday"}),
        ("resume", {}),
        ("team", {"team": people.west.pk}),
        ("archive", {}),
    ):
        run = start(people.operator, action, **value)
        assert done(run) == {"a": "done"}, action
        assert fresh(run).ended_at is not None
        assert account.events.filter(actor=people.operator).count() == 1, action
        account.events.all().delete()
        after = fresh(account)
        if action == "due":
            assert after.relogin_at.isoformat() == at
        if action == "pause":
            assert (after.keep_online, after.pause_reason) == (False, "holiday")
    assert [tag.name for tag in after.tags.all()] == ["night"]
    assert (after.proxy, after.policy, after.team) == (4, policy, people.west)
    assert (after.place, after.rack, after.place_key) == ("Rack 3 · Slot 10", "Rack 3", after.place_key)
    other = Account.objects.create(label="b", place="Rack 3 · Slot 10")
    assert after.place_key == other.place_key
    assert after.state == AccountState.ARCHIVED


def test_accounts_that_have_it_already_and_those_it_cannot_be_done_to_are_left_out_with_the_reason(people):
    people.account(label="same", proxy=4)
    own = people.account(label="own", proxy=1)
    Account.objects.filter(pk=own.pk).update(own_proxy={"host": "10.0.0.1", "port": 1080})
    people.account(label="other", proxy=1)
    assert done(start(people.operator, "proxy", proxy=4)) == {
        "same": "unchanged", "own": "uses_own_proxy", "other": "done",
    }  # fmt: skip
    people.account(label="on", w_id="w1")
    assert done(start(people.operator, "archive"))["on"] == "log_out_first"


def test_what_a_dry_run_says_is_what_happens(people):
    for number in range(3):
        people.account(label=f"a{number}", proxy=number)
    found = runs.look("proxy", {"proxy": 1}, seen_by(people.operator))
    assert [account.label for account in found.ready] == ["a0", "a2"]
    assert [(words, [a.label for a in those]) for words, those in found.reasons] == [
        ("Nothing to change", ["a1"])
    ]
    assert not BulkRun.objects.exists()
    assert done(start(people.operator, "proxy", proxy=1)) == {"a0": "done", "a1": "unchanged", "a2": "done"}


def test_more_accounts_than_one_run_takes_start_nothing(people, monkeypatch):
    monkeypatch.setattr(runs, "MOST", 1)
    people.account(), people.account()
    with pytest.raises(runs.TooMany):
        start(people.operator, "proxy", proxy=4)
    assert not BulkRun.objects.exists()


# --- whose accounts ---------------------------------------------------------------------------------------


def test_another_teams_account_is_never_touched_not_even_after_the_run_has_begun(people):
    mine, theirs = people.account(label="mine"), people.account(label="theirs", team=people.west)
    moved = people.account(label="moved")
    run = runs.start(people.operator, "place", {"place": "x"}, seen_by(people.operator))
    Account.objects.filter(pk=moved.pk).update(team=people.west)
    assert done(run) == {"mine": "done", "moved": "gone"}
    assert [fresh(account).place for account in (mine, theirs, moved)] == ["x", "", ""]


def test_a_team_is_for_those_in_it_to_give(people):
    people.account(label="a")
    assert done(start(people.operator, "team", team=people.west.pk)) == {"a": "value_gone"}
    assert done(start(people.operator, "team", team=None)) == {"a": "value_gone"}
    assert Account.objects.get().team == people.east


@pytest.mark.parametrize("loses", ["role", "activity", "row"])
def test_who_may_not_do_it_any_more_has_it_done_to_nothing(people, loses):
    account = people.account(label="a")
    run = start(people.operator, "place", place="x")
    if loses == "role":
        people.operator.groups.remove(*people.operator.groups.filter(role="operator"))
    elif loses == "activity":
        type(people.operator).objects.update(is_active=False)
    else:
        people.operator.delete()
    assert done(run) == {"a": "rights"}
    assert (fresh(account).place, fresh(run).person_name) == ("", "operator")


@pytest.mark.parametrize(
    ("action", "who"),
    [
        *((action, "operator mate") for action in ("log_in", "prompt", "pause", "resume", "due")),
        *(
            (action, "operator mate")
            for action in ("tag", "untag", "team", "proxy", "place", "policy", "archive")
        ),
        ("check", "operator mate viewer"),
    ],
)
def test_a_bulk_action_is_for_those_who_may_do_it_to_one_account(people, action, who):
    for name in ("operator", "mate", "viewer"):
        assert actions.may(getattr(people, name), action) == (name in who.split())


# --- what changed meanwhile -------------------------------------------------------------------------------


def test_a_proxy_or_a_policy_that_is_gone_meanwhile_is_given_to_nobody(people, settings):
    policy = RecoveryPolicy.objects.create(name="soft")
    account = people.account(label="a")
    by_proxy = start(people.operator, "proxy", proxy=4)
    by_policy = start(people.operator, "policy", policy=policy.pk)
    settings.WK_PROXIES = [1, 2]
    policy.delete()
    assert done(by_proxy) == done(by_policy) == {"a": "value_gone"}
    assert (fresh(account).proxy, fresh(account).policy) == (None, None)


def test_an_archived_or_merged_account_is_left_out(people):
    gone, merged, kept = (people.account(label=label) for label in ("gone", "merged", "kept"))
    run = start(people.operator, "place", place="x")
    Account.objects.filter(pk=gone.pk).update(state=AccountState.ARCHIVED)
    Account.objects.filter(pk=merged.pk).update(merged_into=kept)
    assert done(run) == {"gone": "gone", "merged": "gone", "kept": "done"}


def test_a_run_that_is_cancelled_midway_does_nothing_more(people, monkeypatch):
    monkeypatch.setattr(execute, "AT_ONCE", 2)
    monkeypatch.setattr(execute, "STEPS", 1)
    for number in range(5):
        people.account(label=f"a{number}")
    run = start(people.operator, "place", place="x")
    execute.go_on(run.pk)
    assert runs.cancel(run)
    assert done(run) == {"a0": "done", "a1": "done", "a2": "cancelled", "a3": "cancelled", "a4": "cancelled"}
    assert fresh(run).ended_at is not None and fresh(run).cancelled_at is not None
    assert Account.objects.filter(place="x").count() == 2
    assert not runs.cancel(run)


def test_what_is_archived_while_the_run_is_cancelled_is_recorded_as_done(people, monkeypatch):
    monkeypatch.setattr(execute, "AT_ONCE", 2)
    busy, *_others = (people.account(label=label) for label in "abc")
    make_attempt(busy)
    run = start(people.operator, "archive")
    cancel_login = archive.control.cancel

    def meanwhile(attempt, *, by):
        assert runs.cancel(run)
        return cancel_login(attempt, by=by)

    monkeypatch.setattr(archive.control, "cancel", meanwhile)
    assert done(run) == {"a": "done", "b": "done", "c": "cancelled"}
    assert fresh(run).ended_at is not None
    archived = Account.objects.filter(state=AccountState.ARCHIVED)
    assert set(archived.values_list("label", flat=True)) == {"a", "b"}


@pytest.mark.parametrize("loses_the_right", [False, True])
def test_what_a_process_archived_before_it_died_is_done_whatever_happens_then(
    people, monkeypatch, loses_the_right
):
    class Died(BaseException):
        pass

    def die(*_args):
        raise Died

    people.account(label="a"), people.account(label="on", w_id="w1")
    run = start(people.operator, "archive")
    with monkeypatch.context() as afterwards:
        afterwards.setattr(execute, "_settle_archived", die)
        with pytest.raises(Died):
            execute.go_on(run.pk)
    assert not runs.cancel(run)
    if loses_the_right:
        people.operator.groups.set([people.east])
    assert done(run) == {"a": "done", "on": "log_out_first"}
    assert fresh(run).ended_at is not None


def test_a_process_that_dies_midway_leaves_what_the_next_one_finishes_once(people, monkeypatch):
    class Died(BaseException):
        pass

    def die(*_args):
        raise Died

    for number in range(3):
        people.account(label=f"a{number}")
    run = start(people.operator, "place", place="x")
    with monkeypatch.context() as at_the_end:
        at_the_end.setattr(execute, "_end", die)  # after the accounts were written, before their results are
        with pytest.raises(Died):
            execute.go_on(run.pk)
    assert not Account.objects.filter(place="x").exists()
    assert set(done(run).values()) == {"done"}
    assert all(account.events.count() == 1 for account in Account.objects.all())


def test_an_account_at_which_an_error_occurs_fails_alone(people, monkeypatch):
    for number in range(3):
        people.account(label=f"a{number}")
    run = start(people.operator, "place", place="x")
    write = actions.write

    def fails_at_one(action, value, accounts, by):
        if accounts.filter(label="a1").exists():
            raise ZeroDivisionError
        write(action, value, accounts, by)

    monkeypatch.setattr(actions, "write", fails_at_one)
    assert done(run) == {"a0": "done", "a1": "error", "a2": "done"}


# --- phones -----------------------------------------------------------------------------------------------


def test_prompts_go_out_at_the_pace_of_the_policy_and_end_as_their_attempts_do(people, worker, settings):
    settings.WAIT_SLOTS = 50
    for number in range(5):
        offline(people, f"a{number}")
    found = runs.look("prompt", {}, seen_by(people.operator))
    assert found.until - timezone.now() > timedelta(seconds=50)
    run = start(people.operator, "prompt")
    begun = execute.go_on(run.pk)
    attempts = LoginAttempt.objects.filter(pk__in=begun)
    assert attempts.count() == 3
    assert {(a.method, a.trigger, a.asked_by) for a in attempts} == {
        (Method.POPUP, Trigger.BULK, people.operator)
    }
    first, second, third = attempts.order_by("pk")
    assert first.move("failed", reason="prompt_refused")
    assert second.move("waiting") and second.move("succeeded")
    assert third.move("cancelled", reason="cancelled")
    RecoveryPolicy.objects.update(prompts_a_minute=600)
    run.items.update(next_at=None)
    assert done(run) == {
        "a0": "prompt_refused", "a1": "done", "a2": "cancelled", "a3": "started", "a4": "started",
    }  # fmt: skip
    assert runs.unsuccessful(run) == [first.account_id, third.account_id]


def test_phones_that_would_not_be_asked_are_left_out_with_the_reason(people, worker):
    offline(people, "paused", keep_online=False)
    people.account(label="never")
    people.account(label="on", w_id="w1")
    make_attempt(offline(people, "busy"))
    Drop.objects.create(account=offline(people, "first"), w_id="x", kind="first_night")
    often = offline(people, "often")
    for _n in range(3):
        make_attempt(often, "failed", method=Method.POPUP, sent_at=timezone.now())
    now = timezone.localtime()
    closed = RecoveryPolicy.objects.create(
        name="closed", hours_from=(now + HOUR).time(), hours_until=(now + 2 * HOUR).time()
    )
    offline(people, "closed", policy=closed)
    assert done(start(people.operator, "prompt")) == {
        "paused": "paused", "never": "never", "on": "online", "busy": "busy", "first": "first_night",
        "often": "cap", "closed": "hours",
    }  # fmt: skip
    assert LoginAttempt.objects.filter(trigger=Trigger.BULK).count() == 0


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has no row locks")
def test_a_prompt_locks_policies_before_accounts_as_recovery_does(people, worker):
    offline(people, "a")
    run = start(people.operator, "prompt")
    with CaptureQueriesContext(connection) as seen:
        execute.go_on(run.pk)
    locks = [query["sql"].split('FROM "')[1].split('"')[0] for query in seen if " FOR " in query["sql"]]
    assert locks.index("accounts_recoverypolicy") < locks.index("accounts_account")


def test_without_a_free_worker_a_prompt_waits(people, worker):
    offline(people, "a")
    run = start(people.operator, "prompt")
    WaitsWorker.objects.update(alive_until=timezone.now() - HOUR)
    assert done(run) == {"a": "waiting"}
    WaitsWorker.objects.update(alive_until=timezone.now() + HOUR)
    assert done(run) == {"a": "started"}


def test_a_login_of_many_is_a_scan_run_whose_results_are_taken_over(people):
    for label in "abcd":
        people.account(label=label)
    people.account(label="on", w_id="w1")
    run = start(people.operator, "log_in")
    assert results(run) == {**dict.fromkeys("abcd", "started"), "on": "online"}
    assert run.scan_run.person == people.operator
    items = run.scan_run.items
    items.filter(account__label="a").update(state="done", ended_at=timezone.now())
    items.filter(account__label="b").update(state="failed", reason="declined", ended_at=timezone.now())
    assert done(run) == {"a": "done", "b": "declined", "c": "started", "d": "started", "on": "online"}
    run.scan_run.ended_at = timezone.now()
    run.scan_run.save()
    assert done(run) == {"a": "done", "b": "declined", "c": "not_reached", "d": "not_reached", "on": "online"}
    assert fresh(run).ended_at is not None
    assert len(runs.unsuccessful(run)) == 3


def test_cancelling_a_login_of_many_ends_its_scan_run(people):
    people.account(label="a")
    run = start(people.operator, "log_in")
    runs.cancel(run)
    assert done(run) == {"a": "cancelled"}
    assert fresh(run.scan_run).ended_at is not None


def test_a_qr_code_that_stays_valid_after_the_end_decides_what_its_result_is(people):
    accounts = {label: people.account(label=label) for label in "abcd"}
    run = start(people.operator, "log_in")
    shown = [make_attempt(accounts[label]) for label in "abc"]
    runs.cancel(run)
    assert done(run) == {"a": "started", "b": "started", "c": "started", "d": "cancelled"}
    assert fresh(run).is_open and fresh(run).cancelled_at is not None
    now = timezone.now()
    Account.objects.filter(label="a").update(state="online", wc_id="wxid_a", w_id="w-a", last_login_at=now)
    for attempt, state in zip(shown, ("succeeded", "expired", "succeeded"), strict=True):
        LoginAttempt.objects.filter(pk=attempt.pk).update(state=state, ended_at=now)
    # The phone was known: its login is another account's now.
    other = people.account(label="other", w_id="w-c")
    run.scan_run.items.filter(account=accounts["c"]).update(attempt=shown[2])
    LoginAttempt.objects.filter(pk=shown[2].pk).update(account=other)
    assert done(run) == {"a": "done", "b": "cancelled", "c": "done", "d": "cancelled"}
    assert fresh(run).ended_at is not None


def test_a_check_that_was_asked_for_is_not_cancelled(people):
    people.account(label="on", w_id="w1")
    run = start(people.operator, "check")
    done(run)
    assert not runs.cancel(run)
    assert fresh(run).cancelled_at is None
    page = people.operator.client.get(f"/accounts/bulk/{run.pk}/").content.decode()
    assert "cancel-run" not in page


def test_a_check_is_done_when_one_that_began_later_was_answered(people):
    now = timezone.now()
    Presence.objects.create(pk=1, due_at=now + HOUR, checked_at=now, asked_at=now - HOUR)
    people.account(label="on", w_id="w1")
    people.account(label="never")
    run = start(people.viewer, "check")
    assert done(run) == {"on": "started", "never": "never"}
    assert Presence.objects.get().due_at < now + HOUR
    assert done(run)["on"] == "started"
    Presence.objects.update(checked_at=timezone.now())
    assert done(run)["on"] == "done"
    late = start(people.viewer, "check")
    done(late)
    late.items.filter(state="started").update(started_at=now - HOUR)
    Presence.objects.update(checked_at=now - 2 * HOUR)
    assert done(late)["on"] == "not_checked"


# --- the record -------------------------------------------------------------------------------------------


def test_a_person_sees_their_own_runs_and_admins_every_run(people):
    people.account()
    run = start(people.operator, "place", place="x")
    assert list(runs.visible_runs(people.operator)) == list(runs.visible_runs(people.admin)) == [run]
    assert not runs.visible_runs(people.mate).exists()


def test_an_event_names_what_was_changed(people):
    account = people.account(label="a")
    done(start(people.operator, "place", place="x"))
    event = account.events.get()
    assert (event.happened, event.detail, event.actor_name) == (EventType.CHANGED, "place", "operator")
