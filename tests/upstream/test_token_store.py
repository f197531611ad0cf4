"""The Authorization: kept, encrypted, renewed once for all who wait for it, and an alarm when that does not help."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import time_machine
from django.db import OperationalError, connection, connections
from django.utils import timezone

from accounts.lib import db_clock
from accounts.models import UpstreamAccess
from accounts.upstream.errors import (
    DeveloperExpired,
    DeveloperFrozen,
    SignInRefused,
    Unreachable,
    UpstreamError,
)
from accounts.upstream.token_store import KeptTokens
from tests.support.payloads import envelope
from tests.support.processes import until
from tests.support.raw_http import client_of, json_answer, outcome, wire

SIGN_IN = "/member/login"
CALL = "/queryLoginWx"
TOKEN = "canary-kept-authorization"


@pytest.fixture
def kept(upstream, transactional_db):
    """A client whose Authorization is in the database only."""
    return client_of(upstream.url, given="")


def access() -> UpstreamAccess:
    return UpstreamAccess.objects.get()


def at_once(number: int, call) -> list[object]:
    """The results, or errors, of a call made by so many threads at the same moment."""
    barrier = threading.Barrier(number)

    def one(place: int) -> object:
        barrier.wait()
        try:
            return outcome(lambda: call(place))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, range(number)))


# --- kept


def test_the_first_call_signs_in_and_the_next_ones_do_not(kept, upstream):
    assert [kept.online(), kept.online(), kept.is_online("w")] == [[], [], False]
    assert upstream.calls(SIGN_IN) == 1
    assert upstream.bodies(SIGN_IN) == [{"account": kept.account, "password": kept.password}]
    assert access().authorization == upstream.authorization


def test_a_restart_does_not_sign_in_again(kept, upstream):
    kept.online()
    again = client_of(upstream.url, given="")
    assert again.online() == []
    assert upstream.calls(SIGN_IN) == 1


def test_a_given_authorization_needs_no_sign_in_and_is_not_kept(upstream, transactional_db):
    assert client_of(upstream.url, given=upstream.authorization, password="").online() == []
    assert upstream.calls(SIGN_IN) == 0
    assert [row.authorization for row in UpstreamAccess.objects.all()] in ([], [""])


def test_it_is_encrypted_in_the_database(transactional_db):
    UpstreamAccess.objects.create(base_url="http://h", account="a", authorization=TOKEN)
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM accounts_upstreamaccess")
        row = cursor.fetchone()
    assert TOKEN not in str(row)
    assert access().authorization == TOKEN
    if connection.vendor == "sqlite":
        # Not by opening its file: closing that would take away the locks of this process's connections.
        assert TOKEN.encode() not in connection.connection.serialize()


def test_what_one_address_gave_is_sent_to_no_other(upstream, transactional_db):
    UpstreamAccess.objects.create(base_url=upstream.url, account="canary-developer", authorization=TOKEN)
    answer = json_answer(envelope({"Authorization": "another", "status": 0}))
    with wire(lambda sock, served: sock.sendall(served.ask(sock) and answer)) as other:
        outcome(client_of(other.url, given="").online)
    assert [request.path for request in other.requests] == [SIGN_IN, CALL]
    assert all(TOKEN not in str(request) for request in other.requests)


def test_what_one_developer_got_is_not_sent_for_another(upstream, transactional_db):
    UpstreamAccess.objects.create(base_url=upstream.url, account="somebody-else", authorization=TOKEN)
    assert KeptTokens(upstream.url, "canary-developer", "").current() == ""


@pytest.mark.parametrize("given", ["", TOKEN])
def test_no_database_connection_stays_open_behind_it(given, upstream, transactional_db):
    tokens = KeptTokens(upstream.url, "canary-developer", given)
    tokens.current()
    assert connection.connection is None
    tokens.renew(tokens.current(), lambda: "new", time.monotonic())
    assert connection.connection is None
    tokens.renew("old", lambda: "never asked", time.monotonic())
    assert connection.connection is None


# --- renewed


@pytest.mark.slow
@pytest.mark.parametrize("style", ["message", "http401"])
def test_fifty_refused_calls_sign_in_once(style, kept, upstream):
    kept.online()
    upstream.control("account", revoke_token=True, auth_style=style)

    assert at_once(50, lambda _place: kept.online()) == [[]] * 50
    assert upstream.calls(SIGN_IN) == 2
    assert upstream.calls(CALL) <= 1 + 2 * 50
    assert access().refused_at is None


def test_two_processes_sign_in_once(upstream, transactional_db):
    clients = [client_of(upstream.url, given=""), client_of(upstream.url, given="")]

    assert at_once(20, lambda place: clients[place % 2].online()) == [[]] * 20
    assert upstream.calls(SIGN_IN) == 1


def test_the_same_value_handed_out_again_is_taken_by_all_who_wait(transactional_db):
    """The Authorization is permanent: a sign-in may bring back the very value that was refused a moment ago."""
    signed_in, refused = threading.Event(), threading.Barrier(20)

    def play(sock, served):
        if served.ask(sock).path == SIGN_IN:
            signed_in.set()
            sock.sendall(json_answer(envelope({"Authorization": TOKEN, "status": 0})))
        elif signed_in.is_set():
            sock.sendall(json_answer(envelope([])))
        else:
            refused.wait(60)
            sock.sendall(json_answer(envelope(None, "1001", "token无效")))

    with wire(play) as served:
        client = client_of(served.url, given=TOKEN)
        assert at_once(20, lambda _place: client.online()) == [[]] * 20
    assert [request.path for request in served.requests].count(SIGN_IN) == 1


def test_a_host_with_a_wrong_clock_takes_what_another_host_was_issued(transactional_db, monkeypatch):
    monkeypatch.setattr(db_clock, "now", lambda: timezone.now() - timedelta(hours=1))
    tokens, began = KeptTokens("http://h", "a", TOKEN), time.monotonic()
    UpstreamAccess.objects.create(
        base_url="http://h", account="a", authorization=TOKEN, renewed_at=db_clock.now()
    )
    assert tokens.renew(TOKEN, lambda: "a second sign-in", began) == TOKEN
    assert tokens.renew(TOKEN, lambda: "refused since then", time.monotonic()) == "refused since then"
    assert access().renewing_until is None


def test_what_another_process_got_long_ago_may_be_refused_too(kept, upstream):
    long_ago = timezone.now() - timedelta(days=3)
    UpstreamAccess.objects.create(
        base_url=upstream.url, account=kept.account, authorization="out of date", renewed_at=long_ago
    )
    kept.tokens.known = "older still"

    assert kept.online() == []
    assert (upstream.calls(SIGN_IN), upstream.calls(CALL)) == (1, 3)


def test_who_died_while_signing_in_is_not_waited_for(kept, upstream):
    UpstreamAccess.objects.create(
        base_url=upstream.url, account=kept.account, renewing_until=timezone.now() - timedelta(seconds=1)
    )
    assert kept.online() == []


@pytest.mark.parametrize("path", ["/iPadLogin", "/getIPadLoginInfo", CALL, "/isOnline"])
def test_a_call_refused_after_a_new_sign_in_is_an_alarm(path, upstream, transactional_db):
    client = client_of(upstream.url, given=upstream.authorization)
    refusal = {"code": "1001", "message": "Authorization无效", "data": None}
    for refusing in {path, CALL}:
        upstream.fault(refusing, "raw", json=refusal)
    calls = {
        "/iPadLogin": lambda: client.fetch_qr_code("", 1),
        "/getIPadLoginInfo": lambda: client.wait_for_login("w", "", 3),
        CALL: client.online,
        "/isOnline": lambda: client.is_online("w"),
    }
    with pytest.raises(SignInRefused):
        calls[path]()
    assert (upstream.calls(path), upstream.calls(SIGN_IN)) == (2, 1)
    assert (access().refused_why, access().refused_text) == ("sign_in_refused", "Authorization无效")

    with pytest.raises(SignInRefused):
        calls[path]()
    assert upstream.calls(SIGN_IN) == 1


@pytest.mark.slow
def test_an_upstream_that_refuses_what_it_just_gave_is_not_asked_by_everybody_who_waits(kept, upstream):
    kept.online()
    upstream.fault(CALL, "raw", json={"code": "1001", "message": "token无效", "data": None})

    errors = at_once(50, lambda _place: kept.online())
    assert {type(error) for error in errors} == {SignInRefused}
    # Once for all, and again for who is refused with the new one before anybody has said that it is refused.
    assert 2 <= upstream.calls(SIGN_IN) <= 5
    assert upstream.calls(CALL) <= 1 + 2 * 50


def test_an_alarm_is_over_when_a_call_gets_through(kept, upstream):
    kept.online()
    kept.tokens.alarm(SignInRefused("words", "1001"))
    assert access().refused_text == "words"
    kept.online()
    assert (access().refused_at, access().refused_why, access().refused_text) == (None, "", "")


# --- refused


def test_a_wrong_password_is_tried_once_for_all_and_again_later(upstream, transactional_db):
    client = client_of(upstream.url, given="", password="wrong-password")
    errors = at_once(50, lambda _place: client.online())

    assert {type(error) for error in errors} == {SignInRefused}
    assert {error.text for error in errors} == {"用户名或密码错误"}
    assert (upstream.calls(SIGN_IN), upstream.calls(CALL)) == (1, 0)
    assert (access().refused_why, access().refused_text) == ("sign_in_refused", "用户名或密码错误")
    with time_machine.travel(timezone.now() + timedelta(seconds=21)), pytest.raises(SignInRefused):
        client.online()
    assert upstream.calls(SIGN_IN) == 2


@pytest.mark.parametrize(
    ("status", "kind", "why"),
    [(1, DeveloperFrozen, "developer_frozen"), (2, DeveloperExpired, "developer_expired")],
)
def test_a_frozen_developer_account_is_distinguished_from_a_wrong_password(status, kind, why, kept, upstream):
    upstream.control("account", status=status)
    errors = at_once(20, lambda _place: kept.online())

    assert {type(error) for error in errors} == {kind}
    assert (upstream.calls(SIGN_IN), access().refused_why) == (1, why)
    with pytest.raises(kind):
        client_of(upstream.url, given="").online()
    assert upstream.calls(SIGN_IN) == 1


def test_without_a_password_the_alarm_names_what_is_missing(upstream, transactional_db):
    with pytest.raises(SignInRefused, match="WK_PASSWORD"):
        client_of(upstream.url, given="out of date", password="").online()
    assert upstream.calls(SIGN_IN) == 0
    assert access().refused_why == "sign_in_refused"


class CountingLock:
    """A lock that knows how many have asked for it."""

    def __init__(self):
        self.lock, self.asked = threading.Lock(), []

    def __enter__(self):
        self.asked.append(threading.current_thread())
        return self.lock.__enter__()

    def __exit__(self, *error):
        return self.lock.__exit__(*error)


def test_a_sign_in_that_gets_no_answer_is_made_once_for_all_who_wait(transactional_db):
    lock = CountingLock()

    def no_answer(sock, served):
        served.ask(sock)
        until(lambda: len(lock.asked) == 20, lambda: f"{len(lock.asked)} wait")

    with wire(no_answer) as served:
        client = client_of(served.url, given="", seconds=60)
        client.tokens.lock = lock
        errors = at_once(20, lambda _place: client.online())

    assert {type(error) for error in errors} == {Unreachable}
    assert [request.path for request in served.requests] == [SIGN_IN]
    assert (access().refused_at, access().renewing_until) == (None, None)


def test_a_lost_sign_in_is_not_a_lost_code(transactional_db):
    """What was not answered is the sign-in: /iPadLogin did not leave, so nothing about it is unknown."""
    with wire(lambda sock, served: served.ask(sock)) as served, pytest.raises(Unreachable):
        client_of(served.url, given="").fetch_qr_code("", 1)
    assert [request.path for request in served.requests] == [SIGN_IN]


# --- the database is unreachable


@pytest.fixture
def database_down(transactional_db):
    """While the block runs, every query fails."""

    def fail(*_args):
        raise OperationalError("the database is unreachable")

    return lambda: connection.execute_wrapper(fail)


def test_a_login_is_not_lost_because_the_database_is_unreachable(upstream, database_down):
    client = client_of(upstream.url, given=upstream.authorization)
    qr = client.fetch_qr_code("", 1)
    upstream.phone("confirm", wId=qr.w_id)
    client.tokens.clear_again_at = 0.0
    with database_down():
        assert client.wait_for_login(qr.w_id, "", 3).profile.w_id == qr.w_id


def test_a_refusal_stays_a_refusal_when_the_database_is_unreachable(database_down):
    tokens = KeptTokens("http://h", "a", TOKEN)
    with database_down():
        tokens.alarm(SignInRefused("words"))
    assert not UpstreamAccess.objects.filter(refused_text="words").exists()


def test_no_error_or_repr_shows_a_secret(kept, upstream):
    upstream.fault(SIGN_IN, "raw", json={"code": "1001", "message": f"bad password {kept.password}"})
    with pytest.raises(UpstreamError) as caught:
        kept.online()
    assert kept.password not in f"{caught.value!r} {caught.value} {caught.value.text} {kept!r}"
    assert kept.password not in access().refused_text
