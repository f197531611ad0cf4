"""Signing in and out: guessing is slowed down, nobody is led elsewhere, a session ends when it should."""

import html
import io
import re
from datetime import timedelta

import pytest
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.conf import settings
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from accounts.models import SignInUnlock
from tests.support.factories import PASSWORD
from wkportal import sign_in_limits

ELSEWHERE = [
    "//evil.example", "///evil.example", "https://evil.example", "http:evil.example", "https:/evil.example", "/\\evil.example",
    "\\\\evil.example", "//evil.example/%2f..", "javascript:alert(1)", "data:text/html,x", " https://evil.example",
    "\thttps://evil.example", "https://testserver@evil.example", "https://testserver.evil.example", "/\t/evil.example",
    "//evil。example", "ftp://testserver/", "https:///evil.example", "////evil.example", "http://[::1]/", "/\\/evil.example",
]  # fmt: skip


def sign_in(client, name="operator", password=PASSWORD):
    return client.post("/login/", {"username": name, "password": password})


def text_of(answer) -> str:
    return html.unescape(answer.content.decode())


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


def test_guessing_is_stopped_for_a_while_also_with_the_right_word(people):
    client = Client()
    for _guess in range(settings.AXES_FAILURE_LIMIT):
        sign_in(client, "operator", "wrong")
    refused = sign_in(client)
    assert refused.status_code == 429 and "this username is blocked from here for 15 minutes" in text_of(
        refused
    )
    assert sign_in(Client(REMOTE_ADDR="10.9.8.7")).status_code == 302


@pytest.mark.slow
def test_an_address_that_guesses_many_names_is_stopped_and_no_other(people):
    guesser = Client(REMOTE_ADDR="203.0.113.9")
    for guess in range(sign_in_limits.FAILURES_OF_ADDRESS):
        assert sign_in(guesser, f"name{guess}", "wrong").status_code == 200
    assert sign_in(guesser).status_code == 429
    refused = sign_in(guesser, "admin")
    text = text_of(refused)
    assert refused.status_code == 429 and "from this address is blocked for every username" in text
    assert "15 minutes" not in text
    # Who is refused already fills no table.
    assert AccessFailureLog.objects.count() == sign_in_limits.FAILURES_OF_ADDRESS
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


def lock_out(name: str, address: str) -> None:
    client = Client(REMOTE_ADDR=address, HTTP_USER_AGENT="Mozilla/5.0 (X11; Linux x86_64) Firefox/145.0")
    for _guess in range(settings.AXES_FAILURE_LIMIT):
        sign_in(client, name, "wrong")


def unlock_all(client) -> int:
    """Press each button of the page."""
    keys = re.findall(r'name="lockout" value="(\w+)"', client.get("/people/sign-ins/").content.decode())
    for key in keys:
        assert client.post("/people/sign-ins/", {"lockout": key}).status_code == 302
    return len(keys)


@pytest.mark.usually("sqlite", "postgres")
@pytest.mark.slow
def test_admins_see_who_signed_in_and_was_refused_and_let_one_try_again(people):
    lock_out("operator", "203.0.113.9")
    lock_out("a password by mistake", "203.0.113.10")
    assert sign_in(Client(REMOTE_ADDR="203.0.113.9")).status_code == 429
    assert sign_in(Client(REMOTE_ADDR="203.0.113.11"), "mate").status_code == 302
    admin = people.admin.client
    text = admin.get("/people/sign-ins/").content.decode()
    assert "203.0.113.9" in text and "203.0.113.11" in text and "Firefox on Linux" in text
    assert "a password by mistake" not in text and text.count("Unknown name") > 1
    assert text.count('class="chip due"') == 10 and text.count("Refused, locked out") == 2
    one = admin.get("/people/sign-ins/?q=MATE").content.decode()
    assert one.count('class="chip online"') == 1 and 'class="chip due"' not in one
    assert admin.get("/people/sign-ins/?q=203.0.113.10").content.decode().count('class="chip due"') == 5
    for wrong in (
        "?before=x",
        "?before=2026-99-99T00:00",
        "?before=0001-01-01T00:00%2B14:00",
        "?q=%00",
        "?q=::1",
        f"?q={'x' * 500}",
    ):
        assert admin.get(f"/people/sign-ins/{wrong}").status_code == 200
    admin.post("/people/sign-ins/", {"lockout": "x"})
    assert people.operator.client.post("/people/sign-ins/", {"lockout": "x"}).status_code == 404
    assert not SignInUnlock.objects.exists()
    assert unlock_all(admin) == 2
    assert sign_in(Client(REMOTE_ADDR="203.0.113.9")).status_code == 302
    text = admin.get("/people/sign-ins/").content.decode()
    assert text.count("Unlocked by admin") == 2 and "Nobody is locked out." in text
    assert set(SignInUnlock.objects.values_list("by_name", "ip_address")) == {
        ("admin", "203.0.113.9"),
        ("admin", "203.0.113.10"),
    }


