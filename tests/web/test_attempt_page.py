"""The page of a login: its way with the seconds of each stretch, the logins before it, minor events folded."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import AccountEvent
from accounts.web.history.attempt_page import earlier_logins, way
from tests.support.factories import make_attempt

pytestmark = pytest.mark.usually("sqlite")

NOW = timezone.now()


def page(people, attempt) -> str:
    answer = people.operator.client.get(f"/attempts/{attempt.pk}/")
    assert answer.status_code == 200
    return answer.content.decode()


def started(account, state, seconds=None, **fields):
    """An attempt that was requested a minute ago and ended after so many seconds."""
    begin = NOW - timedelta(minutes=1)
    if seconds is not None:
        fields["ended_at"] = begin + timedelta(seconds=seconds)
    return make_attempt(account, state, created_at=begin, **fields)


def event(attempt, after, old="", new="", happened="attempt_moved", **fields):
    at = attempt.created_at + timedelta(seconds=after)
    return AccountEvent.objects.create(
        account=attempt.account,
        attempt=attempt,
        happened=happened,
        from_state=old,
        to_state=new,
        at=at,
        **fields,
    )


def shown(people, attempt) -> list[tuple]:
    """Each stop of the line as (state, marks, seconds, side steps)."""
    found = []
    for stop in page(people, attempt).split("data-stop=")[1:]:
        state, marks = re.match(r'"(\w+)"\s*(?:class="([\w ]+)")?', stop).groups()
        seconds = re.search(r'class="secs(?: long)?">([^<]+)<', stop)
        steps = [" ".join(step.split()) for step in re.findall(r'class="taken">([^<]+)<', stop)]
        found.append((state, marks, seconds and seconds[1], steps))
    return found


def test_a_login_with_two_wrong_codes_is_one_line_with_its_side_steps(people):
    attempt = started(people.account(), "succeeded", 37.4, asked_by_name="li")
    event(attempt, 0, new="preparing", happened="attempt_started", actor_name="li")
    event(attempt, 0.4, "preparing", "waiting")
    event(attempt, 0.5, happened="wait_taken")
    event(attempt, 9, happened="wait_resumed")
    event(attempt, 21.7, "waiting", "code_required", actor_name="")
    for after in (25, 30):
        event(attempt, after, "code_required", "waiting", actor_name="li")
        event(attempt, after + 2, "waiting", "code_required")
    event(attempt, 36, "code_required", "waiting", actor_name="li")
    event(attempt, 37.4, "waiting", "succeeded")
    assert shown(people, attempt) == [
        ("preparing", None, "0.4 s", []),
        ("waiting", None, "21 s", ["Wait resumed"]),
        ("code_required", None, "16 s", ["Wrong verification code × 2"]),
        ("succeeded", None, None, []),
    ]
    text = page(people, attempt)
    assert "Logged in after 37 s" in " ".join(text.split())
    assert re.findall(r'class="secs long">([^<]+)<', text) == ["21 s"]


@pytest.mark.parametrize(
    ("state", "reason", "method", "title", "exits"),
    [
        ("failed", "declined", "qr", "Declined on the phone", ["QR code not scanned in time"]),
        ("expired", "not_scanned", "qr", "QR code not scanned in time", ["Declined on the phone"]),
        ("expired", "not_tapped", "popup", "Not confirmed on the phone in time", ["Phone prompt declined"]),
        ("cancelled", "cancelled", "qr", "Cancelled in the portal", ["Declined on the phone"]),
    ],
)
def test_the_line_ends_where_the_login_ended_and_keeps_the_exits_not_taken(
    people, state, reason, method, title, exits
):
    attempt = started(people.account(), state, 24.8, reason=reason, method=method)
    event(attempt, 0.4, "preparing", "waiting")
    end = event(attempt, 24.8, "waiting", state, reason=reason)
    stops = way(attempt, list(attempt.events.order_by("id")))
    assert [(stop.state, stop.marks) for stop in stops] == [
        ("preparing", ""),
        ("waiting", ""),
        (state, f"end {state}"),
        ("succeeded", "ahead"),
    ]
    assert (str(stops[2].title), stops[2].at) == (title, end.at)
    assert title not in stops[1].exits and set(exits) <= set(map(str, stops[1].exits))
    assert title in page(people, attempt)


def test_an_open_login_counts_on_and_shows_what_lies_ahead(people):
    attempt = started(people.account(), "preparing")
    assert [stop[:2] for stop in shown(people, attempt)] == [
        ("preparing", "now"),
        ("waiting", "ahead"),
        ("succeeded", "ahead"),
    ]
    other = started(people.account(), "waiting", method="popup", qr_shown_at=None)
    event(other, 0.4, "preparing", "waiting")
    assert [stop[:2] for stop in shown(people, other)] == [
        ("preparing", None),
        ("waiting", "now"),
        ("succeeded", "ahead"),
    ]
    assert "Prompt sent" in page(people, other) and "data-lasting" in page(people, other)


def test_the_line_of_a_login_without_events_comes_from_its_row(people):
    begin = NOW - timedelta(minutes=1)
    attempt = started(people.account(), "succeeded", 20, qr_shown_at=begin + timedelta(seconds=0.4))
    assert [stop.seconds for stop in way(attempt, [])] == [0.4, pytest.approx(19.6), None]


def test_minor_events_are_folded_and_the_seconds_count_between_the_others(people):
    attempt = started(people.account(), "succeeded", 20)
    event(attempt, 0, new="preparing", happened="attempt_started")
    event(attempt, 0.4, "preparing", "waiting")
    first = event(attempt, 0.5, happened="wait_taken")
    event(attempt, 5, happened="wait_resumed")
    event(attempt, 20, "waiting", "succeeded")
    text = page(people, attempt)
    fold = text.split(f'<details id="minor-{first.pk}">')[1].split("</details>")[0]
    assert "2 minor events: Waiting for the phone, Wait resumed" in fold
    assert re.findall(r'data-event="(\w+)"', fold) == ["wait_taken", "wait_resumed"]
    assert re.findall(r'data-event="(\w+)"', text.replace(fold, "")) == [
        "attempt_started",
        "attempt_moved",
        "attempt_moved",
    ]
    assert "+19.6 s" in text.replace(fold, "")


def test_the_chart_ends_with_this_login_and_shows_twelve_at_most(people, django_assert_num_queries):
    account, other = people.account(), people.account()
    attempts = [started(account, "succeeded", 10 + n) for n in range(13)]
    started(other, "failed", 30)
    started(account, "expired", 50)  # after the one that is looked at
    with django_assert_num_queries(1):
        earlier = earlier_logins(attempts[12], NOW)
    assert [bar.attempt.pk for bar in earlier.bars] == [attempt.pk for attempt in attempts[1:]]
    assert (earlier.bars[0].percent, earlier.bars[-1].percent, earlier.median) == (50, 100, 16.5)
    assert earlier.outcomes == [("succeeded", "Logged in", 12)]
    text = page(people, attempts[12])
    assert text.count("<svg height=") == 12
    assert re.search(rf'class="succeeded this">\s*<a href="/attempts/{attempts[12].pk}/"', text)
    assert "history-chart" not in page(people, attempts[0])
