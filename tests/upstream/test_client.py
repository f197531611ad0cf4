"""The client over real HTTP: what it sends, what it makes of faults, and when it stops."""

import base64
import json
import os
import re
import socket
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from django.db import OperationalError

from accounts.models import Account, UnmanagedAccount
from accounts.upstream import configured, transport
from accounts.upstream.errors import (
    BadAnswer,
    CertificateRefused,
    LineDown,
    OutcomeUnknown,
    PictureAddress,
    PictureHost,
    PictureUnavailable,
    Refused,
    Unreachable,
    UpstreamError,
)
from accounts.upstream.presence_responses import Online
from accounts.upstream.responses import CodeAsked, Ending, LoggedIn, PageAsked
from accounts.upstream.transport import Route
from tests.support import payloads, raw_http
from tests.support.environment import CANARIES
from tests.support.payloads import envelope
from tests.support.processes import DEADLINE, reserve_port, until
from tests.support.raw_http import GIVEN, client_of, dripping, json_answer, outcome, saying, silent, wire
from tests.support.simulator import ROOT
from tests.support.stopped_clock import StoppedClock
from tests.support.threads import in_thread

QR, WAIT, WHO = "/iPadLogin", "/getIPadLoginInfo", "/queryLoginWx"
MIB = 1 << 20
IN_BUFFERS = 16 * MIB  # of the kernel, on both sides of a connection: sent, and never read


@pytest.fixture
def client(upstream, db):
    return client_of(upstream.url, given=upstream.authorization)


def last(upstream, path: str) -> dict:
    return upstream.state()["bodies"][path][-1]


def peak() -> int:
    """The most memory this process has used since `forget_peak`, in bytes."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def forget_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def full_backlog():
    """An address where a connection is neither accepted nor refused."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for sock in waiting:
            sock.close()


# --- what is sent


@pytest.mark.parametrize(
    ("how", "wc_id", "proxy", "body"),
    [
        ({}, "", None, {"wcId": "", "type": 2}),
        ({}, "", 1, {"wcId": "", "type": 2, "proxy": 1}),
        ({}, payloads.WC_ID, 1, {"wcId": "wxid_wl9qchkanp9u22", "type": 2, "proxy": 1}),
        ({"login_type": ""}, "", 4, {"wcId": "", "proxy": 4}),
        ({"login_type": "3"}, "", None, {"wcId": "", "type": 3}),
        ({"login_type": "", "device_type": "ipad"}, "", 16, {"wcId": "", "deviceType": "ipad", "proxy": 16}),
        ({"device_type": "mac"}, "wxid_a", 0, {"wcId": "wxid_a", "type": 2, "deviceType": "mac", "proxy": 0}),
    ],
)
def test_step_2_sends_what_its_generation_wants(how, wc_id, proxy, body, upstream, db):
    outcome(lambda: client_of(upstream.url, given=upstream.authorization, **how).fetch_qr_code(wc_id, proxy))
    assert upstream.bodies(QR) == [body]


@pytest.mark.parametrize(
    ("how", "code", "body"),
    [
        ({}, "", {"wId": "w-1"}),
        ({}, "0123", {"wId": "w-1", "verifyCode": "0123"}),
        ({"device_type": "ipad"}, "", {"wId": "w-1", "autoCheck": False}),
        ({"device_type": "mac"}, "99", {"wId": "w-1", "verifyCode": "99", "autoCheck": False}),
    ],
)
def test_step_3_sends_the_w_id_and_the_verification_code(how, code, body, upstream, db):
    client_of(upstream.url, given=upstream.authorization, **how).wait_for_login("w-1", code, 3)
    assert upstream.bodies(WAIT) == [body]


def test_the_other_calls_send_what_their_pages_say(client, upstream):
    client.online()
    client.is_online("w-1")
    client.offline_reason("wxid_a")
    client.log_out(["wxid_a"])
    client.set_callback("http://127.0.0.1:9/x")
    client.clear_callback()
    client.sign_in()
    sent = {path: found[0]["body"] for path, found in upstream.state()["bodies"].items()}
    assert sent == {
        "/queryLoginWx": {},
        "/isOnline": {"wId": "w-1"},
        "/offlineReason": {"wcId": "wxid_a"},
        "/member/offline": {"account": "canary-developer", "wcIds": ["wxid_a"]},
        "/setHttpCallbackUrl": {"httpUrl": "http://127.0.0.1:9/x", "type": 2},
        "/cancelHttpCallbackUrl": {},
        "/member/login": {"account": "canary-developer", "password": CANARIES["WK_PASSWORD"]},
    }


