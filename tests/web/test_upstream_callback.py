"""What the upstream posts to us: taken in every form, believed in none, and a drop known within seconds by it.

Real web, jobs worker and beat; the simulator posts as the vendor does.
"""

import io
import json
import logging
from datetime import datetime, timedelta
from urllib.parse import urlencode

import pytest
import requests
from django.conf import settings as project
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Account, Drop, Presence
from accounts.presence import sweep
from accounts.web.views import upstream_callback
from tests.support.processes import until
from tests.support.scenarios import Listener, fresh
from tests.support.stack import Operator, Stack
from wkportal.logs.redaction import RedactingFormatter

SECRET = "canary-callback-0123456789-abcdef"
WRONG = "canary-callback-0123456789-abcdee"
LIST = "/queryLoginWx"
OFFLINE = {"account": "demo", "wcId": "wxid_a", "messageType": "30000", "data": {"wId": "w-1"}}
MESSAGE = {
    "account": "demo",
    "wcId": "wxid_a",
    "messageType": "60001",
    "data": {"wId": "w-1", "content": "hi"},
}


@pytest.fixture
def taken(settings):
    settings.WK_CALLBACK_SECRET = SECRET
    return reverse("callback", args=[SECRET])


def post(path: str, body: object, **how):
    text = body if isinstance(body, bytes | str) else json.dumps(body)
    return Client(enforce_csrf_checks=True).post(path, text, content_type="application/json", **how)


# --- what is an offline callback


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (OFFLINE, ("w-1", "wxid_a")),
        (OFFLINE | {"messageType": 4}, ("w-1", "wxid_a")),
        (OFFLINE | {"messageType": "4"}, ("w-1", "wxid_a")),
        (OFFLINE | {"messageType": 30000}, ("w-1", "wxid_a")),
        ({"messageType": "30000", "data": {"wId": "w-1"}}, ("w-1", "")),
        (OFFLINE | {"wcId": None}, ("w-1", "")),
        (OFFLINE | {"wcId": "a b"}, ("w-1", "")),
        (OFFLINE | {"data": {"wId": "w-1", "reason": "x", "newMsgId": 1}}, ("w-1", "wxid_a")),
        (MESSAGE, None),
        (OFFLINE | {"messageType": "00000"}, None),
        (OFFLINE | {"messageType": True}, None),
        (OFFLINE | {"messageType": 4.0}, None),
        (OFFLINE | {"messageType": None}, None),
        (OFFLINE | {"messageType": ["30000"]}, None),
        (OFFLINE | {"data": {}}, ("", "wxid_a")),
        (OFFLINE | {"data": None}, ("", "wxid_a")),
        (OFFLINE | {"data": "w-1"}, ("", "wxid_a")),
        (OFFLINE | {"data": [{"wId": "w-1"}]}, ("", "wxid_a")),
        (OFFLINE | {"data": {"wId": "<script>"}}, ("", "wxid_a")),
        (OFFLINE | {"data": {"wId": "w" * 101}}, ("", "wxid_a")),
        (OFFLINE | {"data": json.dumps({"wId": "w-1"})}, ("w-1", "wxid_a")),
        ({"messageType": "30000", "wId": "w-1"}, ("w-1", "")),
        ({"messageType": "30000", "wcId": "wxid_a"}, ("", "wxid_a")),
        ({"messageType": "30000", "data": {"wcId": "wxid_a"}}, ("", "wxid_a")),
        ({"messageType": "30000", "wcId": "null", "data": {"wId": "undefined"}}, None),
        (json.dumps(OFFLINE), ("w-1", "wxid_a")),
        ([OFFLINE], None),
        ("30000", None),
        (None, None),
        (4, None),
    ],
)
def test_which_bodies_are_offline_callbacks(body, found):
    assert upstream_callback.offline_in(json.dumps(body).encode()) == found


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(OFFLINE | {"nickname": "\u5c0f\u660e"}, ensure_ascii=False).encode("gbk"),
        urlencode({"data": json.dumps(OFFLINE)}).encode(),
        urlencode(OFFLINE | {"data": json.dumps({"wId": "w-1"})}).encode(),
        urlencode(OFFLINE | {"data": "", "wId": "w-1"}).encode(),
    ],
    ids=["GBK", "a form with JSON", "a form", "a flat form"],
)
def test_a_callback_in_another_form_is_read(body):
    assert upstream_callback.offline_in(body) == ("w-1", "wxid_a")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"\x00\x01secret words", "neither a JSON object nor a form"),
        (b'{"messageType": "30000", "data": {"content": "secret words"}}', "neither its wId nor its wcId"),
    ],
)
def test_why_a_callback_was_not_read_is_in_the_log_without_its_content(body, why, caplog):
    assert upstream_callback.offline_in(body) is None
    assert why in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"ok",
        b"\xff\xfe\x00",
        b"{",
        b"[" * 60_000,
        b'{"a":' * 5000,
        b"9" * 10_000,
        b'{"messageType": "30000", "data": {"wId": "w-1"}, "x": "'
        + b"x" * upstream_callback.BODY_LIMIT
        + b'"}',
        b"messageType=30000&data=w-1",
        b'\xef\xbb\xbf{"messageType": "30000"}',
    ],
)
def test_junk_is_no_offline_callback_and_is_answered_like_everything(body, taken):
    assert upstream_callback.offline_in(body) is None
    answer = post(taken, body)
    assert (answer.status_code, answer.json()["code"]) == (200, "1000")


