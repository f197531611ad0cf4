"""`manage.py relogin`: whom it takes, what it says and draws, and its exit codes; with real workers and phones."""

import io
import json
import re
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import zxingcpp
from django.core.management import CommandError, call_command
from django.utils import timezone
from PIL import Image

from accounts.management.commands.relogin import WHY_NOT, Command, chosen, in_terminal, named
from accounts.models import Account, LoginAttempt, RecoveryPolicy, Tag
from accounts.states import AccountState, AttemptState, Method, NextStep, Trigger
from tests.support import preloaded
from tests.support.environment import WAIT_SECONDS
from tests.support.factories import fresh, make_account, make_attempt
from tests.support.processes import DEADLINE, until
from tests.support.scenarios import running_stack
from tests.support.stack import ROOT, Stack


def who(**options) -> list[str]:
    found = chosen({"account": [], "due": False, "tag": None} | options)
    return [account.label for account in found]


def refused(**options) -> str:
    with pytest.raises(CommandError) as error:
        who(**options)
    assert error.value.returncode == 2
    return str(error.value)


# --- whom ----------------------------------------------------------------------------------------------


def test_accounts_are_named_by_wcid_label_or_id(db):
    first = make_account(label="Shop 1", wc_id="wxid_one")
    second = make_account(label="Shop 2")
    assert who(account=["wxid_one"]) == ["Shop 1"]
    assert who(account=["shop 2"]) == ["Shop 2"]
    assert who(account=[f"id:{second.pk}", "Shop 1", "wxid_one"]) == ["Shop 2", "Shop 1"]
    assert first.pk != second.pk


@pytest.mark.parametrize("name", ["“wxid_1”", "ｗｘｉｄ＿１\u200b", "\u200e旗舰店", "id:{}\ufeff"])
def test_an_account_is_named_as_it_looks(db, name):
    account = make_account(label="旗舰店", wc_id="wxid_1")
    assert named(name.format(account.pk)) == account


def test_a_name_that_several_have_is_refused_with_all_of_them(db):
    first, second = make_account(label="Shop", wc_id="wxid_one"), make_account(label="Shop")
    assert refused(account=["Shop"]) == (
        "2 accounts have the label “Shop”. Give the wcId or ID of one of them: "
        f"id:{first.pk} Shop (wxid_one), id:{second.pk} Shop (no wcId yet)."
    )


def test_a_name_that_nobody_has_is_refused_with_similar_ones(db):
    account = make_account(label="Shop East", wc_id="wxid_one")
    assert refused(account=["east"]) == (
        f"No account has the wcId, label or ID “east”. Similar ones: id:{account.pk} Shop East (wxid_one)."
    )
    assert refused(account=["wxid_two"]) == "No account has the wcId, label or ID “wxid_two”."
    assert refused(account=["id:999999"]).startswith("No account has")
    assert refused(account=[""]).startswith("No account has")


def test_a_merged_record_is_nobody(db):
    kept = make_account(label="Kept")
    make_account(label="Joined", merged_into=kept)
    assert "No account" in refused(account=["Joined"])


def test_due_and_tags(db):
    tag = Tag.objects.create(name="vip")
    due, later, paused = (make_account(label=name, wc_id=f"w_{name}") for name in ("due", "later", "paused"))
    online = make_account(label="online", w_id="w1", relogin_at=timezone.now())
    for account in (due, later, paused, online):
        account.tags.add(tag)
    Account.objects.filter(pk__in=[due.pk, paused.pk]).update(relogin_at=timezone.now())
    Account.objects.filter(pk=paused.pk).update(keep_online=False)
    assert set(who(due=True)) == {"due", "online"}
    assert who(tag="vip") == ["due", "later"]
    assert refused(tag="nobody") == "There is no tag “nobody”."
    for options in ({}, {"due": True, "tag": "vip"}, {"account": ["due"], "due": True}):
        assert refused(**options) == "Name accounts, or give --due, or --tag."