def test_the_authorization_is_sent_raw_and_nothing_else_is_sent(db, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    answer = json_answer(envelope([]), b"Set-Cookie: a=b; Path=/\r\nSet-Cookie: c=d; Domain=127.0.0.1\r\n")
    with wire(saying(answer)) as served:
        client = client_of(served.url + "/deep/er", given=GIVEN)
        client.online()
        client.online()
        outcome(client.sign_in)
    first, second, sign_in = served.requests
    assert first.head.startswith(b"POST /deep/er/queryLoginWx HTTP/1.1")
    assert first.headers == second.headers
    assert first.headers == {
        "host": f"127.0.0.1:{served.port}",
        "user-agent": "wkportal",
        "accept-encoding": first.headers["accept-encoding"],
        "accept": "application/json",
        "connection": "close",
        "authorization": GIVEN,
        "content-length": "2",
        "content-type": "application/json",
    }
    assert "authorization" not in sign_in.headers


def test_netrc_is_not_read(db, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password canary-netrc\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with wire(saying(json_answer(envelope([])))) as served:
        client_of(served.url).online()
    assert served.requests[0].headers["authorization"] == GIVEN


# --- generations of the API


@pytest.mark.parametrize(
    ("dialect", "how", "code"),
    [
        ("default", {}, "1001"),
        ("seed", {}, "10001"),
        ("g1", {}, "1001"),
        ("g2", {"login_type": ""}, "1001"),
        ("g4", {"login_type": "", "device_type": "ipad"}, "1001"),
    ],
)
def test_a_whole_login_in_each_generation(dialect, how, code, upstream, db):
    upstream.settings(dialect=dialect)
    client = client_of(upstream.url, given="", **how)
    assert client.online() == []
    qr = client.fetch_qr_code("", 1)
    upstream.phone("confirm", wId=qr.w_id)
    found = client.wait_for_login(qr.w_id, "", 3)

    assert isinstance(found, LoggedIn)
    assert found.profile.w_id in (qr.w_id, "")
    assert upstream.online == {found.profile.wc_id: qr.w_id}
    assert client.online() == [Online(found.profile.wc_id, qr.w_id)]
    assert client.is_online(qr.w_id) is True
    again = client.fetch_qr_code(found.profile.wc_id, 1)
    assert again.w_id != qr.w_id
    upstream.phone("cancel", wId=again.w_id)
    ended = client.wait_for_login(again.w_id, "", 3)
    assert (ended.ending, ended.code) == (Ending.DECLINED, code)


@pytest.mark.parametrize("tap", ["expire", "new_device", "fail", "code", "page"])
def test_each_thing_a_phone_can_do_has_its_meaning(tap, client, upstream):
    qr = client.fetch_qr_code("", 1)
    upstream.phone(tap, wId=qr.w_id)
    found = client.wait_for_login(qr.w_id, "", 3)
    if tap == "code":
        assert isinstance(found, CodeAsked)
    elif tap == "page":
        assert isinstance(found, PageAsked)
        assert found.url == f"{upstream.url}/verify/{qr.w_id}"
    else:
        endings = {"expire": Ending.RUN_OUT, "new_device": Ending.NEW_DEVICE_CHECK, "fail": Ending.REFUSED}
        assert found.ending is endings[tap]


def test_a_proxy_that_is_down_is_named(client, upstream):
    upstream.settings(bad_proxies=[3])
    with pytest.raises(LineDown) as caught:
        client.fetch_qr_code("", 3)
    assert (caught.value.text, caught.value.code) == ("网络链接异常", "1001")
    assert upstream.calls(QR) == 1


# --- faults


FAULTS = [
    ("refuse", {}, OutcomeUnknown),
    ("reset", {}, OutcomeUnknown),
    ("reset", {"effect": True}, OutcomeUnknown),
    ("cut", {}, OutcomeUnknown),
    ("empty", {}, BadAnswer),
    ("empty", {"status": 502}, BadAnswer),
    ("garbage", {}, BadAnswer),
    ("garbage", {"size": 0}, BadAnswer),
    ("html", {"status": 200}, BadAnswer),
    ("html", {"status": 502}, BadAnswer),
    ("html", {"status": 504}, BadAnswer),
    ("redirect", {"status": 301}, BadAnswer),
    ("redirect", {"status": 307}, BadAnswer),
    ("raw", {"body": "null"}, BadAnswer),
    ("raw", {"status": 500, "json": {"code": "1001", "message": "x"}}, BadAnswer),
    ("raw", {"status": 429, "json": {"code": "1001", "message": "x"}}, BadAnswer),
    ("code_null", {}, Refused),
    ("data_null", {}, BadAnswer),
    ("data_string", {}, BadAnswer),
    ("data_list", {}, BadAnswer),
    ("raw", {"json": {"code": "1001", "message": "用户名或密码错误", "data": None}}, Refused),
    ("raw", {"json": {"code": "1000", "data": {"code": "1001", "message": "x"}}}, Refused),
    ("huge", {"size": 3 * MIB}, BadAnswer),
    ("endless", {}, BadAnswer),
]


@pytest.mark.parametrize(("kind", "how", "error"), FAULTS)
def test_step_2_is_never_repeated_whatever_happens_to_its_answer(kind, how, error, client, upstream):
    upstream.fault(QR, kind, **how)
    with pytest.raises(error) as caught:
        client.fetch_qr_code("", 1)
    assert type(caught.value) is error
    assert upstream.calls(QR) == 1
    assert upstream.calls("/member/login") == 0


@pytest.mark.parametrize(
    "kind", ["code_int", "code_float", "msg_only", "no_message", "bom", "charset", "late"]
)
def test_an_unusual_answer_is_an_answer(kind, client, upstream):
    upstream.fault(QR, kind, **({"seconds": 0.1} if kind == "late" else {}))
    assert client.fetch_qr_code("", 1).w_id == upstream.logins()[0]["wId"]


def test_text_in_gbk_without_a_word_of_it_is_read(db):
    body = '{"code":"1001","message":"二维码已过期","data":null}'.encode("gb18030")
    for kind in (
        b"text/html",
        b"text/plain",
        b"application/json",
        b"application/json; charset=nonsense",
        b"",
    ):
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind, len(body))
        with wire(saying(head + body)) as served:
            found = client_of(served.url).wait_for_login("w", "", 3)
        assert (found.ending, found.text) == (Ending.RUN_OUT, "二维码已过期")


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BROKEN = {
    "nothing": (b"", OutcomeUnknown),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", OutcomeUnknown),
    "TLS": (b"\x15\x03\x01\x00\x02\x02\x16", OutcomeUnknown),
    "half a status": (b"HTTP/1.1 2", OutcomeUnknown),
    "a status of four digits": (b"HTTP/1.1 1000 OK\r\n\r\n", OutcomeUnknown),
    "status 999": (b"HTTP/1.1 999 X\r\nContent-Length: 2\r\n\r\n{}", BadAnswer),
    "200 headers": (HEAD + b"A: b\r\n" * 200 + b"\r\n{}", OutcomeUnknown),
    "a header of 100 KB": (HEAD + b"A: " + b"b" * 100_000 + b"\r\n\r\n{}", OutcomeUnknown),
    "two lengths": (HEAD + b"Content-Length: 5, 6\r\n\r\n{}", OutcomeUnknown),
    "a negative length": (HEAD + b"Content-Length: -5\r\n\r\n{}", BadAnswer),
    "a length in words": (HEAD + b"Content-Length: many\r\n\r\n{}", BadAnswer),
    "a longer length than body": (HEAD + b"Content-Length: 50\r\n\r\n{}", OutcomeUnknown),
    "a length that ends too early": (json_answer(payloads.WHOLE[:40]), BadAnswer),
    "bad chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}", OutcomeUnknown),
    "a cut chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n50\r\n{}", OutcomeUnknown),
    "no gzip": (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", BadAnswer),
    "50 encodings": (HEAD + b"Content-Encoding: " + b"gzip, " * 50 + b"gzip\r\n\r\n{}", BadAnswer),
    "an unknown encoding": (HEAD + b"Content-Encoding: nope\r\nContent-Length: 2\r\n\r\n{}", BadAnswer),
    "a charset that is none": (HEAD[:-2] + b"; charset\r\nContent-Length: 2\r\n\r\n{}", BadAnswer),
    "a charset of bytes": (HEAD[:-2] + b"; charset=\xff\xfe\r\nContent-Length: 2\r\n\r\n{}", BadAnswer),
    "cookies from hell": (
        HEAD + b"Set-Cookie: \xff\x00=;expires=\x00;;;\r\nContent-Length: 2\r\n\r\n{}",
        BadAnswer,
    ),
    "a redirect to no address": (
        b"HTTP/1.1 302 X\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
        BadAnswer,
    ),
    "a redirect to bytes": (b"HTTP/1.1 302 X\r\nLocation: \xff\xfe\r\nContent-Length: 0\r\n\r\n", BadAnswer),
    "a redirect to a word": (
        b"HTTP/1.1 302 X\r\nLocation: javascript:x\r\nContent-Length: 0\r\n\r\n",
        BadAnswer,
    ),
    "an upgrade": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n{}", BadAnswer),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", BadAnswer),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\n\r\n", BadAnswer),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_below_json_has_a_meaning_too(name, db):
    answer, error = BROKEN[name]
    with wire(saying(answer)) as served, pytest.raises(error) as caught:
        client_of(served.url).fetch_qr_code("", 1)
    assert type(caught.value) is error
    assert served.connections == 1


