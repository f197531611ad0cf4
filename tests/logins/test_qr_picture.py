"""The picture of a QR code: its request is repeated, and whatever is wrong with it is named in the attempt."""

import pytest
from django.db.backends.signals import connection_created

from accounts.logins import start
from accounts.models import LoginAttempt
from tests.support.factories import fresh

PICTURE = "/qr/*"


def requested(account) -> LoginAttempt:
    attempt, _new = start.start_login(account)
    start.fetch_qr_code(attempt)
    return fresh(attempt)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "how"),
    [("empty", {"status": 404}), ("html", {"status": 503}), ("cut", {}), ("html", {"status": 200})],
)
def test_a_picture_that_is_not_to_be_had_at_first_is_requested_again(kind, how, committed, upstream):
    upstream.fault(PICTURE, kind, times=2, **how)
    attempt = requested(committed.account())
    assert (attempt.state, attempt.w_id) == ("waiting", upstream.logins()[0]["wId"])
    assert (upstream.calls("/iPadLogin"), upstream.calls(PICTURE)) == (1, 3)


@pytest.mark.parametrize(
    ("kind", "how", "reason", "part"),
    [
        ("empty", {"status": 404}, "qr_host_down", "HTTP 404"),
        ("html", {"status": 200}, "qr_picture", "an HTML page"),
        ("raw", {"body": "<svg xmlns='http://www.w3.org/2000/svg'/>"}, "qr_picture", "an SVG image"),
        ("redirect", {}, "qr_host", "169.254.169.254"),
    ],
)
def test_a_picture_that_never_comes_ends_the_attempt_with_its_part_and_keeps_the_w_id(
    kind, how, reason, part, committed, upstream, monkeypatch
):
    monkeypatch.setattr(start, "PICTURE_SECONDS", 0.5)
    upstream.fault(PICTURE, kind, **how)
    attempt = requested(committed.account())
    assert (attempt.state, attempt.reason) == ("failed", reason)
    assert part in attempt.upstream_text
    assert attempt.w_id == upstream.logins()[0]["wId"]
    assert upstream.calls("/iPadLogin") == 1


@pytest.mark.parametrize("form", ["blanks", "relative", "scheme", "data", "base64"])
def test_a_picture_s_address_in_an_odd_form_is_read(form, committed, upstream):
    upstream.settings(qr_address=form)
    attempt = requested(committed.account())
    assert (attempt.state, attempt.qr_text) == ("waiting", upstream.logins()[0]["phone_url"])


@pytest.mark.parametrize(
    ("form", "part"), [("svg", "an SVG image"), ("ftp", "the scheme ftp:"), ("none", "no address")]
)
def test_a_picture_s_address_that_is_none_is_said(form, part, committed, upstream):
    upstream.settings(qr_address=form)
    attempt = requested(committed.account())
    assert (attempt.reason, attempt.upstream_text) == ("qr_address", part)
    assert attempt.w_id == upstream.logins()[0]["wId"]


def test_a_redirect_within_the_upstream_s_host_is_followed(committed, upstream):
    upstream.fault(PICTURE, "redirect", location=f"{upstream.url}/avatar/picture.png")
    assert requested(committed.account()).state == "waiting"
    assert upstream.calls("/avatar/*") == 1


@pytest.mark.database("sqlite")
def test_a_database_file_is_not_opened_again_while_somebody_waits_for_the_code(committed, upstream):
    requested(committed.account())  # reads the Authorization, which is known from then on
    account, opened = committed.account(), []

    def note(**_of_signal):
        opened.append(1)

    connection_created.connect(note)
    try:
        assert requested(account).state == "waiting"
    finally:
        connection_created.disconnect(note)
    assert opened == []
