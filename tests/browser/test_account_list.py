"""The account list in a real browser: by keyboard only, live under the pointer, a selection that survives."""

import os
import re

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from accounts.models import Account, Tag
from tests.support import chromium
from tests.support.factories import make_attempt
from tests.support.stack import Stack

pytestmark = [pytest.mark.live, pytest.mark.browser, pytest.mark.timeout(180), pytest.mark.usually("sqlite")]
# Playwright's loop runs in this thread; the database calls beside it are ordinary ones.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
CHANGED = "id => document.dispatchEvent(new CustomEvent('wk:change', { detail: { account: id } }))"


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), Stack("web") as running:
        yield running


@pytest.fixture
def open_list(new_page, stack, live):
    def open_list(query: str = "", viewport=chromium.DESK, **how):
        page = new_page(live.operator, locale="en", viewport=viewport, **how)
        page.goto(stack.url + "/accounts/" + query)
        return page

    return open_list


def names(page) -> list[str]:
    return page.locator("#list tbody .name").all_inner_texts()


def ticked(page) -> list[str]:
    return page.locator("#list tbody tr:has(:checked) .name").all_inner_texts()


def test_from_the_top_of_the_page_to_the_third_account_by_keyboard(open_list, live):
    for number in (10, 9, 2):
        live.account(label=f"Shop {number}")
    page = open_list("?sort=label")
    assert names(page) == ["Shop 2", "Shop 9", "Shop 10"]
    for key in ("Tab", "Tab", "Enter", "Tab"):  # the second link skips to the list
        page.keyboard.press(key)
    expect(page.locator("#list thead input")).to_be_focused()
    for key in ("j", "j", "j", "k"):
        page.keyboard.press(key)
    expect(page.get_by_role("link", name="Shop 9")).to_be_focused()
    assert page.locator("#list tbody [tabindex='0']").count() == 3  # one row is reached by Tab, not each
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/accounts/{Account.objects.get(label='Shop 10').pk}/$"))


def test_rows_are_selected_by_keys_and_stay_so_when_the_list_is_drawn_again(open_list, live):
    accounts = [live.account(label=f"Shop {number}") for number in range(1, 6)]
    page = open_list("?sort=label")
    for key in ("j", "x", "j", "j", "Shift+X"):
        page.keyboard.press(key)
    assert ticked(page) == ["Shop 1", "Shop 2", "Shop 3"]
    expect(page.locator("#selected-count")).to_have_text("3 selected")
    head, bar = page.locator("#list thead tr").bounding_box(), page.locator(".bulk").bounding_box()
    assert (bar["y"], bar["height"]) == pytest.approx((head["y"], head["height"]), abs=1)

    Account.objects.filter(pk=accounts[1].pk).update(label="Shop 2, renamed")
    page.evaluate(CHANGED, accounts[1].pk)
    expect(page.locator("#list")).to_contain_text("Shop 2, renamed")
    assert ticked(page) == ["Shop 1", "Shop 2, renamed", "Shop 3"]
    page.keyboard.press("Escape")
    assert ticked(page) == []
    expect(page.locator(".bulk")).to_be_hidden()


def test_all_that_match_are_the_filter_and_not_the_page(open_list, live):
    for number in range(60):
        live.account(label=f"Shop {number}")
    page = open_list("?q=shop")
    page.locator("#select-page").check()
    page.get_by_role("button", name="Select all 60 that match").click()
    expect(page.locator("#selected-count")).to_have_text("all selected: 60")
    form = "Object.fromEntries([...new FormData(document.getElementById('selection'))].filter(([n]) => n != 'account'))"
    posted = page.evaluate(form)
    assert (posted["all"], posted["filter"]) == ("1", "?q=shop")
    page.locator("#list tbody .tick").first.uncheck()
    expect(page.locator("#selected-count")).to_have_text("49 selected")
    assert page.evaluate(form)["all"] == ""


def test_a_row_changes_where_it_is_while_somebody_points_at_it_and_moves_afterwards(open_list, live):
    first, second = (live.account(label=name, state="offline", wc_id=f"wxid_{name}") for name in "ab")
    page = open_list()
    assert names(page) == ["a", "b"]
    page.locator(f"#row-{first.pk}").hover()
    Account.objects.filter(pk=second.pk).update(queued_for_scan_at=timezone.now())
    page.evaluate(CHANGED, second.pk)
    expect(page.locator(f"#row-{second.pk} .chip")).to_have_text("Queued for scan")
    expect(page).to_have_title("(1) Accounts · wkportal")
    expect(page.locator("[data-group=attention] b")).to_have_text("1")
    expect(page.locator("nav.side [data-count=attention]").first).to_have_text("1")
    assert page.locator("link[rel=icon]").get_attribute("href").startswith("data:image/svg+xml")
    page.evaluate(
        "document.getElementById('accounts-live').dispatchEvent(new CustomEvent('wk:due', { bubbles: true }))"
    )
    assert names(page) == ["a", "b"]
    page.locator("h1").hover()
    expect(page.locator("#list tbody tr").first).to_have_id(f"row-{second.pk}")


def test_checking_now_reloads_nothing(open_list, live):
    live.account(w_id="w1")
    page = open_list()
    page.evaluate("window.neverReloaded = true")
    page.locator("#check-all").click()
    expect(page.locator("#announce")).to_have_text("Checking…")
    expect(page.locator("#check-all")).to_have_text("Check now")
    assert page.evaluate("window.neverReloaded") is True
    assert page.locator(".advice").count() == 0


@pytest.mark.parametrize(
    ("viewport", "height"), [(chromium.DESK, 45), (chromium.PHONE, 64)], ids=["desk", "phone"]
)
def test_every_row_is_one_line_however_much_there_is_to_say(open_list, live, viewport, height):
    longest = {
        "label": "南京门店 · 新街口二店售后服务专用" * 3,
        "place": "Rack 3 · " + "Slot " * 12,
        "nickname": "江南" * 20,
    }
    account = live.account(state="offline", wc_id="wxid_1", note="Charger loose\n" * 20, **longest)
    account.tags.set(Tag.objects.bulk_create(Tag(name=name) for name in ("售后服务专用标签", "夜班", "直播")))
    make_attempt(account, "failed", reason="qr_host_down", method="popup")
    make_attempt(live.account(w_id="w2"), "waiting", method="popup")
    page = open_list(viewport=viewport)
    heights = page.eval_on_selector_all("#list tbody tr", "rows => rows.map(row => row.offsetHeight)")
    assert heights == [height, height]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth") is True


def test_filters_and_a_saved_view_are_in_the_address(open_list, live):
    live.account(label="Mine", place="Rack 3 · Slot 1")
    live.account(label="Other", place="Rack 4 · Slot 1")
    page = open_list()
    page.get_by_label("Place", exact=True).select_option("Rack 3")
    expect(page.locator("#list tbody tr")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"rack=Rack(\+|%20)3"))
    page.get_by_role("button", name="Save view").click()
    page.get_by_label("Save these filters").fill("My rack")
    page.keyboard.press("Enter")
    view = page.get_by_role("link", name="My rack")
    expect(view).to_have_attribute("href", "/accounts/?rack=Rack+3")
