"""The stand-in for the upstream, over real HTTP, in a process of its own."""

import gzip
import io
import json
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
import zxingcpp
from PIL import Image

from tests.support.processes import DEADLINE
from tests.support.simulator import ROOT, Simulator

WAIT = "/getIPadLoginInfo"


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def upstream(running: Simulator) -> Simulator:
    running.reset()
    return running


@pytest.fixture
def token(upstream: Simulator) -> str:
    return upstream.call("/member/login", **upstream.developer)["data"]["Authorization"]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def receiver() -> Iterator[tuple[str, "queue.Queue[Any]"]]:
    """An address for callbacks, and the bodies that arrive there."""
    arrived: queue.Queue[Any] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            arrived.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", arrived
    server.shutdown()
    server.server_close()


def new_qr(upstream: Simulator, token: str, wcId: str = "", **more: Any) -> dict[str, str]:
    return upstream.call("/iPadLogin", token, **({"wcId": wcId, "type": 2, "proxy": 1} | more))["data"]


def waiting(upstream: Simulator, token: str, wId: str, pool: ThreadPoolExecutor, **more: Any) -> Future:
    """A step 3 that has arrived and blocks."""
    future = pool.submit(upstream.call, WAIT, token, wId=wId, **more)
    upstream.wait(wId=wId, step3_now=1)
    return future


# --- the chain


def test_it_signs_the_developer_in_with_a_lasting_token(upstream, token):
    again = upstream.call("/member/login", **upstream.developer)
    wrong = upstream.call("/member/login", account="demo", password="no")
    assert (again["code"], again["data"]["Authorization"], again["data"]["status"]) == ("1000", token, 0)
    assert wrong == {"message": "用户名或密码错误", "code": "1001", "data": None}
    assert upstream.state()["sign_ins"] == 2


def test_a_scan_and_a_confirmation_answer_the_blocked_call_at_once(upstream, token, pool):
    qr = new_qr(upstream, token)
    answer = waiting(upstream, token, qr["wId"], pool)
    assert upstream.phone("scan", wId=qr["wId"])["state"] == "scanned"
    assert not answer.done()
    assert upstream.phone("confirm", wId=qr["wId"])["state"] == "online"
    profile = answer.result(DEADLINE)["data"]
    assert profile["wId"] == qr["wId"]
    assert re.fullmatch(r"wxid_[a-z0-9]{14}", profile["wcId"])
    assert upstream.call("/queryLoginWx", token)["data"] == [{"wcId": profile["wcId"], "wId": qr["wId"]}]
    assert upstream.call(WAIT, token, wId=qr["wId"])["data"] == profile


def test_a_confirmation_alone_does_not_log_in_before_step_3_asks(upstream, token):
    qr = new_qr(upstream, token)
    assert upstream.phone("confirm", wId=qr["wId"])["state"] == "confirmed"
    assert upstream.online == {}
    profile = upstream.call(WAIT, token, wId=qr["wId"])["data"]
    assert upstream.online == {profile["wcId"]: qr["wId"]}


def test_the_code_is_a_picture_that_a_camera_reads_as_the_phone_page(upstream, token):
    qr = new_qr(upstream, token)
    picture = requests.get(qr["qrCodeUrl"], timeout=DEADLINE)
    read = zxingcpp.read_barcodes(Image.open(io.BytesIO(picture.content)))
    assert picture.headers["Content-Type"] == "image/png"
    assert [code.text for code in read] == [f"{upstream.url}/phone/{qr['wId']}"]
    assert qr["qrCodeUrl"].startswith(upstream.url + "/qr/")


def test_addresses_follow_the_host_header(upstream, token):
    answer = requests.post(
        upstream.url + "/iPadLogin",
        json={},
        headers={"Authorization": token, "Host": "wk.test:81"},
        timeout=5,
    )
    assert answer.json()["data"]["qrCodeUrl"].startswith("http://wk.test:81/qr/")
    upstream.settings(public_url="http://desk.test")
    assert new_qr(upstream, token)["qrCodeUrl"].startswith("http://desk.test/qr/")


