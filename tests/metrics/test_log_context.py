"""What log lines say of the request, the person, the account and the login: in one process, and across all of them."""

import json
import logging

import pytest

from accounts.logins import start
from accounts.metrics import log_context
from tests.support.factories import make_account
from tests.support.processes import until
from tests.support.scenarios import ends, marks, running_stack, waiting
from tests.support.stack import Operator

running = running_stack(LOG_FORMAT="json")
GIVEN = "from-the-proxy-0123"


@pytest.fixture
def lines():
    """The records, as the handler of the settings gets them."""
    found: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.addFilter(log_context.Context())
    handler.emit = found.append
    logging.getLogger().addHandler(handler)
    yield found
    logging.getLogger().removeHandler(handler)


def of(lines: list[logging.LogRecord], logger: str) -> list[dict]:
    return [vars(line) for line in lines if line.name == logger]


def test_an_answer_has_one_line_and_gives_its_request_id(people, lines):
    account = make_account(team=people.east)
    answer = people.operator.client.get(
        f"/accounts/{account.pk}/?secret=1", headers={"X-Request-ID": GIVEN, "Accept-Encoding": "gzip"}
    )
    assert answer["X-Request-ID"] == GIVEN
    (line,) = of(lines, "wkportal.access")
    told = {name: line[name] for name in ("method", "route", "status", "account", "user", "request_id")}
    assert told == {
        "method": "GET",
        "route": "account",
        "status": 200,
        "account": account.pk,
        "user": people.operator.pk,
        "request_id": GIVEN,
    }
    assert "secret" not in str(line)


@pytest.mark.parametrize(
    "given", ["", "short", "a" * 65, "with space 0", "ünicode-ünicode", 'quote"quote"quote']
)
def test_a_request_id_that_is_none_is_replaced(client, lines, given):
    made = client.get("/nowhere/", headers={"X-Request-ID": given})["X-Request-ID"]
    assert len(made) == 32
    (line,) = of(lines, "wkportal.access")
    assert (line["request_id"], line["route"], line["status"]) == (made, "none", 404)
    assert "user" not in line
    assert not of(lines, "django.request")


def test_health_checks_are_logged_only_if_they_fail(db, client, lines):
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    assert not of(lines, "wkportal.access")


def test_events_are_logged_after_the_commit_with_the_context_of_their_own_request(
    people, lines, upstream, django_capture_on_commit_callbacks
):
    account = make_account(team=people.east)
    with django_capture_on_commit_callbacks() as callbacks, log_context.bound(request_id=GIVEN):
        attempt, _begun = start.start_login(account, by=people.operator)
    assert not of(lines, "accounts.events")
    with log_context.bound(request_id="of-the-caller-that-commits"):
        for callback in callbacks:
            callback()
    started = of(lines, "accounts.events")[0]
    assert (
        started["happened"],
        started["attempt"],
        started["account"],
        started["actor"],
        started["request_id"],
    ) == (
        "attempt_started",
        attempt.pk,
        account.pk,
        people.operator.pk,
        GIVEN,
    )


@pytest.mark.slow
class TestAcrossProcesses:
    pytestmark = marks()

    def test_a_login_is_read_by_its_id_and_by_the_request_that_began_it(self, stack, live, upstream):
        attempt = waiting(Operator(stack, live.operator), upstream, live.account())
        upstream.phone("confirm", wId=attempt.w_id)
        ends(attempt)

        def story() -> list[dict]:
            lines = [json.loads(line) for line in stack.log.splitlines()]
            return sorted(
                (one for one in lines if one.get("attempt") == attempt.pk), key=lambda one: one["time"]
            )

        def steps() -> list[str]:
            return [
                f"{one['happened']} {one.get('to', '')}"
                for one in story()
                if one["logger"] == "accounts.events"
            ]

        until(lambda: "attempt_moved succeeded" in steps(), "the end of the login is not logged")
        assert steps()[:2] == ["attempt_started preparing", "attempt_moved waiting"]
        assert {one["process"] for one in story()} >= {"web", "waits@test"}
        first = story()[0]
        told = [one for one in story() if one.get("request_id") == first["request_id"]]
        assert {one["process"] for one in told} == {"web", "waits@test"}
        assert {one["user"] for one in told} == {live.operator.pk}
        assert all(one["time"][-6] in "+-" and one["account"] == attempt.account_id for one in story())
