"""Refusals that read as if they concerned our sign-in: proved before anything is renewed, and never a second request."""

from datetime import timedelta

import pytest

from accounts.logins import leases, start, wait
from accounts.models import LoginAttempt, UpstreamAccess
from accounts.states import Method
from accounts.upstream import configured, token_store
from tests.support.factories import fresh
from tests.support.threads import in_thread, running

QR, WAIT, PROMPT, WHO, SIGN_IN = (
    "/iPadLogin", "/getIPadLoginInfo", "/secondLogin", "/queryLoginWx", "/member/login"
)  # fmt: skip
WECHATS_OWN = [
    "你的微信登录环境存在异常。为了帐号安全，本次登录已失效。",
    "请先登录手机微信",
    "登录失效，请重新扫码登录",
    "微信授权失败",
    "获取设备token失败",
    "wx token expired, please scan again",
]


def refusing(upstream, path: str, text: str, **how) -> None:
    upstream.fault(path, "raw", json={"code": "1001", "message": text, "data": None}, **how)


def requested(account, **how) -> LoginAttempt:
    attempt, _new = start.start_login(account, **how)
    start.fetch_qr_code(attempt)
    return fresh(attempt)


def prompted(committed) -> LoginAttempt:
    account = committed.account(wc_id="wxid_prompted")
    attempt, _new = start.start_login(account, queued=True, method=Method.POPUP)
    in_thread(wait.wait_for_phone, attempt.pk)
    return fresh(attempt)


def known_here(upstream) -> None:
    """This process has an Authorization that WKTeam took."""
    configured.client().online()


def alarms() -> list[str]:
    return list(UpstreamAccess.objects.exclude(refused_at=None).values_list("refused_why", flat=True))


# --- requests that are sent once ---------------------------------------------------------------------------


@pytest.mark.parametrize("text", WECHATS_OWN)
def test_wechat_s_own_refusal_of_a_code_is_no_refused_sign_in(text, committed, upstream):
    known_here(upstream)
    refusing(upstream, QR, text)
    attempt = requested(committed.account())
    assert (attempt.state, attempt.reason, attempt.upstream_text) == ("failed", "refused", text)
    assert (upstream.calls(QR), upstream.calls(SIGN_IN), alarms()) == (1, 1, [])


@pytest.mark.parametrize("text", WECHATS_OWN)
def test_wechat_s_own_refusal_of_a_prompt_is_no_refused_sign_in(text, committed, upstream):
    known_here(upstream)
    refusing(upstream, PROMPT, text)
    attempt = prompted(committed)
    assert (attempt.state, attempt.reason, attempt.upstream_text) == ("failed", "prompt_refused", text)
    assert (upstream.calls(PROMPT), upstream.calls(SIGN_IN), alarms()) == (1, 1, [])


@pytest.mark.parametrize("style", ["message", "http401"])
def test_a_request_whose_authorization_is_proved_to_be_revoked_is_repeated(style, committed, upstream):
    known_here(upstream)
    upstream.control("account", revoke_token=True, auth_style=style)
    assert requested(committed.account()).state == "waiting"
    assert (upstream.calls(QR), upstream.calls(SIGN_IN), alarms()) == (2, 2, [])


@pytest.mark.parametrize("style", ["message", "http401"])
def test_a_prompt_whose_authorization_is_proved_to_be_revoked_is_repeated(style, committed, upstream):
    known_here(upstream)
    upstream.control("account", revoke_token=True, auth_style=style)
    account = committed.account(wc_id="wxid_prompted")
    attempt, _new = start.start_login(account, queued=True, method=Method.POPUP)
    with running(wait.wait_for_phone, attempt.pk):
        upstream.wait(wcId="wxid_prompted", prompt=True)
        upstream.phone("accept", wcId="wxid_prompted")
    assert fresh(attempt).state == "succeeded"
    assert (upstream.calls(PROMPT), upstream.calls(SIGN_IN)) == (2, 2)