def test_a_new_login_takes_the_place_of_the_old_instance(upstream, token):
    first = upstream.log_in("wxid_a")
    second = upstream.log_in("wxid_a")
    assert first["wcId"] == second["wcId"] == "wxid_a"
    assert upstream.online == {"wxid_a": second["wId"]}
    assert upstream.call("/isOnline", token, wId=first["wId"])["data"] == {"isOnline": False}
    assert upstream.call("/isOnline", token, wId=second["wId"])["data"] == {"isOnline": True}
    assert upstream.call(WAIT, token, wId=first["wId"])["code"] == "1001"


def test_every_empty_wcid_makes_a_device(upstream, token):
    new_qr(upstream, token)
    new_qr(upstream, token)
    new_qr(upstream, token, "wxid_a")
    assert upstream.state(brief=True)["devices"] == 2


@pytest.mark.parametrize(
    ("do", "text"),
    [
        ("cancel", "用户取消登录"),
        ("expire", "二维码已过期"),
        ("fail", "失败"),
        ("new_device", "在新设备完成验证"),
    ],
)
def test_an_end_that_is_no_login_is_answered_to_the_wait_and_to_the_next_one(upstream, token, pool, do, text):
    qr = new_qr(upstream, token)
    answer = waiting(upstream, token, qr["wId"], pool)
    upstream.phone(do, wId=qr["wId"])
    expected = {"message": text, "code": "1001", "data": None}
    assert answer.result(DEADLINE) == expected
    assert upstream.call(WAIT, token, wId=qr["wId"]) == expected


def test_a_code_is_asked_for_until_it_is_right(upstream, token, pool):
    qr = new_qr(upstream, token)
    answer = waiting(upstream, token, qr["wId"], pool)
    code = upstream.phone("code", wId=qr["wId"])["verify_code"]
    wanted = {"message": "请在ipad上输入验证码", "code": "1001", "data": None}
    assert re.fullmatch(r"\d{6}", code)
    assert answer.result(DEADLINE) == wanted
    assert upstream.call(WAIT, token, wId=qr["wId"], verifyCode=code[::-1] + "0") == wanted
    assert upstream.call(WAIT, token, wId=qr["wId"], verifyCode=code)["data"]["wId"] == qr["wId"]


def test_a_wrong_code_can_be_the_end(upstream, token):
    upstream.settings(wrong_code="fail")
    qr = new_qr(upstream, token)
    upstream.phone("code", wId=qr["wId"], code="123456")
    assert upstream.call(WAIT, token, wId=qr["wId"], verifyCode="0")["message"] == "验证码错误"
    assert upstream.logins(wId=qr["wId"])[0]["state"] == "failed"


def test_a_page_visit_is_a_third_outcome_and_then_a_login(upstream, token):
    qr = new_qr(upstream, token)
    upstream.phone("page", wId=qr["wId"])
    answer = upstream.call(WAIT, token, wId=qr["wId"])
    assert answer == {
        "message": "处理成功",
        "code": "200",
        "data": {"url": f"{upstream.url}/verify/{qr['wId']}"},
    }
    page = requests.get(answer["data"]["url"], timeout=DEADLINE)
    assert 'name="do" value="done"' in page.text
    requests.post(answer["data"]["url"], data={"do": "done"}, timeout=DEADLINE)
    assert upstream.call(WAIT, token, wId=qr["wId"])["data"]["wId"] == qr["wId"]


def test_another_account_may_scan(upstream, token):
    qr = new_qr(upstream, token, "wxid_a")
    upstream.phone("confirm", wId=qr["wId"], who="wxid_b")
    assert upstream.call(WAIT, token, wId=qr["wId"])["data"]["wcId"] == "wxid_b"
    assert upstream.online == {"wxid_b": qr["wId"]}


