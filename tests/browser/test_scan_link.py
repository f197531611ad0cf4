"""The owner of a phone at a small screen, from the link to online, with the simulator's phones."""

import os
from datetime import timedelta

import pytest
from playwright.sync_api import expect

from accounts.models import Account, LoginAttempt, ScanLink
from accounts.scanning import links
from tests.support import chromium, environment
from tests.support.stack import Stack

pytestmark = [pytest.mark.live, pytest.mark.browser, pytest.mark.timeout(400), pytest.mark.usually("sqlite")]
# Playwright's loop runs in this thread; the database calls beside it are ordinary ones.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
SMALL = {"width": 360, "height": 640}


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), Stack() as running:
        yield running


@pytest.fixture
def owner(new_page, stack, upstream):
    """Opens a link on a small phone, without a sign-in."""

    def open_link(link: ScanLink, language="zh-CN"):
        page = new_page(locale=language, viewport=SMALL, has_touch=True)
        page.goto(f"{stack.url}/scan/{link.token}/")
        return page

    return open_link


def link_of(live, **fields) -> ScanLink:
    account = live.account(label="门店 3", **fields)
    return links.create(account, timedelta(hours=1), by=live.operator)


def mode(page, name: str):
    return expect(page.locator(f"#owner[data-mode={name}]")).to_be_visible()


def phone(upstream, page, what: str, **how) -> None:
    number = page.locator("#owner[data-attempt]").get_attribute("data-attempt")
    w_id = LoginAttempt.objects.get(pk=number).w_id
    upstream.wait(wId=w_id, step3_now=1)
    upstream.phone(what, wId=w_id, **how)


def fits(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def state_of(link: ScanLink) -> str:
    return Account.objects.get(pk=link.account_id).state


def test_from_the_link_to_online_by_a_prompt_on_the_same_phone(live, owner, upstream):
    upstream.person("wxid_shop")
    link = link_of(live, wc_id="wxid_shop", state="offline")
    page = owner(link)
    mode(page, "ask")
    assert fits(page)
    page.get_by_role("button", name="在这部手机上确认").tap()
    mode(page, "prompt")
    assert fits(page)
    upstream.wait(wcId="wxid_shop", prompt=1)
    upstream.phone("accept", wcId="wxid_shop")
    mode(page, "done")
    assert state_of(link) == "online"


def test_a_new_account_begins_with_the_code_and_asks_for_its_verification_code(live, owner, upstream):
    link = link_of(live)
    page = owner(link, language="en-US")
    mode(page, "code")  # without a tap
    assert fits(page)
    w_id = LoginAttempt.objects.get().w_id
    assert chromium.code_on(page) == f"{environment.simulator.url}/phone/{w_id}"
    phone(upstream, page, "code", code="975310")
    mode(page, "verify")
    expect(page.locator("input[name=code]")).to_be_focused()
    page.keyboard.type("111111")
    page.get_by_role("button", name="Send").tap()
    expect(page.locator("#code-notes")).to_contain_text("wrong")
    page.locator("input[name=code]").fill("975310")
    page.keyboard.press("Enter")
    mode(page, "done")
    assert state_of(link) == "online"


def test_what_is_typed_stays_while_the_page_asks_what_is_new(live, owner, upstream):
    page = owner(link_of(live))
    mode(page, "code")
    phone(upstream, page, "code", code="975310")
    mode(page, "verify")
    expect(page.locator("input[name=code]")).to_be_focused()
    page.keyboard.type("975")
    for _ in range(2):
        with page.expect_response(lambda answer: "/live/" in answer.url) as answer:
            pass
        assert answer.value.status == 204
    expect(page.locator("input[name=code]")).to_have_value("975")


def test_another_account_is_refused_and_the_right_one_scans_again(live, owner, upstream):
    upstream.person("wxid_shop")
    upstream.person("wxid_other")
    link = link_of(live, wc_id="wxid_shop", state="offline")
    page = owner(link)
    page.get_by_role("button", name="显示二维码").tap()
    mode(page, "code")
    phone(upstream, page, "confirm", who="wxid_other")
    mode(page, "wrong_account")
    assert state_of(link) == "offline"
    page.get_by_role("button", name="显示新的二维码").tap()
    mode(page, "code")
    phone(upstream, page, "confirm")
    mode(page, "done")
    assert state_of(link) == "online"


def test_a_link_that_is_revoked_while_somebody_looks_says_so(live, owner):
    link = link_of(live, wc_id="wxid_shop", state="offline")
    page = owner(link)
    mode(page, "ask")
    links.create(link.account, timedelta(hours=1), by=live.operator)
    mode(page, "revoked")
    expect(page.locator("#owner")).not_to_contain_text("门店 3")
