"""An account's own SOCKS5 proxy: entered and checked, kept secret, sent with every login, shown by name only."""

import json
import logging
import socket
from contextlib import contextmanager

import pytest
from cryptography.fernet import Fernet
from django.db import connection

from accounts.logins import start, wait
from accounts.models import Account, AccountEvent, Drop, LoginAttempt
from accounts.presence import incidents, offline
from accounts.proxies import OWN, OwnProxy
from accounts.reasons import Reason
from tests.support.factories import fresh, make_account
from tests.support.raw_http import wire
from tests.support.threads import running

pytestmark = pytest.mark.usually("sqlite")

ADDRESS, USER, PASSWORD = "203.0.113.77:10808", "canary-proxy-user", "canary-proxy-pass"
SECRETS = (ADDRESS, "203.0.113.77", USER, PASSWORD)
BODY = {"proxyIp": ADDRESS, "proxyUser": USER, "proxyPassword": PASSWORD}


def owned(account: Account) -> Account:
    account.own_proxy = OwnProxy(ADDRESS, USER, PASSWORD).stored()
    account.save(update_fields=["own_proxy"])
    return account


@contextmanager
def socks(method: int = 2, status: int = 0, raw: bytes | None = None):
    """A SOCKS5 server that wants this method and answers the sign-in so; `raw`: something else answers."""
    heard = []

    def play(sock: socket.socket, _served) -> None:
        heard.append(sock.recv(1024))
        sock.sendall(bytes([5, method]) if raw is None else raw)
        if raw is None and method == 2:
            heard.append(sock.recv(1024))
            sock.sendall(bytes([1, status]))

    with wire(play) as served:
        served.heard = heard
        yield served


def edit(user, account: Account, **typed):
    typed = {
        "label": account.label,
        "wc_id": "",
        "proxy": "2",
        "tag_names": "",
        "note": "",
        "keep_online": "on",
    } | typed
    return user.client.post(f"/accounts/{account.pk}/edit/", typed | {"team": account.team_id})


def entered(address: str = ADDRESS, user: str = USER, password: str = PASSWORD, **more) -> dict:
    return {"own_proxy": address, "own_proxy_user": user, "own_proxy_password": password} | more


# --- entered and checked


def test_a_proxy_that_takes_the_connection_is_saved_encrypted(people):
    account = people.account()
    with socks() as proxy:
        answer = edit(people.operator, account, **entered(f"socks5://127.0.0.1:{proxy.port}"))
    assert answer.status_code == 302
    assert proxy.heard == [
        b"\x05\x02\x00\x02",
        bytes([1, len(USER)]) + USER.encode() + bytes([len(PASSWORD)]) + PASSWORD.encode(),
    ]
    account = fresh(account)
    assert OwnProxy.of(account.own_proxy) == OwnProxy(f"127.0.0.1:{proxy.port}", USER, PASSWORD)
    with connection.cursor() as cursor:
        cursor.execute("SELECT own_proxy FROM accounts_account")
        (raw,) = cursor.fetchone()
    assert PASSWORD not in raw and "127.0.0.1" not in raw
    event = AccountEvent.objects.get(account=account, detail="own_proxy")
    assert (event.happened, event.actor) == ("changed", people.operator)