def test_a_drawn_code_can_be_read():
    """As a terminal shows it: each character two modules, one above the other."""
    text = "http://weixin.qq.com/x/AbCdEfGhIjKlMnOp"
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in in_terminal(text).split("\n")]
    width = max(map(len, lines))
    picture = Image.new("L", (width, 2 * len(lines)))
    light = {"█": (255, 255), "▀": (255, 0), "▄": (0, 255), " ": (0, 0)}
    for y, line in enumerate(lines):
        for x, char in enumerate(line):
            for half in (0, 1):
                picture.putpixel((x, 2 * y + half), light[char][half])
    found = zxingcpp.read_barcodes(picture.resize((width * 4, 8 * len(lines))))
    assert [code.text for code in found] == [text]


@pytest.mark.slow
def test_no_name_says_how_it_is_used():
    done = subprocess.run([sys.executable, "manage.py", "relogin"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Name accounts, or give --due, or --tag." in done.stderr
    assert "Traceback" not in done.stderr


# --- with a worker and phones --------------------------------------------------------------------------


running = running_stack("waits")


class Relogin:
    """The command as a process; `said` grows while it runs."""

    def __init__(self, stack: Stack, *words: str):
        self.log: Path = stack.folder / f"relogin-{len(list(stack.folder.glob('relogin-*.log')))}.log"
        self.errors = self.log.with_suffix(".errors")
        with self.log.open("wb") as log, self.errors.open("wb") as errors:
            command = [sys.executable, "manage.py", "relogin", *words]
            self.process = preloaded.start(command, stack.env, stdout=log, stderr=errors)

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.said.splitlines() if line.startswith("{")]

    def event(self, name: str) -> dict:
        found = lambda: next((event for event in self.events if event["event"] == name), None)  # noqa: E731
        return until(found, f"no {name}")

    def code(self) -> int:
        code = self.process.wait(DEADLINE)
        assert "Traceback" not in self.errors.read_text(), self.errors.read_text()
        return code


@pytest.fixture
def relogin(running, live, upstream):
    RecoveryPolicy.objects.update(is_default=False)
    started = []

    def start(*words: str) -> Relogin:
        started.append(Relogin(running, *words))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
    RecoveryPolicy.objects.filter(name="slow").delete()
    RecoveryPolicy.objects.filter(name="Default").update(is_default=True)


def known(upstream, number: int = 1) -> Account:
    """An account that is offline here and known upstream."""
    wc_id = f"wxid_known_{number}"
    upstream.person(wc_id)
    return make_account(label=f"Known {number}", wc_id=wc_id, state=AccountState.OFFLINE)


@pytest.mark.live
def test_a_code_is_drawn_scanned_and_waited_for(relogin, upstream):
    account = known(upstream)
    command = relogin(account.wc_id, "--wait")
    until(lambda: "scan with the phone of wxid_known_1" in command.said, "no code")
    assert "\x1b[97;40m█" in command.said
    attempt = LoginAttempt.objects.get()
    assert (attempt.trigger, attempt.method) == (Trigger.API, Method.QR)
    upstream.phone("confirm", wId=attempt.w_id)
    assert command.code() == 0
    assert f"online, wId {fresh(account).w_id}" in command.said
    assert command.said.strip().endswith("1 of 1 succeeded.")


@pytest.mark.live
def test_programs_get_the_code_as_text_and_a_sum(relogin, upstream):
    account = known(upstream)
    upstream.settings(wait_seconds=1)
    command = relogin("Known 1", "--wait", "--json")
    code = command.event("code")
    assert code["qr_text"] == LoginAttempt.objects.get().qr_text != ""
    assert 0 < code["seconds_left"] <= WAIT_SECONDS
    assert command.code() == 1
    end = command.events[-1]
    assert (end["event"], end["online"]) == ("end", False)
    assert end["accounts"][0] | {"wId": ""} == {
        "account": account.pk, "label": "Known 1", "wcId": "wxid_known_1", "wId": "", "state": "offline",
        "attempt": code["attempt"], "attempt_state": "expired", "reason": "not_scanned", "why_not": "",
    }  # fmt: skip
    assert len(command.events) == len(command.said.splitlines())


@pytest.mark.live
def test_prompts_go_out_side_by_side(relogin, upstream):
    accounts = [known(upstream, number) for number in (1, 2)]
    command = relogin(*[account.wc_id for account in accounts], "--wait", "--json")
    for account in accounts:
        upstream.wait(wcId=account.wc_id, prompt=True)
    upstream.phone("accept", wcId=accounts[0].wc_id)
    upstream.phone("decline", wcId=accounts[1].wc_id)
    assert command.code() == 1
    first, second = command.events[-1]["accounts"]
    assert (first["state"], first["attempt_state"]) == ("online", "succeeded")
    assert (second["attempt_state"], second["reason"]) == ("failed", "prompt_declined")
    assert set(LoginAttempt.objects.values_list("method", flat=True)) == {Method.POPUP}


@pytest.mark.live
def test_a_prompt_for_which_there_is_no_room_yet_is_waited_for(relogin, upstream):
    RecoveryPolicy.objects.create(name="slow", is_default=True, prompts_a_minute=1)
    first, second = (known(upstream, number) for number in (1, 2))
    attempt = make_attempt(first, AttemptState.EXPIRED, method=Method.POPUP, sent_at=timezone.now())
    command = relogin(second.wc_id, "--method", "popup", "--wait", "--json")
    # A worker that has no processor time for longer than its lease offers no slot: then that is what is said.
    reasons = (WHY_NOT[NextStep.BACK_OFF], WHY_NOT[NextStep.WAITING])
    assert command.event("not_yet")["text"] in [f"Known 2: not yet: {reason}" for reason in reasons]
    LoginAttempt.objects.filter(pk=attempt.pk).update(sent_at=timezone.now() - timedelta(minutes=2))
    upstream.wait(wcId=second.wc_id, prompt=True)
    upstream.phone("accept", wcId=second.wc_id)
    assert command.code() == 0
    assert command.events[-1]["online"] is True


@pytest.mark.live
def test_ctrl_c_leaves_the_login_open_and_says_so(relogin, upstream):
    account = known(upstream)
    command = relogin(account.wc_id, "--wait", "--json")
    command.event("code")
    command.process.send_signal(signal.SIGINT)
    assert command.code() == 130
    attempt = LoginAttempt.objects.get()
    assert command.events[-1]["attempts"] == [attempt.pk]
    assert f"still in progress: #{attempt.pk} (/attempts/{attempt.pk}/)" in command.said
    assert attempt.state == AttemptState.WAITING
    upstream.phone("confirm", wId=attempt.w_id)
    until(lambda: fresh(account).state == AccountState.ONLINE, "the login did not go on")


@pytest.mark.live
def test_without_wait_the_code_is_drawn_and_the_login_goes_on(relogin, upstream):
    account = known(upstream)
    command = relogin(account.label)
    assert command.code() == 0
    assert "█" in command.said
    assert fresh(account).open_attempt is not None


# --- without a worker ----------------------------------------------------------------------------------


def run(*words: str) -> tuple[int, list[dict]]:
    out = io.StringIO()
    with pytest.raises(SystemExit) as end:
        call_command(Command(), *words, "--json", stdout=out)
    return end.value.code, [json.loads(line) for line in out.getvalue().splitlines()]


def test_who_is_online_is_left_alone(db):
    make_account(label="On", w_id="w1")
    code, events = run("On", "--wait")
    assert (code, events[0]["event"], events[0]["wId"]) == (0, "online", "w1")
    assert not LoginAttempt.objects.exists()


def test_a_login_that_is_open_already_is_shown(db, upstream):
    account = make_account(label="Off", wc_id="wxid_off", state=AccountState.OFFLINE)
    attempt = make_attempt(account)
    code, events = run("Off", "--method", "popup")
    assert (code, events[0]["attempt"], events[0]["new"]) == (0, attempt.pk, False)
    assert LoginAttempt.objects.count() == 1


def test_what_stands_in_the_way_of_a_prompt_is_said(db, upstream):
    make_account(label="Off", wc_id="wxid_off", state=AccountState.OFFLINE)
    code, events = run("Off", "--method", "popup")
    assert code == 1
    assert events[0]["text"] == "Off: not started: no worker has a free slot"
    assert events[-1]["accounts"][0]["why_not"] == "no worker has a free slot"


def test_nobody_is_due(db):
    code, events = run("--due", "--wait")
    assert (code, events[-1]["accounts"]) == (0, [])
