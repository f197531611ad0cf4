"""Prompts on the phone: what comes of each, sent once even if a worker dies, and the checks that a login may ask for."""

from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.logins import control, expire, leases, popup, start, success, wait
from accounts.models import LoginAttempt, UpstreamAccess, WaitsWorker
from accounts.states import Method, Trigger
from accounts.upstream import responses
from tests.support.factories import fresh, make_attempt
from tests.support.processes import DEADLINE, until
from tests.support.threads import in_thread, running

WC_ID = "wxid_a"


def prompted(account, **how) -> LoginAttempt:
    attempt, new = start.start_login(account, method=Method.POPUP, queued=True, **how)
    assert new
    return attempt


def answered(upstream, attempt, do: str, **how) -> LoginAttempt:
    """The attempt, after the prompt was on the phone and somebody did this with it."""
    with running(wait.wait_for_phone, attempt.pk):
        upstream.wait(wcId=WC_ID, prompt=True)
        upstream.phone(do, wcId=WC_ID, **how)
    return fresh(attempt)


def outcome(attempt) -> tuple[str, str]:
    attempt = fresh(attempt)
    return attempt.state, attempt.reason


def held_by_a_dead_worker(attempt, sent: bool = True) -> None:
    """Taken by a worker that noted that it sends the prompt, and died."""
    WaitsWorker.objects.create(name="dead", alive_until=timezone.now() + leases.LEASE)
    (held,) = leases.claim([attempt.pk], "dead")
    if sent:
        assert popup.mark_prompt_sent(held, held.lease_epoch)
    WaitsWorker.objects.update(alive_until=timezone.now())


@contextmanager
def prompt_of_somebody_dead(upstream):
    """The call that the dead one made: the prompt is on the phone."""
    with upstream.open_call("/secondLogin", wcId=WC_ID):
        upstream.wait(wcId=WC_ID, prompt=True)
        yield


@pytest.fixture
def account(committed, upstream):
    return committed.account(wc_id=WC_ID, state="offline", proxy=3)


# --- what the phone says ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("login_type", "body"), [("2", {"wcId": WC_ID, "type": 2}), ("", {"wcId": WC_ID})])
def test_a_prompt_that_is_accepted_brings_the_account_online(
    account, committed, upstream, settings, login_type, body
):
    settings.WK_LOGIN_TYPE = login_type
    attempt = answered(upstream, prompted(account, by=committed.operator), "accept")

    account = fresh(account)
    assert (attempt.state, attempt.reason, attempt.asked_by) == ("succeeded", "", committed.operator)
    assert (account.state, account.w_id, account.proxy) == ("online", attempt.w_id, 3)
    assert upstream.online == {WC_ID: attempt.w_id}
    assert upstream.bodies("/secondLogin") == [body]
    assert upstream.calls("/iPadLogin") == 0
    assert list(account.events.order_by("id").values_list("happened", "to_state")) == [
        ("attempt_started", "preparing"),
        ("wait_taken", ""),
        ("attempt_moved", "waiting"),
        ("attempt_moved", "succeeded"),
        ("account_online", "online"),
    ]


@pytest.mark.parametrize(
    ("style", "reason"), [("plain", "prompt_declined"), ("nested", "prompt_refused")], ids=["plain", "nested"]
)
def test_a_prompt_that_is_declined(account, upstream, style, reason):
    upstream.settings(popup_failure=style)
    attempt = answered(upstream, prompted(account), "decline")
    assert (attempt.state, attempt.reason) == ("failed", reason)
    assert attempt.upstream_text
    assert fresh(account).state == "offline"


@pytest.mark.slow
@pytest.mark.parametrize("theirs", [0.5, 1, 30], ids=["they end it sooner", "together", "we end it"])
def test_a_prompt_that_is_ignored(account, upstream, settings, monkeypatch, theirs):
    settings.WK_LOGIN_WAIT_SECONDS = 1
    monkeypatch.setattr(leases, "GRACE", timedelta(seconds=0.3))
    upstream.settings(popup_seconds=theirs)
    attempt = prompted(account)
    in_thread(wait.wait_for_phone, attempt.pk)
    assert outcome(attempt) == ("expired", "not_tapped")
    assert upstream.calls("/secondLogin") == 1


def test_a_prompt_that_is_refused_at_once(account, upstream):
    upstream.person(WC_ID, popup_works=False)
    attempt = prompted(account)
    in_thread(wait.wait_for_phone, attempt.pk)
    assert outcome(attempt) == ("failed", "prompt_refused")
    assert fresh(attempt).upstream_text == "系统失败,请重试"


