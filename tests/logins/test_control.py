"""A record with a wcId that nobody has confirmed, and the account that scanned instead."""

import pytest

from accounts.logins import control
from accounts.logins.success import complete_login
from accounts.models import Account, AccountEvent, RecoveryPolicy, Tag
from accounts.states import EventType
from accounts.upstream.responses import LoggedIn, Profile
from tests.support.factories import fresh, make_attempt


def scanned(account, wc_id="wxid_true", **profile):
    """The attempt after another account than its record's has scanned."""
    attempt = make_attempt(account)
    complete_login(attempt, LoggedIn(Profile(wc_id=wc_id, w_id=f"w-{wc_id}", nickname="贝塔", **profile)))
    return fresh(attempt)


def test_the_wechat_id_in_place_of_the_wc_id_is_recognized(committed):
    account = committed.account(wc_id="Hi1212", label="Front desk")
    attempt = scanned(account, wechat_id="hi1212")
    account = Account.objects.get()
    assert (account.label, account.wc_id, account.w_id) == ("Front desk", "wxid_true", "w-wxid_true")
    assert (attempt.state, attempt.account) == ("succeeded", account)


def test_the_wechat_id_of_a_known_account_merges_the_record_into_it(committed):
    known = committed.account(wc_id="wxid_true")
    typed = committed.account(wc_id="hi1212")
    attempt = scanned(typed, wechat_id="hi1212")
    assert (fresh(typed).merged_into, fresh(typed).wc_id) == (known, None)
    assert (attempt.state, attempt.account) == ("succeeded", known)
    assert fresh(known).w_id == "w-wxid_true"


def test_a_confirmed_wc_id_is_never_taken_for_a_wechat_id(committed):
    account = committed.account(wc_id="hi1212", state="offline")
    assert scanned(account, wechat_id="hi1212").reason == "wrong_account"
    assert fresh(account).wc_id == "hi1212"


def test_the_account_that_scanned_becomes_the_one_meant(committed):
    policy = RecoveryPolicy.objects.create(name="night")
    typed = committed.account(wc_id="wxid_tru", label="Front desk", note="second floor", policy=policy)
    typed.tags.add(Tag.objects.create(name="vip"))
    attempt = scanned(typed)
    going_on = make_attempt(typed)
    assert control.may_be_meant(attempt)

    account = control.take_as_meant(attempt, by=committed.operator)
    account.refresh_from_db()
    assert (account.label, account.note, account.policy) == ("Front desk", "second floor", policy)
    assert (account.wc_id, account.w_id, account.state) == ("wxid_true", "w-wxid_true", "online")
    assert [tag.name for tag in account.tags.all()] == ["vip"]
    assert (fresh(typed).merged_into, fresh(typed).wc_id) == (account, None)
    assert fresh(going_on).state == "cancelled"
    for side in (typed, account):
        assert side.events.get(happened=EventType.MERGED).actor == committed.operator
    assert control.take_as_meant(fresh(attempt)) is None


def test_the_team_to_which_the_account_that_scanned_went_learns_no_name(committed):
    attempt = scanned(committed.account(wc_id="wxid_tru"))
    Account.objects.filter(pk=attempt.other_account_id).update(team=committed.west)
    control.take_as_meant(attempt, by=committed.operator)
    merged = AccountEvent.objects.filter(happened=EventType.MERGED)
    assert dict(merged.values_list("account", "actor_name")) == {
        attempt.account_id: "operator", attempt.other_account_id: "",
    }  # fmt: skip


def test_what_the_account_that_scanned_has_of_its_own_stays(committed):
    attempt = scanned(committed.account(wc_id="wxid_tru", label="Front desk", note="second floor"))
    Account.objects.filter(pk=attempt.other_account_id).update(label="Renamed", note="own")
    control.take_as_meant(attempt)
    account = fresh(attempt.other_account)
    assert (account.label, account.note) == ("Renamed", "own")


def test_a_second_scan_by_the_same_unknown_account_may_be_meant_too(committed):
    typed = committed.account(wc_id="wxid_tru")
    scanned(typed)
    assert control.may_be_meant(scanned(typed))


@pytest.mark.parametrize(
    ("known", "typed"),
    [({"wc_id": "wxid_true"}, {}), (None, {"state": "offline"})],
    ids=["a record knew it", "a login has confirmed it"],
)
def test_an_account_is_not_offered_where_it_is_another(committed, known, typed):
    if known:
        committed.account(**known)
    attempt = scanned(committed.account(wc_id="wxid_tru", **typed))
    assert attempt.reason == "wrong_account" and not control.may_be_meant(attempt)
    assert control.take_as_meant(attempt) is None
    assert fresh(attempt.account).merged_into is None
