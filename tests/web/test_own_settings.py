"""A person's own settings: language, theme, password."""

import re

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client

from accounts.models import Preferences
from tests.support.factories import PASSWORD

pytestmark = pytest.mark.usually("sqlite")

NEW = "a longer battery staple"


def chosen(user) -> dict | None:
    return Preferences.objects.filter(pk=user.pk).values("language", "theme").first()


def html_of(answer) -> str:
    return re.search(r"<html[^>]*>", answer.content.decode())[0]


def save(client, **fields):
    return client.post("/me/", {"do": "preferences", **fields})


def signed_in(name: str, client: Client | None = None) -> Client:
    client = client or Client()
    client.post("/login/", {"username": name, "password": PASSWORD})
    return client


def change_password(client, old=PASSWORD, new=NEW, again=NEW):
    names = ("old_password", "new_password1", "new_password2")
    return client.post("/me/", {"do": "password", **dict(zip(names, (old, new, again), strict=True))})


def test_language_and_theme_are_kept_and_shown_at_once(people):
    client = people.viewer.client
    assert "data-theme" not in html_of(client.get("/me/"))
    page = client.get(save(client, language="zh-hans", theme="dark").url)
    assert html_of(page) == '<html lang="zh-hans" data-theme="dark">'
    assert "已保存" in page.content.decode()
    assert '<meta name="color-scheme" content="dark">' in page.content.decode()
    assert chosen(people.viewer) == {"language": "zh-hans", "theme": "dark"}
    page = client.get(save(client, language="", theme="").url)
    assert html_of(page) == '<html lang="en">'
    assert chosen(people.viewer) == {"language": "", "theme": ""}


def test_another_browser_has_them_from_the_sign_in_on(people):
    save(people.operator.client, language="zh-hans", theme="light")
    other = signed_in("operator")
    assert html_of(other.get("/accounts/")) == '<html lang="zh-hans" data-theme="light">'
    other.post("/logout/")
    assert html_of(other.get("/login/")) == '<html lang="zh-hans" data-theme="light">'


def test_the_next_person_at_a_browser_does_not_get_the_theme_of_the_one_before(people):
    client = signed_in("operator")
    save(client, theme="dark")
    client.post("/logout/")
    assert html_of(signed_in("mate", client).get("/accounts/")) == '<html lang="en">'
    save(client, theme="light")
    client.post("/logout/")
    assert html_of(signed_in("operator", client).get("/accounts/")) == '<html lang="en" data-theme="dark">'


def test_the_language_button_is_a_choice_for_other_browsers_too(people):
    client = people.operator.client
    client.post("/language/setlang/", {"language": "zh-hans"})
    assert html_of(client.get("/accounts/")) == '<html lang="zh-hans">'
    assert html_of(signed_in("operator").get("/accounts/")) == '<html lang="zh-hans">'
    client.post("/language/setlang/", {"language": "xx"})
    client.get("/language/setlang/")
    assert chosen(people.operator) == {"language": "zh-hans", "theme": ""}
    anybody = Client()
    anybody.post("/language/setlang/", {"language": "zh-hans"})
    assert html_of(anybody.get("/login/")) == '<html lang="zh-hans">'
    assert html_of(signed_in("mate", anybody).get("/accounts/")) == '<html lang="zh-hans">'
    assert Preferences.objects.count() == 1


def test_cookies_live_as_long_as_a_session_and_no_script_reads_them(people):
    answer = save(people.operator.client, language="en", theme="dark", sound="on")
    for name in (settings.LANGUAGE_COOKIE_NAME, "wkportal_theme", "wkportal_notifications"):
        cookie = answer.cookies[name]
        assert cookie["max-age"] >= settings.SESSION_COOKIE_AGE
        assert cookie["httponly"] and cookie["samesite"] == "Lax"


@pytest.mark.parametrize(
    "fields",
    [
        {"language": "xx"},
        {"theme": "blue"},
        {"theme": "dark\0"},
        {"language": "e" * 10_000},
        {"theme": "'\""},
    ],
)
def test_what_cannot_be_chosen_is_refused(people, fields):
    answer = save(people.operator.client, **fields)
    assert answer.status_code == 422
    assert chosen(people.operator) is None


def test_a_forged_theme_is_none(people):
    client = people.operator.client
    client.cookies["wkportal_theme"] = 'dark"onload="x'
    assert html_of(client.get("/me/")) == '<html lang="en">'


@pytest.mark.slow
def test_browser_notifications_are_off_until_they_are_chosen(people):
    client = people.operator.client
    assert 'data-notifications=""' in client.get("/accounts/").content.decode()
    for fields, wanted in (
        ({"notifications": "on", "sound": "on"}, "notifications sound"),
        ({"sound": "on"}, "sound"),
        ({"notifications": "on"}, "notifications"),
    ):
        save(client, **fields)
        for browser in (client, signed_in("operator")):
            assert f'data-notifications="{wanted}"' in browser.get("/accounts/").content.decode()
    client.post("/logout/")
    assert 'data-notifications=""' in client.get("/login/").content.decode()
    assert 'data-notifications=""' in signed_in("mate", client).get("/accounts/").content.decode()
    save(people.operator.client)
    client.cookies["wkportal_notifications"] = "loud-<script>"
    assert 'data-notifications=""' in client.get("/accounts/").content.decode()


def test_an_unknown_action_is_not_found(people):
    assert people.operator.client.post("/me/", {"do": "anything"}).status_code == 404
    assert people.operator.client.post("/me/").status_code == 404


def test_a_new_password_ends_every_other_session(people):
    here, there = people.operator.client, signed_in("operator")
    assert there.get("/accounts/").status_code == 200
    answer = change_password(here)
    assert answer.url == "/me/"
    assert "Password changed" in here.get("/me/").content.decode()
    assert there.get("/accounts/").status_code == 302
    assert signed_in("operator").get("/accounts/").status_code == 302
    assert Client().post("/login/", {"username": "operator", "password": NEW}).url == "/"


@pytest.mark.parametrize(
    "typed",
    [("wrong", NEW, NEW), (PASSWORD, "short", "short"), (PASSWORD, NEW, NEW + "x"), (PASSWORD, "operator", "operator"),
     (PASSWORD, "password123", "password123"), ("", "", "")],
)  # fmt: skip
def test_a_wrong_change_of_the_password_changes_nothing(people, typed):
    answer = change_password(people.operator.client, *typed)
    page = answer.content.decode()
    assert answer.status_code == 422
    assert 'role="alert"' in page and NEW not in page and PASSWORD not in page
    assert page.count("autofocus") == 1
    assert get_user_model().objects.get(pk=people.operator.pk).check_password(PASSWORD)


def test_every_page_leads_there(people):
    page = people.viewer.client.get("/accounts/").content.decode()
    assert len(re.findall(r'href="/me/"', page)) == 2  # in the column and under More
    assert 'aria-current="page"' in people.viewer.client.get("/me/").content.decode()
