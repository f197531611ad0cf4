"""A person with a real browser, and a phone in another tab."""

import os
import re

import pytest
from playwright.sync_api import expect

from accounts.models import Account, LoginAttempt
from tests.support import chromium
from tests.support.factories import PASSWORD
from tests.support.stack import Stack

# What a page shows is the same; test_full_login is here for a login's steps on each database.
pytestmark = [pytest.mark.live, pytest.mark.browser, pytest.mark.timeout(180), pytest.mark.usually("sqlite")]
# Playwright's loop runs in this thread; the database calls beside it are ordinary ones.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), Stack() as running:
        yield running


@pytest.fixture
def desk(new_page, complaints, stack, live, upstream):
    """Opens signed-in pages. They may say that the portal was away."""

    def open_page(user=live.operator, path="/accounts/", language="en", viewport=chromium.DESK, **how):
        page = new_page(user, locale=language, viewport=viewport, **how)
        page.goto(stack.url + path)
        return page

    yield open_page
    complaints[:] = [text for text in complaints if "503" not in text]


def tap_confirm(chrome, address: str) -> None:
    phone = chrome.new_page(viewport=chromium.PHONE)
    phone.goto(address)
    phone.locator("button[name=do][value=confirm]").click()
    phone.close()


def press_log_in(page) -> None:
    page.locator("form[action$='/login/'] button").first.click()
    expect(page.locator("[data-attempt][data-state=waiting]").first).to_be_visible()


@pytest.mark.parametrize(
    ("viewport", "scheme", "language"),
    [(chromium.DESK, "light", "en"), (chromium.PHONE, "dark", "zh-CN")],
    ids=["desk", "phone in the dark, in Chinese"],
)
def test_from_signing_in_to_online_without_a_reload(desk, chrome, stack, live, viewport, scheme, language):
    page = desk(user=None, viewport=viewport, color_scheme=scheme, language=language, path="/login/")
    chromium.sign_in(page, stack.url, live.operator.get_username(), PASSWORD)
    page.locator("main a[href='/accounts/new/']").click()
    page.locator("[name=label]").fill("旗舰店 01")
    page.locator("[name=proxy]").select_option("1")
    page.locator("form:has([name=label]) button").first.click()
    page.wait_for_url(re.compile(r"/accounts/\d+/"))  # loaded, with its script: a button works without it too
    page.evaluate("window.neverReloaded = true")
    press_log_in(page)

    qr = page.locator(".code img")
    qr.scroll_into_view_if_needed()
    tap_confirm(chrome, chromium.code_on(page))

    online = page.locator("[data-account][data-state=online][data-wc-id]").first
    expect(online).to_be_visible()
    account = Account.objects.get()
    assert online.get_attribute("data-wc-id") == account.wc_id
    assert online.get_attribute("data-w-id") == account.w_id
    assert page.evaluate("window.neverReloaded") is True
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth") is True


def test_a_second_operator_sees_the_same_login_and_its_end(desk, chrome, live):
    account = live.account(label="华东客服 3")
    mine, mates_list = desk(path=f"/accounts/{account.pk}/"), desk(user=live.mate)
    press_log_in(mine)

    row = mates_list.locator(f"[data-account='{account.pk}']").first
    expect(row).to_have_attribute("data-attempt", str(LoginAttempt.objects.get().pk))
    mates_page = desk(user=live.mate, path=f"/accounts/{account.pk}/")
    expect(mates_page.locator("main")).to_contain_text("operator")
    tap_confirm(chrome, chromium.code_on(mates_page))

    expect(row).to_have_attribute("data-state", "online")
    expect(mine.locator("[data-wc-id]").first).to_be_visible()