def test_a_body_beyond_every_limit_is_answered_too(taken):
    answer = post(taken, b"x" * (project.DATA_UPLOAD_MAX_MEMORY_SIZE + 1))
    assert (answer.status_code, answer.json()["code"]) == (200, "1000")


# --- who may post


@pytest.mark.parametrize("secret", [WRONG, "x", SECRET + "x", SECRET[:-1], "%20", "é", "-"])
def test_a_wrong_secret_is_an_address_that_is_none(secret, taken):
    for answer in (
        post(f"/callbacks/wkteam/{secret}/", OFFLINE),
        Client().get(f"/callbacks/wkteam/{secret}/"),
    ):
        assert answer.status_code == 404


def test_without_a_secret_nothing_is_taken(settings):
    settings.WK_CALLBACK_SECRET = ""
    assert post("/callbacks/wkteam/-/", OFFLINE).status_code == 404
    assert post("/callbacks/wkteam//", OFFLINE).status_code == 404


def test_only_posts_are_taken(taken):
    for ask in (Client().get, Client().head, Client().put, Client().delete):
        assert ask(taken).status_code == 405


def test_no_callback_costs_the_web_a_query(taken, django_assert_num_queries, db):
    with django_assert_num_queries(0):
        for body in (OFFLINE, MESSAGE, "junk"):
            assert post(taken, body).status_code == 200


def test_the_secret_is_in_no_log(taken, caplog):
    with caplog.at_level(logging.DEBUG):
        post(taken, OFFLINE)
        Client().get(taken)
        post(f"/callbacks/wkteam/{WRONG}/", OFFLINE)
        post(f"/callbacks/wkteam/{WRONG}/x?{WRONG}", OFFLINE)
    assert sum(record.name == "wkportal.access" for record in caplog.records) == 4
    formatter = RedactingFormatter("%(message)s", secrets=[])
    lines = [formatter.format(record) for record in caplog.records]
    assert [line for line in lines if SECRET in line or f"wkteam/{WRONG}" in line] == []


# --- the command


def run(*words: str) -> str:
    out = io.StringIO()
    call_command("callback", *words, stdout=out)
    return out.getvalue()


def test_the_address_is_registered_and_cleared(taken, settings, upstream, db):
    settings.WK_PUBLIC_URL = "http://localhost:9"
    said = run("--set")
    assert upstream.state()["callback_url"] == f"http://localhost:9{taken}"
    assert upstream.bodies("/setHttpCallbackUrl")[-1]["type"] == 2
    assert "http://localhost:9/callbacks/" in said
    assert SECRET not in said
    assert run("--clear") == "WKTeam sends no callbacks.\n"
    assert upstream.state()["callback_url"] is None
    run("--set", "--url", "http://127.0.0.1:9/")
    assert upstream.state()["callback_url"] == f"http://127.0.0.1:9{taken}"


@pytest.mark.parametrize(
    ("words", "public", "secret", "sentence"),
    [
        (["--set"], "", SECRET, "WK_PUBLIC_URL is not set"),
        (["--set"], "http://localhost", "", "WK_CALLBACK_SECRET is not set"),
        (["--set"], "http://elsewhere.example", SECRET, "elsewhere.example is not in ALLOWED_HOSTS"),
        (["--set", "--url", "localhost:8000"], "", SECRET, "localhost:8000 is not an address"),
        (["--set", "--url", "http://localhost/?a=b"], "", SECRET, "is not an address"),
        (["--clear", "--url", "http://localhost"], "", SECRET, "--clear"),
        ([], "http://localhost", SECRET, "required"),
        (["--set", "--clear"], "http://localhost", SECRET, "not allowed"),
    ],
)
def test_the_command_refuses_what_cannot_work_with_a_sentence(
    words, public, secret, sentence, settings, upstream
):
    settings.WK_PUBLIC_URL, settings.WK_CALLBACK_SECRET = public, secret
    with pytest.raises(CommandError, match=sentence):
        run(*words)
    assert upstream.calls("/setHttpCallbackUrl") == upstream.calls("/cancelHttpCallbackUrl") == 0


