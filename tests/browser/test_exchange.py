"""Accounts as CSV, in and out, in a real browser, by keyboard only."""

import csv
import os

import pytest
from playwright.sync_api import expect

from accounts.models import Account
from tests.support import chromium
from tests.support.factories import PASSWORD
from tests.support.processes import until
from tests.support.stack import Stack

pytestmark = [pytest.mark.live, pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.usually("sqlite")]
# Playwright's loop runs in this thread; the database calls beside it are ordinary ones.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"


@pytest.fixture(scope="module")
def running(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), Stack() as stack:
        yield stack


def tab_to(page, name: str) -> None:
    """Press Tab until the link or button with this name has the focus."""
    for _press in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText?.trim()") == name:
            return
    raise AssertionError(f"Tab does not lead to {name!r}")


def test_a_csv_file_goes_out_is_edited_and_comes_in(chrome, stack, live, tmp_path):
    live.account(label="=old", place="Rack 1 · Slot 1", wc_id="wxid_1", state="offline")
    page, choosers = chrome.new_page(viewport=chromium.DESK, locale="en", accept_downloads=True), []
    # From now on: the browser does not hand it over at once.
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    chromium.sign_in(page, stack.url, live.operator.get_username(), PASSWORD)

    page.goto(f"{stack.url}/accounts/")
    tab_to(page, "Export")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Accounts", exact=True).last).to_be_focused()
    with page.expect_download() as sent:
        page.keyboard.press("Enter")
    file = tmp_path / sent.value.suggested_filename
    sent.value.save_as(file)
    with file.open(encoding="utf-8-sig", newline="") as text:
        head, row = csv.reader(text)
    assert dict(zip(head, row, strict=True))["Label"] == "'=old"

    row[head.index("Place")] = "Rack 2 · Slot 9"
    new = [{"Label": "new", "Proxy": "none"}.get(name, "") for name in head]
    with file.open("w", encoding="utf-8-sig", newline="") as text:
        csv.writer(text).writerows([head, row, new])

    page.keyboard.press("Escape")
    tab_to(page, "Import")
    page.keyboard.press("Enter")
    page.wait_for_url("**/accounts/import/")
    expect(page.locator("#id_file")).to_be_focused()
    page.keyboard.press("Space")
    until(lambda: page.wait_for_timeout(20) or choosers, "nothing is to be chosen")[0].set_files(file)
    tab_to(page, "Read file")
    page.keyboard.press("Enter")
    expect(page.locator("[data-rows]")).to_have_attribute("data-rows", "2")
    expect(page.locator("tr[data-row='2']")).to_have_attribute("data-result", "changed")
    expect(page.locator("tr[data-row='3']")).to_have_attribute("data-result", "added")
    assert Account.objects.count() == 1
    expect(page.get_by_role("button", name="Import", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/accounts/")
    expect(page.get_by_text("1 account added. 1 account changed.")).to_be_visible()
    page.context.close()
    assert set(Account.objects.values_list("label", "place")) == {("=old", "Rack 2 · Slot 9"), ("new", "")}


@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_the_selected_accounts_go_out_from_a_narrow_screen_too(new_page, stack, live, language):
    chosen, _other = live.account(label="chosen"), live.account(label="other")
    page = new_page(live.operator, viewport=chromium.PHONE, locale=language, accept_downloads=True)
    page.goto(f"{stack.url}/accounts/")
    page.locator("#pick").click()
    # The list is drawn again while somebody chooses.
    page.evaluate(
        "htmx.ajax('GET', '/accounts/', { target: '#accounts-live', select: '#accounts-live', swap: 'outerHTML' })"
    )
    page.locator(f"#tick-{chosen.pk}").check()
    export = page.locator('.bulk [formaction$="export.csv"]')
    box = export.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= chromium.PHONE["width"]
    with page.expect_download() as sent:
        export.click()
    with open(sent.value.path(), encoding="utf-8-sig", newline="") as text:
        _head, row = csv.reader(text)
    assert "chosen" in row
