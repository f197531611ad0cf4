"""Every QR code and verification page that somebody was shown is in the audit log, once for each login and viewer."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import AuditEntry
from accounts.models.audit import shown
from accounts.models.audit.entry import AuditKind
from accounts.models.audit.origin import Way
from accounts.scanning import links
from accounts.states import AttemptState
from tests.support.factories import make_attempt
from tests.support.scanning import run_of
from tests.support.scanning import shown as shown_item

PNG = b"\x89PNG"
HTMX = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def nothing_written():
    shown._written.clear()


def entries(**fields) -> list[AuditEntry]:
    kinds = (AuditKind.CODE_SHOWN, AuditKind.PAGE_SHOWN)
    return list(AuditEntry.objects.filter(kind__in=kinds, **fields).order_by("pk"))


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.slow
def test_each_page_that_shows_it_has_its_entry(people, asks):
    state = AttemptState.PAGE_REQUIRED if asks else AttemptState.WAITING
    shows = {"page_url": "https://example.com/verify"} if asks else {"qr_png": PNG}
    kind = AuditKind.PAGE_SHOWN if asks else AuditKind.CODE_SHOWN

    def attempt():
        return make_attempt(people.account(), state, **shows)

    addresses = [
        lambda a: reverse("account", args=[a.account_id]),
        lambda a: reverse("account_live", args=[a.account_id]),
        lambda a: reverse("attempt", args=[a.pk]),
        lambda a: reverse("attempt_live", args=[a.pk]),
    ]
    if not asks:
        addresses.append(lambda a: reverse("qr_png", args=[a.pk]))
    for address in addresses:
        made = attempt()
        for _again in range(2):
            answer = people.operator.client.get(address(made), REMOTE_ADDR="203.0.113.9")
            assert answer.status_code == 200
        (entry,) = entries(attempt_id=made.pk)
        assert (entry.kind, entry.actor_name, entry.address) == (kind, "operator", "203.0.113.9")
        assert (entry.account_id, entry.team_name) == (made.account_id, "East")


def test_the_station_and_a_new_login_have_theirs(people, upstream):
    account = people.account()
    people.operator.client.post(reverse("start_login", args=[account.pk]), headers=HTMX)
    (entry,) = entries()
    assert (entry.origin, entry.account_id) == ("start_login", account.pk)
    other = people.account()
    run = run_of(people.operator, [other])
    address = reverse("station_live", args=[run.pk])
    people.operator.client.get(address)
    attempt = shown_item(run).attempt
    type(attempt).objects.filter(pk=attempt.pk).update(state=AttemptState.WAITING, qr_png=PNG, qr_text="x")
    assert "data:image" in people.operator.client.get(address).content.decode()
    assert [e.origin for e in entries(account_id=other.pk)] == ["station_live"]


def test_the_page_of_a_link_has_one_for_each_address(people):
    account = people.account(state="offline")
    link = links.create(account, timedelta(hours=8), by=people.operator)
    attempt = make_attempt(account, qr_png=PNG)
    # Somebody who is signed in here sees the page as the owner of the phone.
    for client, address in (
        (Client(), "198.51.100.7"),
        (Client(), "198.51.100.8"),
        (people.mate.client, "198.51.100.8"),
    ):
        for part in ("", "live/"):
            answer = client.get(f"/scan/{link.token}/{part}", REMOTE_ADDR=address)
            assert "data:image" in answer.content.decode()
    found = entries(attempt_id=attempt.pk)
    assert [(e.address, e.link_id, e.way) for e in found] == [
        ("198.51.100.7", link.pk, Way.LINK),
        ("198.51.100.8", link.pk, Way.LINK),
    ]
    assert {(e.actor_id, e.actor_name) for e in found} == {(None, "")}


def test_who_is_shown_none_has_none(people):
    attempt = make_attempt(people.account(), qr_png=PNG)
    for page in ("attempt", "attempt_live"):
        assert people.viewer.client.get(reverse(page, args=[attempt.pk])).status_code == 200
    assert people.viewer.client.get(reverse("qr_png", args=[attempt.pk])).status_code == 403
    assert people.stranger.client.get(reverse("qr_png", args=[attempt.pk])).status_code == 404
    asks = make_attempt(people.account(), AttemptState.CODE_REQUIRED)
    people.operator.client.get(reverse("attempt", args=[asks.pk]))
    assert entries() == []


def test_a_refresh_writes_nothing(people, django_capture_on_commit_callbacks):
    attempt = make_attempt(people.account(), qr_png=PNG)
    address = reverse("attempt_live", args=[attempt.pk])
    with django_capture_on_commit_callbacks(execute=True):
        people.operator.client.get(address)
    with CaptureQueriesContext(
        connection,
    ) as said:
        people.operator.client.get(address)
    assert not [query for query in said if "accounts_auditentry" in query["sql"]]
    people.mate.client.get(address)
    assert [entry.actor_name for entry in entries()] == ["operator", "mate"]


def test_what_is_remembered_has_an_end(monkeypatch):
    monkeypatch.setattr(shown, "REMEMBERED_MOST", 3)
    for number in range(10):
        shown._remember(str(number))
        assert len(shown._written) <= 3