def test_a_tap_that_is_not_possible_is_refused_with_a_sentence(upstream, token):
    qr = new_qr(upstream, token)
    upstream.phone("cancel", wId=qr["wId"])
    with pytest.raises(AssertionError, match="409.*confirm is not possible: the login is cancelled"):
        upstream.phone("confirm", wId=qr["wId"])


# --- the limit, and calls beside each other


@pytest.mark.parametrize(
    ("limit", "text", "state"), [("expired", "二维码已过期", "expired"), ("failed", "失败", "waiting")]
)
def test_step_3_ends_at_its_limit(upstream, token, limit, text, state):
    upstream.settings(wait_seconds=0.05, limit_answer=limit)
    qr = new_qr(upstream, token)
    assert upstream.call(WAIT, token, wId=qr["wId"]) == {"message": text, "code": "1001", "data": None}
    assert upstream.logins(wId=qr["wId"])[0]["state"] == state


def test_step_3_can_be_cut_at_its_limit_and_resumed(upstream, token):
    upstream.settings(wait_seconds=0.05, limit_answer="cut")
    qr = new_qr(upstream, token)
    with pytest.raises(requests.ConnectionError):
        upstream.call(WAIT, token, wId=qr["wId"])
    upstream.settings(limit_answer="504")
    gateway = upstream.post(WAIT, token, wId=qr["wId"])
    assert (gateway.status_code, "504 Gateway" in gateway.text) == (504, True)
    upstream.phone("confirm", wId=qr["wId"])
    assert upstream.call(WAIT, token, wId=qr["wId"])["code"] == "1000"


def test_waits_are_scaled_and_codes_expire(upstream, token):
    upstream.settings(time_factor=0.001, qr_seconds=50)
    qr = new_qr(upstream, token)
    assert upstream.call(WAIT, token, wId=qr["wId"])["message"] == "二维码已过期"


def test_parallel_waits_are_counted_and_all_answered(upstream, token, pool):
    qr = new_qr(upstream, token)
    answers = [pool.submit(upstream.call, WAIT, token, wId=qr["wId"]) for _ in range(3)]
    upstream.wait(wId=qr["wId"], step3_now=3)
    upstream.phone("confirm", wId=qr["wId"])
    assert [answer.result(DEADLINE)["code"] for answer in answers] == ["1000"] * 3
    login = upstream.logins(wId=qr["wId"])[0]
    assert (login["step3_calls"], login["max_parallel"], login["step3_now"]) == (3, 3, 0)


def test_a_second_wait_can_be_refused(upstream, token, pool):
    upstream.settings(parallel="refuse")
    qr = new_qr(upstream, token)
    first = waiting(upstream, token, qr["wId"], pool)
    assert upstream.call(WAIT, token, wId=qr["wId"])["message"] == "请勿重复请求"
    upstream.phone("confirm", wId=qr["wId"])
    assert first.result(DEADLINE)["code"] == "1000"


def test_a_second_wait_can_end_the_first(upstream, token, pool):
    upstream.settings(parallel="kick")
    qr = new_qr(upstream, token)
    first = waiting(upstream, token, qr["wId"], pool)
    second = pool.submit(upstream.call, WAIT, token, wId=qr["wId"])
    assert first.result(DEADLINE)["message"] == "请勿重复请求"
    upstream.phone("confirm", wId=qr["wId"])
    assert second.result(DEADLINE)["code"] == "1000"


def test_a_caller_that_hangs_up_waits_no_more(upstream, token):
    qr = new_qr(upstream, token)
    with pytest.raises(requests.ReadTimeout):
        requests.post(
            upstream.url + WAIT, json={"wId": qr["wId"]}, headers={"Authorization": token}, timeout=0.05
        )
    upstream.wait(wId=qr["wId"], step3_now=0)
    assert upstream.phone("confirm", wId=qr["wId"])["state"] == "confirmed"


# --- popup, offline, callbacks


