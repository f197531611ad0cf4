"""Groups of accounts: whatever an account has been through, it is in the one group that a plain look at it names."""

import random
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.attention import groups
from accounts.attention.groups import AccountGroup, Need
from accounts.models import Account, Drop, LoginAttempt
from accounts.states import FINAL_STATES, AccountState, AttemptState, NextStep, Trigger
from tests.support.databases import sqlite_plan
from tests.support.factories import fresh, make_account, make_attempt

STATES = ["new", "offline", "online"]
LAST_STEPS = [None, NextStep.BACK_OFF, NextStep.SCAN, NextStep.NOTHING]


class Crowd:
    """Accounts of any state with any logins behind them, open drops or none, in the scan queue or not."""

    def __init__(self, number: int):
        pick = random.Random(11)
        accounts = Account.objects.bulk_create(self._account(pick, number) for number in range(number))
        self.drops, self.attempts = {}, {account.pk: [] for account in accounts}
        for account in accounts:
            self._past(pick, account)
        Drop.objects.bulk_create(self.drops.values())
        LoginAttempt.objects.bulk_create(sum(self.attempts.values(), []))
        Account.objects.bulk_update(accounts, ["login_seq", "bound_seq"])
        self.accounts = list(Account.objects.order_by("pk"))

    def _account(self, pick: random.Random, number: int) -> Account:
        state = pick.choice(STATES)
        return Account(
            label=f"Account {number}",
            state=state,
            keep_online=pick.random() < 0.7,
            w_id=f"w{number}" if state == "online" else "",
            wc_id=None if state == "new" else f"wxid_{number:03}",
            queued_for_scan_at=timezone.now() if pick.random() < 0.2 else None,
        )

    def _past(self, pick: random.Random, account: Account) -> None:
        for _earlier in range(pick.randrange(3)):
            self._attempt(account, pick.choice(["failed", "expired", "cancelled", "succeeded"]))
        step = pick.choice(LAST_STEPS)
        if account.state == "offline" and step:
            next_at = timezone.now() + timedelta(minutes=5) if step == NextStep.BACK_OFF else None
            self.drops[account.pk] = Drop(account=account, w_id="gone", next_step=step, next_at=next_at)
        if pick.random() < 0.7:
            trigger = pick.choice([Trigger.OPERATOR, Trigger.RECOVERY])
            attempt = self._attempt(account, pick.choice(AttemptState.values), trigger=trigger)
            # Also one that was confirmed after its end.
            if attempt.state == "succeeded" or pick.random() < 0.1:
                account.bound_seq = attempt.seq

    def _attempt(self, account: Account, state: str, **fields) -> LoginAttempt:
        now, account.login_seq = timezone.now(), account.login_seq + 1
        fields |= {"seq": account.login_seq, "deadline_at": now + timedelta(seconds=150)}
        if state != AttemptState.PREPARING:
            fields |= {"w_id": f"w-{account.pk}-{account.login_seq}", "qr_shown_at": now}
        if state in FINAL_STATES:
            fields["ended_at"] = now
        self.attempts[account.pk].append(LoginAttempt(account=account, state=state, **fields))
        return self.attempts[account.pk][-1]

    def need(self, account: Account) -> str | None:
        """What is meant."""
        last = self.attempts[account.pk][-1] if self.attempts[account.pk] else None
        open_state = last.state if last and last.is_open else ""
        if open_state in ("code_required", "page_required"):
            return Need.VERIFICATION
        if account.queued_for_scan_at and account.keep_online:
            return Need.SCAN
        drop = self.drops.get(account.pk)
        left_to_recovery = last and last.trigger == "recovery" and drop and drop.next_at
        ended_badly = last and last.state in ("failed", "expired") and account.bound_seq < last.seq
        if ended_badly and account.state != "online" and account.keep_online and not left_to_recovery:
            return Need.FAILED
        return None

    def group(self, account: Account) -> str:
        if self.need(account):
            return AccountGroup.ATTENTION
        if any(attempt.is_open for attempt in self.attempts[account.pk]):
            return AccountGroup.WAITING
        return account.state


