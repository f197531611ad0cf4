"""A real browser, where one is installed; WK_REQUIRE_BROWSER=1 makes its absence a failure."""

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zxingcpp
from django.conf import settings
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.support import factories
from tests.support.processes import until

SHELL = "chromium-headless-shell"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
# Milliseconds after which nothing will show any more, also on a machine that does much else.
expect.set_options(timeout=60_000)
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


@contextmanager
def browser(*, whole: bool = False) -> Iterator[Browser]:
    """The shell of the browser, which costs a third of the processor's time, or the whole one: it has notifications."""
    names = NAMES if whole else (SHELL, *NAMES)
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        message = "no Chromium is installed; the browser tests did not run"
        if os.environ.get("WK_REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield chromium
        finally:
            chromium.close()


def sign_in(page: Page, url: str, name: str, password: str) -> None:
    """On the page where people sign in, as a person does who types; the page is the portal's first one then."""
    page.goto(url + "/login/")
    page.locator("[name=username]").fill(name)
    page.locator("[name=password]").fill(password)
    page.locator("[name=password]").press("Enter")
    page.wait_for_url(url + "/")


def has_signed_in(context: BrowserContext, url: str, user) -> None:
    """The pages of this context are that person's, as after signing in."""
    session = {"name": settings.SESSION_COOKIE_NAME, "value": factories.session_key(user), "url": url}
    context.add_cookies([session])


def code_on(page: Page) -> str:
    """What the QR code says that stands on the page, once it can be read."""
    until(lambda: readable_code(page), lambda: f"no QR code can be read on {page.url}")
    return readable_code(page)


def readable_code(page: Page) -> str:
    """What a phone reads on the page as it is now, by a screenshot of it; "" where there is no code."""
    picture = Image.open(io.BytesIO(page.screenshot()))
    found = zxingcpp.read_barcode(picture)
    return found.text if found else ""