def test_a_popup_is_accepted_on_the_phone_and_gives_a_new_wid(upstream, token, pool):
    old = upstream.log_in("wxid_a")["wId"]
    answer = pool.submit(upstream.call, "/secondLogin", token, wcId="wxid_a")
    upstream.wait(wcId="wxid_a", prompt=True)
    page = f"{upstream.url}/phone/popup/wxid_a"
    assert 'data-state="waiting"' in requests.get(page, timeout=DEADLINE).text
    requests.post(page, data={"do": "confirm"}, timeout=DEADLINE)
    profile = answer.result(DEADLINE)["data"]
    assert profile["wId"] != old
    assert upstream.online == {"wxid_a": profile["wId"]}


@pytest.mark.parametrize("style", ["plain", "nested"])
def test_a_popup_may_be_declined(upstream, token, pool, style):
    upstream.settings(popup_failure=style)
    answer = pool.submit(upstream.call, "/secondLogin", token, wcId="wxid_a")
    upstream.wait(wcId="wxid_a", prompt=True)
    upstream.phone("decline", wcId="wxid_a")
    declined = answer.result(DEADLINE)
    if style == "nested":
        assert (declined["code"], declined["data"]["code"], declined["data"]["data"]) == (
            "1000",
            "1001",
            None,
        )
    else:
        assert declined == {"message": "用户取消登录", "code": "1001", "data": None}


def test_a_popup_nobody_answers_fails_at_its_limit(upstream, token):
    upstream.settings(popup_seconds=0.05)
    assert upstream.call("/secondLogin", token, wcId="wxid_a")["code"] == "1001"
    assert upstream.online == {}


def test_a_drop_has_a_reason_until_the_next_login(upstream, token):
    upstream.log_in("wxid_a")
    assert upstream.call("/offlineReason", token, wcId="wxid_a")["data"] == [
        {"wcId": "wxid_a", "reason": None}
    ]
    upstream.drop("wxid_a", reason="你的账号在别处登录", popup_works=False)
    reason = upstream.call("/offlineReason", token, wcId="wxid_a")["data"][0]["reason"]
    inner = json.loads(reason)["data"]["baseResponse"]["errMsg"]["string"]
    assert "<![CDATA[你的账号在别处登录]]>" in inner
    assert upstream.call("/secondLogin", token, wcId="wxid_a")["message"] == "系统失败,请重试"
    upstream.log_in("wxid_a")
    assert upstream.call("/offlineReason", token, wcId="wxid_a")["data"][0]["reason"] is None


def test_logging_out_takes_effect_a_little_later(upstream, token):
    upstream.settings(offline_delay=0.05)
    upstream.log_in("wxid_a")
    answer = upstream.call("/member/offline", token, account="demo", wcIds=["wxid_a", "wxid_unknown"])
    assert answer["code"] == "1000"
    upstream.wait(wcId="wxid_a", online=False)
    assert upstream.call("/queryLoginWx", token)["data"] == []
    upstream.settings(nobody_online="null")
    assert upstream.call("/queryLoginWx", token)["data"] is None


def test_callbacks_report_drops_once_twice_or_wrongly(upstream, token, receiver):
    url, arrived = receiver
    first, second = upstream.log_in("wxid_a")["wId"], upstream.log_in("wxid_a")["wId"]
    assert upstream.call("/setHttpCallbackUrl", token, httpUrl=url, type=2)["code"] == "1000"
    assert arrived.get(timeout=DEADLINE)["data"] == {"test": True}
    upstream.drop("wxid_a", stale=True)
    callback = {"account": "demo", "data": {"wId": first}, "messageType": "30000", "wcId": "wxid_a"}
    assert arrived.get(timeout=DEADLINE) == callback
    assert upstream.online == {"wxid_a": second}
    upstream.drop("wxid_a", duplicates=1)
    assert [arrived.get(timeout=DEADLINE)["data"]["wId"] for _ in range(2)] == [second, second]
    upstream.wait(callbacks=4)
    assert [note["status"] for note in upstream.state()["callbacks"]] == [200] * 4
    upstream.call("/cancelHttpCallbackUrl", token)
    assert upstream.state(brief=True)["callback_url"] is None


