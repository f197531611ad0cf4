"""What a process counts, by what it did: once each, and never what was rolled back."""

import pytest
from django.db import transaction
from django.utils import timezone
from prometheus_client import REGISTRY

from accounts.models.login_attempt import move_together
from accounts.notifications import dispatch
from accounts.presence import offline
from accounts.reasons import Reason
from accounts.states import AttemptState
from accounts.upstream import errors
from accounts.upstream.errors import UpstreamError
from tests.support.factories import make_attempt
from tests.upstream.test_client import client_of


@pytest.fixture
def counted():
    """How much a sample has grown since the test began."""
    before = {
        (s.name, tuple(sorted(s.labels.items()))): s.value for f in REGISTRY.collect() for s in f.samples
    }

    def grown(name: str, **labels: str) -> float:
        now = REGISTRY.get_sample_value(name, labels) or 0
        return now - before.get((name, tuple(sorted(labels.items()))), 0)

    return grown


def test_a_login_counts_once_when_its_end_is_committed(committed, counted):
    attempt = make_attempt(committed.account(), qr_shown_at=timezone.now())
    succeeded = {"outcome": "succeeded", "method": "qr", "trigger": "operator"}
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        move_together([attempt], AttemptState.SUCCEEDED)
        raise ZeroDivisionError
    assert counted("wkportal_logins_total", **succeeded) == 0
    attempt.refresh_from_db()
    assert attempt.move(AttemptState.SUCCEEDED) and not attempt.is_open
    assert counted("wkportal_logins_total", **succeeded) == 1
    assert counted("wkportal_scan_seconds_count") == 1


def test_a_failure_counts_with_its_reason_and_a_cancel_is_none(committed, counted):
    for state, reason in (
        (AttemptState.FAILED, Reason.LINE_DOWN),
        (AttemptState.EXPIRED, Reason.NOT_SCANNED),
        (AttemptState.CANCELLED, Reason.CANCELLED),
    ):
        make_attempt(committed.account()).move(state, reason=reason)
    grown = {reason: counted("wkportal_login_failures_total", reason=reason) for reason in Reason.values}
    assert {reason: number for reason, number in grown.items() if number} == {
        "line_down": 1,
        "not_scanned": 1,
    }
    assert counted("wkportal_scan_seconds_count") == 0


def test_drops_count_by_kind_and_how_they_were_found(committed, counted):
    account, now = committed.account(w_id="w", missed_by="notice"), timezone.now()
    with transaction.atomic():
        assert offline.go_offline([account.pk], now, now)
    assert counted("wkportal_drops_total", kind="ordinary", detected_by="notice") == 1


def test_calls_count_by_path_and_result(db, upstream, counted):
    client = client_of(upstream.url, account=upstream.account, password=upstream.password)
    client.online()
    upstream.fault("/isOnline", "html", status=502, times=1)
    with pytest.raises(UpstreamError):
        client.is_online("w")
    count = "wkportal_upstream_call_seconds_count"
    assert counted(count, path="/queryLoginWx", result="ok") == 1
    assert counted(count, path="/isOnline", result="bad_answer") == 1
    assert errors.kind(errors.OutcomeUnknown("out of time")) == "timeout"
    assert errors.kind(errors.SignInRefused()) == "sign_in_refused"


def test_deliveries_count_when_they_are_written(committed, counted):
    with transaction.atomic():
        dispatch._count("sent", 3)
    assert counted("wkportal_deliveries_total", result="sent") == 3


def test_requests_count_by_view_and_strange_methods_are_one(people, rf, counted):
    people.viewer.client.get("/accounts/")
    people.viewer.client.get("/accounts/?q=secret")
    people.viewer.client.get("/nowhere/canary/")
    assert counted("wkportal_http_requests_total", view="accounts", method="GET", status="200") == 2
    assert counted("wkportal_http_requests_total", view="none", method="GET", status="404") == 1
    assert counted("wkportal_http_request_seconds_count", view="accounts") == 2
    people.viewer.client.generic("SPELL", "/accounts/")
    assert counted("wkportal_http_requests_total", view="accounts", method="other", status="405") == 1
    assert "canary" not in str([sample for family in REGISTRY.collect() for sample in family.samples])