@pytest.mark.parametrize(
    "answer",
    [
        {"code": "200", "message": "处理成功", "data": {"url": "https://upstream.example/check"}},
        {"code": "1001", "message": "请在ipad上输入验证码", "data": None},
        {"code": "1001", "message": "登录已失效，请重新扫码登录", "data": None},
    ],
    ids=["a page", "a number", "a scan"],
)
def test_what_a_prompt_cannot_pass_needs_a_scan(account, upstream, answer):
    upstream.fault("/secondLogin", "raw", json=answer)
    attempt = prompted(account)
    in_thread(wait.wait_for_phone, attempt.pk)
    assert outcome(attempt) == ("failed", "prompt_refused")
    assert upstream.calls("/secondLogin") == 1
    assert not UpstreamAccess.objects.exclude(refused_at=None).exists()


def test_an_upstream_that_is_not_there_has_shown_no_prompt(account, settings):
    settings.WK_BASE_URL = "http://127.0.0.1:9"
    settings.WK_AUTHORIZATION = "known"
    attempt = prompted(account)
    in_thread(wait.wait_for_phone, attempt.pk)
    assert outcome(attempt) == ("failed", "unreachable")


# --- an answer that does not come ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "cut", "effect": True},
        {"kind": "html", "status": 504, "effect": True},
        {"kind": "rewrite", "data_unset": ["wId"]},
    ],
    ids=["cut", "a gateway's page", "no wId in it"],
)
def test_after_an_answer_that_says_nothing_presence_decides(account, upstream, monkeypatch, fault):
    monkeypatch.setattr(popup, "POLL_SECONDS", 0.1)
    upstream.fault("/secondLogin", **fault)
    attempt = answered(upstream, prompted(account), "accept")
    assert attempt.state == "succeeded"
    assert upstream.online == {WC_ID: attempt.w_id} == {WC_ID: fresh(account).w_id}
    assert upstream.calls("/secondLogin") == 1


@pytest.mark.slow
def test_an_answer_that_comes_too_late_is_found_at_the_deadline(account, upstream, settings, monkeypatch):
    settings.WK_LOGIN_WAIT_SECONDS = 2
    monkeypatch.setattr(leases, "GRACE", timedelta(seconds=0.3))
    upstream.fault("/secondLogin", "late", seconds=30)
    assert answered(upstream, prompted(account), "accept").state == "succeeded"
    assert upstream.calls("/secondLogin") == 1


@pytest.mark.slow
def test_a_cut_call_whose_prompt_is_not_confirmed_expires(account, upstream, settings, monkeypatch):
    settings.WK_LOGIN_WAIT_SECONDS = 1
    monkeypatch.setattr(leases, "GRACE", timedelta(seconds=0.3))
    monkeypatch.setattr(popup, "POLL_SECONDS", 0.2)
    upstream.fault("/secondLogin", "reset")
    attempt = prompted(account)
    in_thread(wait.wait_for_phone, attempt.pk)
    assert outcome(attempt) == ("expired", "no_answer")
    assert upstream.calls("/secondLogin") == 1


# --- a worker dies ----------------------------------------------------------------------------------------


def test_the_next_holder_sends_no_second_prompt_and_a_confirmation_counts(account, upstream, monkeypatch):
    monkeypatch.setattr(popup, "POLL_SECONDS", 0.1)
    attempt = prompted(account)
    held_by_a_dead_worker(attempt)
    with prompt_of_somebody_dead(upstream), running(wait.wait_for_phone, attempt.pk):
        upstream.wait(path="/queryLoginWx", calls=2)
        assert fresh(attempt).state == "waiting"
        upstream.phone("accept", wcId=WC_ID)

    assert fresh(attempt).resumed
    assert outcome(attempt) == ("succeeded", "")
    assert upstream.online == {WC_ID: fresh(account).w_id}
    assert upstream.calls("/secondLogin") == 1


def test_a_confirmation_while_nobody_listened_counts(account, upstream):
    attempt = prompted(account)
    held_by_a_dead_worker(attempt)
    with prompt_of_somebody_dead(upstream):
        upstream.phone("accept", wcId=WC_ID)
    in_thread(wait.wait_for_phone, attempt.pk)
    assert outcome(attempt) == ("succeeded", "")


def test_a_confirmation_that_no_wait_heard_is_found_by_the_sweep(account, upstream):
    attempt = prompted(account)
    held_by_a_dead_worker(attempt)
    with prompt_of_somebody_dead(upstream):
        upstream.phone("accept", wcId=WC_ID)
    LoginAttempt.objects.filter(pk=attempt.pk).update(deadline_at=timezone.now() - timedelta(seconds=13))
    assert expire.end_overdue() == 1
    assert outcome(attempt) == ("succeeded", "")
    assert fresh(account).w_id == upstream.online[WC_ID]


