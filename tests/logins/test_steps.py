"""The steps of a login against the simulator, with commits that are real."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from io import BytesIO

import pytest
import time_machine
import zxingcpp
from django.db import IntegrityError, OperationalError, connection
from django.utils import timezone
from PIL import Image

from accounts.lib import db_errors
from accounts.logins import control, expire, finish, leases, start, wait
from accounts.models import Account, AccountEvent, LoginAttempt, WaitsWorker, event
from accounts.states import FINAL_STATES, EventType, Trigger
from accounts.upstream import configured, responses
from tests.support import raw_http
from tests.support.factories import fresh, make_attempt
from tests.support.payloads import envelope
from tests.support.processes import DEADLINE, until
from tests.support.threads import in_thread, running


@contextmanager
def waiting(attempt):
    """The wait runs in another thread, and has reached the upstream, while the block runs."""
    with running(wait.wait_for_phone, attempt.pk) as result:
        yield result


def started(account, upstream, **how):
    attempt, begun = start.start_login(account, **how)
    assert begun and start.fetch_qr_code(attempt), attempt.reason
    return attempt


def held(attempt, upstream):
    upstream.wait(wId=attempt.w_id, step3_now=1)


def happenings(account):
    return list(account.events.order_by("id").values_list("happened", "to_state"))


def test_a_first_login_writes_attempt_account_and_events(committed, upstream):
    account = committed.account(proxy=3)
    attempt = started(account, upstream, by=committed.operator)

    assert (attempt.state, attempt.asked_by, attempt.proxy) == ("waiting", committed.operator, 3)
    with waiting(attempt):
        held(attempt, upstream)
        upstream.phone("confirm", wId=attempt.w_id)

    attempt, account = fresh(attempt), fresh(account)
    assert (attempt.state, attempt.reason) == ("succeeded", "")
    assert upstream.online == {account.wc_id: account.w_id}
    assert account.state == "online"
    assert account.nickname and account.wechat_id and account.avatar_url
    assert account.first_login_at == account.last_login_at == account.checked_at
    assert happenings(account) == [
        ("attempt_started", "preparing"),
        ("attempt_moved", "waiting"),
        ("wait_taken", ""),
        ("attempt_moved", "succeeded"),
        ("account_online", "online"),
    ]


def test_the_code_is_asked_for_with_an_empty_wc_id_first_and_the_stored_one_ever_after(committed, upstream):
    account = committed.account(proxy=2)
    for _time in range(2):
        attempt = started(account, upstream)
        with waiting(attempt):
            held(attempt, upstream)
            upstream.phone("confirm", wId=attempt.w_id)
        account = fresh(account)

    assert upstream.bodies("/iPadLogin") == [
        {"wcId": "", "type": 2, "proxy": 2},
        {"wcId": account.wc_id, "type": 2, "proxy": 2},
    ]
    assert upstream.online == {account.wc_id: account.w_id}


def test_an_attempt_that_ended_keeps_nothing_that_could_log_in(committed, upstream):
    attempt = started(committed.account(), upstream)
    assert attempt.qr_png and attempt.qr_text

    control.cancel(attempt, by=committed.operator)

    attempt = fresh(attempt)
    assert (attempt.state, attempt.reason) == ("cancelled", "cancelled")
    assert (attempt.qr_png, attempt.qr_text, attempt.page_url, attempt.verify_code) == (None, "", "", "")


@pytest.mark.slow
def test_fifty_clicks_at_once_make_one_attempt_and_one_code(committed, upstream):
    account = committed.account()
    barrier = threading.Barrier(50)

    def click():
        barrier.wait()
        attempt, begun = start.start_login(Account.objects.get(pk=account.pk))
        if begun:
            start.fetch_qr_code(attempt)
        return attempt.pk

    with ThreadPoolExecutor(50) as pool:
        ids = [click.result() for click in [pool.submit(in_thread, click) for _ in range(50)]]

    assert len(set(ids)) == 1
    assert LoginAttempt.objects.count() == 1
    assert upstream.calls("/iPadLogin") == 1


def test_a_start_that_met_an_attempt_which_ended_just_now_begins_its_own(committed, monkeypatch):
    account = committed.account()
    open_one, _begun = start.start_login(account)
    insert = start._new_attempt

    def refused_by_what_ends_meanwhile(*args):
        try:
            return insert(*args)
        except IntegrityError:
            control.cancel(fresh(open_one))
            raise

    monkeypatch.setattr(start, "_new_attempt", refused_by_what_ends_meanwhile)
    attempt, begun = start.start_login(account)
    assert begun and attempt.pk != open_one.pk
    assert list(LoginAttempt.objects.open()) == [attempt]


def test_the_code_is_never_asked_for_twice_for_one_attempt(committed, upstream):
    attempt, _begun = start.start_login(committed.account())
    same = fresh(attempt)

    assert start.fetch_qr_code(attempt) is True
    assert start.fetch_qr_code(same) is False
    assert upstream.calls("/iPadLogin") == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["reset", "empty", "hang"])
def test_an_answer_that_got_lost_is_not_asked_for_again(committed, upstream, kind):
    upstream.fault("/iPadLogin", kind)
    attempt, _begun = start.start_login(committed.account())

    assert start.fetch_qr_code(attempt) is False
    assert attempt.state == "failed"
    assert attempt.reason == ("bad_answer" if kind == "empty" else "outcome_unknown")
    assert upstream.calls("/iPadLogin") == 1


def test_a_refusal_keeps_the_upstreams_words(committed, upstream):
    upstream.fault("/iPadLogin", "raw", json={"code": 10001, "msg": "用户名或密码错误", "data": None})
    attempt, _begun = start.start_login(committed.account())
    start.fetch_qr_code(attempt)

    assert (attempt.state, attempt.reason) == ("failed", "refused")
    assert (attempt.upstream_code, attempt.upstream_text) == ("10001", "用户名或密码错误")
    assert upstream.calls("/iPadLogin") == 1


def test_declined_on_the_phone(committed, upstream):
    attempt = started(committed.account(), upstream)
    with waiting(attempt):
        held(attempt, upstream)
        upstream.phone("cancel", wId=attempt.w_id)

    attempt = fresh(attempt)
    assert (attempt.state, attempt.reason) == ("failed", "declined")
    assert fresh(attempt.account).state == "new"


@pytest.mark.slow
def test_nobody_scans(committed, upstream, settings):
    settings.WK_LOGIN_WAIT_SECONDS = 1
    upstream.settings(wait_seconds=1)
    attempt = started(committed.account(), upstream)
    with waiting(attempt):
        pass

    assert (fresh(attempt).state, fresh(attempt).reason) == ("expired", "not_scanned")


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["failed", "cut", "504"])
def test_the_upstreams_limit_means_not_scanned_whatever_it_answers(
    committed, upstream, settings, answer, monkeypatch
):
    monkeypatch.setattr(leases, "GRACE", timedelta(seconds=1))
    settings.WK_LOGIN_WAIT_SECONDS = 1
    upstream.settings(wait_seconds=1, limit_answer=answer)
    attempt = started(committed.account(), upstream)
    with waiting(attempt):
        pass

    assert fresh(attempt).state == "expired"
    assert upstream.calls("/iPadLogin") == 1


@pytest.mark.slow
def test_who_is_online_is_asked_before_an_attempt_expires(committed, upstream, settings, monkeypatch):
    monkeypatch.setattr(leases, "GRACE", timedelta(seconds=0.5))
    settings.WK_LOGIN_WAIT_SECONDS = 1
    attempt = started(committed.account(), upstream)
    upstream.fault("/getIPadLoginInfo", "late", seconds=30)
    with waiting(attempt):
        upstream.phone("confirm", wId=attempt.w_id)

    account = fresh(attempt.account)
    assert fresh(attempt).state == "succeeded"
    assert upstream.online == {account.wc_id: account.w_id}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["reset", "garbage", "html", "empty", "data_null"])
def test_a_wait_that_breaks_is_resumed_with_the_same_w_id(committed, upstream, kind):
    attempt = started(committed.account(), upstream)
    upstream.fault("/getIPadLoginInfo", kind, times=1)
    with waiting(attempt):
        held(attempt, upstream)
        upstream.phone("confirm", wId=attempt.w_id)

    assert fresh(attempt).state == "succeeded"
    assert upstream.calls("/iPadLogin") == 1
    assert upstream.logins()[0]["max_parallel"] == 1


def test_a_verification_code_is_asked_for_sent_once_and_forgotten(committed, upstream):
    attempt = started(committed.account(), upstream)
    with waiting(attempt):
        held(attempt, upstream)
        upstream.phone("code", wId=attempt.w_id, code="246810")
    attempt = fresh(attempt)
    assert (attempt.state, attempt.upstream_text) == ("code_required", "请在ipad上输入验证码")

    assert control.submit_verification_code(attempt, "246810", by=committed.operator) is True
    with waiting(attempt):
        pass

    attempt = fresh(attempt)
    assert (attempt.state, attempt.verify_code) == ("succeeded", "")
    assert upstream.bodies("/getIPadLoginInfo")[-1] == {"wId": attempt.w_id, "verifyCode": "246810"}


def test_three_wrong_verification_codes_end_the_attempt(committed, upstream):
    attempt = started(committed.account(), upstream)
    with waiting(attempt):
        held(attempt, upstream)
        upstream.phone("code", wId=attempt.w_id, code="246810")
    for tried in (1, 2, 3):
        attempt = fresh(attempt)
        assert (attempt.state, attempt.codes_tried) == ("code_required", tried - 1)
        control.submit_verification_code(attempt, "111111")
        with waiting(attempt):
            pass

    assert (fresh(attempt).state, fresh(attempt).reason) == ("failed", "code_wrong")


def test_a_check_on_a_page(committed, upstream, settings):
    settings.WK_DEVICE_TYPE = "ipad"
    upstream.settings(dialect="g4")
    attempt = started(committed.account(proxy=1), upstream)
    with waiting(attempt):
        held(attempt, upstream)
        upstream.phone("page", wId=attempt.w_id)
    attempt = fresh(attempt)
    assert attempt.state == "page_required"
    assert attempt.page_url.startswith(upstream.url)

    upstream.phone("done", wId=attempt.w_id)
    assert control.page_visited(attempt) is True
    with waiting(attempt):
        pass
    assert fresh(attempt).state == "succeeded"


def test_another_account_scans_and_nothing_is_overwritten(committed, upstream):
    upstream.person("wxid_expected", nickname="小诺")
    upstream.person("wxid_other", nickname="贝塔")
    account = committed.account(wc_id="wxid_expected")
    attempt = started(account, upstream)
    with waiting(attempt):
        held(attempt, upstream)
        upstream.phone("confirm", wId=attempt.w_id, who="wxid_other")

    attempt, account = fresh(attempt), fresh(account)
    other = Account.objects.get(wc_id="wxid_other")
    assert (attempt.state, attempt.reason) == ("failed", "wrong_account")
    assert (attempt.other_account, attempt.other_name) == (other, "贝塔 (wxid_other)")
    assert (account.state, account.w_id, account.wc_id) == ("new", "", "wxid_expected")
    assert (other.state, other.label, other.team) == ("online", "贝塔", committed.east)
    assert upstream.online == {"wxid_other": other.w_id}


def test_another_known_account_scans_and_gets_its_new_w_id(committed, upstream):
    other = committed.account(label="Known", wc_id="wxid_known", w_id="w-old")
    attempt = started(committed.account(wc_id="wxid_expected"), upstream)
    with waiting(attempt):
        held(attempt, upstream)
        upstream.phone("confirm", wId=attempt.w_id, who="wxid_known")

    other = fresh(other)
    assert (other.label, other.w_id) == ("Known", attempt.w_id)
    assert Account.objects.count() == 2


def test_a_first_login_of_a_known_account_joins_its_record(committed, upstream):
    known = committed.account(label="Known", wc_id="wxid_known", team=committed.west, state="offline")
    second = committed.account(label="Typed again")
    attempt = started(second, upstream)
    with waiting(attempt):
        held(attempt, upstream)
        upstream.phone("confirm", wId=attempt.w_id, who="wxid_known")

    known, second, attempt = fresh(known), fresh(second), fresh(attempt)
    assert (known.state, known.w_id, known.label) == ("online", attempt.w_id, "Known")
    assert (attempt.state, attempt.account) == ("succeeded", known)
    assert second.merged_into == known
    assert list(Account.objects.kept()) == [known]
    # Each side is of another team: neither reads the other's label in its history.
    assert set(AccountEvent.objects.filter(happened=EventType.MERGED).values_list("detail", flat=True)) == {
        ""
    }


def test_a_success_after_cancel_counts_and_says_so(committed, upstream):
    attempt = started(committed.account(), upstream)
    with waiting(attempt):
        held(attempt, upstream)
        control.cancel(fresh(attempt))
        upstream.phone("confirm", wId=attempt.w_id)

    account = fresh(attempt.account)
    assert fresh(attempt).state == "cancelled"
    assert account.state == "online"
    assert upstream.online == {account.wc_id: account.w_id}
    assert (EventType.LATE_SUCCESS, "") in happenings(account)


def test_a_late_answer_of_an_old_login_never_overwrites_a_newer_one(committed, upstream):
    account = committed.account()
    old = started(account, upstream)
    with waiting(old):
        held(old, upstream)
        control.cancel(fresh(old))
        new = started(fresh(account), upstream)
        with waiting(new):
            held(new, upstream)
            upstream.phone("confirm", wId=new.w_id)
        wc_id = fresh(account).wc_id
        upstream.phone("confirm", wId=old.w_id, who=wc_id)

    account = fresh(account)
    assert account.w_id == new.w_id
    assert (EventType.STALE_SUCCESS, "") in happenings(account)


def test_a_second_login_is_possible_right_after_cancel(committed, upstream):
    account = committed.account()
    first = started(account, upstream)
    with waiting(first):
        held(first, upstream)
        control.cancel(fresh(first))
        second, begun = start.start_login(account, trigger=Trigger.OPERATOR)
        assert begun and second.pk != first.pk
        upstream.phone("cancel", wId=first.w_id)


def test_a_doubled_message_is_a_no_op(committed, upstream):
    attempt = started(committed.account(), upstream)
    with waiting(attempt):
        held(attempt, upstream)
        for _time in range(5):
            assert wait.wait_for_phone(attempt.pk) is None
        upstream.phone("confirm", wId=attempt.w_id)
    for _time in range(5):
        assert wait.wait_for_phone(attempt.pk) is None

    assert upstream.calls("/getIPadLoginInfo") == 1


def test_no_database_connection_is_held_during_the_wait(committed, upstream, monkeypatch):
    attempt = started(committed.account(), upstream)
    seen = []
    original = configured.client().__class__.wait_for_login

    def look_first(self, *args):
        seen.append((connection.connection, connection.in_atomic_block))
        return original(self, *args)

    monkeypatch.setattr(configured.client().__class__, "wait_for_login", look_first)
    with waiting(attempt):
        held(attempt, upstream)
        upstream.phone("confirm", wId=attempt.w_id)

    assert seen == [(None, False)]


def test_the_wait_of_a_dead_worker_is_handed_to_another(committed, upstream):
    attempt = started(committed.account(), upstream)
    WaitsWorker.objects.create(name="a worker that died", alive_until=timezone.now() + leases.LEASE)
    (dead,) = leases.claim([attempt.pk], "a worker that died")
    assert dead.lease_epoch == 1
    assert leases.claim_orphaned() == []

    with time_machine.travel(timezone.now() + leases.LEASE + timedelta(seconds=1), tick=True):
        (lease,) = leases.claim_orphaned()
        with ThreadPoolExecutor(1) as pool:
            result = pool.submit(in_thread, wait.wait_with_lease, lease)
            held(attempt, upstream)
            upstream.phone("confirm", wId=attempt.w_id)
            assert result.result(DEADLINE).pk == attempt.account_id
    attempt = fresh(attempt)
    assert (attempt.state, attempt.lease_epoch) == ("succeeded", 2)
    assert upstream.calls("/iPadLogin") == 1


def test_a_worker_that_slept_past_its_lease_writes_no_failure(committed, upstream):
    attempt = started(committed.account(), upstream)
    (slept,) = leases.claim([attempt.pk], "slept")
    with time_machine.travel(timezone.now() + leases.LEASE + timedelta(seconds=1), tick=True):
        assert leases.claim([attempt.pk], "awake") != [None]

    finish.finish_login(
        slept, responses.NotLoggedIn(responses.Ending.REFUSED, "1001", "失败"), epoch=slept.lease_epoch
    )
    assert fresh(attempt).state == "waiting"


@pytest.mark.parametrize(
    ("state", "wait_started", "end"),
    [
        ("preparing", False, ("failed", "interrupted")),
        ("waiting", False, ("expired", "no_worker")),
        ("waiting", True, ("expired", "not_scanned")),
        ("code_required", True, ("expired", "no_answer")),
        ("page_required", True, ("expired", "no_answer")),
    ],
)
@pytest.mark.parametrize(
    "closer", [lambda a: expire.end_overdue(), lambda a: expire.expire_on_read(a.account)]
)
def test_an_overdue_attempt_is_ended_by_beat_or_by_the_next_read(
    committed, upstream, state, wait_started, end, closer
):
    now = timezone.now()
    attempt = make_attempt(
        committed.account(),
        state,
        deadline_at=now - timedelta(seconds=17),
        wait_started_at=now - timedelta(seconds=100) if wait_started else None,
    )
    closer(attempt)

    attempt = fresh(attempt)
    assert (attempt.state, attempt.reason) == end
    assert attempt.state in FINAL_STATES


def test_an_attempt_within_its_time_is_left_alone(committed, upstream):
    attempt = make_attempt(committed.account(), "waiting", queued_at=timezone.now())
    assert expire.end_overdue() == 0
    expire.expire_on_read(attempt.account)
    assert fresh(attempt).state == "waiting"


@pytest.mark.slow
def test_cancel_and_success_at_once_leave_one_final_move(committed, upstream):
    for _round in range(15):
        account = committed.account()
        attempt = make_attempt(account, w_id=f"w-{account.pk}")
        answer = responses.LoggedIn(responses.Profile(wc_id=f"wxid_{account.pk}", w_id=attempt.w_id))
        barrier = threading.Barrier(2)

        def together(step, *args, barrier=barrier):
            barrier.wait()
            return in_thread(step, *args)

        with ThreadPoolExecutor(2) as pool:
            results = [
                pool.submit(together, control.cancel, fresh(attempt)),
                pool.submit(together, finish.finish_login, fresh(attempt), answer),
            ]
            [result.result() for result in results]

        finals = AccountEvent.objects.filter(attempt=attempt, to_state__in=FINAL_STATES).count()
        assert finals == 1
        assert (fresh(account).state, fresh(account).w_id) == ("online", attempt.w_id)


def test_an_upstream_that_is_not_there_is_said(committed, settings):
    """At once: nothing is tried again. How long a connection may take is tested with the transport."""
    for address in ("http://127.0.0.1:1", "http://no-such-host.invalid:9899"):
        settings.WK_BASE_URL = address
        attempt, _begun = start.start_login(committed.account())

        assert start.fetch_qr_code(attempt) is False
        assert (attempt.state, attempt.reason) == ("failed", "unreachable")


def test_a_certificate_that_is_not_trusted_is_the_reason_until_its_authority_is_set(
    committed, settings, tmp_path
):
    certificate = raw_http.self_signed(tmp_path)
    answer = raw_http.json_answer(envelope({"wId": "w-1", "Authorization": "given", "status": 0}))

    def play(sock, served):
        raw_http.over_tls(sock, certificate, lambda inner: raw_http.saying(answer)(inner, served))

    with raw_http.wire(play) as served:
        settings.WK_BASE_URL = served.url.replace("http:", "https:")
        reasons = []
        for bundle in ("", str(certificate)):
            settings.WK_CA_BUNDLE = bundle
            attempt, _begun = start.start_login(committed.account())
            start.fetch_qr_code(attempt)
            reasons.append(attempt.reason)
    assert reasons == ["certificate", "qr_address"]


def test_a_picture_on_another_host_is_not_fetched(committed, upstream):
    upstream.settings(picture_url="http://169.254.169.254/qr.png")
    attempt, _begun = start.start_login(committed.account())
    start.fetch_qr_code(attempt)
    assert (attempt.state, attempt.reason, attempt.upstream_text) == ("failed", "qr_host", "169.254.169.254")


def test_the_picture_that_is_shown_says_what_the_upstreams_said(committed, upstream):
    attempt = started(committed.account(), upstream)
    shown = zxingcpp.read_barcode(Image.open(BytesIO(bytes(attempt.qr_png))))
    assert shown.text == attempt.qr_text == upstream.logins()[0]["phone_url"]


def test_the_wrong_code_first_and_then_the_right_one(committed, upstream):
    upstream.person("wxid_own")
    own, other = committed.account(wc_id="wxid_own"), committed.account(wc_id="wxid_other")
    right, wrong = started(own, upstream), started(other, upstream)
    with waiting(wrong), waiting(right):
        held(wrong, upstream)
        held(right, upstream)
        upstream.phone("confirm", wId=wrong.w_id, who="wxid_own")
        until(lambda: fresh(own).w_id == wrong.w_id)
        upstream.phone("confirm", wId=right.w_id, who="wxid_own")

    assert upstream.online == {"wxid_own": right.w_id}
    assert fresh(own).w_id == right.w_id


def test_a_merged_record_starts_no_login_of_its_own(committed, upstream):
    kept = committed.account(wc_id="wxid_kept")
    joined = committed.account(merged_into=kept)
    committed.operator.client.post(f"/accounts/{joined.pk}/login/")
    assert LoginAttempt.objects.count() == 0
    assert committed.operator.client.get(f"/accounts/{joined.pk}/edit/").status_code == 403


def test_an_overdue_attempt_that_cannot_be_ended_does_not_stop_the_sweep(committed, upstream, monkeypatch):
    past = timezone.now() - timedelta(seconds=17)
    make_attempt(committed.account(), deadline_at=past)
    good = make_attempt(committed.account(), deadline_at=past)
    original = expire._end_attempt

    def broken(attempt, online):
        if attempt.pk != good.pk:
            raise ValueError("broken")
        return original(attempt, online)

    monkeypatch.setattr(expire, "_end_attempt", broken)
    assert expire.end_overdue() == 2
    assert fresh(good).state == "expired"


def test_a_step_that_is_rolled_back_can_be_repeated(committed, upstream, monkeypatch):
    attempt = make_attempt(committed.account())
    failures = [OperationalError("the server was restarted")]
    original = event.record

    def record_once_broken(*args, **kwargs):
        if failures:
            raise failures.pop()
        return original(*args, **kwargs)

    monkeypatch.setattr(event, "record", record_once_broken)
    answer = responses.NotLoggedIn(responses.Ending.DECLINED, "1001", "取消")
    db_errors.retry_until_saved(finish.finish_login, attempt, answer)
    assert (fresh(attempt).state, fresh(attempt).reason) == ("failed", "declined")