@pytest.mark.usually("sqlite", "postgres")
def test_an_address_that_tried_many_names_is_unlocked_and_its_failures_stay_on_record(people):
    many = sign_in_limits.FAILURES_OF_ADDRESS
    old = timezone.now() - sign_in_limits.PERIOD / 2
    for number in range(many):
        AccessFailureLog.objects.create(username=f"n{number}", ip_address="203.0.113.9")
    AccessFailureLog.objects.update(attempt_time=old)
    (lockout,) = sign_in_limits.lockouts()
    assert (lockout.username, lockout.failures, lockout.until) == ("", many, old + sign_in_limits.PERIOD)
    guesser = Client(REMOTE_ADDR="203.0.113.9")
    assert sign_in(guesser).status_code == 429
    assert unlock_all(people.admin.client) == 1
    assert sign_in(guesser).status_code == 302
    assert AccessFailureLog.objects.count() == many
    assert sign_in_limits.lockouts() == []


def test_a_lockout_lasts_as_long_as_its_failures_in_all_browsers_count(people):
    now = timezone.now()
    for browser, failures, minutes in (("a", 3, 1), ("b", 1, 5), ("c", 2, 9), ("d", 9, 99)):
        row = AccessAttempt.objects.create(
            username="operator", ip_address="203.0.113.9", user_agent=browser, failures_since_start=failures
        )
        AccessAttempt.objects.filter(pk=row.pk).update(attempt_time=now - timedelta(minutes=minutes))
    (lockout,) = sign_in_limits.lockouts()
    assert (lockout.failures, lockout.until) == (6, now + timedelta(minutes=6))


def test_pages_of_sign_ins_follow_each_other(people):
    now = timezone.now()
    for number in range(60):
        AccessLog.objects.create(username="operator", ip_address=f"203.0.113.{number}")
        AccessLog.objects.filter(ip_address=f"203.0.113.{number}").update(
            attempt_time=now - timedelta(minutes=number)
        )
    first = people.admin.client.get("/people/sign-ins/?q=operator").content.decode()
    older = html.unescape(re.search(r'href="(\?q=operator[^"]+)"', first)[1])
    second = people.admin.client.get(f"/people/sign-ins/{older}").content.decode()
    found = [re.findall(r"203\.0\.113\.(\d+)", page) for page in (first, second)]
    assert found == [[str(n) for n in range(50)], [str(n) for n in range(50, 60)]]
    assert "before=" not in second


def test_the_commands_of_the_manual_let_everybody_in_again(people):
    manual = (settings.BASE_DIR / "docs" / "operations.md").read_text()
    lock_out("operator", "203.0.113.9")
    for number in range(sign_in_limits.FAILURES_OF_ADDRESS):
        AccessFailureLog.objects.create(username=f"n{number}", ip_address="203.0.113.10")
    assert len(sign_in_limits.lockouts()) == 2
    commands = re.findall(r"python manage\.py (axes_[^`]*)`", manual)
    assert len(commands) == 2
    for command in commands:
        call_command(*command.split(), stdout=io.StringIO())
    assert sign_in_limits.lockouts() == []
    assert sign_in(Client(REMOTE_ADDR="203.0.113.9")).status_code == 302