def test_a_callback_that_cannot_be_delivered_is_recorded_and_not_repeated(upstream, token):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    upstream.call("/setHttpCallbackUrl", token, httpUrl=f"http://127.0.0.1:{port}/", type=1)
    upstream.person("wxid_a", online=True)
    upstream.drop("wxid_a")
    upstream.wait(callbacks=2)
    notes = upstream.state()["callbacks"]
    assert [note["status"] for note in notes] == [None, None]
    assert notes[1]["body"]["messageType"] == 4
    assert all(note["error"].startswith("ClientConnectorError") for note in notes)


# --- the developer's account and the dialects


@pytest.mark.parametrize("sent", [None, "", "wrong", "Bearer {token}"])
@pytest.mark.parametrize(("style", "status"), [("message", 200), ("http401", 401)])
def test_only_the_raw_token_opens_the_door(upstream, token, sent, style, status):
    upstream.control("account", auth_style=style)
    answer = upstream.post("/queryLoginWx", sent and sent.format(token=token))
    assert (answer.status_code, answer.json()["code"]) == (status, "1001")
    assert "Authorization" in answer.json()["message"]


def test_a_revoked_token_is_replaced_by_the_next_sign_in(upstream, token):
    upstream.control("account", revoke_token=True)
    assert upstream.call("/queryLoginWx", token)["code"] == "1001"
    fresh = upstream.call("/member/login", **upstream.developer)["data"]["Authorization"]
    assert fresh != token
    assert upstream.call("/queryLoginWx", fresh)["code"] == "1000"


def test_a_frozen_account_signs_in_and_can_do_nothing(upstream, token):
    upstream.control("account", status=1)
    assert upstream.call("/member/login", **upstream.developer)["data"]["status"] == 1
    assert upstream.call("/iPadLogin", token, wcId="")["message"] == "账号已冻结"


SEED, G4 = {"type": 2}, {"wcId": "", "proxy": 1, "deviceType": "ipad"}


@pytest.mark.parametrize(
    ("dialect", "body", "code", "text_key"),
    [
        ("default", {}, "1000", "message"),
        ("default", {"type": 2, "proxy": "30"}, "1000", "message"),
        ("default", {"proxy": 31}, "1001", "message"),
        ("seed", SEED, 1000, "msg"),
        ("seed", {"wcId": ""}, 10001, "msg"),
        ("seed", SEED | {"proxy": 6}, 10001, "msg"),
        ("g1", SEED, "1000", "message"),
        ("g1", {"type": 1}, "1001", "message"),
        ("g2", {"wcId": "", "proxy": 23}, "1000", "message"),
        ("g2", {"wcId": "", "proxy": 24}, "1001", "message"),
        ("g2", {"proxy": 1}, "1001", "message"),
        ("g2", {"wcId": "", "proxyIp": "10.0.0.1:1080"}, "1000", "message"),
        ("g4", G4, "1000", "message"),
        ("g4", G4 | {"deviceType": "pc"}, "1001", "message"),
    ],
)
def test_each_dialect_asks_for_its_own_fields_in_its_own_words(
    upstream, token, dialect, body, code, text_key
):
    upstream.settings(dialect=dialect)
    answer = upstream.call("/iPadLogin", token, **body)
    assert (answer["code"], set(answer)) == (code, {"code", text_key, "data"})
    assert (answer["data"] is None) == (str(code) != "1000")


def test_g4_wants_autocheck_and_lets_a_mac_pass_by_itself(upstream, token):
    upstream.settings(dialect="g4", auto_check_seconds=0.01)
    qr = new_qr(upstream, token, deviceType="mac")
    assert upstream.call(WAIT, token, wId=qr["wId"])["message"] == "参数错误: autoCheck"
    upstream.phone("page", wId=qr["wId"])
    assert upstream.call(WAIT, token, wId=qr["wId"], autoCheck=True)["code"] == "1000"