@pytest.mark.slow
def test_a_prompt_that_was_noted_and_never_left_expires(account, upstream, settings, monkeypatch):
    settings.WK_LOGIN_WAIT_SECONDS = 1
    monkeypatch.setattr(leases, "GRACE", timedelta(seconds=0.3))
    attempt = prompted(account)
    held_by_a_dead_worker(attempt)
    in_thread(wait.wait_for_phone, attempt.pk)
    assert outcome(attempt) == ("expired", "not_tapped")
    assert upstream.calls("/secondLogin") == 0


def test_a_worker_that_died_before_it_noted_the_prompt_leaves_it_to_the_next(account, upstream):
    attempt = prompted(account)
    held_by_a_dead_worker(attempt, sent=False)
    assert answered(upstream, attempt, "accept").state == "succeeded"
    assert upstream.calls("/secondLogin") == 1


def test_an_account_that_is_online_anyway_has_not_accepted_before_its_wid_is_another(
    committed, upstream, monkeypatch
):
    monkeypatch.setattr(popup, "POLL_SECONDS", 0.1)
    old = upstream.log_in(WC_ID)["wId"]
    account = committed.account(wc_id=WC_ID, w_id=old)
    stale = fresh(account)
    stale.w_id = ""  # as read by a page that is open for long
    attempt = prompted(stale)
    held_by_a_dead_worker(attempt)
    with prompt_of_somebody_dead(upstream), running(wait.wait_for_phone, attempt.pk):
        upstream.wait(path="/queryLoginWx", calls=2)
        assert fresh(attempt).state == "waiting"
        upstream.phone("accept", wcId=WC_ID)

    assert outcome(attempt) == ("succeeded", "")
    assert fresh(account).w_id == upstream.online[WC_ID] != old


@pytest.mark.slow
def test_a_sleeper_that_lost_its_lease_ends_its_call_and_writes_nothing(account, upstream):
    attempt = prompted(account)
    with running(wait.wait_for_phone, attempt.pk) as result:
        upstream.wait(wcId=WC_ID, prompt=True)
        WaitsWorker.objects.update(alive_until=timezone.now())
        WaitsWorker.objects.create(name="another", alive_until=timezone.now() + leases.LEASE)
        assert leases.claim([attempt.pk], "another") != [None]
        assert result.result(DEADLINE) is None
    attempt = fresh(attempt)
    assert (attempt.state, attempt.lease_owner) == ("waiting", "another")
    assert upstream.calls("/secondLogin") == 1


# --- beginning and ending it -----------------------------------------------------------------------------


def test_an_open_attempt_is_shown_whatever_its_method(account):
    prompt = prompted(account)
    assert start.start_login(account) == (prompt, False)
    control.cancel(prompt)
    code, _new = start.start_login(account)
    assert start.start_login(account, method=Method.POPUP, queued=True) == (code, False)


def test_a_prompt_needs_a_wc_id_and_a_worker(account, committed):
    with pytest.raises(ValueError, match="wcId"):
        start.start_login(committed.account(), method=Method.POPUP, queued=True)
    with pytest.raises(ValueError, match="worker"):
        start.start_login(account, method=Method.POPUP)
    assert not LoginAttempt.objects.exists()


def test_a_confirmation_after_the_prompt_was_cancelled_here_still_counts(account, upstream, committed):
    attempt = prompted(account)
    with running(wait.wait_for_phone, attempt.pk):
        upstream.wait(wcId=WC_ID, prompt=True)
        assert control.cancel(fresh(attempt), by=committed.operator)
        upstream.phone("accept", wcId=WC_ID)
    assert outcome(attempt) == ("cancelled", "cancelled")
    assert fresh(account).w_id == upstream.online[WC_ID]
    assert fresh(account).events.filter(happened="late_success").exists()


@pytest.mark.parametrize("trigger", [Trigger.RECOVERY, Trigger.SCHEDULE, Trigger.OPERATOR])
def test_no_prompt_goes_out_by_itself_once_the_account_is_paused(account, upstream, trigger):
    attempt = prompted(account, trigger=trigger)
    type(account).objects.update(keep_online=False)
    if trigger == Trigger.OPERATOR:
        assert answered(upstream, attempt, "accept").state == "succeeded"
        return
    in_thread(wait.wait_for_phone, attempt.pk)
    assert outcome(attempt) == ("cancelled", "cancelled")
    assert upstream.calls("/secondLogin") == 0


def test_a_queued_prompt_that_nobody_takes_says_that_no_worker_runs(account):
    attempt = prompted(account)
    assert attempt.deadline_at - attempt.created_at == start.PROMPT_QUEUED_FOR < start.QUEUED_FOR
    LoginAttempt.objects.filter(pk=attempt.pk).update(deadline_at=timezone.now() - timedelta(minutes=1))
    expire.expire_on_read(account)
    assert outcome(attempt) == ("expired", "no_worker")


# --- checks of the phone ---------------------------------------------------------------------------------


