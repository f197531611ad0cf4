"""Archived accounts: out of every list and job, and never lost when one comes online after all."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.attention import archive
from accounts.logins import control, start
from accounts.logins.success import complete_login
from accounts.models import Account, Drop, UnmanagedAccount
from accounts.models.operators.scan_run import ScanSource
from accounts.presence import reconcile, sweep
from accounts.relogin import plan_runs, recover
from accounts.scanning import queue
from accounts.states import AccountState, EventType, Method, NextStep
from accounts.upstream.responses import LoggedIn, Profile
from tests.support.factories import fresh, make_attempt

AN_HOUR_AGO = timezone.now() - timedelta(hours=1)


def only(account: Account):
    return Account.objects.filter(pk=account.pk)


@pytest.fixture
def gone(committed):
    """An account that dropped: recovery, the scan queue and its scheduled re-login are due."""
    account = committed.account(
        label="Rack phone", state="offline", wc_id="wxid_gone", last_login_at=AN_HOUR_AGO,
        state_since=AN_HOUR_AGO, queued_for_scan_at=AN_HOUR_AGO, relogin_at=AN_HOUR_AGO,
    )  # fmt: skip
    Drop.objects.create(account=account, w_id="w-old", at=AN_HOUR_AGO, next_step=NextStep.WAITING)
    return account


@pytest.fixture
def archived(gone, committed):
    assert archive.archive(only(gone), by=committed.operator) == 1
    return fresh(gone)


@pytest.mark.slow
def test_an_archived_account_is_in_no_list_and_no_job(archived, committed):
    assert archived.state == AccountState.ARCHIVED
    for path in ("/accounts/", "/accounts/?q=Rack", "/accounts/?state=offline"):
        assert "Rack phone" not in committed.admin.client.get(path).content.decode(), path
    assert not queue.source_accounts(committed.admin, ScanSource.SCAN_QUEUE).exists()
    assert recover.tick() == []
    assert plan_runs.tick() == []
    assert recover.start_prompt(archived) == (None, NextStep.NOTHING)
    assert committed.operator.client.get("/waiting/").json()["to_scan"] == 0
    assert archived.attempts.count() == 0


@pytest.mark.slow
def test_its_page_keeps_the_history_and_offers_nothing_but_to_restore(archived, committed):
    page = committed.operator.client.get(f"/accounts/{archived.pk}/").content.decode()
    assert 'id="restore"' in page
    assert 'id="drops"' in page or "Drops" in page
    for other in ("start_login", "edit", "keep-online", "take"):
        assert f'id="{other}"' not in page
    for path in ("login", "popup", "keep-online", "due", "edit", "take", "silence"):
        assert committed.operator.client.post(f"/accounts/{archived.pk}/{path}/").status_code == 403, path


def test_archiving_asks_first_and_cancels_the_login_in_progress(gone, committed):
    attempt = make_attempt(gone)
    client, path = committed.operator.client, f"/accounts/{gone.pk}/archive/"
    assert "Archive <bdi>Rack phone</bdi>?" in client.post(path).content.decode()
    assert fresh(gone).state == AccountState.OFFLINE
    assert client.post(path, {"sure": 1}).status_code == 302
    assert (fresh(gone).state, fresh(attempt).state) == (AccountState.ARCHIVED, "cancelled")
    assert gone.events.get(happened=EventType.ARCHIVED).actor == committed.operator


def test_an_online_account_is_not_archived_but_logged_out_first(committed):
    online = committed.account(w_id="w-1")
    answer = committed.operator.client.post(f"/accounts/{online.pk}/archive/", {"sure": 1})
    assert f"/accounts/{online.pk}/log-out/" in answer.content.decode()
    assert archive.archive(only(online), by=committed.operator) == 0
    assert fresh(online).state == AccountState.ONLINE


@pytest.mark.parametrize(("last_login", "state"), [(AN_HOUR_AGO, "offline"), (None, "new")])
def test_a_restored_account_is_what_it_was_and_paused(committed, last_login, state):
    account = committed.account(state=state, last_login_at=last_login)
    archive.archive(only(account), by=committed.operator)
    listed = committed.operator.client.get("/accounts/archived/").content.decode()
    assert f'data-account="{account.pk}"' in listed
    assert (
        f'data-account="{account.pk}"'
        not in committed.stranger.client.get("/accounts/archived/").content.decode()
    )
    committed.operator.client.post(f"/accounts/{account.pk}/restore/")
    account = fresh(account)
    assert (account.state, account.keep_online) == (state, False)
    assert account.events.get(happened=EventType.RESTORED).actor == committed.operator


# --- one that comes online after all ---------------------------------------------------------------------


def test_a_login_that_succeeds_late_restores_it_paused(gone, committed):
    attempt = make_attempt(gone)
    archive.archive(only(gone), by=committed.operator)
    complete_login(fresh(attempt), LoggedIn(Profile(wc_id="wxid_gone", w_id=attempt.w_id)))
    account = fresh(gone)
    assert (account.state, account.keep_online, account.w_id) == (AccountState.ONLINE, False, attempt.w_id)
    assert account.events.filter(happened=EventType.RESTORED).count() == 1


def test_its_phone_that_scans_the_code_of_another_account_restores_it(archived, committed):
    attempt = make_attempt(committed.account(wc_id="wxid_other", state="offline"))
    complete_login(attempt, LoggedIn(Profile(wc_id="wxid_gone", w_id=attempt.w_id)))
    assert fresh(archived).state == AccountState.ONLINE
    assert archived.events.filter(happened=EventType.RESTORED).count() == 1


def test_one_that_wkteam_lists_is_unmanaged_until_it_is_adopted(archived, committed, upstream):
    upstream.person("wxid_gone", online=True)
    sweep.check()
    assert fresh(archived).state == AccountState.ARCHIVED
    found = UnmanagedAccount.objects.get(wc_id="wxid_gone")
    page = committed.admin.client.get("/discovered/").content.decode()
    assert "Rack phone" in page and "Archived" in page
    assert reconcile.adopt(found, by=committed.admin) == archived
    assert fresh(archived).state == AccountState.ONLINE
    assert archived.events.filter(happened=EventType.RESTORED).count() == 1
    assert not UnmanagedAccount.objects.exists()


def test_a_prompt_that_is_confirmed_after_archiving_is_recorded(gone, committed, upstream):
    """WKTeam's list shows it with an unknown wId, and the cancelled prompt knew none."""
    attempt, _new = start.start_login(gone, method=Method.POPUP, queued=True)
    attempt.move("waiting", sent_at=timezone.now())
    control.cancel(attempt)
    archive.archive(only(gone), by=committed.operator)
    upstream.person("wxid_gone", online=True)
    sweep.check()
    assert UnmanagedAccount.objects.filter(wc_id="wxid_gone").exists()