@pytest.mark.parametrize(
    ("server", "typed", "sentence"),
    [
        ({"status": 1}, {}, "refuses the user name or the password"),
        ({"method": 0xFF}, {}, "refuses the user name or the password"),
        ({"method": 0xFF}, {"user": "", "password": ""}, "requires a user name and a password"),
        ({"raw": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, {}, "not as a SOCKS5 proxy"),
        ({"raw": b"\x05"}, {}, "not as a SOCKS5 proxy"),
        ({"raw": b""}, {}, "does not answer"),
    ],
)
def test_a_proxy_that_fails_the_check_is_saved_only_if_a_person_says_so(people, server, typed, sentence):
    account = people.account()
    with socks(**server) as proxy:
        filled = entered(f"127.0.0.1:{proxy.port}", **typed)
        answer = edit(people.operator, account, **filled)
        assert answer.status_code == 422
        assert sentence in answer.content.decode()
        assert PASSWORD not in answer.content.decode()
        assert fresh(account).own_proxy is None
        assert fresh(account).proxy is None  # nothing of the form is saved
        assert edit(people.operator, account, **filled, own_proxy_unchecked="on").status_code == 302
    assert fresh(account).has_own_proxy
    assert fresh(account).proxy == 2


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (entered("http://203.0.113.7:80"), "SOCKS5 proxies only"),
        (entered("socks5://u:p@203.0.113.7:80"), "in their own fields"),
        (entered("203.0.113.7"), "Enter host and port"),
        (entered("203.0.113.7:0"), "Enter host and port"),
        (entered("203.0.113.7:70000"), "Enter host and port"),
        (entered("a b:80"), "Enter host and port"),
        (entered("[::zz]:80"), "Enter host and port"),
        (entered("203.0.113.7:80/path"), "Enter host and port"),
        (entered("", "u", "p"), "Enter host and port too"),
        (entered(password=""), "both user name and password"),
        (entered(user=""), "both user name and password"),
        (entered(user="名" * 100), "at most 255 bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_proxy_gets_a_sentence(people, typed, sentence):
    answer = edit(people.operator, people.account(), **typed)
    assert answer.status_code == 422
    assert sentence in answer.content.decode()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "10.1.2.3", "169.254.169.254", "127.1"])
@pytest.mark.parametrize("unchecked", [{}, {"own_proxy_unchecked": "on"}])
def test_no_connection_is_made_into_a_private_network(people, settings, host, unchecked):
    settings.WK_PRIVATE_TARGETS = False
    account = people.account()
    with socks() as proxy:
        answer = edit(people.operator, account, **entered(f"{host}:{proxy.port}"), **unchecked)
    assert answer.status_code == 422
    assert "private network" in answer.content.decode()
    assert proxy.connections == 0
    assert fresh(account).own_proxy is None


@pytest.mark.slow
def test_it_is_never_shown_and_stays_until_it_is_removed_or_replaced(people):
    account = owned(people.account())
    for path in ("edit/", ""):
        page = people.operator.client.get(f"/accounts/{account.pk}/{path}").content.decode()
        assert not [secret for secret in SECRETS if secret in page]
        assert "own proxy" in page.lower()
    assert edit(people.operator, account, label="renamed").status_code == 302
    assert OwnProxy.of(fresh(account).own_proxy).address == ADDRESS
    assert edit(people.operator, account, **entered(), own_proxy_remove="on").status_code == 422
    assert edit(people.operator, account, own_proxy_remove="on").status_code == 302
    assert fresh(account).own_proxy is None


def test_a_new_account_may_have_one(people):
    with socks() as proxy:
        typed = entered(f"127.0.0.1:{proxy.port}") | {
            "label": "far away",
            "team": people.east.pk,
            "keep_online": "on",
        }
        assert people.admin.client.post("/accounts/new/", typed).status_code == 302
    assert Account.objects.get(label="far away").has_own_proxy


def test_a_viewer_cannot_set_one(people):
    account = people.account()
    assert edit(people.viewer, account, **entered()).status_code == 403


# --- sent


def test_every_login_by_qr_code_sends_it_beside_the_listed_proxy(committed, upstream, caplog):
    caplog.set_level(logging.DEBUG)
    account = owned(committed.account(proxy=3))
    assert committed.operator.client.post(f"/accounts/{account.pk}/login/", {"proxy": "1"}).status_code == 302
    (body,) = upstream.bodies("/iPadLogin")
    assert body == {"wcId": "", "type": 2, "proxy": 3, **BODY}
    attempt = LoginAttempt.objects.get()
    assert attempt.proxy == OWN
    with running(wait.wait_for_phone, attempt.pk):
        upstream.phone("confirm", wId=attempt.w_id)
    account = fresh(account)
    assert (account.state, account.proxy) == ("online", 3)
    assert OwnProxy.of(account.own_proxy) == OwnProxy(ADDRESS, USER, PASSWORD)
    pages = committed.operator.client.get(f"/attempts/{attempt.pk}/").content.decode()
    assert "own proxy" in pages
    rows = json.dumps([*AccountEvent.objects.values("detail", "reason")])
    assert not [secret for secret in SECRETS if secret in pages + rows + caplog.text]