def test_a_call_that_did_not_leave_is_distinguished_from_one_whose_outcome_is_unknown(db):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        refused = f"http://127.0.0.1:{bound.getsockname()[1]}"
        for url in (
            refused,
            "http://no-such-host.invalid",
            "http://a..b",
            "http://" + "a" * 70,
            "http://h:99999",
        ):
            found = outcome(lambda url=url: client_of(url).fetch_qr_code("", 1))
            assert type(found) is Unreachable, url


@pytest.mark.parametrize("value", ["令牌", "a\nb", "a\r\nX-Other: b", "\ud800"])
def test_an_authorization_that_is_no_header_value_does_not_leave(value, db):
    with wire(saying(b"")) as served, pytest.raises(Unreachable):
        client_of(served.url, given=value).fetch_qr_code("", 1)
    assert served.requests == []


def test_a_server_with_a_certificate_of_its_own_is_not_spoken_to_and_the_certificate_is_named(
    db, certificate
):
    with tls_wire(certificate, saying(json_answer(envelope([])))) as served:
        client = client_of(served.url.replace("http:", "https:"))
        found = outcome(client.online)
        picture = outcome(lambda: client.fetch_picture(f"{client.base_url}/qr.png", []))
    assert type(found) is CertificateRefused
    assert found.text.startswith("the certificate is not trusted: self")
    assert (type(picture), "the certificate is not trusted" in picture.text) == (PictureUnavailable, True)
    assert served.requests == []


