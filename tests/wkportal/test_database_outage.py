"""A database that is unreachable or full, without a browser: 503, when to ask again, and nothing typed is lost."""

import logging

import pytest
from django.db import OperationalError, connection
from django.http import HttpResponse
from django.test import RequestFactory

from accounts.models import Account
from wkportal.database import outage


@pytest.fixture
def full_disk(transactional_db):
    """The database's file has no free page, whatever tests before deleted, and may not grow any more."""
    if connection.vendor != "sqlite":
        pytest.skip("a full disk can be had with SQLite only")
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA page_count")
        cursor.execute(f"PRAGMA max_page_count = {cursor.fetchone()[0]}")
        yield
        cursor.execute("PRAGMA max_page_count = 1073741823")


def test_a_full_disk_answers_503_and_keeps_what_was_typed(committed, full_disk):
    client = committed.operator.client
    typed = {"label": "<b>旗舰店</b>", "note": "x" * 2000, "proxy": "none", "team": str(committed.east.pk)}
    for number in range(200):
        answer = client.post("/accounts/new/", {**typed, "wc_id": f"wxid_{number:06}"})
        if answer.status_code != 302:
            break
    page = answer.content.decode()
    assert (answer.status_code, answer["X-Away"], answer["Retry-After"]) == (503, "database", "5")
    assert 'name="label" value="&lt;b&gt;旗舰店&lt;/b&gt;"' in page and "<b>" not in page
    assert "refresh" not in page  # what was sent is not sent again by itself
    short = client.post("/accounts/new/", {**typed, "wc_id": "wxid_x"}, headers={"HX-Request": "true"})
    assert short.status_code == 503 and b"<html" not in short.content
    assert client.get("/accounts/").status_code == 200  # reading goes on
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA max_page_count = 1073741823")
    before = Account.objects.count()
    assert client.post("/accounts/new/", {**typed, "wc_id": "wxid_y"}).status_code == 302
    assert Account.objects.count() == before + 1


@pytest.mark.parametrize("field", ["password", "old_password", "new_password1"])
def test_a_password_is_not_written_into_the_page(field):
    request = RequestFactory().post("/login/", {"username": "operator", field: "secret-word"})
    page = outage.database_down(request, OperationalError("away")).content.decode()
    assert "secret-word" not in page and "operator" not in page
    assert 'href="/login/"' in page


def test_what_was_typed_beside_an_empty_password_field_is_kept():
    request = RequestFactory().post("/accounts/new/", {"label": "Shop 1", "own_proxy_password": ""})
    page = outage.database_down(request, OperationalError("away")).content.decode()
    assert 'name="label" value="Shop 1"' in page


def test_an_error_outside_of_a_view_is_distinguished_from_others(caplog):
    def answer_to(error: Exception):
        try:
            raise error
        except Exception:
            return outage.broken(RequestFactory().get("/"))

    with caplog.at_level(logging.WARNING):
        assert answer_to(OperationalError("server closed the connection")).status_code == 503
    assert "server closed the connection" in caplog.text
    assert answer_to(ValueError("ours")).status_code == 500


@pytest.mark.parametrize(("method", "status"), [("get", 503), ("head", 503), ("post", 200)])
def test_beside_a_request_that_waits_for_the_database_only_what_was_typed_goes_on(
    monkeypatch, method, status
):
    monkeypatch.setattr(outage._Away, "known", True)
    middleware = outage.answers_without_database(lambda request: HttpResponse())
    with outage._Away.probe:
        answer = middleware(getattr(RequestFactory(), method)("/accounts/1/"))
    assert answer.status_code == status
