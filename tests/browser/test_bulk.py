"""Bulk actions in a real browser, by keyboard only, with phones that answer."""

import os
import re

import pytest
from playwright.sync_api import expect

from accounts.models import Account, BulkRun
from tests.support import chromium
from tests.support.environment import WAIT_SECONDS
from tests.support.processes import until
from tests.support.stack import Stack

pytestmark = [pytest.mark.live, pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.usually("sqlite")]
# Playwright's loop runs in this thread; the database calls beside it are ordinary ones.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"


@pytest.fixture(scope="module")
def running(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), Stack() as stack:
        yield stack


def test_prompts_for_three_of_which_one_is_declined_and_again_for_that_one(chrome, stack, live, upstream):
    upstream.settings(popup_seconds=WAIT_SECONDS)
    for name in "abcd":
        live.account(label=name, wc_id=f"wxid_{name}", state="offline")
    page = chrome.new_page(viewport=chromium.DESK, locale="en")
    chromium.has_signed_in(page.context, stack.url, live.operator)
    page.goto(f"{stack.url}/accounts/?sort=label")
    for key in ("j", "x", "j", "j", "Shift+X", "p"):
        page.keyboard.press(key)
    expect(page.locator("form[data-ready]")).to_have_attribute("data-ready", "3")
    expect(page.locator("#start-bulk")).to_be_focused()
    assert not BulkRun.objects.exists()
    page.keyboard.press("Enter")

    page.wait_for_url(re.compile(r"/accounts/bulk/\d+/$"))
    for name, tap in (("a", "accept"), ("b", "decline"), ("c", "accept")):
        upstream.wait(wcId=f"wxid_{name}", prompt=True)
        upstream.phone(tap, wcId=f"wxid_{name}")
    expect(page.locator("#bulk-run")).to_have_attribute("data-state", "ended")  # it fills up by itself
    expect(page.locator("tr[data-state=done]")).to_have_count(2)
    expect(page.locator("tr[data-state=failed]")).to_contain_text("b")
    expect(page.locator("tr[data-state=failed]")).to_have_attribute("data-reason", "prompt_declined")

    expect(page.locator("#again")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.locator("form[data-ready]")).to_have_attribute("data-ready", "1")
    expect(page.locator("#start-bulk")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/accounts/bulk/\d+/$"))
    upstream.wait(wcId="wxid_b", prompt=True)
    upstream.phone("accept", wcId="wxid_b")
    expect(page.locator("tr[data-state=done]")).to_have_count(1)
    page.context.close()
    assert set(upstream.online) == {"wxid_a", "wxid_b", "wxid_c"}


def test_a_jobs_worker_that_is_killed_midway_is_followed_by_the_next_one(chrome, stack, live, upstream):
    fields = {"team": live.east, "state": "new"}
    Account.objects.bulk_create([Account(label=f"Shop {number}", **fields) for number in range(3000)])
    page = chrome.new_page(viewport=chromium.DESK, locale="en")
    chromium.has_signed_in(page.context, stack.url, live.operator)
    page.goto(f"{stack.url}/accounts/")
    page.locator("#select-page").check()
    page.locator("#select-all-matching").click()
    page.get_by_role("button", name="Pause").click()
    page.locator("[name=reason]").fill("holiday")
    page.locator("[name=reason]").press("Enter")
    page.wait_for_url(re.compile(r"/accounts/bulk/\d+/$"))
    run = BulkRun.objects.get()
    until(lambda: run.items.filter(state="done").exists(), "nothing was done")
    stack.kill("jobs")
    stack.start("jobs")
    expect(page.locator("#bulk-run")).to_have_attribute("data-state", "ended")
    page.context.close()
    assert run.items.filter(state="done").count() == 3000
    assert Account.objects.filter(keep_online=False, pause_reason="holiday").count() == 3000
    assert not Account.objects.exclude(events__isnull=False).exists()
    paused = Account.objects.filter(events__happened="paused")
    assert paused.count() == paused.distinct().count() == 3000  # each once
