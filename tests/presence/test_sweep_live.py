"""Sweeps by real processes, without callbacks; and the command that makes one now."""

import io
import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from accounts.models import Account, Presence, UnmanagedAccount
from accounts.presence import sweep
from tests.support.factories import make_account
from tests.support.processes import until
from tests.support.scenarios import Listener, fresh
from tests.support.stack import Operator, Stack

LIST = "/queryLoginWx"


def online(upstream, wc_id: str, **fields) -> Account:
    since = timezone.now() - timedelta(hours=1)
    times = {"last_login_at": since, "state_since": since, "checked_at": since}
    return make_account(wc_id=wc_id, w_id=upstream.person(wc_id, online=True)["wId"], **times, **fields)


def answered() -> bool:
    return Presence.objects.exclude(answered_at=None).exists()


@pytest.mark.live
@pytest.mark.timeout(180)
def test_without_callbacks_a_drop_is_known_after_two_sweeps(live, upstream):
    account, other = (online(upstream, wc_id, team=live.east) for wc_id in ("wxid_a", "wxid_b"))
    elsewhere = make_account(wc_id="wxid_c", state="offline")
    with Stack("web", "jobs", "beat", WK_PRESENCE_SECONDS="5") as stack:
        until(answered, "no presence check")
        with Listener(Operator(stack, live.operator)) as page:
            asked = upstream.calls(LIST)
            upstream.drop("wxid_a", callback=False)
            upstream.person("wxid_new", online=True)
            w_id = upstream.person("wxid_c", online=True)["wId"]
            page.hears("change", seconds=60, account=account.pk, state="offline")
            # One more may have been under way.
            assert upstream.calls(LIST) - asked <= 3
        assert fresh(account).drops.get().detected_by == "sweep"
        assert fresh(other).last_checked(sweep.seen()) > other.checked_at
        assert (fresh(elsewhere).state, fresh(elsewhere).w_id) == ("online", w_id)
        assert UnmanagedAccount.objects.get().wc_id == "wxid_new"


@pytest.mark.live
@pytest.mark.timeout(180)
def test_two_beats_and_two_workers_sweep_as_one_does(live, upstream):
    account, _other = online(upstream, "wxid_a"), online(upstream, "wxid_b")
    upstream.drop("wxid_a", callback=False)
    with Stack("jobs-1", "jobs-2", "beat-1", "beat-2", WK_PRESENCE_SECONDS="5") as stack:
        until(lambda: fresh(account).state == "offline", "not offline")
        stack.kill("jobs-1"), stack.kill("beat-1")
        upstream.person("wxid_a", online=True)
        until(lambda: not account.drops.open().exists(), "not online again")
    moves = account.events.filter(happened__in=["account_offline", "account_online"]).order_by("id")
    assert [event.happened for event in moves] == ["account_offline", "account_online"]
    drop = account.drops.get()
    assert (drop.ended_at, drop.ended_by) == (fresh(account).last_login_at, "")


# --- the command


def run(*words: str) -> tuple[str, int]:
    """What it says, and its exit code."""
    out = io.StringIO()
    with pytest.raises(SystemExit) as end:
        call_command("presence", *words, stdout=out)
    return out.getvalue(), end.value.code


@pytest.mark.django_db
def test_the_command_checks_once_and_reports_by_its_exit_code(upstream):
    online(upstream, "wxid_a", label="店 01")
    second = online(upstream, "wxid_b", label="Shop 2", absent=1, missed_at=timezone.now())
    assert run() == ("2 online at WKTeam, 2 checked.\n", 0)

    upstream.drop("wxid_b", callback=False)
    online(upstream, "wxid_c", label="Paused", keep_online=False)
    upstream.person("wxid_new", online=True)
    Account.objects.filter(pk=second.pk).update(absent=1, missed_at=timezone.now())
    said, code = run()
    assert code == 3
    head, row, _gap, summary = said.splitlines()
    assert head.split() == ["account", "wcId", "state", "since", "last", "checked"]
    assert row.startswith("Shop 2   wxid_b  offline")
    assert summary == "3 online at WKTeam, 2 checked, 1 went offline, 1 unmanaged."
    assert upstream.calls(LIST) == 2

    assert len(run("--all")[0].splitlines()) == 6
    Account.objects.filter(pk=second.pk).update(keep_online=False)
    assert run()[1] == 0


@pytest.mark.django_db
def test_the_command_says_it_in_json(upstream):
    account = online(upstream, "wxid_a", label="店 01")
    missing = make_account(wc_id="wxid_b", label="b")
    said, code = run("--json", "--all")
    found = json.loads(said)
    assert (code, found["known"], found["online"], found["verified"]) == (3, True, 1, 1)
    rows = {row["wcId"]: row for row in found["accounts"]}
    assert (rows["wxid_a"]["wId"], rows["wxid_a"]["state"]) == (account.w_id, "online")
    assert rows["wxid_a"]["verified"] == fresh(account).last_checked(sweep.seen()).isoformat()
    assert (rows["wxid_b"]["id"], rows["wxid_b"]["verified"]) == (missing.pk, None)
    assert [row["wcId"] for row in json.loads(run("--json")[0])["accounts"]] == ["wxid_b"]


@pytest.mark.django_db
def test_the_command_says_that_nothing_is_known(upstream):
    account = online(upstream, "wxid_a")
    upstream.fault(LIST, "html", status=502)
    said, code = run()
    assert (code, fresh(account).state) == (1, "online")
    assert said.splitlines()[-1].startswith("Presence unknown: ")
    found, code = run("--json")
    assert (code, json.loads(found)["unknown_why"]) == (1, "bad_answer")