def test_an_upstream_that_refuses_is_said_so_without_the_secret(taken, settings, upstream, db):
    settings.WK_PUBLIC_URL = "http://localhost:9"
    upstream.fault("/setHttpCallbackUrl", "raw", json={"code": "1001", "message": "失败", "data": None})
    with pytest.raises(CommandError, match=r"Refused: 失败") as error:
        run("--set")
    assert SECRET not in str(error.value)


# --- from the phone to the page


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker):
    """Sweeps come once an hour: what is known sooner is known by a callback."""
    env = {"WK_CALLBACK_SECRET": SECRET, "WK_PRESENCE_SECONDS": "3600"}
    with django_db_blocker.unblock(), Stack("web", "jobs", "beat", **env) as running:
        yield running


@pytest.fixture
def registered(stack, live, upstream):
    """The portal is registered with the upstream, and has checked presence once since."""
    upstream.call(
        "/setHttpCallbackUrl",
        upstream.authorization,
        httpUrl=f"{stack.url}/callbacks/wkteam/{SECRET}/",
        type=2,
    )
    upstream.wait(callbacks=1)
    until(lambda: checked_since(None), "no presence check")
    return Operator(stack, live.operator)


def checked_since(moment: datetime | None) -> bool:
    row = Presence.objects.first()
    return bool(
        row and row.answered_at and not row.taken_until and (moment is None or row.answered_at > moment)
    )


def online(people, upstream, wc_id: str) -> Account:
    w_id = upstream.person(wc_id, online=True)["wId"]
    since = timezone.now() - timedelta(hours=1)
    times = {"first_login_at": since - timedelta(days=9), "last_login_at": since, "state_since": since}
    return people.account(wc_id=wc_id, w_id=w_id, **times)


@pytest.mark.live
@pytest.mark.parametrize("dialect", ["default", "g1"])
def test_a_drop_is_known_by_its_callback_long_before_the_next_sweep(dialect, registered, live, upstream):
    upstream.settings(dialect=dialect)
    account, other = online(live, upstream, "wxid_a"), online(live, upstream, "wxid_b")
    with Listener(registered) as page:
        upstream.drop("wxid_a", duplicates=3)
        page.hears("change", seconds=30, account=account.pk, state="offline")
    drop = account.drops.get()
    assert (fresh(account).state, drop.detected_by, drop.kind) == ("offline", "notice", "ordinary")
    assert fresh(other).state == "online"
    upstream.wait(callbacks=5)
    assert {note["status"] for note in upstream.state()["callbacks"]} == {200}
    assert account.events.filter(happened="account_offline").count() == 1


@pytest.mark.live
def test_the_reason_follows_by_itself(registered, live, upstream):
    account = online(live, upstream, "wxid_a")
    online(live, upstream, "wxid_b")
    upstream.drop("wxid_a", reason="在别处登录，请重新登录。")
    until(lambda: fresh(account).last_offline_reason, "no reason")
    assert fresh(account).last_offline_reason == account.drops.get().reason_text == "在别处登录，请重新登录。"
    assert upstream.calls("/offlineReason") == 1


@pytest.mark.live
def test_a_callback_for_an_older_w_id_asks_nobody_and_changes_nothing(registered, live, upstream):
    account, other = online(live, upstream, "wxid_a"), online(live, upstream, "wxid_b")
    asked = upstream.calls(LIST)
    upstream.drop("wxid_a", stale=True, duplicates=2)
    upstream.control("callback", body=MESSAGE)
    upstream.control("callback", body="no JSON at all")
    upstream.control("callback", body=OFFLINE | {"data": {"wId": other.w_id}, "wcId": "wxid_elsewhere"})
    # Of those that are handled one after the other, the last one is about a drop.
    upstream.wait(callbacks=7)
    upstream.drop("wxid_b")
    until(lambda: fresh(other).state == "offline", "the last callback was not handled")
    assert upstream.calls(LIST) == asked + 1
    assert (fresh(account).state, fresh(account).absent) == ("online", 0)


@pytest.mark.live
def test_a_callback_that_is_not_true_changes_nothing(registered, live, upstream):
    account = online(live, upstream, "wxid_a")
    before = timezone.now()
    upstream.control("callback", body=OFFLINE | {"data": {"wId": account.w_id}})
    until(lambda: checked_since(before) and not fresh(account).absent, "no presence check that has it online")
    assert fresh(account).state == "online"
    assert fresh(account).last_checked(sweep.seen()) > before
    assert not Drop.objects.exists()


@pytest.mark.live
def test_the_log_of_all_this_holds_no_secret(stack, registered, upstream):
    for path in (f"/callbacks/wkteam/{WRONG}/", f"/callbacks/wkteam/{SECRET}/"):
        assert requests.get(stack.url + path, timeout=10).status_code in (404, 405)
    until(lambda: "GET callback 405" in stack.log, "nothing was logged")
    assert [secret for secret in (SECRET, WRONG) if secret in stack.log] == []