def test_a_bad_line_and_a_bad_setting_say_so(upstream, token):
    upstream.settings(bad_proxies=[3])
    answer = upstream.call("/iPadLogin", token, wcId="", type=2, proxy=3)
    assert answer == {"message": "网络链接异常", "code": "1001", "data": None}
    with pytest.raises(AssertionError, match="limit_answer must be one of expired, failed, cut, 504"):
        upstream.settings(limit_answer="soon")


# --- faults


def test_a_fault_lasts_its_times_and_no_longer(upstream, token):
    upstream.fault("/queryLoginWx", "html", times=2, skip=1)
    statuses = [upstream.post("/queryLoginWx", token).status_code for _ in range(4)]
    assert statuses == [200, 502, 502, 200]
    assert upstream.calls("/queryLoginWx") == 4


@pytest.mark.parametrize(
    ("kind", "effect", "made"),
    [("refuse", False, 0), ("reset", False, 0), ("reset", True, 1), ("cut", False, 1)],
)
def test_a_broken_connection_may_have_had_its_effect(upstream, token, kind, effect, made):
    upstream.fault("/iPadLogin", kind, times=1, effect=effect)
    with pytest.raises(requests.RequestException):
        upstream.call("/iPadLogin", token, wcId="")
    assert len(upstream.logins()) == made


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("code_int", {"code": 1000}),
        ("code_float", {"code": 1000.0}),
        ("code_null", {"code": None}),
        ("data_list", {"data": [[]]}),
        ("data_string", {"data": "data"}),
        ("data_null", {"data": None}),
    ],
)
def test_an_answer_may_have_wrong_types(upstream, token, kind, change):
    upstream.fault("/queryLoginWx", kind)
    assert upstream.call("/queryLoginWx", token) == {"message": "成功", "code": "1000", "data": []} | change


def test_an_answer_may_be_rewritten_or_be_anything_at_all(upstream, token):
    upstream.fault("/iPadLogin", "rewrite", set={"code": 7}, data_set={"wId": None}, data_unset=["qrCodeUrl"])
    answer = upstream.call("/iPadLogin", token, wcId="")
    assert (answer["code"], answer["data"]) == (7, {"wId": None})
    upstream.fault("/iPadLogin", "raw", status=418, headers={"X-Odd": "1"}, body_base64="AAH/")
    raw = upstream.post("/iPadLogin", token)
    assert (raw.status_code, raw.headers["X-Odd"], raw.content) == (418, "1", b"\x00\x01\xff")


def test_an_answer_may_come_in_other_bytes(upstream, token):
    found = {}
    for kind in ("bom", "charset", "empty", "msg_only", "no_message"):
        upstream.fault("/queryLoginWx", kind)
        found[kind] = upstream.post("/queryLoginWx", token).content
    assert found["bom"].startswith(b"\xef\xbb\xbf{")
    assert json.loads(found["charset"].decode("gb18030"))["message"] == "成功"
    assert found["empty"] == b""
    assert json.loads(found["msg_only"]) == {"msg": "成功", "code": "1000", "data": []}
    assert json.loads(found["no_message"]) == {"code": "1000", "data": []}


def test_an_answer_may_be_too_large(upstream, token):
    upstream.fault("/queryLoginWx", "gzip_bomb", size=30 << 20)
    headers = {"Authorization": token}
    with requests.post(
        upstream.url + "/queryLoginWx", headers=headers, stream=True, timeout=DEADLINE
    ) as answer:
        packed = answer.raw.read(decode_content=False)
    assert len(packed) < 1 << 20
    assert len(json.loads(gzip.decompress(packed))["message"]) == 30 << 20
    for kind in ("huge", "endless"):
        upstream.fault("/queryLoginWx", kind)
        with requests.post(
            upstream.url + "/queryLoginWx", headers=headers, stream=True, timeout=DEADLINE
        ) as answer:
            assert len(next(answer.iter_content(100_000))) > 0
    upstream.clear()
    upstream.wait(path="/queryLoginWx", in_flight=0)
    assert upstream.call("/queryLoginWx", token)["code"] == "1000"