def test_a_certificate_authority_that_is_given_is_trusted(db, certificate):
    with tls_wire(certificate, saying(json_answer(envelope([])))) as served:
        client = client_of(served.url.replace("http:", "https:"), route=Route(ca_bundle=str(certificate)))
        assert client.online() == []
        assert (
            client.fetch_picture(f"{client.base_url}/qr.png", [])
            == json_answer(envelope([]))[-len(envelope([])) :]
        )
    assert {request.path for request in served.requests} == {WHO, "/qr.png"}


def test_beside_a_given_authority_the_public_ones_stay_trusted(certificate):
    public = transport.trusting("").cert_store_stats()["x509_ca"]
    assert transport.trusting(str(certificate)).cert_store_stats()["x509_ca"] >= public > 50


@pytest.mark.parametrize("credentials", ["", "user:canary-proxy@"])
def test_calls_and_pictures_go_through_the_http_proxy_that_is_set(credentials, db):
    with wire(saying(json_answer(envelope([])))) as proxy:
        route = Route(http_proxy=f"http://{credentials}127.0.0.1:{proxy.port}")
        client = client_of("http://wk.invalid:9899", route=route)
        assert client.online() == []
        client.fetch_picture("/qr.png", [])
    assert [request.path for request in proxy.requests] == [
        "http://wk.invalid:9899/queryLoginWx",
        "http://wk.invalid:9899/qr.png",
    ]
    assert all(bool(credentials) == ("proxy-authorization" in call.headers) for call in proxy.requests)
    assert "canary-proxy" not in repr(client)


def test_a_tls_call_goes_through_the_http_proxy_and_ends_at_its_deadline(db, certificate, deadlines):
    asked = threading.Event()

    def tunnel(sock, served):
        assert served.ask(sock).head.startswith(b"CONNECT 127.0.0.1:9899 ")
        sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")

        def inside(inner):
            served.ask(inner)
            asked.set()
            served.closed.wait()

        raw_http.over_tls(sock, certificate, inside)

    with ThreadPoolExecutor(1) as pool, wire(tunnel) as proxy:
        client = client_of("https://127.0.0.1:9899", seconds=60, route=Route(str(certificate), proxy.url))
        call = pool.submit(in_thread, outcome, client.online)
        assert asked.wait(DEADLINE)
        deadlines.advance(60)
        found = call.result(DEADLINE)
    assert (type(found), found.text) == (OutcomeUnknown, "out of time")


def test_a_proxy_that_is_down_or_refuses_is_the_cause(db):
    with wire(saying(b"")) as gone:
        pass
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    with wire(saying(refusal)) as refusing:
        for base_url, proxy in (("http://wk.invalid", gone), ("https://wk.invalid", refusing)):
            found = outcome(client_of(base_url, route=Route(http_proxy=proxy.url)).online)
            assert (type(found), "WK_HTTP_PROXY" in found.text) == (Unreachable, True)


def test_the_http_proxy_of_the_settings_is_the_one_used(upstream, settings, db):
    assert configured.client().online() == []
    settings.WK_HTTP_PROXY = f"http://127.0.0.1:{reserve_port()}"
    with pytest.raises(Unreachable, match="WK_HTTP_PROXY"):
        configured.client().online()


def test_a_redirect_is_not_followed_and_its_address_sees_nothing(client, upstream):
    with wire(saying(json_answer(envelope([])))) as elsewhere:
        for status in (301, 302, 303, 307, 308):
            upstream.fault(WHO, "redirect", status=status, location=elsewhere.url + "/queryLoginWx")
            upstream.fault("/qr/*", "redirect", status=status, location=elsewhere.url + "/qr.png")
            with pytest.raises(BadAnswer):
                client.online()
            with pytest.raises(BadAnswer):
                client.fetch_picture(f"{upstream.url}/qr/x.png", [])
    assert elsewhere.connections == 0


@pytest.mark.parametrize("message", [f"bad {GIVEN}", f"bad {CANARIES['WK_PASSWORD']}"])
def test_a_secret_that_the_upstream_repeats_is_not_passed_on(message, db):
    for document in (
        {"code": "1001", "message": message},
        {"code": "1000", "data": {"code": "1", "msg": message}},
    ):
        with (
            wire(saying(json_answer(json.dumps(document).encode()))) as served,
            pytest.raises(Refused) as caught,
        ):
            client_of(served.url).fetch_qr_code("", 1)
        assert caught.value.text == "bad …"


