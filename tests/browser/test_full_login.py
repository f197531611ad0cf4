"""The whole product with real processes: a person clicks, a phone confirms, the record is written."""

import os
import re
import signal
from io import BytesIO

import pytest
import zxingcpp
from PIL import Image

from accounts.models import Account, LoginAttempt
from tests.support import environment
from tests.support.processes import until
from tests.support.stack import Operator, Stack

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), Stack() as running:
        yield running


def attempt_of(answer) -> int:
    assert answer.status_code == 302, answer.text[:300]
    return int(re.fullmatch(r"/attempts/(\d+)/", answer.headers["Location"]).group(1))


def attribute(html: str, name: str) -> list[str]:
    return re.findall(rf'data-{name}="([^"]*)"', html)


def test_a_login_from_the_form_to_online(stack, operator, upstream, live):
    added = operator.post("/accounts/new/", label="旗舰店 01", wc_id="", proxy="2", team=live.east.pk)
    account_path = added.headers["Location"]
    account_id = int(account_path.split("/")[2])

    attempt_id = attempt_of(operator.post(f"{account_path}login/"))
    page = operator.get(f"/attempts/{attempt_id}/").text
    assert "waiting" in attribute(page, "state")
    picture = operator.get(f"/attempts/{attempt_id}/qr.png", stream=True)
    assert "no-store" in picture.headers["Cache-Control"].split(", ")
    code = zxingcpp.read_barcode(Image.open(picture.raw))
    w_id = LoginAttempt.objects.get(pk=attempt_id).w_id
    assert code.text == f"{environment.simulator.url}/phone/{w_id}"

    upstream.wait(wId=w_id, step3_now=1)
    upstream.phone("confirm", wId=w_id)
    until(lambda: attribute(operator.get(account_path).text, "w-id"), "the account did not come online")
    page = operator.get(account_path).text
    account = Account.objects.get(pk=account_id)
    assert attribute(page, "wc-id")[0] == account.wc_id
    assert attribute(page, "w-id")[0] == account.w_id == w_id
    assert operator.get(f"/attempts/{attempt_id}/qr.png").status_code == 410
    assert upstream.online == {account.wc_id: w_id}


def test_the_avatar_comes_through_us(stack, operator, upstream, live):
    account = live.account()
    attempt_id = attempt_of(operator.post(f"/accounts/{account.pk}/login/"))
    w_id = LoginAttempt.objects.get(pk=attempt_id).w_id
    upstream.wait(wId=w_id, step3_now=1)
    upstream.phone("confirm", wId=w_id)

    answer = until(
        lambda: (a := operator.get(f"/accounts/{account.pk}/avatar.png")).ok and a, "no avatar was fetched"
    )
    assert answer.headers["Content-Type"] == "image/png"
    assert Image.open(BytesIO(answer.content)).size == (128, 128)
    account.refresh_from_db()
    assert account.avatar_url not in operator.get(f"/accounts/{account.pk}/").text


@pytest.mark.parametrize("dialect", ["seed", "g1"])
def test_servers_that_follow_the_seed_page_literally(stack, operator, upstream, live, dialect):
    upstream.settings(dialect=dialect)
    account = live.account(proxy=5)
    attempt_id = attempt_of(operator.post(f"/accounts/{account.pk}/login/"))
    w_id = LoginAttempt.objects.get(pk=attempt_id).w_id
    upstream.wait(wId=w_id, step3_now=1)
    upstream.phone("confirm", wId=w_id)

    until(lambda: Account.objects.get(pk=account.pk).state == "online", "not online")
    assert Account.objects.get(pk=account.pk).w_id == w_id


def test_a_double_click_and_a_second_operator_are_shown_the_same_attempt(stack, operator, upstream, live):
    account = live.account()
    mate = Operator(stack, live.mate)
    ids = {attempt_of(who.post(f"/accounts/{account.pk}/login/")) for who in (operator, operator, mate)}

    assert len(ids) == 1
    assert upstream.calls("/iPadLogin") == 1
    assert "operator" in mate.get(f"/attempts/{ids.pop()}/").text


def test_a_worker_that_is_killed_loses_nothing(stack, operator, upstream, live):
    account = live.account()
    attempt_id = attempt_of(operator.post(f"/accounts/{account.pk}/login/"))
    w_id = LoginAttempt.objects.get(pk=attempt_id).w_id
    upstream.wait(wId=w_id, step3_now=1)

    os.kill(stack.processes["waits"].pid, signal.SIGKILL)
    stack.processes["waits"].wait()
    stack.start("waits")
    upstream.phone("confirm", wId=w_id)

    until(lambda: Account.objects.get(pk=account.pk).state == "online", "the wait was not resumed")
    attempt = LoginAttempt.objects.get(pk=attempt_id)
    assert (attempt.state, attempt.lease_epoch) == ("succeeded", 2)
    assert upstream.calls("/iPadLogin") == 1


def test_a_broken_answer_is_shown_as_what_it_is(stack, operator, upstream, live):
    account = live.account()
    upstream.fault("/iPadLogin", "refuse")
    attempt_id = attempt_of(operator.post(f"/accounts/{account.pk}/login/"))
    page = operator.get(f"/attempts/{attempt_id}/").text
    assert attribute(page, "state")[0] == "failed"
    assert attribute(page, "reason")[0] == "outcome_unknown"


def test_the_log_of_all_this_at_debug_holds_no_secret(stack, operator, upstream, live):
    upstream.person("wxid_canary", nickname="金丝雀")
    account = live.account(wc_id="wxid_canary")
    attempt_id = attempt_of(operator.post(f"/accounts/{account.pk}/login/"))
    attempt = LoginAttempt.objects.get(pk=attempt_id)
    w_id, qr_text = attempt.w_id, attempt.qr_text
    picture_url = upstream.logins(wId=w_id)[0]["qr_url"]
    upstream.wait(wId=w_id, step3_now=1)
    upstream.phone("code", wId=w_id, code="971864")
    until(
        lambda: LoginAttempt.objects.get(pk=attempt_id).state == "code_required",
        "no verification code asked for",
    )
    operator.post(f"/attempts/{attempt_id}/code/", code="971864")
    until(lambda: Account.objects.get(pk=account.pk).state == "online", "not online")

    log = stack.log
    assert "/attempts/" in log or "celery" in log
    secrets = [*environment.CANARIES.values(), upstream.authorization, qr_text, picture_url, "971864"]
    assert [secret for secret in secrets if secret in log] == []