@pytest.mark.slow
def test_an_answer_may_never_come_or_come_late(upstream, token, pool):
    upstream.fault("/iPadLogin", "hang", times=1)
    with pytest.raises(requests.ReadTimeout):
        requests.post(upstream.url + "/iPadLogin", json={}, headers={"Authorization": token}, timeout=0.1)
    assert upstream.logins() == []
    upstream.fault("/iPadLogin", "late", seconds=0.5)
    answer = pool.submit(new_qr, upstream, token)
    upstream.wait(logins=1)
    assert not answer.done()
    assert answer.result(DEADLINE)["wId"] == upstream.logins()[0]["wId"]


def test_pictures_can_be_spoilt_too(upstream, token):
    upstream.fault("/qr/*", "redirect", location="http://169.254.169.254/latest")
    answer = requests.get(new_qr(upstream, token)["qrCodeUrl"], allow_redirects=False, timeout=DEADLINE)
    assert (answer.status_code, answer.headers["Location"]) == (302, "http://169.254.169.254/latest")


def test_a_fault_nobody_knows_is_refused(upstream):
    with pytest.raises(AssertionError, match="a fault needs a path and a kind"):
        upstream.fault("/iPadLogin", "gremlin")


# --- pages


def test_one_tap_on_the_phone_page_logs_in(upstream, token, pool):
    qr = new_qr(upstream, token, "wxid_a")
    answer = waiting(upstream, token, qr["wId"], pool)
    page = f"{upstream.url}/phone/{qr['wId']}"
    fresh = requests.get(page, timeout=DEADLINE).text
    taps = re.findall(r'name="do" value="(\w+)"', fresh)
    assert taps == ["confirm", "scan", "cancel", "code", "page", "new_device", "expire", "other"]
    assert 'data-state="waiting"' in fresh
    assert 'data-state="online"' in requests.post(page, data={"do": "confirm"}, timeout=DEADLINE).text
    assert answer.result(DEADLINE)["data"]["wcId"] == "wxid_a"


def test_the_phone_page_shows_the_code_and_speaks_both_languages(upstream, token):
    qr = new_qr(upstream, token)
    page = f"{upstream.url}/phone/{qr['wId']}"
    chinese = requests.get(
        page, headers={"Accept-Language": "fr;q=0.9, zh-CN, en;q=0.5"}, timeout=DEADLINE
    ).text
    assert ("登录</button>" in chinese, '<html lang="zh-Hans">' in chinese) == (True, True)
    english = requests.post(page, data={"do": "code"}, timeout=DEADLINE).text
    code = upstream.logins(wId=qr["wId"])[0]["verify_code"]
    assert f'data-code="{code}"' in english
    assert "Enter this code on the computer." in english


def test_somebody_else_scans_on_the_phone_page(upstream, token):
    upstream.person("wxid_b", nickname="<script>alert(1)</script>\"'")
    qr = new_qr(upstream, token, "wxid_a")
    page = f"{upstream.url}/phone/{qr['wId']}"
    scanned = requests.post(page, data={"do": "other", "as": "wxid_b"}, timeout=DEADLINE).text
    assert 'data-wc-id="wxid_b" data-state="scanned"' in " ".join(scanned.split())
    assert "<script" not in scanned
    assert "&lt;script&gt;" in scanned


def test_a_code_from_before_is_not_known(upstream):
    answer = requests.get(f"{upstream.url}/phone/0000", timeout=DEADLINE)
    assert (answer.status_code, "This code is not known here" in answer.text) == (404, True)


def test_the_index_lists_codes_and_drops_accounts(upstream, token):
    upstream.log_in("wxid_a")
    qr = new_qr(upstream, token, "wxid_b")
    index = requests.get(upstream.url + "/", timeout=DEADLINE).text
    assert f'href="/phone/{qr["wId"]}"' in index
    assert 'data-wc-id="wxid_a"' in index
    requests.post(upstream.url + "/drop", data={"wcId": "wxid_a"}, timeout=DEADLINE)
    assert upstream.online == {}


