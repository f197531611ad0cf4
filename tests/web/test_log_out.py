"""The button that logs an account out at WKTeam: asks first, pauses, and nothing logs the account in again."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import Account, Drop, Presence
from accounts.presence import sweep
from accounts.relogin import recover
from tests.support.factories import fresh

OFFLINE = "/member/offline"


@pytest.fixture
def online(committed, upstream):
    person = upstream.person("wxid_1", online=True)
    upstream.settings(offline_delay=0)
    return committed.account(wc_id="wxid_1", w_id=person["wId"])


def clicked(people, account, **sure):
    return people.operator.client.post(f"/accounts/{account.pk}/log-out/", sure, follow=bool(sure))


def test_the_button_asks_first(online, committed, upstream):
    page = committed.operator.client.get(f"/accounts/{online.pk}/").content.decode()
    assert 'id="log-out"' in page
    assert "Log out <bdi>" in clicked(committed, online).content.decode()
    assert (upstream.calls(OFFLINE), fresh(online).keep_online) == (0, True)


def test_the_account_is_logged_out_paused_and_not_recovered(online, committed, upstream):
    assert "WKTeam logs the account out" in clicked(committed, online, sure=1).content.decode()
    assert [body["wcIds"] for body in upstream.bodies(OFFLINE)] == [["wxid_1"]]
    upstream.wait(wcId="wxid_1", online=False)
    for _check in range(2):
        sweep.check()
    assert (fresh(online).state, fresh(online).keep_online) == ("offline", False)
    assert Drop.objects.get().account == online
    assert recover.tick() == []
    event = online.events.get(happened="logged_out")
    assert event.actor == committed.operator


@pytest.mark.parametrize(
    ("kind", "how", "said", "keep_online"),
    [
        ("raw", {"json": {"code": "1001", "message": "不存在", "data": None}}, "不存在", True),
        ("html", {"status": 502}, "Unreadable WKTeam response", False),
    ],
)
def test_what_wkteam_refuses_is_said_and_what_is_unknown_stays_paused(
    kind, how, said, keep_online, online, committed, upstream
):
    upstream.fault(OFFLINE, kind, **how)
    assert said in clicked(committed, online, sure=1).content.decode()
    assert fresh(online).keep_online is keep_online
    assert fresh(online).state == "online"


def test_a_refused_log_out_leaves_the_account_as_it_was(online, committed, upstream):
    due = timezone.now() + timedelta(days=1)
    Account.objects.filter(pk=online.pk).update(relogin_at=due)
    upstream.fault(OFFLINE, "raw", json={"code": "1001", "message": "不存在", "data": None})
    clicked(committed, online, sure=1)
    assert (fresh(online).keep_online, fresh(online).relogin_at) == (True, due)


def test_a_presence_check_is_due_at_once(online, committed, monkeypatch):
    monkeypatch.setattr("accounts.lib.pubsub.ping", lambda: False)  # nothing is put into a queue
    Presence.objects.create(pk=Presence.ONLY, due_at=timezone.now() + timedelta(minutes=1))
    clicked(committed, online, sure=1)
    assert Presence.objects.get().due_at <= timezone.now()


@pytest.mark.parametrize("changed", ["offline", "merged"])
def test_only_an_account_that_is_online_is_logged_out(changed, online, committed, upstream):
    if changed == "offline":
        Account.objects.filter(pk=online.pk).update(state="offline", w_id="")
    else:
        Account.objects.filter(pk=online.pk).update(merged_into=committed.account())
    assert clicked(committed, online, sure=1).status_code == 404
    assert (upstream.calls(OFFLINE), fresh(online).keep_online) == (0, True)


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("log-out", {"sure": 1}),
        ("keep-online", {"wanted": "0", "reason": "lost"}),
        ("edit", {"label": "without keep online", "tag_names": ""}),
    ],
)
@pytest.mark.parametrize("paused", [False, True])
def test_there_is_one_way_to_pause(paused, path, data, online, committed):
    """It clears the scheduled re-login; an account that is paused already keeps one that was set since."""
    due = timezone.now() + timedelta(days=1)
    Account.objects.filter(pk=online.pk).update(
        keep_online=not paused, relogin_at=due, queued_for_scan_at=due
    )
    answer = committed.operator.client.post(
        f"/accounts/{online.pk}/{path}/", {"team": online.team_id, **data}
    )
    assert answer.status_code == 302
    row = fresh(online)
    kept = due if paused else None
    assert (row.keep_online, row.relogin_at, row.queued_for_scan_at) == (False, kept, kept)


def test_a_viewer_and_a_stranger_get_neither_button_nor_answer(online, committed):
    page = committed.viewer.client.get(f"/accounts/{online.pk}/").content.decode()
    assert 'id="log-out"' not in page
    for person, status in ((committed.viewer, 403), (committed.stranger, 404)):
        assert person.client.post(f"/accounts/{online.pk}/log-out/", {"sure": 1}).status_code == status
