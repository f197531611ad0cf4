"""Signing in and out: guessing is slowed down, nobody is led elsewhere, a session ends when it should."""

import pytest
from axes.models import AccessAttempt, AccessFailureLog
from django.conf import settings
from django.test import Client
from django.utils import timezone

from tests.support.factories import PASSWORD
from wkportal import sign_in_limits

ELSEWHERE = [
    "//evil.example", "///evil.example", "https://evil.example", "http:evil.example", "https:/evil.example", "/\\evil.example",
    "\\\\evil.example", "//evil.example/%2f..", "javascript:alert(1)", "data:text/html,x", " https://evil.example",
    "\thttps://evil.example", "https://testserver@evil.example", "https://testserver.evil.example", "/\t/evil.example",
    "//evil。example", "ftp://testserver/", "https:///evil.example", "////evil.example", "http://[::1]/", "/\\/evil.example",
]  # fmt: skip


def sign_in(client, name="operator", password=PASSWORD, path="/login/"):
    return client.post(path, {"username": name, "password": password})


def test_in_and_out_again(people):
    client = Client()
    assert client.get("/accounts/").headers["Location"] == "/login/?next=/accounts/"
    assert sign_in(client).headers["Location"] == "/"
    assert client.get("/accounts/").status_code == 200
    client.post("/logout/")
    assert client.get("/accounts/").status_code == 302


@pytest.mark.parametrize("target", ELSEWHERE)
def test_nobody_is_led_to_another_host(people, target):
    answer = Client().post("/login/", {"username": "operator", "password": PASSWORD, "next": target})
    assert answer.headers["Location"] == "/"


@pytest.mark.parametrize(("name", "path"), [("operator", "/login/"), ("admin", "/admin/login/")])
def test_guessing_is_stopped_for_a_while_also_with_the_right_word(people, name, path):
    client = Client()
    for _guess in range(settings.AXES_FAILURE_LIMIT):
        sign_in(client, name, "wrong", path)
    assert sign_in(client, name, PASSWORD, path).status_code == 429
    assert sign_in(Client(REMOTE_ADDR="10.9.8.7"), name, PASSWORD, path).status_code == 302


@pytest.mark.slow
def test_an_address_that_guesses_many_names_is_stopped_and_no_other(people):
    guesser = Client(REMOTE_ADDR="203.0.113.9")
    for guess in range(sign_in_limits.FAILURES_OF_ADDRESS):
        assert sign_in(guesser, f"name{guess}", "wrong").status_code == 200
    assert sign_in(guesser).status_code == 429
    assert sign_in(guesser, "admin", PASSWORD, "/admin/login/").status_code == 429
    assert sign_in(Client(REMOTE_ADDR="203.0.113.10")).status_code == 302
    AccessFailureLog.objects.update(attempt_time=timezone.now() - sign_in_limits.PERIOD)
    AccessAttempt.objects.update(attempt_time=timezone.now() - sign_in_limits.PERIOD)
    assert sign_in(guesser).status_code == 302


@pytest.mark.slow
def test_a_name_is_not_kept_out_by_guesses_from_many_addresses(people):
    for number in range(3 * sign_in_limits.FAILURES_OF_ADDRESS):
        sign_in(Client(REMOTE_ADDR=f"203.0.113.{number}"), "operator", "wrong")
    assert sign_in(Client(REMOTE_ADDR="198.51.100.1")).status_code == 302


def test_a_wrong_name_and_a_wrong_password_get_the_same_answer(people):
    answers = [sign_in(Client(), *pair).content for pair in (("operator", "wrong"), ("nobody", "wrong"))]
    assert answers[0].count(b'role="alert"') == answers[1].count(b'role="alert"') >= 1


def test_the_session_key_changes_at_sign_in_and_dies_at_sign_out(people):
    client = Client()
    client.get("/login/")
    sign_in(client)
    key = client.session.session_key
    client.post("/logout/")
    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = key
    assert thief.get("/accounts/").status_code == 302


def test_a_post_without_its_token_is_refused(people):
    client = Client(enforce_csrf_checks=True)
    client.force_login(people.operator, backend="django.contrib.auth.backends.ModelBackend")
    account = people.account()
    for path in (f"/accounts/{account.pk}/login/", "/accounts/new/", "/logout/"):
        assert client.post(path, {"label": "x"}).status_code == 403


def test_the_language_is_the_browsers_and_can_be_switched(people):
    assert (
        'lang="zh-hans"'
        in Client(headers={"accept-language": "zh-CN,zh;q=0.9"}).get("/login/").content.decode()
    )
    client = Client(headers={"accept-language": "zh-CN"})
    client.post("/language/setlang/", {"language": "en", "next": "/login/"})
    assert 'lang="en"' in client.get("/login/").content.decode()