def test_a_portrait_is_a_picture(upstream):
    profile = upstream.log_in("wxid_ü/ 1")
    picture = Image.open(io.BytesIO(requests.get(profile["headUrl"], timeout=DEADLINE).content))
    assert (picture.format, picture.size) == ("PNG", (132, 132))


# --- the process


@pytest.mark.slow
def test_it_stops_at_once_while_calls_wait(pool):
    simulator = Simulator().start()
    token = simulator.authorization
    wId = new_qr(simulator, token)["wId"]
    answer = waiting(simulator, token, wId, pool)
    assert simulator.stop() == 0
    assert isinstance(answer.exception(5), requests.ConnectionError)


@pytest.mark.slow
def test_it_stops_on_interrupt_and_keeps_its_token_over_a_restart():
    first = Simulator().start()
    token = first.authorization
    assert first.stop(signal.SIGINT) == 0
    with Simulator() as second:
        assert second.authorization == token
    with Simulator(password="another") as third:
        assert third.authorization != token


@pytest.mark.slow
def test_a_taken_port_is_one_clear_sentence(upstream):
    port = upstream.url.rpartition(":")[2]
    command = [sys.executable, "-m", "simulator", "--port", port]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)
    sentence = (
        f"simulator: port {port} on 127.0.0.1 is taken by another program; choose another with --port.\n"
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", sentence)


@pytest.mark.slow
def test_codes_confirm_themselves_in_auto_mode():
    with Simulator(auto_confirm=0.01, jitter=0.01) as simulator:
        token = simulator.authorization
        wId = new_qr(simulator, token, "wxid_a")["wId"]
        assert simulator.call(WAIT, token, wId=wId)["data"]["wcId"] == "wxid_a"
        assert simulator.call("/secondLogin", token, wcId="wxid_a")["data"]["wId"] != wId


@pytest.mark.slow
def test_everywhere_means_that_a_phone_gets_an_address_it_can_reach():
    with Simulator(host="0.0.0.0") as simulator:
        new_qr(simulator, simulator.authorization)
        login = simulator.logins()[0]
        assert login["qr_url"].startswith("http://127.0.0.1:")
        assert not login["phone_url"].startswith("http://127.") or not _has_network()
        assert requests.get(login["phone_url"], timeout=DEADLINE).status_code == 200


def _has_network() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return probe.connect_ex(("192.0.2.1", 9)) == 0


def test_reset_forgets_everything_and_frees_who_waits(upstream, token, pool):
    upstream.settings(dialect="g1", account_status=0)
    qr = new_qr(upstream, token)
    answer = waiting(upstream, token, qr["wId"], pool)
    upstream.reset()
    assert answer.result(DEADLINE)["code"] == "1001"
    state = upstream.state()
    assert (state["calls"], state["logins"], state["online"], state["bodies"]) == ({}, [], {}, {})
    assert state["settings"]["dialect"] == "default"


@pytest.mark.slow
def test_an_own_proxy_takes_the_place_of_the_listed_one(upstream, token):
    upstream.settings(dialect="g2", bad_proxies=[3, "203.0.113.7:1080"])
    own = {"proxyUser": "u", "proxyPassword": "p"}
    asked = lambda **body: upstream.call("/iPadLogin", token, wcId="", **body)  # noqa: E731
    assert asked(proxy=3, proxyIp="203.0.113.8:1080", **own)["code"] == "1000"
    assert asked(proxyIp="203.0.113.8:1080")["code"] == "1000"
    assert asked(proxy=4, proxyIp="203.0.113.7:1080", **own)["message"] == "网络链接异常"
    assert asked(proxy=4, proxyIp="nowhere")["message"] == "参数错误: proxyIp"
    assert asked(proxy=4, proxyIp="203.0.113.8:1080", proxyUser=1)["message"] == "参数错误: proxyUser"
    assert [login["proxy"] for login in upstream.logins()] == ["203.0.113.8:1080"] * 2