def test_a_viewer_sees_that_somebody_waits_but_no_code(desk, live):
    account = live.account()
    mine = desk(path=f"/accounts/{account.pk}/")
    press_log_in(mine)
    viewer = desk(user=live.viewer, path=f"/accounts/{account.pk}/")

    expect(viewer.locator("[data-attempt][data-state=waiting]").first).to_be_visible()
    expect(viewer.locator(".code img")).to_have_count(0)
    assert chromium.readable_code(viewer) == ""
    assert viewer.locator("form[action$='/cancel/']").count() == 0


def test_cancel_then_a_new_code_in_one_click(desk, live, upstream):
    account = live.account(proxy=4)
    page = desk(path=f"/accounts/{account.pk}/")
    press_log_in(page)
    page.locator("form[action$='/cancel/'] button").first.click()
    expect(page.locator("[data-attempt][data-state=cancelled]").first).to_be_visible()
    expect(page.locator("[data-attempt][data-state=waiting]")).to_have_count(0)  # in the history too
    press_log_in(page)

    first, second = LoginAttempt.objects.order_by("id")
    assert (first.state, second.state, second.proxy) == ("cancelled", "waiting", 4)
    assert [body["proxy"] for body in upstream.bodies("/iPadLogin")] == [4, 4]


def test_a_verification_code_that_the_phone_asks_for(desk, live, upstream):
    account = live.account()
    page = desk(path=f"/accounts/{account.pk}/")
    press_log_in(page)
    upstream.wait(wId=LoginAttempt.objects.get().w_id, step3_now=1)
    upstream.phone("code", code="975310")
    field = page.locator("input[name=code]")
    expect(field).to_be_visible()
    field.fill("975310")
    field.press("Enter")

    expect(page.locator("[data-wc-id]").first).to_be_visible()


def test_an_online_account_is_not_logged_in_again_unasked(desk, live, upstream):
    account = live.account(w_id="w-1", wc_id="wxid_1")
    page = desk(path=f"/accounts/{account.pk}/")
    page.locator("form[action$='/login/'] button").first.click()
    sure = page.locator("form:has([name=sure]) button")
    expect(sure.first).to_be_visible()
    assert LoginAttempt.objects.count() == 0
    sure.first.click()
    expect(page.locator("[data-attempt][data-state=waiting]").first).to_be_visible()
    assert upstream.bodies("/iPadLogin")[0]["wcId"] == "wxid_1"


def test_without_javascript_reloading_does_it(desk, chrome, live):
    account = live.account()
    page = desk(path=f"/accounts/{account.pk}/", java_script_enabled=False)
    page.locator("form[action$='/login/'] button").first.click()
    expect(page.locator("[data-attempt][data-state=waiting]").first).to_be_visible()
    tap_confirm(chrome, chromium.code_on(page))
    # The page asks again by itself.
    expect(page.locator("[data-attempt][data-state=succeeded]").first).to_be_visible()


def test_hostile_names_stay_text(desk, live, upstream):
    name = "<img src=x onerror=alert(1)>\"'{{7*7}}"
    live.account(label=name, nickname=name, note=name, w_id="w-1", wc_id="wxid_1")
    page = desk()
    page.on("dialog", lambda dialog: pytest.fail("a script ran"))
    expect(page.locator("main")).to_contain_text("<img src=x")
    page.goto(page.url + f"{Account.objects.get().pk}/")
    expect(page.locator("main")).to_contain_text("<img src=x")


def test_search_narrows_the_list_and_says_when_nothing_is_found(desk, live):
    live.account(label="华东客服 3", nickname="小诺", wc_id="wxid_gia1", wechat_id="hi1212")
    live.account(label="Backup phone")
    for text in ("华东", "小诺", "GIA1", "hi12"):
        page = desk()
        page.evaluate("window.neverReloaded = true")
        page.locator("input[name=q]").fill(text)
        page.locator("input[name=q]").press("Enter")
        expect(page.locator("tr[data-account]")).to_have_count(1)
        assert page.evaluate("window.neverReloaded") is True
    page.locator("input[name=q]").fill("nobody")
    page.locator("input[name=q]").press("Enter")
    expect(page.locator("tr[data-account]")).to_have_count(0)
