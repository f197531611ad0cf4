"""A person's own settings in a real browser."""

import os

import pytest
from playwright.sync_api import expect

from tests.support import chromium, environment
from tests.support.factories import PASSWORD
from tests.support.stack import Stack

pytestmark = [pytest.mark.live, pytest.mark.browser, pytest.mark.timeout(180)]
if environment.DATABASE != "sqlite":
    pytestmark.append(pytest.mark.long)  # what a page shows is the same
# Playwright's loop runs in this thread; the database calls beside it are ordinary ones.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
PAPER = {"light": "rgb(247, 247, 244)", "dark": "rgb(20, 21, 19)"}


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), Stack("web") as running:
        yield running


@pytest.fixture
def open_page(chrome, stack, live):
    """Opens a page in a context of its own; fails if one complained on its console."""
    contexts, complaints = [], []

    def open_page(path: str = "/me/", before: str = "", **how):
        context = chrome.new_context(locale="en", **how)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if before:
            context.add_init_script(before)
        chromium.sign_in(page, stack.url, live.operator.get_username(), PASSWORD)
        page.goto(stack.url + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.parametrize(("device", "chosen"), [("light", "dark"), ("dark", "light")])
def test_the_theme_is_that_of_the_person_from_the_first_paint_on(open_page, device, chosen):
    page = open_page(color_scheme=device)
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == PAPER[device]
    page.get_by_label("Theme").select_option(chosen)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    assert page.evaluate(paper) == PAPER[chosen]
    first = page.request.get(page.url).text()  # the server says it, so no script has to change it afterwards
    assert f'data-theme="{chosen}"' in first


def test_help_is_there_by_its_key(open_page):
    page = open_page()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
