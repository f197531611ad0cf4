"""Seats and end of the developer account: read from the sign-in, read again when that matters, and what they limit."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.utils import timezone

from accounts import tasks
from accounts.logins import start, wait
from accounts.models import Drop, UnmanagedAccount, UpstreamAccess, WaitsWorker
from accounts.reasons import Reason
from accounts.relogin import recover
from accounts.states import Method, NextStep
from accounts.upstream import configured, developer_account, responses, sign_in_response
from tests.support.factories import fresh, make_account, make_attempt
from tests.support.payloads import envelope
from tests.support.threads import in_thread, running

D, H, M = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
SIGN_IN = "/member/login"


@pytest.fixture(autouse=True)
def signs_in(settings):
    """Without a given Authorization, as the portal runs that knows its developer account."""
    settings.WK_AUTHORIZATION = ""


def told(settings, seats: int | None = None, read: timedelta = M, ends: timedelta | None = None) -> None:
    """What a sign-in told so long ago."""
    now = timezone.now()
    UpstreamAccess.objects.create(
        base_url=settings.WK_BASE_URL,
        account=settings.WK_ACCOUNT,
        authorization="kept",
        seats=seats,
        ends_at=None if ends is None else now + ends,
        read_at=now - read,
        read_due_at=now + H,
    )


def online(count: int) -> None:
    for n in range(count):
        make_account(w_id=f"w-{n}", wc_id=f"wxid_on{n}")


# --- the answer


@pytest.mark.parametrize(
    ("data", "seats", "ends_at"),
    [
        ({"availableNumber": 40, "overdueTime": 1893456000000}, 40, datetime(2030, 1, 1, tzinfo=UTC)),
        ({"availableNumber": "40", "overdueTime": "1893456000000"}, 40, datetime(2030, 1, 1, tzinfo=UTC)),
        ({}, None, None),
        ({"availableNumber": None, "overdueTime": None}, None, None),
        # No account could be online: that is no number of seats. A moment of 1970 is no end of a contract.
        ({"availableNumber": 0, "overdueTime": 0}, None, None),
        ({"availableNumber": -1, "overdueTime": 1893456000}, None, None),
        ({"availableNumber": True, "overdueTime": "soon"}, None, None),
        ({"availableNumber": 10**12, "overdueTime": 10**19}, None, None),
        ({"availableNumber": [], "overdueTime": {}}, None, None),
    ],
)
def test_what_a_sign_in_tells_of_the_developer_account(data, seats, ends_at):
    answer = responses.read(200, responses.Body("", [envelope({"Authorization": "a", "status": 0} | data)]))
    found = sign_in_response.sign_in(answer)
    assert (found.seats, found.ends_at) == (seats, ends_at)


def test_a_sign_in_keeps_seats_and_end_beside_the_authorization(transactional_db, upstream, settings):
    upstream.settings(seats=7)
    configured.client().online()
    row = UpstreamAccess.objects.get()
    assert (row.seats, row.ends_at) == (7, datetime(2030, 1, 1, tzinfo=UTC))
    assert row.read_at is not None
    assert developer_account.known().seats == 7


def test_a_server_that_tells_nothing_is_no_limit(transactional_db, upstream, settings):
    settings.WK_LOGIN_TYPE = ""
    upstream.settings(dialect="g2")
    configured.client().online()
    assert UpstreamAccess.objects.get().read_at is not None
    assert developer_account.known() is None
    assert developer_account.free_seats() is None
    with time_machine.travel(timezone.now() + 400 * D):
        assert developer_account.read_if_needed() is False


def test_with_a_given_authorization_nothing_is_known_limited_or_asked(committed, upstream, settings):
    told(settings, seats=1, ends=D)
    online(1)
    settings.WK_AUTHORIZATION = "given"
    assert developer_account.known() is None
    assert developer_account.free_seats() is None
    with time_machine.travel(timezone.now() + 2 * H):
        assert not developer_account.is_due()
        assert developer_account.read_if_needed() is False
    assert upstream.calls(SIGN_IN) == 0


# --- reading it again


def signed_in_again(upstream) -> bool:
    before = upstream.calls(SIGN_IN)
    read = developer_account.read_if_needed()
    assert upstream.calls(SIGN_IN) - before == read
    return read


def test_who_signed_in_meanwhile_has_read_it(committed, upstream, settings):
    """The first call to WKTeam, and the first reading at the same moment."""
    seen = UpstreamAccess.objects.create(base_url=settings.WK_BASE_URL, account=settings.WK_ACCOUNT)
    client = configured.client()
    assert client.online() == []
    assert client.tokens.sign_in_again(seen, client.sign_in) is False
    assert upstream.calls(SIGN_IN) == 1


def test_it_is_read_once_where_an_earlier_version_signed_in(committed, upstream, settings):
    UpstreamAccess.objects.create(
        base_url=settings.WK_BASE_URL, account=settings.WK_ACCOUNT, authorization="a"
    )
    assert developer_account.is_due()
    assert signed_in_again(upstream)
    assert not developer_account.is_due()
    row = UpstreamAccess.objects.get()
    assert (row.seats, row.authorization) == (1000, upstream.authorization)
    with time_machine.travel(timezone.now() + 30 * D):
        assert developer_account.is_due()
        assert not signed_in_again(upstream)


@pytest.mark.parametrize(
    ("facts", "age", "again"),
    [
        ({"seats": 100, "ends": 400 * D}, 30 * D, False),
        ({"seats": 100, "ends": 14 * D}, 25 * H, True),
        ({"seats": 100, "ends": 14 * D}, 23 * H, False),
        ({"seats": 100, "ends": -3 * D}, 25 * H, True),
        # 3 of 3 and 3 of 4 are online.
        ({"seats": 3}, 25 * H, True),
        ({"seats": 3}, 23 * H, False),
        ({"seats": 4}, 25 * H, False),
    ],
)
def test_it_is_read_every_day_near_the_end_and_with_few_seats_left(
    committed, upstream, settings, facts, age, again
):
    told(settings, read=age, **facts)
    online(3)
    UpstreamAccess.objects.update(read_due_at=None)
    assert signed_in_again(upstream) is again


def test_it_is_read_every_hour_while_a_prompt_waits_for_a_seat(committed, upstream, settings):
    told(settings, seats=1, read=2 * H)
    online(1)
    account = make_account(wc_id="wxid_a", state="offline")
    drop = Drop.objects.create(account=account, w_id="w", next_step=NextStep.SEATS)
    UpstreamAccess.objects.update(read_due_at=None)
    upstream.settings(seats=1)
    assert signed_in_again(upstream)
    assert not signed_in_again(upstream)
    with time_machine.travel(timezone.now() + 61 * M):
        upstream.settings(seats=5)
        assert signed_in_again(upstream)
        assert developer_account.free_seats() == 4
    Drop.objects.filter(pk=drop.pk).update(next_step=NextStep.WAITING)


def test_a_sign_in_that_fails_is_tried_again_in_an_hour_and_is_no_alarm(committed, upstream, settings):
    told(settings, seats=100, ends=3 * D, read=25 * H)
    UpstreamAccess.objects.update(read_due_at=None)
    settings.WK_PASSWORD = "wrong"  # noqa: S105 - of nobody
    configured._client.cache_clear()
    assert developer_account.read_if_needed() is False
    row = UpstreamAccess.objects.get()
    assert (row.refused_at, row.authorization, row.seats) == (None, "kept", 100)
    assert not developer_account.is_due()
    with time_machine.travel(timezone.now() + 61 * M):
        assert developer_account.is_due()


def test_an_authorization_that_the_sign_in_replaces_is_the_one_in_use(committed, upstream, settings):
    upstream.settings(login_renews_token=True)
    configured.client().online()
    UpstreamAccess.objects.update(read_at=None, read_due_at=None)
    tasks.read_developer_account()
    assert configured.client().online() == []
    assert upstream.calls(SIGN_IN) == 2


# --- what it limits


@pytest.mark.parametrize(
    ("seats", "read", "free"),
    [
        (5, M, 1),
        (3, M, -1),
        # Older than two days, or contradicted by who is online: no limit.
        (3, 49 * H, None),
        (2, M, None),
        (None, M, None),
    ],
)
def test_free_seats(committed, settings, seats, read, free):
    """Two of ours and an unmanaged account are online, and one that is not logs in."""
    told(settings, seats=seats, read=read, ends=400 * D)
    online(2)
    UnmanagedAccount.objects.create(wc_id="wxid_x", w_id="w-x")
    make_attempt(make_account())
    assert developer_account.free_seats() == free


@pytest.fixture
def worker(committed):
    return WaitsWorker.objects.create(name="w", alive_until=timezone.now() + 30 * D)


def dropped(number: int) -> Drop:
    now = timezone.now()
    account = make_account(wc_id=f"wxid_d{number}", state="offline")
    return Drop.objects.create(account=account, w_id="w-old", at=now, next_at=now)


def steps(drops: list[Drop]) -> list[str]:
    return [fresh(drop).next_step for drop in drops]


def test_recovery_sends_no_more_prompts_than_there_are_seats(worker, settings):
    told(settings, seats=4)
    online(2)
    drops = [dropped(n) for n in range(4)]
    assert len(recover.tick()) == 2
    assert steps(drops) == ["popup", "popup", "seats", "seats"]
    assert fresh(drops[3]).account.queued_for_scan_at is None
    with time_machine.travel(timezone.now() + 2 * M):
        assert recover.tick() == []
        UpstreamAccess.objects.update(seats=5)
        for drop in drops[2:]:
            Drop.objects.filter(pk=drop.pk).update(next_at=timezone.now())
        assert len(recover.tick()) == 1


def test_a_stale_figure_does_not_hold_recovery_back(worker, settings):
    told(settings, seats=1)
    online(1)
    drop = dropped(1)
    assert recover.tick() == []
    with time_machine.travel(timezone.now() + 3 * D):
        assert len(recover.tick()) == 1
    assert steps([drop]) == ["popup"]


def test_a_plan_says_that_no_seat_is_free_and_an_online_account_needs_none(worker, settings):
    told(settings, seats=1)
    online(1)
    away = make_account(wc_id="wxid_a", state="offline")
    assert recover.start_prompt(away) == (None, NextStep.SEATS)
    here = make_account(w_id="w-9", wc_id="wxid_b")
    UpstreamAccess.objects.update(seats=2)
    attempt, step = recover.start_prompt(here)
    assert (attempt is not None, step) == (True, NextStep.POPUP)


def test_a_prompt_by_hand_without_a_free_seat_is_not_sent_and_says_why(committed, upstream, settings):
    told(settings, seats=1)
    online(1)
    account = committed.account(wc_id="wxid_a", state="offline")
    attempt, _new = start.start_login(account, method=Method.POPUP, queued=True, by=committed.operator)
    in_thread(wait.wait_for_phone, attempt.pk)
    attempt = fresh(attempt)
    assert (attempt.state, attempt.reason, attempt.sent_at) == ("failed", Reason.NO_SEAT, None)
    assert upstream.calls("/secondLogin") == 0
    page = committed.operator.client.get(f"/attempts/{attempt.pk}/").content.decode()
    assert 'data-reason="no_seat"' in page


def test_an_account_that_is_online_keeps_its_seat_for_a_prompt(committed, upstream, settings):
    told(settings, seats=1)
    upstream.person("wxid_a", online=True)
    account = committed.account(wc_id="wxid_a", w_id="w-1")
    attempt, _new = start.start_login(account, method=Method.POPUP, queued=True)
    with running(wait.wait_for_phone, attempt.pk):
        upstream.wait(wcId="wxid_a", prompt=True)
        upstream.phone("accept", wcId="wxid_a")
    assert fresh(attempt).state == "succeeded"


def test_a_login_by_qr_code_is_never_held_back(committed, upstream, settings):
    told(settings, seats=1)
    online(1)
    attempt, _new = start.start_login(committed.account())
    assert start.fetch_qr_code(attempt)


# --- what people see


def page_of(user, path: str = "/") -> str:
    return user.client.get(path, follow=True).content.decode()


@pytest.mark.parametrize(
    ("ends", "step"), [(15 * D, None), (14 * D, 14), (8 * D, 14), (7 * D, 7), (D, 1), (-D, 0), (None, None)]
)
def test_every_page_warns_before_the_end(people, settings, ends, step):
    told(settings, ends=ends)
    found = page_of(people.operator, "/incidents/")
    assert ("data-developer-account" in found) is (step is not None)
    assert step is None or f'data-developer-account="{step}"' in found


@pytest.mark.slow
def test_every_page_says_that_no_seat_is_free_and_numbers_are_for_those_who_see_all(people, settings):
    told(settings, seats=2)
    online(1)
    assert "data-developer-account" not in page_of(people.operator, "/")
    assert "1 of 2 seats" in page_of(people.admin, "/")
    make_account(w_id="w-more", wc_id="wxid_more")
    found = page_of(people.operator, "/")
    assert 'data-developer-account="full"' in found
    assert "of 2 seats" not in found
    admin = page_of(people.admin, "/admin/accounts/upstreamaccess/")
    assert "field-seats" in admin
    assert "kept" not in admin
