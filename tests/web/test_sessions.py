"""Where a person is signed in: listed, ended by the person or an admin, ended by another password or by idle hours."""

import re
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone, translation

from accounts.models import SignIn
from accounts.web.people import sessions
from tests.support.factories import PASSWORD

pytestmark = pytest.mark.usually("sqlite")

NEW = "a longer battery staple"
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 Safari/537.36"
SAFARI = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1 Version/18.1 Mobile/15E148 Safari/604.1"


def signed_in(name="operator", user_agent=CHROME, address="203.0.113.9") -> Client:
    client = Client(HTTP_USER_AGENT=user_agent, REMOTE_ADDR=address)
    assert client.post("/login/", {"username": name, "password": PASSWORD}).status_code == 302
    return client


def key_of(client) -> str:
    return client.session.session_key


def row_of(client) -> SignIn:
    return SignIn.objects.get(session_key=key_of(client))


def is_in(client) -> bool:
    return client.get("/me/").status_code == 200


def page(client) -> str:
    return re.sub(r"\s+", " ", client.get("/me/").content.decode())


@pytest.mark.usually("sqlite", "postgres")
@pytest.mark.slow
def test_a_person_sees_where_and_ends_one_or_all_others(people):
    here, phone, third = signed_in(), signed_in(user_agent=SAFARI, address="203.0.113.10"), signed_in()
    other = signed_in("mate", address="203.0.113.77")
    text = page(here)
    assert "Chrome on Windows" in text and "Safari on iPhone" in text
    assert "203.0.113.10" in text and "203.0.113.77" not in text
    assert text.count("This one") == 1
    assert not any(key_of(client) in text for client in (here, phone, third))
    here.post("/me/", {"do": "end_session", "session": row_of(phone).pk})
    assert (is_in(here), is_in(phone), is_in(third)) == (True, False, True)
    assert "Safari on iPhone" not in page(here)
    for wrong in (row_of(other).pk, row_of(here).pk, "", "x", "9" * 30):
        here.post("/me/", {"do": "end_session", "session": wrong})
    assert is_in(other) and is_in(here)
    here.post("/me/", {"do": "end_others"})
    assert (is_in(here), is_in(third), is_in(other)) == (True, False, True)


@pytest.mark.usually("sqlite", "postgres")
def test_an_admin_ends_all_sessions_of_a_person(people):
    one, two, mate = signed_in(), signed_in(user_agent=SAFARI), signed_in("mate")
    SignIn.objects.filter(session_key=key_of(two)).delete()
    address = f"/people/{people.operator.pk}/"
    assert mate.post(address, {"do": "sign_out"}).status_code == 404
    assert is_in(one)
    assert people.admin.client.post(address, {"do": "sign_out"}).status_code == 302
    assert (is_in(one), is_in(two), is_in(mate)) == (False, False, True)
    assert "Signed out everywhere" in people.admin.client.get(address).content.decode()
    own = f"/people/{people.admin.pk}/"
    assert 'value="sign_out"' not in people.admin.client.get(own).content.decode()
    people.admin.client.post(own, {"do": "sign_out"})
    assert is_in(people.admin.client)


def test_another_password_ends_the_others_and_the_row_of_this_one_stays(people):
    here, other = signed_in(), signed_in()
    row, key = row_of(here), key_of(here)
    fields = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
    here.post("/me/", {"do": "password", **fields})
    assert key_of(here) != key
    assert row_of(here).pk == row.pk
    assert page(here).count("Last seen") == 1  # before the other one comes and is refused
    assert (is_in(here), is_in(other)) == (True, False)


@pytest.mark.slow
def test_last_seen_is_written_every_few_minutes_by_what_a_person_does(people):
    client = signed_in()

    def seen_after(minutes: int, **headers) -> bool:
        then = timezone.now() - timedelta(minutes=minutes)
        session = client.session
        session["seen_at"] = int(then.timestamp())
        session.save()
        SignIn.objects.update(seen_at=then)
        client.get("/accounts/", headers=headers)
        return SignIn.objects.get().seen_at != then

    assert not seen_after(4)
    assert seen_after(6)
    assert not seen_after(6, hx_request="true")
    assert not seen_after(6, sec_fetch_mode="cors")
    assert not seen_after(6, accept="text/event-stream")
    assert seen_after(6, sec_fetch_mode="navigate")


def lasts(client) -> timedelta:
    return Session.objects.get(session_key=key_of(client)).expire_date - timezone.now()


def test_a_session_lasts_for_its_age_or_for_the_idle_hours(people, settings):
    client = signed_in()
    assert timedelta(days=13) < lasts(client) <= timedelta(days=14)
    settings.SESSION_IDLE_HOURS = 2
    client = signed_in()
    assert timedelta(minutes=110) < lasts(client) <= timedelta(hours=2)
    session = client.session
    session["signed_in_at"] -= 14 * 24 * 3600 - 1800
    session["seen_at"] -= 600
    session.save()
    client.get("/accounts/")
    assert lasts(client) <= timedelta(minutes=30)
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    assert not is_in(client)


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        (CHROME, "Chrome on Windows"),
        (CHROME + " Edg/141.0", "Edge on Windows"),
        (SAFARI, "Safari on iPhone"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0", "Firefox on Linux"),
        ("curl/8.9", "Unknown browser"),
        ("", "Unknown browser"),
    ],
)
def test_browser_and_system_in_words(user_agent, words):
    with translation.override("en"):
        assert sessions.browser_of(user_agent) == words


def test_a_session_of_before_is_in_the_list_from_the_first_look_on(people):
    client = people.operator.client
    session = client.session
    del session["signed_in_at"], session["seen_at"]
    session.save()
    assert page(client).count("This one") == 1
