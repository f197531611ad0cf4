"""The wait where something goes wrong around it: resumed, refused, queued, without a database."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
import time_machine
from django.db import OperationalError
from django.utils import timezone

from accounts.logins import control, expire, finish, leases, start, success, wait
from accounts.models import Account, AccountEvent, LoginAttempt, WaitsWorker, login_attempt
from accounts.upstream.responses import LoggedIn, Profile
from tests.support.factories import fresh, make_attempt
from tests.support.payloads import envelope
from tests.support.processes import DEADLINE, until
from tests.support.raw_http import json_answer, wire
from tests.support.stopped_clock import StoppedClock
from tests.support.threads import in_thread, running


@contextmanager
def somebody_else_listens(upstream, w_id):
    """A call of a process that is gone, which the upstream still holds."""
    with upstream.open_call("/getIPadLoginInfo", wId=w_id):
        upstream.wait(wId=w_id, step3_now=1)
        yield


def begun(account, **how):
    attempt, new = start.start_login(account, **how)
    assert new
    return attempt


def left_by_a_dead_worker(account) -> LoginAttempt:
    """A code that somebody waited for who says no more that he lives."""
    attempt = begun(account)
    assert start.fetch_qr_code(attempt)
    WaitsWorker.objects.create(name="dead", alive_until=timezone.now() + leases.LEASE)
    assert leases.claim([attempt.pk], "dead") != [None]
    WaitsWorker.objects.update(alive_until=timezone.now())
    return attempt


# --- a second call for the same wId ----------------------------------------------------------------------


@pytest.mark.slow
def test_a_wait_that_is_refused_a_second_listener_goes_on_until_the_first_is_gone(committed, upstream):
    upstream.settings(parallel="refuse")
    attempt = left_by_a_dead_worker(committed.account())
    with somebody_else_listens(upstream, attempt.w_id):
        listening = running(wait.wait_for_phone, attempt.pk)
        listening.__enter__()
        upstream.wait(path="/queryLoginWx", calls=1)
        assert fresh(attempt).state == "waiting"
    upstream.wait(wId=attempt.w_id, step3_now=1)
    upstream.phone("confirm", wId=attempt.w_id)
    listening.__exit__(None, None, None)

    assert (fresh(attempt).state, fresh(attempt.account).w_id) == ("succeeded", attempt.w_id)
    assert upstream.calls("/iPadLogin") == 1


@pytest.mark.slow
def test_a_scan_that_only_the_first_listener_heard_of_counts(committed, upstream):
    upstream.settings(parallel="refuse")
    attempt = left_by_a_dead_worker(committed.account())
    with somebody_else_listens(upstream, attempt.w_id), running(wait.wait_for_phone, attempt.pk):
        upstream.wait(path="/queryLoginWx", calls=1)
        upstream.phone("confirm", wId=attempt.w_id)

    account = fresh(attempt.account)
    assert (fresh(attempt).state, account.state, account.w_id) == ("succeeded", "online", attempt.w_id)
    assert account.wc_id == upstream.logins()[0]["wcId"]


@pytest.mark.slow
def test_a_wait_that_is_resumed_and_refused_to_the_end_has_expired(
    committed, upstream, settings, monkeypatch
):
    settings.WK_LOGIN_WAIT_SECONDS = 1
    monkeypatch.setattr(leases, "GRACE", timedelta(seconds=0.5))
    upstream.settings(parallel="refuse")
    attempt = left_by_a_dead_worker(committed.account())
    with somebody_else_listens(upstream, attempt.w_id):
        in_thread(wait.wait_for_phone, attempt.pk)
    assert (fresh(attempt).state, fresh(attempt).reason) == ("expired", "not_scanned")


def test_a_refusal_of_the_first_call_is_the_end(committed, upstream):
    attempt = begun(committed.account())
    assert start.fetch_qr_code(attempt)
    with running(wait.wait_for_phone, attempt.pk):
        upstream.wait(wId=attempt.w_id, step3_now=1)
        upstream.phone("fail", wId=attempt.w_id, text="操作失败")
    assert (fresh(attempt).state, fresh(attempt).reason) == ("failed", "refused")
    assert upstream.calls("/queryLoginWx") == 0


def test_a_refusal_after_a_verification_code_ends_the_attempt_too(committed, upstream):
    upstream.settings(wrong_code="fail")
    attempt = begun(committed.account())
    assert start.fetch_qr_code(attempt)
    with running(wait.wait_for_phone, attempt.pk):
        upstream.wait(wId=attempt.w_id, step3_now=1)
        upstream.phone("code", wId=attempt.w_id, code="123456")
    attempt = fresh(attempt)
    assert attempt.state == "code_required"
    assert control.submit_verification_code(attempt, "654321")
    with running(wait.wait_for_phone, attempt.pk):
        pass
    assert fresh(attempt).state == "failed"
    assert not fresh(attempt).resumed


def test_a_code_that_was_typed_for_a_later_wait_is_left_to_it(committed, upstream):
    attempt = begun(committed.account())
    assert start.fetch_qr_code(attempt)
    LoginAttempt.objects.filter(pk=attempt.pk).update(verify_code="111111")
    lease = leases.take(attempt.pk)
    LoginAttempt.objects.filter(pk=attempt.pk).update(verify_code="222222", lease_epoch=lease.epoch + 1)
    assert wait.wait_with_lease(lease) is None
    assert fresh(attempt).verify_code == "222222"
    assert upstream.calls("/getIPadLoginInfo") == 0


@pytest.mark.parametrize("confirmed", [True, False])
def test_an_account_that_was_deleted_after_a_cancel_ends_its_wait_quietly(committed, upstream, confirmed):
    attempt = begun(committed.account())
    assert start.fetch_qr_code(attempt)
    answer = LoggedIn(Profile(wc_id="wxid_a", w_id=attempt.w_id)) if confirmed else None
    with leases.take(attempt.pk) as lease:
        assert control.cancel(fresh(attempt))
        attempt.account.delete()
        assert finish.save_decision(lease, answer) is None
    assert not Account.objects.exists()


@pytest.mark.slow
def test_a_worker_that_lost_the_lease_ends_its_call_and_writes_nothing(committed, upstream):
    attempt = begun(committed.account())
    assert start.fetch_qr_code(attempt)
    with running(wait.wait_for_phone, attempt.pk) as result:
        upstream.wait(wId=attempt.w_id, step3_now=1)
        WaitsWorker.objects.update(alive_until=timezone.now())  # as if it had slept
        WaitsWorker.objects.create(name="another", alive_until=timezone.now() + leases.LEASE)
        assert leases.claim([attempt.pk], "another") != [None]
        until(lambda: upstream.state(brief=True)["in_flight"].get("/getIPadLoginInfo", 0) == 0)
        assert result.result(DEADLINE) is None

    attempt = fresh(attempt)
    assert (attempt.state, attempt.lease_owner, attempt.lease_epoch) == ("waiting", "another", 2)
    assert attempt.resumed


def test_the_pause_between_two_calls_doubles_up_to_its_longest(committed, upstream, monkeypatch):
    clock = StoppedClock()
    monkeypatch.setattr(wait, "time", clock)
    attempt = begun(committed.account())
    assert start.fetch_qr_code(attempt)
    upstream.fault("/getIPadLoginInfo", "empty", status=502, times=6)
    upstream.phone("cancel", wId=attempt.w_id)
    wait.wait_for_phone(attempt.pk)
    assert clock.slept == [0.5, 1, 2, 4, 5, 5]
    assert (fresh(attempt).state, upstream.calls("/getIPadLoginInfo")) == ("failed", 7)


# --- many at once ----------------------------------------------------------------------------------------


def test_a_queued_start_asks_for_its_code_only_with_a_slot_for_the_wait(committed, upstream, monkeypatch):
    monkeypatch.setattr(leases.settings, "WAIT_SLOTS", 1)
    first, second = [begun(committed.account(), trigger="bulk", queued=True) for _n in range(2)]
    with running(wait.wait_for_phone, first.pk):
        upstream.wait(path="/getIPadLoginInfo", in_flight=1)
        assert wait.wait_for_phone(second.pk) is None
        assert leases.claim_orphaned() == []
        assert (fresh(second).state, fresh(second).sent_at) == ("preparing", None)
        upstream.phone("confirm", wId=fresh(first).w_id)
    assert upstream.calls("/iPadLogin") == 1

    with running(wait.wait_for_phone, second.pk):
        upstream.wait(path="/getIPadLoginInfo", in_flight=1)
        upstream.phone("confirm", wId=fresh(second).w_id)
    assert [fresh(attempt).state for attempt in (first, second)] == ["succeeded"] * 2


@pytest.mark.slow
def test_no_more_than_twenty_codes_are_asked_for_at_once(committed, settings):
    answer = threading.Event()

    def refuse_later(sock, served):
        served.ask(sock)
        answer.wait(DEADLINE)
        sock.sendall(json_answer(envelope(None, "1001", "x")))

    settings.WK_TIMEOUT_SECONDS, settings.WK_AUTHORIZATION = DEADLINE, "given"
    starts = [begun(committed.account(), queued=True) for _n in range(21)]
    with ThreadPoolExecutor(21) as pool, wire(refuse_later) as served:
        settings.WK_BASE_URL = served.url
        waits = [pool.submit(in_thread, wait.wait_for_phone, attempt.pk) for attempt in starts]
        try:
            until(lambda: len(served.requests) >= 20)
            assert not wait._qr_codes.acquire(blocking=False)
        finally:
            answer.set()
        assert [each.result(DEADLINE) for each in waits] == [None] * 21
    assert len(served.requests) == 21


def test_a_queued_start_that_no_message_brings_is_found(committed, upstream):
    attempt = begun(committed.account(), queued=True)
    assert leases.claim_orphaned() == []  # its message may be on its way
    with time_machine.travel(
        timezone.now() + login_attempt.MESSAGE_HEAD_START + timedelta(seconds=1), tick=True
    ):
        (lease,) = leases.claim_orphaned()
        with running(wait.wait_with_lease, lease):
            upstream.wait(path="/getIPadLoginInfo", in_flight=1)
            upstream.phone("confirm", wId=fresh(attempt).w_id)
    assert fresh(attempt).state == "succeeded"


def test_a_queued_start_that_nobody_takes_says_that_no_worker_runs(committed, upstream):
    attempt = begun(committed.account(), queued=True)
    with time_machine.travel(timezone.now() + start.QUEUED_FOR + timedelta(seconds=13)):
        assert expire.end_overdue() == 1
    assert (fresh(attempt).state, fresh(attempt).reason) == ("expired", "no_worker")
    assert upstream.calls("/iPadLogin") == 0


def test_a_click_that_still_asks_for_its_code_is_not_taken_for_a_queued_start(committed, upstream):
    attempt = begun(committed.account())
    with time_machine.travel(timezone.now() + timedelta(seconds=5)):
        assert leases.claim_orphaned() == []
    assert wait.wait_for_phone(attempt.pk) is None
    assert upstream.calls("/iPadLogin") == 0


def test_answers_that_come_together_are_all_written_also_with_odd_ones_among_them(committed, upstream):
    known = [committed.account(wc_id=f"wxid_{n}") for n in range(20)]
    rows = [make_attempt(account) for account in known]
    rows += [
        make_attempt(committed.account()) for _n in range(3)
    ]  # first logins; the last is of a known account
    answers = [f"wxid_{n}" for n in range(20)] + ["wxid_new_1", "wxid_new_2", "wxid_3"]
    answers[7] = "wxid_stranger"
    cancelled = fresh(rows[9])
    assert control.cancel(cancelled)
    loaded = list(LoginAttempt.objects.select_related("account").order_by("pk"))
    barrier = threading.Barrier(len(rows))

    def answer(attempt, wc_id):
        barrier.wait()
        found = LoggedIn(Profile(wc_id=wc_id, w_id=attempt.w_id, nickname="小明"))
        return in_thread(success.complete_login, attempt, found)

    with ThreadPoolExecutor(len(rows)) as pool:
        results = list(pool.map(answer, loaded, answers))

    assert all(result is not None for result in results)
    online = dict(Account.objects.filter(state="online").values_list("wc_id", "w_id"))
    expected = {wc_id: row.w_id for wc_id, row in zip(answers, rows, strict=True)}
    newest_of_3 = online.pop("wxid_3")
    assert newest_of_3 in (rows[3].w_id, rows[22].w_id)
    assert online == {wc_id: w_id for wc_id, w_id in expected.items() if wc_id != "wxid_3"}
    states = [fresh(row).state for row in rows]
    assert [n for n, state in enumerate(states) if state == "failed"] == [7]
    assert [n for n, state in enumerate(states) if state == "cancelled"] == [9]
    assert AccountEvent.objects.filter(happened="late_success").count() == 1


# --- without a database ----------------------------------------------------------------------------------


@pytest.fixture
def database_down(monkeypatch):
    """The database fails as often as the list has entries; each failure takes one."""
    left: list[str] = []
    original = login_attempt.LoginAttempt.move

    def move(self, *args, **kwargs):
        if left:
            raise OperationalError(left.pop())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(login_attempt.LoginAttempt, "move", move)
    return left


@pytest.mark.slow
def test_a_code_is_shown_although_the_database_was_unreachable_when_it_came(
    committed, upstream, database_down
):
    attempt = begun(committed.account())
    database_down[:] = ["the server closed the connection"] * 2
    assert start.fetch_qr_code(attempt)
    assert (fresh(attempt).state, attempt.state) == ("waiting", "waiting")
    assert upstream.calls("/iPadLogin") == 1


@pytest.mark.slow
def test_a_success_is_written_although_the_database_was_unreachable_when_it_came(
    committed, upstream, database_down
):
    attempt = begun(committed.account())
    assert start.fetch_qr_code(attempt)
    with running(wait.wait_for_phone, attempt.pk):
        upstream.wait(wId=attempt.w_id, step3_now=1)
        database_down[:] = ["the server closed the connection"] * 3
        upstream.phone("confirm", wId=attempt.w_id)
    assert (fresh(attempt).state, fresh(attempt.account).w_id) == ("succeeded", attempt.w_id)
    assert upstream.calls("/getIPadLoginInfo") == 1