def test_without_a_listed_proxy_the_own_one_is_sent_alone(committed, upstream):
    attempt, _new = start.start_login(owned(committed.account()))
    assert start.fetch_qr_code(attempt)
    assert upstream.bodies("/iPadLogin") == [{"wcId": "", "type": 2, **BODY}]


def test_a_queued_login_uses_the_proxy_that_the_account_has_when_its_code_is_requested(committed, upstream):
    before, after = committed.account(proxy=3), owned(committed.account(proxy=4))
    logins = [start.start_login(account, queued=True)[0] for account in (before, after)]
    owned(before)
    Account.objects.filter(pk=after.pk).update(own_proxy=None)
    for attempt in logins:
        assert start.fetch_qr_code(fresh(attempt))
    sent = upstream.bodies("/iPadLogin")
    assert [body.get("proxyIp") for body in sent] == [ADDRESS, None]
    assert [body["proxy"] for body in sent] == [3, 4]
    assert [fresh(attempt).proxy for attempt in logins] == [OWN, 4]


def test_a_login_whose_own_proxy_no_key_decrypts_is_not_sent_through_another(committed, upstream, settings):
    settings.FIELD_KEYS = [Fernet.generate_key().decode()]
    account = owned(committed.account(proxy=3))
    settings.FIELD_KEYS = [Fernet.generate_key().decode()]
    attempt, _new = start.start_login(fresh(account))
    assert start.fetch_qr_code(attempt) is False
    assert (fresh(attempt).state, fresh(attempt).reason) == ("failed", Reason.OWN_PROXY)
    assert upstream.calls("/iPadLogin") == 0


def test_a_message_of_wkteam_that_repeats_it_is_shown_without_it(committed, upstream):
    said = f"{ADDRESS} {USER}:{PASSWORD} 网络链接异常"
    upstream.fault("/iPadLogin", "raw", json={"code": "1001", "message": said, "data": None})
    attempt, _new = start.start_login(owned(committed.account()))
    start.fetch_qr_code(attempt)
    attempt = fresh(attempt)
    assert attempt.reason == Reason.LINE_DOWN
    assert not [secret for secret in SECRETS if secret in attempt.upstream_text]


def test_one_that_wkteam_cannot_use_is_the_reason(committed, upstream):
    upstream.settings(bad_proxies=[ADDRESS])
    attempt, _new = start.start_login(owned(committed.account(proxy=3)))
    assert start.fetch_qr_code(attempt) is False
    assert fresh(attempt).reason == Reason.LINE_DOWN


# --- shown


@pytest.mark.slow
def test_lists_and_filters_call_it_own_proxy(people):
    own = owned(people.account(label="Far", proxy=3))
    people.account(label="Near", proxy=3)
    people.account(label="Free")
    LoginAttempt.objects.create(
        account=own, state="failed", proxy=OWN, seq=1, deadline_at=own.created_at, ended_at=own.created_at
    )
    assert "own proxy" in people.operator.client.get("/accounts/").content.decode()

    def found(kind: str, line) -> set[str]:
        page = people.admin.client.get(f"/admin/accounts/{kind}/?line={line}")
        return {
            str(row) if kind == "account" else row.account.label for row in page.context["cl"].result_list
        }

    assert found("account", OWN) == {"Far"}
    assert found("account", 3) == {"Near"}
    assert found("account", "none") == {"Free"}
    assert found("loginattempt", OWN) == {"Far"}
    page = people.admin.client.get(f"/admin/accounts/account/{own.pk}/change/").content.decode()
    assert "own proxy" in page
    assert not [secret for secret in SECRETS if secret in page]


def test_drops_through_own_proxies_have_no_proxy_in_common(db):
    accounts = [owned(make_account(w_id=f"w-{n}", wc_id=f"wxid_{n}", proxy=3)) for n in range(12)]
    now = accounts[0].created_at
    offline.go_offline([account.pk for account in accounts], now.replace(year=2100), now)
    assert set(Drop.objects.values_list("proxy", flat=True)) == {OWN}
    (incident,) = incidents.gather(now)
    assert (incident.shares, incident.shared) == ("", "")