def test_a_gateway_s_403_for_a_code_alone_renews_nothing(committed, upstream):
    known_here(upstream)
    upstream.fault(QR, "html", status=403)
    attempt = requested(committed.account())
    assert (attempt.state, attempt.reason, attempt.upstream_code) == ("failed", "refused", "403")
    assert (upstream.calls(QR), upstream.calls(SIGN_IN), alarms()) == (1, 1, [])


def test_the_words_are_a_setting(committed, upstream, settings):
    settings.WK_SIGN_IN_WORDS = ["令牌"]
    known_here(upstream)
    for path in (QR, WHO):
        refusing(upstream, path, "令牌失效")
    assert requested(committed.account()).reason == "sign_in_refused"
    settings.WK_SIGN_IN_WORDS = ["passport"]
    refusing(upstream, QR, "Authorization无效")
    upstream.clear(WHO)
    assert requested(committed.account()).reason == "refused"


# --- the wait ----------------------------------------------------------------------------------------------


def goes_on(upstream, attempt: LoginAttempt, calls: int) -> LoginAttempt:
    """The wait is called again, and the phone's decision counts."""
    with running(wait.wait_for_phone, attempt.pk):
        upstream.wait(path=WAIT, calls=calls)
        upstream.wait(wId=attempt.w_id, step3_now=1)
        upstream.phone("confirm", wId=attempt.w_id)
    return fresh(attempt)


def test_one_passing_refusal_of_the_sign_in_does_not_end_a_wait(committed, upstream):
    attempt = requested(committed.account())
    refusing(upstream, WAIT, "token 失效", times=1)
    refusing(upstream, SIGN_IN, "系统繁忙，请稍后再试", times=1)
    assert goes_on(upstream, attempt, calls=2).state == "succeeded"
    assert alarms() == []


@pytest.mark.slow
@pytest.mark.parametrize("busy", ["系统繁忙，请稍后再试", "用户名或密码错误"])
def test_a_revoked_authorization_and_a_sign_in_that_fails_once_do_not_end_a_wait(
    busy, committed, upstream, monkeypatch
):
    monkeypatch.setattr(token_store, "REFUSED_FOR", timedelta(seconds=1))
    attempt = requested(committed.account())
    upstream.control("account", revoke_token=True)
    refusing(upstream, SIGN_IN, busy, times=1)
    assert goes_on(upstream, attempt, calls=3).state == "succeeded"


@pytest.mark.slow
def test_two_pages_of_403_in_a_row_do_not_end_a_wait(committed, upstream):
    attempt = requested(committed.account())
    upstream.fault(WAIT, "html", status=403, times=2)
    assert goes_on(upstream, attempt, calls=3).state == "succeeded"


@pytest.mark.slow
def test_a_busy_answer_does_not_end_a_wait(committed, upstream):
    attempt = requested(committed.account())
    refusing(upstream, WAIT, "系统繁忙，请稍后再试", times=2)
    assert goes_on(upstream, attempt, calls=3).state == "succeeded"


@pytest.mark.parametrize("text", WECHATS_OWN)
def test_wechat_s_own_refusal_of_a_wait_ends_it_when_it_is_repeated(text, committed, upstream):
    attempt = requested(committed.account())
    refusing(upstream, WAIT, text)
    in_thread(wait.wait_for_phone, attempt.pk)
    attempt = fresh(attempt)
    assert attempt.upstream_text == text
    assert attempt.reason in ("refused", "not_scanned")
    assert (upstream.calls(WAIT), upstream.calls(SIGN_IN), alarms()) == (2, 1, [])


@pytest.mark.slow
def test_only_the_end_of_a_wait_says_that_the_sign_in_is_refused(committed, upstream, settings, monkeypatch):
    settings.WK_LOGIN_WAIT_SECONDS = 1
    monkeypatch.setattr(leases, "GRACE", timedelta(seconds=0.5))
    attempt = requested(committed.account())
    upstream.control("account", revoke_token=True)
    refusing(upstream, SIGN_IN, "用户名或密码错误")
    in_thread(wait.wait_for_phone, attempt.pk)
    assert (fresh(attempt).state, fresh(attempt).reason) == ("failed", "sign_in_refused")
    assert upstream.calls(WAIT) > 1
