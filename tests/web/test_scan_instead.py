"""A phone prompt under way, and a person who would rather scan: the prompt is withdrawn, then a QR code is requested."""

import re

import pytest

from accounts.models import Account, AccountEvent, LoginAttempt
from accounts.states import AccountState, AttemptState, EventType, Method
from tests.support.factories import fresh, make_attempt


@pytest.fixture
def account(committed):
    return committed.account(state="offline", wc_id="wxid_asked")


@pytest.fixture
def prompt(account, upstream):
    upstream.person("wxid_asked")
    return make_attempt(account, method=Method.POPUP, trigger="recovery")


def scan(who, prompt: LoginAttempt, **headers):
    return who.client.post(f"/attempts/{prompt.pk}/scan/", headers=headers)


def offers(page: str, prompt: LoginAttempt) -> bool:
    return bool(re.search(rf'action="/attempts/{prompt.pk}/scan/".*?Scan a code instead', page, re.DOTALL))


@pytest.mark.parametrize("state", [AttemptState.PREPARING, AttemptState.WAITING])
@pytest.mark.slow
def test_it_is_offered_where_the_prompt_is_shown_to_those_who_may_log_in(committed, account, prompt, state):
    LoginAttempt.objects.filter(pk=prompt.pk).update(state=state)
    for path in (
        f"/accounts/{account.pk}/",
        f"/attempts/{prompt.pk}/",
        "/accounts/",
        f"/accounts/{account.pk}/row/",
    ):
        assert offers(committed.operator.client.get(path).content.decode(), prompt), path
        assert not offers(committed.viewer.client.get(path).content.decode(), prompt), path


def test_a_login_that_is_asked_for_while_a_prompt_is_under_way_shows_it_with_the_offer(
    committed, account, prompt
):
    answer = committed.operator.client.post(f"/accounts/{account.pk}/login/", headers={
        "HX-Request": "true", "HX-Target": "account-live",
    })  # fmt: skip
    assert offers(answer.content.decode(), prompt)


def test_the_prompt_is_withdrawn_and_the_code_is_on_the_page(committed, account, prompt):
    answer = scan(committed.operator, prompt)
    code = account.attempts.open().get()
    assert answer["Location"] == f"/attempts/{code.pk}/"
    assert (code.method, code.state, code.asked_by) == (
        Method.QR,
        AttemptState.WAITING,
        committed.operator,
    )
    assert fresh(prompt).state == AttemptState.CANCELLED
    moves = AccountEvent.objects.filter(attempt=prompt, to_state=AttemptState.CANCELLED)
    assert moves.get().actor_name == "operator"
    assert "data:image/png" in committed.operator.client.get(f"/accounts/{account.pk}/").content.decode()


def test_on_the_accounts_page_the_code_takes_the_place_of_the_prompt(committed, prompt):
    headers = {"HX-Request": "true", "HX-Target": "account-live"}
    page = scan(committed.operator, prompt, **headers).content.decode()
    assert 'id="panel"' in page and "data:image/png" in page


def test_a_second_click_gets_the_same_code(committed, account, prompt):
    first, second = (scan(committed.operator, prompt)["Location"] for _twice in range(2))
    assert first == second
    assert account.attempts.filter(method=Method.QR).count() == 1


def test_a_prompt_that_was_confirmed_meanwhile_is_not_replaced(committed, account, prompt):
    prompt.move(AttemptState.SUCCEEDED)
    Account.objects.filter(pk=account.pk).update(state=AccountState.ONLINE, w_id="w-1")
    assert scan(committed.operator, prompt)["Location"] == f"/attempts/{prompt.pk}/"
    assert account.attempts.count() == 1


def test_only_who_may_log_in_withdraws_a_prompt(committed, prompt):
    for person, status in ((committed.viewer, 403), (committed.stranger, 404)):
        assert scan(person, prompt).status_code == status
    assert fresh(prompt).state == AttemptState.WAITING
    assert not AccountEvent.objects.filter(happened=EventType.ATTEMPT_STARTED).exists()