def test_no_connection_is_used_twice_also_where_the_server_would(db):
    def play(sock, served):
        while served.ask(sock):
            sock.sendall(json_answer(envelope([])))

    with wire(play) as served:
        client = client_of(served.url)
        assert [client.online() for _ in range(3)] == [[], [], []]
    assert served.connections == 3


# --- when it stops


class Deadlines(StoppedClock):
    """The clock of all calls: a deadline passes when a test says so."""

    def advance(self, seconds: float) -> None:
        """Return when everything that is due by then was shut."""
        super().advance(seconds)
        with transport._watch.changed:
            transport._watch.changed.notify()  # it waits by the real clock, for what was left on this one
        with transport.Deadline(0) as due_now:
            until(lambda: due_now.passed, lambda: "nobody checks the deadlines")


@pytest.fixture
def deadlines(monkeypatch):
    clock = Deadlines()
    monkeypatch.setattr(transport, "time", clock)
    return clock


def until_asked(*wires: raw_http.Wire) -> None:
    until(lambda: all(served.requests for served in wires), lambda: "a call did not arrive")


def until_more_comes(*wires: raw_http.Wire) -> None:
    """Each of the servers goes on sending, and is listened to."""
    before = [served.sent for served in wires]
    until(
        lambda: all(served.sent > sent + 3 for served, sent in zip(wires, before, strict=True)),
        lambda: f"{before} bytes, and now {[served.sent for served in wires]}",
    )


DRIPS = {
    "never answers": silent,
    "headers": dripping(HEAD + b"X-A: "),
    "a status line": dripping(b"HTTP/1.1 200 "),
    "a body": dripping(HEAD + b"Content-Length: 1000000\r\n\r\n"),
    "a body, and the connection is to be closed": dripping(
        HEAD + b"Connection: close\r\nContent-Length: 1000000\r\n\r\n"
    ),
    "a body without length": dripping(HEAD + b"\r\n"),
    "a redirect's body": dripping(b"HTTP/1.1 302 X\r\nLocation: /\r\nContent-Length: 1000000\r\n\r\n"),
    "a refusal's body": dripping(b"HTTP/1.1 502 X\r\nConnection: close\r\n\r\n"),
}


def hundred_continues(sock, served):
    served.ask(sock)
    while not served.closed.wait(0.01):
        served.send(sock, b"HTTP/1.1 100 Continue\r\n\r\n")


