"""The frame of every page in a real browser: keys, their list, badges, the bar of a narrow screen."""

import os

import pytest
from playwright.sync_api import expect

from accounts.models import Account
from tests.support import chromium
from tests.support.stack import Stack

pytestmark = [pytest.mark.live, pytest.mark.browser, pytest.mark.timeout(180), pytest.mark.usually("sqlite")]
# Playwright's loop runs in this thread; the database calls beside it are ordinary ones.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
HELD_PANELS = """
    window.asked = [];
    const fetchNow = window.fetch;
    window.fetch = (url, how) => {
      asked.push(url);
      if (!window.hold || !url.endsWith("/live/")) return fetchNow(url, how);
      return new Promise((answer) => (window.release = () => answer(fetchNow(url, how))));
    };
"""
NO_POPOVERS = """
    delete HTMLElement.prototype.popover;
    for (const name of ["showPopover", "hidePopover", "togglePopover"]) delete HTMLElement.prototype[name];
    addEventListener("click", (e) => e.target.closest("[popovertarget]") && e.preventDefault(), true);
"""


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), Stack("web") as running:
        yield running


@pytest.fixture
def open_page(new_page, stack, live):
    def open_page(path: str = "/accounts/", before: str = "", **how):
        page = new_page(live.operator, locale="en", **how)
        if before:
            page.add_init_script(before)
        page.goto(stack.url + path)
        return page

    return open_page


def test_keys_are_listed_and_do_nothing_in_a_field_or_under_a_dialog(open_page, live):
    page = open_page()
    page.keyboard.press("/")
    search = page.locator("#q")
    expect(search).to_be_focused()
    page.keyboard.type("a?")
    expect(search).to_have_value("a?")
    expect(page.locator("#help")).to_be_hidden()

    search.blur()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("/")
    expect(search).not_to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()


def test_a_key_that_no_element_has_is_offered_to_the_page(open_page):
    page = open_page()
    page.evaluate("""
        window.offered = [];
        document.addEventListener("wk:key", ({ detail }) => offered.push(detail.key + (detail.shift ? "+" : "")));
    """)
    for key in ("j", "Shift+X", "ArrowDown"):
        page.keyboard.press(key)
    page.locator("#q").press("k")
    assert page.evaluate("offered") == ["j", "X+", "ArrowDown"]


def test_badges_follow_what_happens(open_page, live):
    account = live.account(state="offline", wc_id="wxid_1")
    page = open_page("/incidents/")
    badge = page.locator("nav [data-count=to_scan]").first
    expect(badge).to_be_hidden()
    Account.objects.filter(pk=account.pk).update(queued_for_scan_at="2026-01-01T00:00Z")
    page.evaluate("document.dispatchEvent(new CustomEvent('wk:change', { detail: { account: 0 } }))")
    expect(badge).to_have_text("1")
    expect(badge).to_be_visible()


def test_the_panel_is_refreshed_before_what_stands_below_it(open_page, live):
    account = live.account()
    page = open_page(f"/accounts/{account.pk}/", before=HELD_PANELS, bypass_csp=True)
    below = "asked.some((url) => url.endsWith('/history/'))"
    page.wait_for_function(below)  # the refresh that each new stream asks for

    def waits_for_the_panel() -> bool:
        page.evaluate("window.hold = true; window.asked = [];")
        page.evaluate(
            f"document.dispatchEvent(new CustomEvent('wk:change', {{ detail: {{ account: {account.pk} }} }}))"
        )
        page.wait_for_function("typeof window.release === 'function'")
        # The counts of the navigation are asked for after the panel, and later than anything below it would be.
        page.wait_for_function("asked.some((url) => url.endsWith('/waiting/'))")
        waits = not page.evaluate(below)
        page.evaluate("window.hold = false; release(); window.release = null;")
        page.wait_for_function(below)
        return waits

    # What a refresh before asked for may still come: but not every time.
    assert any(waits_for_the_panel() for _ in range(5))


@pytest.mark.parametrize("before", ["", NO_POPOVERS], ids=["with popovers", "without"])
def test_more_opens_and_closes_on_a_narrow_screen(open_page, before):
    page = open_page(before=before, viewport=chromium.PHONE)
    more, button = page.locator("#more"), page.locator("[popovertarget=more]")
    expect(more).to_be_hidden()
    button.click()
    expect(more).to_be_visible()
    page.keyboard.press("Escape")
    expect(more).to_be_hidden()
    button.click()
    expect(more.get_by_role("button", name="Sign out")).to_be_visible()
    page.locator("h1").click()
    expect(more).to_be_hidden()


def test_a_wide_screen_has_no_bar_and_a_narrow_one_no_column(open_page):
    wide, narrow = open_page(viewport=chromium.DESK), open_page(viewport=chromium.PHONE)
    expect(wide.locator("[popovertarget=more]")).to_be_hidden()
    expect(wide.locator("footer")).to_be_visible()
    expect(narrow.locator("footer")).to_be_hidden()
    bar = narrow.locator("nav.side").bounding_box()
    assert bar["y"] + bar["height"] == chromium.PHONE["height"]
    assert all(item.bounding_box()["height"] >= 44 for item in narrow.locator("nav .item:visible").all())