@pytest.fixture
def crowd(db):
    return Crowd(500)


def ids(accounts) -> set[int]:
    return set(accounts.values_list("pk", flat=True))


@pytest.mark.slow
def test_each_account_is_in_the_one_group_that_is_meant(crowd):
    meant = {account.pk: crowd.group(account) for account in crowd.accounts}
    assert set(meant.values()) == set(AccountGroup)
    assert groups.groups_of(Account.objects.all()) == meant
    for group in AccountGroup:
        assert ids(Account.objects.filter(groups.in_group(group))) == {
            pk for pk in meant if meant[pk] == group
        }


@pytest.mark.slow
def test_what_is_found_by_an_index_is_what_is_meant(crowd):
    needs = {account.pk: crowd.need(account) for account in crowd.accounts}
    assert {*Need, None} == set(needs.values())
    every = Account.objects.kept()
    for need in Need:
        assert ids(groups.needing(every, need)) == {pk for pk in needs if needs[pk] == need}
    attention = {pk for pk in needs if needs[pk]}
    waiting = {a.pk for a in crowd.accounts if crowd.group(a) == AccountGroup.WAITING}
    assert ids(groups.needing_attention(every)) == attention
    assert ids(groups.waiting(every)) == waiting
    counted = {
        state: tuple(
            sum(a.state == state and a.pk in found for a in crowd.accounts) for found in (attention, waiting)
        )
        for state in AccountState
    }
    assert groups.count_attended(every) == {state: n for state, n in counted.items() if any(n)}


@pytest.mark.slow
def test_what_is_said_of_an_account_that_was_read_is_what_the_database_says(crowd):
    failures = groups.last_failures(crowd.accounts)
    for account in crowd.accounts:
        drop = crowd.drops.get(account.pk)
        need = groups.need_of(account, account.open_attempt, failures.get(account.pk), drop)
        assert need == (crowd.need(account) or "")


@pytest.mark.slow
@pytest.mark.database("sqlite")
def test_last_failures_are_found_without_reading_other_logins(crowd):
    with CaptureQueriesContext(connection) as queries:
        assert groups.last_failures(crowd.accounts)
    plan = sqlite_plan(queries[0]["sql"])
    assert "SEARCH accounts_loginattempt USING INTEGER PRIMARY KEY" in plan
    # In the order of the index: without sorting, the first one ends the search.
    assert "SEARCH U0 USING INDEX attempt_of_account (account_id=?)" in plan and "TEMP B-TREE" not in plan


@pytest.mark.slow
def test_only_the_accounts_asked_about_are_found(crowd):
    some = Account.objects.kept().filter(pk__lt=crowd.accounts[100].pk)
    allowed = ids(some)
    assert (
        ids(groups.needing_attention(some)) == ids(groups.needing_attention(Account.objects.kept())) & allowed
    )
    assert ids(groups.waiting(some)) == ids(groups.waiting(Account.objects.kept())) & allowed


def test_the_last_login_is_the_one_with_the_last_number_whatever_record_it_came_from(db):
    """A login of a record that was merged into the account has a newer ID than one that was in progress then."""
    account = make_account(state="offline", wc_id="wxid_a")
    failed = make_attempt(account, "failed")
    merged = make_attempt(account, "succeeded")
    LoginAttempt.objects.filter(pk=merged.pk).update(seq=failed.seq)
    LoginAttempt.objects.filter(pk=failed.pk).update(seq=merged.seq)
    Account.objects.filter(pk=account.pk).update(bound_seq=failed.seq, login_seq=merged.seq)
    assert ids(groups.needing(Account.objects.kept(), Need.FAILED)) == {account.pk}
    assert groups.last_failures([fresh(account)]) == {account.pk: failed}


def test_a_person_who_cancels_a_login_leaves_nothing_to_attend_to(db):
    account = make_account()
    make_attempt(account, "expired")
    assert ids(groups.needing(Account.objects.kept(), Need.FAILED)) == {account.pk}
    make_attempt(account, "cancelled")
    assert not groups.needing_attention(Account.objects.kept()).exists()