def dripping_chunks(sock, served):
    served.ask(sock)
    sock.sendall(HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not served.closed.wait(0.02):
        served.send(sock, b"1\r\nx\r\n")


def empty_gzip(sock, served):
    served.ask(sock)
    sock.sendall(HEAD + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\xff")
    while not served.closed.wait(0.01):
        served.send(sock, b"\0\0\0\xff\xff" * 1000)  # blocks of nothing: many bytes, no text


def test_every_call_ends_at_its_deadline_however_slowly_bytes_arrive(db, deadlines):
    plays = DRIPS | {
        "100 Continue": hundred_continues,
        "chunks": dripping_chunks,
        "gzip of nothing": empty_gzip,
    }
    with ThreadPoolExecutor(len(plays)) as pool, ExitStack() as stack:
        wires = {name: stack.enter_context(wire(play)) for name, play in plays.items()}
        clients = {name: client_of(served.url) for name, served in wires.items()}
        calls = {
            name: pool.submit(in_thread, outcome, lambda client=client: client.wait_for_login("w", "", 60))
            for name, client in clients.items()
        }
        until_asked(*wires.values())
        deadlines.advance(30)
        until_more_comes(*(served for name, served in wires.items() if name != "never answers"))
        assert not any(call.done() for call in calls.values())

        deadlines.advance(30)
        found = {name: call.result(DEADLINE) for name, call in calls.items()}
    assert {name: f"{type(error).__name__}: {error}" for name, error in found.items()} == dict.fromkeys(
        plays, "OutcomeUnknown: out of time"
    )


def test_what_arrives_in_time_is_taken_whole_although_it_comes_slowly(client, upstream):
    upstream.fault(WHO, "drip", seconds=0.005)
    assert client.online() == []


@pytest.mark.slow
@pytest.mark.parametrize(("connect_seconds", "call_seconds"), [(0.5, 300), (300, 0.5)])
def test_a_connection_that_is_not_made_is_given_up(connect_seconds, call_seconds, db, deadlines, monkeypatch):
    """By the shorter of both times, and not by the deadline, which does not come here."""
    assert transport.CONNECT_SECONDS < 5  # a person waits for the answer
    monkeypatch.setattr(transport, "CONNECT_SECONDS", connect_seconds)
    with full_backlog() as url:
        found = outcome(lambda: client_of(url, seconds=call_seconds).fetch_qr_code("", 1))
    assert type(found) is Unreachable


def test_a_handshake_that_trickles_ends_at_the_deadline(db, deadlines):
    def play(sock, served):
        sock.recv(5)
        served.send(sock, b"\x16\x03\x03\x40\x00")
        while not served.closed.wait(0.05):
            served.send(sock, b"\0")

    with ThreadPoolExecutor(1) as pool, wire(play) as served:
        client = client_of(served.url.replace("http:", "https:"), seconds=60)
        call = pool.submit(in_thread, outcome, client.online)
        deadlines.advance(30)
        until_more_comes(served)
        assert not call.done()
        deadlines.advance(30)
        assert type(call.result(DEADLINE)) is Unreachable


def test_a_tls_answer_that_trickles_ends_at_the_deadline(db, certificate, monkeypatch, deadlines):
    monkeypatch.setattr(transport._session, "verify", str(certificate))
    play = dripping(HEAD + b"Connection: close\r\n\r\n")
    with ThreadPoolExecutor(1) as pool, tls_wire(certificate, play) as served:
        client = client_of(served.url.replace("http:", "https:"), seconds=60)
        call = pool.submit(in_thread, outcome, client.online)
        until_asked(served)
        deadlines.advance(30)
        until_more_comes(served)
        assert not call.done()
        deadlines.advance(30)
        found = call.result(DEADLINE)
    assert (type(found), found.text) == (OutcomeUnknown, "out of time")
    with tls_wire(certificate, saying(json_answer(envelope([])))) as served:
        assert client_of(served.url.replace("http:", "https:")).online() == []


@pytest.mark.parametrize(
    ("path", "kind", "how"),
    [
        (WHO, "huge", {"size": 1 << 30}),
        (WHO, "gzip_bomb", {"size": 1 << 30}),
        (WHO, "endless", {}),
        ("/qr/*", "huge", {"size": 1 << 30}),
        ("/qr/*", "gzip_bomb", {"size": 1 << 30}),
        ("/qr/*", "endless", {}),
    ],
)
def test_a_body_without_end_costs_little_memory(path, kind, how, client, upstream):
    upstream.fault(path, kind, **how)
    client.is_online("w")
    before = forget_peak()
    call = client.online if path == WHO else lambda: client.fetch_picture(f"{upstream.url}/qr/x.png", [])
    assert isinstance(outcome(call), BadAnswer)
    assert peak() - before < 20 * MIB


@pytest.mark.parametrize(
    "length", [b"", b"Content-Length: 1099511627776\r\n", b"Transfer-Encoding: chunked\r\n"]
)
def test_of_a_body_without_end_no_more_is_read_than_is_allowed(length, db):
    piece = b"100000\r\n" + bytes(MIB) + b"\r\n" if b"chunked" in length else bytes(MIB)

    def play(sock, served):
        served.ask(sock)
        served.send(sock, HEAD + length + b"\r\n")
        while not served.closed.is_set():
            served.send(sock, piece)

    calls = {
        transport.LIST_LIMIT: lambda client: client.online(),
        transport.PICTURE_LIMIT: lambda client: client.fetch_picture(f"{client.base_url}/qr.png", []),
    }
    for limit, call in calls.items():
        with wire(play) as served:
            assert isinstance(outcome(lambda call=call, url=served.url: call(client_of(url))), BadAnswer)
        assert served.sent < limit + IN_BUFFERS


@pytest.mark.slow
@pytest.mark.usually("sqlite")
def test_a_hundred_thousand_who_are_online_and_unknown_fit_into_one_answer(db):
    """Memory is that of their IDs: neither the answer nor its document is ever whole."""
    entries = [
        {"wcId": f"wxid_{n:014}", "wId": str(uuid.UUID(int=n)), "nickName": "小" * 60} for n in range(100_000)
    ]
    expected = [Online(entry["wcId"], entry["wId"]) for entry in entries]
    answer = json_answer(envelope(entries))
    del entries
    with wire(saying(answer)) as served:
        client = client_of(served.url, seconds=DEADLINE)
        before = forget_peak()
        assert client.online() == expected
        assert peak() - before < 40 * MIB


@pytest.mark.slow
@pytest.mark.usually("sqlite")
def test_the_list_of_online_accounts_may_be_as_long_as_we_know_accounts(db):
    """Also where an entry tells more than its IDs."""
    entries = [{"wcId": f"wxid_{n}", "wId": f"w-{n}", "nickName": "小" * 600} for n in range(19_000)]
    with wire(saying(json_answer(envelope(entries)))) as served:
        assert isinstance(outcome(client_of(served.url, seconds=DEADLINE).online), BadAnswer)
        assert len(client_of(served.url, seconds=DEADLINE, accounts=lambda: 19_000).online()) == 19_000


@pytest.mark.django_db
def test_the_bound_of_the_list_follows_the_accounts_and_needs_no_database(monkeypatch):
    def fails(*args, **kwargs):
        raise OperationalError("the server closed the connection unexpectedly")

    clock = StoppedClock()
    monkeypatch.setattr(configured, "time", clock)
    monkeypatch.setattr(configured, "_counted", [0, clock.at - 1])
    before = configured.client().list_limit
    Account.objects.create(label="a", wc_id="wxid_a")
    UnmanagedAccount.objects.create(wc_id="wxid_b")
    clock.advance(configured.COUNTED_SECONDS + 1)
    after = configured.client().list_limit
    assert after == before + 2 * transport.ENTRY_LIMIT
    clock.advance(configured.COUNTED_SECONDS + 1)
    monkeypatch.setattr(Account.objects, "exclude", fails)
    assert configured.client().list_limit == after


def test_a_huge_body_of_a_redirect_costs_little_memory(db):
    def play(sock, served):
        served.ask(sock)
        sock.sendall(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 1000000000\r\n\r\n")
        while not served.closed.is_set():
            sock.sendall(bytes(MIB))

    before = forget_peak()
    with wire(play) as served, pytest.raises(BadAnswer):
        client_of(served.url).online()
    assert peak() - before < 20 * MIB


GREENLETS = """
import gevent.monkey
gevent.monkey.patch_all()
import json, sys
import gevent
from gevent.threadpool import ThreadPool
from accounts.upstream import transport
from accounts.upstream.errors import UpstreamError
from accounts.upstream.client import Client
from tests.support.stopped_clock import StoppedClock

class Given:
    def current(self): return sys.argv[2]
    def renew(self, *_): raise AssertionError
    def alarm(self, _error): pass
    def accepted(self): pass

def call(place):
    try:
        client.wait_for_login("w", "", 60)
    except UpstreamError as error:
        return f"{type(error).__name__}: {error}"

transport.time = StoppedClock()
client = Client(sys.argv[1], "a", "p", Given(), seconds=60)
jobs = [gevent.spawn(call, place) for place in range(200)]
for seconds in (59.9, 0.1):
    ThreadPool(1).apply(sys.stdin.readline)
    transport.time.advance(seconds)
    with transport.Deadline(0) as due_now:
        while not due_now.passed:
            gevent.sleep(0.01)
    print(sum(job.ready() for job in jobs), flush=True)
gevent.joinall(jobs)
print(json.dumps([job.value for job in jobs]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("head", [b"Connection: close\r\nContent-Length: 1000000\r\n\r\n", b"X-A: "])
def test_two_hundred_greenlets_end_at_their_deadline(head):
    with wire(dripping(HEAD + head, gap=0.2)) as served:
        command = [sys.executable, "-c", GREENLETS, served.url, GIVEN]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as run:
            try:
                until(lambda: len(served.requests) == 200, lambda: f"{len(served.requests)} calls")
                run.stdin.write("\n")
                run.stdin.flush()
                ended_before = run.stdout.readline()
                until_more_comes(served)
                done, _errors = run.communicate("\n", DEADLINE)
            finally:
                run.kill()
    assert int(ended_before) == 0
    assert json.loads(done.splitlines()[-1]) == ["OutcomeUnknown: out of time"] * 200
    assert served.connections == 200


@pytest.mark.slow
def test_a_hundred_threads_end_at_their_deadline_and_leave_nothing_open(db, deadlines):
    opened = open_files()
    with ThreadPoolExecutor(100) as pool, wire(silent) as served:
        client = client_of(served.url)
        client.tokens.current()
        calls = [pool.submit(outcome, lambda: client.wait_for_login("w", "", 60)) for _n in range(100)]
        until(lambda: len(served.requests) == 100, lambda: f"{len(served.requests)} calls")
        deadlines.advance(30)
        assert not any(call.done() for call in calls)
        deadlines.advance(30)
        found = {type(call.result(DEADLINE)) for call in calls}
    assert found == {OutcomeUnknown}
    until(lambda: open_files() <= opened + 5, lambda: f"{open_files()} open, {opened} before")
    assert [thread.name for thread in threading.enumerate()].count("call deadlines") == 1


# --- pictures


def test_the_picture_of_a_code_is_fetched_from_the_upstream(client, upstream):
    qr = client.fetch_qr_code("", 1)
    assert client.fetch_picture(qr.picture_url, []).startswith(b"\x89PNG")


def test_a_picture_s_host_is_not_sent_the_authorization(db):
    with wire(saying(json_answer(b"picture"))) as served:
        assert client_of(served.url).fetch_picture(f"{served.url}/a.png?X=1", []) == b"picture"
        assert (
            client_of("http://wk.invalid").fetch_picture(f"{served.url}/b.png", ["127.0.0.1"]) == b"picture"
        )
    assert [request.path for request in served.requests] == ["/a.png?X=1", "/b.png"]
    assert all("authorization" not in request.headers for request in served.requests)
    assert all(b"canary" not in request.head for request in served.requests)


def test_loopback_is_one_host_whatever_its_name(db):
    with wire(saying(json_answer(b"picture")), host="::") as served:
        for own in ("127.0.0.1", "localhost", "[::1]"):
            client = client_of(f"http://{own}:{served.port}")
            for other in ("127.0.0.1", "localhost", "[::1]"):
                assert client.fetch_picture(f"http://{other}:{served.port}/", []) == b"picture"


@pytest.mark.parametrize("hosts", [[], ["pictures.invalid", "cdn.invalid"]])
def test_no_spelling_of_a_picture_s_address_reaches_another_host(hosts, db):
    with wire(saying(json_answer(b"secret")), host="::") as served:
        client = client_of("http://wk.invalid:9899")
        for address in payloads.PICTURE_ADDRESSES:
            url = address.replace("{port}", str(served.port))
            with pytest.raises(UpstreamError):
                client.fetch_picture(url, hosts)
    assert len(set(payloads.PICTURE_ADDRESSES)) >= 80
    assert served.connections == 0


@pytest.mark.parametrize(
    "host", ["127.0.0.2", "0.0.0.0", "127.1", "2130706433", "[::ffff:127.0.0.1]", "localhost."]
)
def test_an_upstream_on_this_machine_does_not_open_its_other_names(host, db):
    with wire(saying(json_answer(b"secret")), host="::") as served, pytest.raises(PictureHost):
        client_of(served.url).fetch_picture(f"http://{host}:{served.port}/", [])
    assert served.connections == 0


@pytest.mark.parametrize(
    ("kind", "how"), [("empty", {"status": 404}), ("html", {"status": 502}), ("redirect", {})]
)
def test_only_a_plain_answer_holds_a_picture(kind, how, client, upstream):
    upstream.fault("/qr/*", kind, **how)
    with pytest.raises(BadAnswer):
        client.fetch_picture(f"{upstream.url}/qr/x.png", [])


@pytest.mark.parametrize(
    "address", ["{url}/a.png", " \n{url}/a.png\r\n", "/a.png", "a.png", "//127.0.0.1:{port}/a.png"]
)
def test_an_address_in_an_odd_form_leads_to_the_picture(address, db):
    with wire(saying(json_answer(b"picture"))) as served:
        url = address.replace("{url}", served.url).replace("{port}", str(served.port))
        assert client_of(served.url).fetch_picture(url, []) == b"picture"
    assert [request.path for request in served.requests] == ["/a.png"]


def test_a_picture_in_the_address_itself_is_taken_without_a_request(db):
    png = b"\x89PNG" + bytes(100)
    encoded = base64.b64encode(png).decode()
    for address in (encoded, f"data:image/png;base64,{encoded}", f" {encoded[:76]}\n{encoded[76:]}\n"):
        assert client_of("http://wk.invalid").fetch_picture(address, []) == png


@pytest.mark.parametrize(
    ("address", "error", "part"),
    [
        ("", PictureAddress, "no address"),
        ("ftp://127.0.0.1/a.png", PictureAddress, "the scheme ftp:"),
        ("data:image/svg+xml;base64,AAAA", PictureAddress, "an SVG image"),
        ("data:image/png;base64,AAAA", PictureAddress, "a data address without an image"),
        ("http://u:p@wk.invalid/a.png", PictureAddress, "no web address"),
        ("http://wk.invalid/" + "a" * 3000, PictureAddress, "more than 2000 characters"),
        ("http://pics.invalid:8080/a.png", PictureHost, "pics.invalid:8080"),
        ("http://wk.invalid:81/a.png", PictureHost, "wk.invalid:81"),
        ("http://other.invalid:81/a.png", PictureHost, "other.invalid:81"),
    ],
)
def test_the_part_of_an_address_that_is_wrong_is_named(address, error, part, db):
    found = outcome(lambda: client_of("http://wk.invalid").fetch_picture(address, ["other.invalid:80"]))
    assert (type(found), found.text) == (error, part)


def test_a_picture_host_that_does_not_answer_is_named(db):
    with wire(saying(b"")) as upstream, wire(saying(b"")) as gone:
        pass
    found = outcome(lambda: client_of(upstream.url).fetch_picture(f"{gone.url}/a.png", ["127.0.0.1"]))
    assert type(found) is PictureUnavailable
    assert found.text.startswith(f"127.0.0.1:{gone.port}: the connection was refused")


def redirecting(*locations: str):
    """Each request is answered with the next redirect, and with a picture after the last one."""

    def play(sock, served):
        served.ask(sock)
        number = len(served.requests) - 1
        if number < len(locations):
            location = locations[number].replace("{port}", str(served.port))
            sock.sendall(f"HTTP/1.1 302 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
        else:
            sock.sendall(json_answer(b"picture"))

    return play


def test_two_redirects_within_the_host_are_followed(db):
    with wire(redirecting("/b.png", "http://127.0.0.1:{port}/c.png")) as served:
        assert client_of(served.url).fetch_picture(f"{served.url}/a.png", []) == b"picture"
    assert [request.path for request in served.requests] == ["/a.png", "/b.png", "/c.png"]


@pytest.mark.parametrize(
    "locations", [["/b", "/c", "/d"], ["http://127.0.0.1:9/"], ["//169.254.169.254/"], ["file:///etc/passwd"]]
)
def test_a_third_redirect_and_one_to_another_host_or_port_are_not(locations, db):
    with wire(redirecting(*locations)) as served, pytest.raises(BadAnswer):
        client_of(served.url).fetch_picture(f"{served.url}/a.png", [])
    assert len(served.requests) <= 3


# --- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    return raw_http.self_signed(tmp_path_factory.mktemp("tls"))


def tls_wire(certificate: Path, play):
    return wire(lambda sock, served: raw_http.over_tls(sock, certificate, lambda inner: play(inner, served)))
