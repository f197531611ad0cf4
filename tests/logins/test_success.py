"""What a success writes: whose profile, whose label, and who is asked when it is in doubt."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.logins.success import complete_login
from accounts.models import Presence
from accounts.states import AttemptState, EventType
from accounts.upstream.responses import LoggedIn, Profile
from tests.support.factories import fresh, make_attempt

HOUR = timedelta(hours=1)
KNOWN = {
    "nickname": "小诺", "wechat_id": "nuo_88", "avatar_url": "http://pictures.invalid/n.png", "sex": 2,
    "region": "CN Shanghai", "signature": "好好学习", "mobile": "13800000000",
}  # fmt: skip


def succeeded(attempt, wc_id: str, w_id: str, **profile):
    return complete_login(fresh(attempt), LoggedIn(Profile(wc_id=wc_id, w_id=w_id, **profile)))


@pytest.mark.parametrize("way", ["as foreseen", "late", "by another account's code"])
def test_what_a_success_leaves_out_stays_as_it_was_known(way, committed):
    account = committed.account(wc_id="wxid_known", **KNOWN)
    attempt = make_attempt(
        account if way != "by another account's code" else committed.account(wc_id="wxid_expected"),
        AttemptState.WAITING if way != "late" else AttemptState.CANCELLED,
    )
    assert succeeded(attempt, "wxid_known", attempt.w_id) == account
    now = fresh(account)
    assert (now.state, now.w_id) == ("online", attempt.w_id)
    assert {name: getattr(now, name) for name in KNOWN} == KNOWN


def test_the_profile_of_a_success_overwrites_the_known_one(committed):
    account = committed.account(wc_id="wxid_known", **KNOWN)
    profile = {name: value * 2 for name, value in KNOWN.items()}
    attempt = make_attempt(account)
    succeeded(attempt, "wxid_known", attempt.w_id, **profile)
    assert {name: getattr(fresh(account), name) for name in KNOWN} == profile


def test_the_history_of_an_account_names_whose_code_it_used_only_within_its_team(committed):
    expected = committed.account(label="Shop 7", wc_id="wxid_expected")
    for number, (team, detail) in enumerate([(committed.east, "Shop 7"), (committed.west, "")]):
        other = committed.account(team=team, wc_id=f"wxid_other_{number}", nickname="贝塔", state="offline")
        attempt = make_attempt(expected)
        assert succeeded(attempt, other.wc_id, attempt.w_id) == other
        assert other.events.get(happened=EventType.OTHER_ACCOUNT).detail == detail


@pytest.mark.parametrize(
    "record", [{}, {"wc_id": "wxid_expected"}], ids=["without a wcId", "of another wcId"]
)
def test_a_wc_id_that_another_team_only_typed_does_not_take_the_login(record, committed):
    claim = committed.account(team=committed.west, wc_id="wxid_scanned", label="Typed by West")
    attempt = make_attempt(committed.account(**record))
    account = succeeded(attempt, "wxid_scanned", attempt.w_id)
    assert (account.team, account.state, account.wc_id) == (committed.east, "online", "wxid_scanned")
    assert (fresh(claim).wc_id, fresh(claim).state, fresh(claim).merged_into) == (None, "new", None)
    assert list(claim.events.values_list("happened", "detail")) == [("changed", "wc_id")]


@pytest.mark.parametrize("team", ["east", None])
def test_a_wc_id_that_ones_own_team_or_an_admin_typed_is_that_record_s(team, committed):
    claim = committed.account(team=team and committed.east, wc_id="wxid_scanned")
    attempt = make_attempt(committed.account())
    assert succeeded(attempt, "wxid_scanned", attempt.w_id) == claim
    assert (fresh(claim).state, fresh(attempt).account) == ("online", claim)


@pytest.mark.parametrize("late", ["of the same account", "of another account's code"])
def test_after_a_doubtful_success_the_upstream_is_asked_at_once(late, committed):
    Presence.objects.create(pk=Presence.ONLY, due_at=timezone.now() + HOUR)
    account = committed.account(wc_id="wxid_known")
    other = account if late == "of the same account" else committed.account(wc_id="wxid_expected")
    old = make_attempt(other, AttemptState.CANCELLED, qr_shown_at=timezone.now() - HOUR)
    new = make_attempt(account)
    succeeded(new, "wxid_known", new.w_id)
    assert Presence.objects.get().due_at > timezone.now()

    succeeded(old, "wxid_known", old.w_id)
    assert fresh(account).w_id == new.w_id
    assert fresh(account).events.filter(happened=EventType.STALE_SUCCESS).count() == 1
    assert Presence.objects.get().due_at <= timezone.now()