def waiting_for(upstream, attempt, do: str, **how):
    with running(wait.wait_for_phone, attempt.pk):
        upstream.wait(wId=attempt.w_id, step3_now=1)
        upstream.phone(do, wId=attempt.w_id, **how)
    return fresh(attempt)


def shown(account, **how) -> LoginAttempt:
    attempt, _new = start.start_login(account, **how)
    assert start.fetch_qr_code(attempt)
    return attempt


def test_a_new_code_as_mac_where_a_new_device_is_asked_for(committed, upstream, settings):
    settings.WK_DEVICE_TYPE = "ipad"
    upstream.settings(dialect="g4")
    account = committed.account(wc_id=WC_ID, proxy=1)
    attempt = waiting_for(upstream, shown(account), "new_device")
    assert (attempt.state, attempt.reason) == ("failed", "new_device_check")

    attempt = waiting_for(upstream, shown(account, device_type="mac"), "confirm")
    assert attempt.state == "succeeded"
    assert [body["deviceType"] for body in upstream.bodies("/iPadLogin")] == ["ipad", "mac"]
    assert [body["autoCheck"] for body in upstream.bodies("/getIPadLoginInfo")] == [False, False]
    assert upstream.online == {WC_ID: fresh(account).w_id}


@pytest.mark.parametrize("queued", [False, True])
def test_a_mac_is_named_also_where_the_settings_name_no_device(committed, upstream, queued):
    account = committed.account()
    attempt, _new = start.start_login(account, device_type="mac", queued=queued)
    if not queued:
        assert start.fetch_qr_code(attempt)
    with running(wait.wait_for_phone, attempt.pk):
        upstream.wait(path="/getIPadLoginInfo", in_flight=1)
        upstream.phone("confirm", wId=fresh(attempt).w_id)
    assert upstream.bodies("/iPadLogin")[0]["deviceType"] == "mac"
    assert upstream.bodies("/getIPadLoginInfo")[0] == {"wId": fresh(attempt).w_id, "autoCheck": False}


@pytest.mark.parametrize("check", ["page", "code"])
def test_a_check_keeps_the_deadline_and_goes_on_in_another_process(committed, upstream, check):
    """Everything that a page needs to go on is in the row: `fresh` is a reload, by any process."""
    attempt = shown(committed.account())
    deadline = attempt.deadline_at
    how = {"code": "246810"} if check == "code" else {}
    attempt = waiting_for(upstream, attempt, check, **how)
    assert (attempt.state, attempt.deadline_at) == (f"{check}_required", deadline)
    assert start.start_login(attempt.account) == (attempt, False)

    for _try in ("asked again", "passed"):
        attempt = fresh(attempt)
        if check == "code":
            assert control.submit_verification_code(attempt, "111111" if _try == "asked again" else "246810")
        else:
            assert attempt.page_url.startswith(upstream.url)
            if _try == "passed":
                upstream.phone("done", wId=attempt.w_id)
            assert control.page_visited(attempt)
        in_thread(wait.wait_for_phone, attempt.pk)
        assert fresh(attempt).deadline_at == deadline
    assert outcome(attempt) == ("succeeded", "")


def test_a_check_that_nobody_passes_ends_at_its_deadline(committed, upstream):
    attempt = waiting_for(upstream, shown(committed.account()), "page")
    LoginAttempt.objects.filter(pk=attempt.pk).update(deadline_at=timezone.now() - timedelta(seconds=13))
    assert expire.end_overdue() == 1
    assert outcome(attempt) == ("expired", "no_answer")
    assert fresh(attempt).page_url == ""


# --- people who always do the same -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "state"), [("accept", "succeeded"), ("decline", "failed"), ("ignore", "waiting")]
)
def test_the_simulated_phone_has_habits(account, upstream, prompt, state):
    upstream.person(WC_ID, prompt=prompt, prompt_seconds=0.1)
    upstream.settings(auto_confirm=0)
    attempt = prompted(account)
    with running(wait.wait_for_phone, attempt.pk):
        upstream.wait(path="/secondLogin", calls=1)
        until(lambda: fresh(attempt).state == state)
        if state == "waiting":
            upstream.wait(wcId=WC_ID, prompt=True)
            upstream.phone("decline", wcId=WC_ID)
    assert fresh(attempt).state == (state if state != "waiting" else "failed")


def test_an_old_prompt_and_a_newer_scan_leave_the_newer_wid(account, upstream):
    """The number of the attempt decides, whatever its method."""
    prompt = prompted(account)
    control.cancel(prompt)
    newer = make_attempt(account, "succeeded")
    with_number = type(account).objects.filter(pk=account.pk)
    with_number.update(state="online", w_id="w-newer", bound_seq=newer.seq)
    late = responses.LoggedIn(responses.Profile(wc_id=WC_ID, w_id="w-late"))
    success.complete_login(fresh(prompt), late)
    assert fresh(account).w_id == "w-newer"
