"""A person's own settings in a real browser: theme, and what browser notifications do."""

import os

import pytest
from playwright.sync_api import expect

from accounts.bulk import runs
from accounts.models import Account, BulkRun, Preferences
from accounts.models.event import record
from accounts.states import AccountState, EventType
from tests.support import chromium
from tests.support.factories import PASSWORD, fresh
from tests.support.processes import until
from tests.support.stack import Stack

pytestmark = [pytest.mark.live, pytest.mark.browser, pytest.mark.timeout(180), pytest.mark.usually("sqlite")]
# Playwright's loop runs in this thread; the database calls beside it are ordinary ones.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
# Notifications are made as always, and written down, as is every tone. A page makes none without its service worker:
# browsers on phones refuse that. Nobody looks: a page under test always has the focus otherwise.
NOBODY_LOOKS = "document.hasFocus = () => false;"
WRITE_DOWN = """
    window.told = [];
    window.tones = 0;
    window.Notification = class extends Notification {
        constructor() {
            throw new TypeError("Illegal constructor. Use ServiceWorkerRegistration.showNotification() instead.");
        }
    };
    const { showNotification } = ServiceWorkerRegistration.prototype;
    ServiceWorkerRegistration.prototype.showNotification = function (title, options) {
        told.push({ title, body: options.body });
        return showNotification.call(this, title, options);
    };
    const { start } = OscillatorNode.prototype;
    OscillatorNode.prototype.start = function (...when) {
        window.tones += 1;
        return start.apply(this, when);
    };
"""
WRITE_DOWN_CLICKS = """() => {
    self.asked = [];
    self.clients.openWindow = async (url) => asked.push(`open ${url}`);
    WindowClient.prototype.focus = async function () { asked.push(`focus ${this.url}`); };
}"""
CLICK = """async (title) => {
    const notification = (await registration.getNotifications()).find((shown) => shown.title === title);
    const click = new NotificationEvent("notificationclick", { notification });
    const waits = [];
    click.waitUntil = (promise) => waits.push(promise);
    dispatchEvent(click);
    await Promise.all(waits);
}"""
HIDDEN = 'Object.defineProperty(document, "hidden", { value: true });'
QUEUED = {"body": "Queued for scan"}
PAPER = {"light": "rgb(247, 247, 244)", "dark": "rgb(20, 21, 19)"}


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), Stack("web") as running:
        yield running


@pytest.fixture(scope="module")
def chrome():
    with chromium.browser(whole=True) as browser:
        yield browser


@pytest.fixture
def open_page(new_page, stack, live):
    """Opens pages in browsers of their own, after signing in: that copies the preferences."""

    def open_page(path: str = "/me/", before: str = "", allowed: bool = False, **how):
        page = new_page(locale="en", permissions=["notifications"] if allowed else [], **how)
        if before:
            page.context.add_init_script(before)
        chromium.sign_in(page, stack.url, live.operator.get_username(), PASSWORD)
        page.goto(stack.url + path)
        return page

    return open_page


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


# --- notifications ---------------------------------------------------------------------------------------------------


def wants(live, **kinds) -> None:
    Preferences.objects.create(user=live.operator, **kinds)


def comes(page, what: str) -> None:
    """Wait until the expression is true; the Content-Security-Policy forbids the page to evaluate it itself."""
    until(lambda: page.wait_for_timeout(100) or page.evaluate(what), f"not true: {what}")


def knows(page) -> None:
    """Wait until the browser knows what is so already; the first answer is no news."""
    comes(page, "Boolean(localStorage.getItem('wkportal-notifications'))")


def queued(account: Account) -> None:
    Account.objects.filter(pk=account.pk).update(queued_for_scan_at="2026-01-01T00:00Z")
    record(fresh(account), EventType.TO_SCAN)


def told(*pages) -> list[dict]:
    """What all these tabs have shown."""
    return [each for page in pages for each in page.evaluate("told")]


def offline(live, label: str) -> Account:
    return live.account(label=label, wc_id=f"wxid_{label}", state=AccountState.OFFLINE)


def test_an_account_that_needs_attention_is_told_once_and_not_in_every_tab(open_page, live, stack):
    wants(live, notifications=True)
    account, other = offline(live, "Shop 7"), offline(live, "Shop 8")
    first = open_page("/accounts/", NOBODY_LOOKS + WRITE_DOWN, allowed=True)
    second = first.context.new_page()
    second.goto(stack.url + "/incidents/")
    knows(first)
    queued(account)
    until(lambda: second.wait_for_timeout(100) or told(first, second), "no notification was shown")
    queued(other)
    until(lambda: second.wait_for_timeout(100) or len(told(first, second)) > 1, "no second notification")
    assert sorted(map(str, told(first, second))) == [
        str({"title": title, **QUEUED}) for title in ("Shop 7", "Shop 8")
    ]
    assert first.evaluate("tones") == second.evaluate("tones") == 0

    # Only a click of a person may open a page or bring one to the front: what the worker asks for is written down.
    (worker,) = first.context.service_workers
    worker.evaluate(WRITE_DOWN_CLICKS)
    worker.evaluate(CLICK, "Shop 8")
    assert worker.evaluate("asked") == [f"open {stack.url}/accounts/{other.pk}/"]
    second.goto(f"{stack.url}/accounts/{account.pk}/")
    worker.evaluate(CLICK, "Shop 7")
    assert worker.evaluate("asked")[1:] == [f"focus {stack.url}/accounts/{account.pk}/"]
    assert worker.evaluate("registration.getNotifications().then((left) => left.length)") == 0


def test_whoever_looks_hears_a_tone_and_gets_no_notification(open_page, live):
    wants(live, notifications=True, sound=True)
    account = offline(live, "Shop 7")
    page = open_page("/accounts/", WRITE_DOWN, allowed=True)
    page.locator("h1").click()
    knows(page)
    queued(account)
    comes(page, "tones === 1")
    assert told(page) == []


def test_a_hidden_tab_tells_that_a_run_is_done(open_page, live, stack):
    wants(live, notifications=True)
    offline(live, "Shop 7")
    page = open_page("/accounts/", HIDDEN + NOBODY_LOOKS + WRITE_DOWN, allowed=True)
    asked = []
    page.on("request", lambda request: asked.append(request.url.removeprefix(stack.url)))
    page.reload()
    until(lambda: page.wait_for_timeout(100) or "/events/" in asked, "it does not listen")
    knows(page)
    run = runs.start(live.operator, "place", {"place": "Rack 1"}, Account.objects.all())
    runs.end(run, run.created_at)
    record(Account.objects.get(), EventType.CHANGED)
    comes(page, "told.length === 1")
    assert told(page) == [{"title": "Bulk run done: Change place", "body": ""}]
    assert BulkRun.objects.get().ended_at


def test_the_browser_is_asked_when_notifications_are_chosen_and_not_before(open_page, live):
    asks = (
        WRITE_DOWN
        + "Notification.requestPermission = async () => { window.asked = (window.asked ?? 0) + 1; };"
    )
    page = open_page(before=asks)
    assert page.evaluate("window.asked") is None
    page.get_by_label("Sound").check()
    comes(page, "tones === 1")
    page.get_by_label("Browser notifications").check()
    expect(page.locator("#permission")).to_be_visible()
    assert page.evaluate("window.asked") == (
        1 if page.evaluate("Notification.permission") == "default" else None
    )
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    expect(page.get_by_label("Browser notifications")).to_be_checked()
    assert fresh(live.operator).preferences.notifications and fresh(live.operator).preferences.sound
