"""What an open page says while something is broken: at once, in plain words, and no longer than it is true.

A real Chromium in front of the real stack on a PostgreSQL and a Valkey of its own; nothing is ever reloaded.
"""

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import requests
from django.conf import settings
from django.db import connections
from django.utils import timezone
from playwright.sync_api import Locator, Page, expect

from accounts.models import Account, LoginAttempt, UpstreamAccess
from accounts.models.event import record
from accounts.realtime.sse import STREAMS_PER_USER
from accounts.reasons import Reason
from accounts.states import EventType
from tests.support import chromium, environment
from tests.support.factories import PASSWORD, make_attempt
from tests.support.processes import until
from tests.support.services import Postgres, Valkey, using_database
from tests.support.stack import Operator, Stack

# They bring their own PostgreSQL: once is enough.
pytestmark = [
    pytest.mark.live,
    pytest.mark.browser,
    pytest.mark.faults,
    pytest.mark.timeout(300),
    pytest.mark.usually("postgres"),
]
# Playwright's loop runs in this thread; the database calls beside it are ordinary ones.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
HAN = re.compile(r"[\u4e00-\u9fff]")
LANGUAGES = ("en", "zh-CN")


@pytest.fixture(scope="module")
def rig(django_db_setup, django_db_blocker):
    with (
        django_db_blocker.unblock(),
        Valkey(environment.FOLDER / "warnings-valkey") as valkey,
        Postgres(environment.FOLDER / "warnings-postgres") as postgres,
    ):
        postgres.make_database("warnings")
        env = {
            "DATABASE_URL": postgres.url("warnings"),
            "REDIS_URL": valkey.url,
        }
        with using_database(postgres.direct_url("warnings")), Stack("web", "waits", **env) as stack:
            yield SimpleNamespace(valkey=valkey, postgres=postgres, stack=stack)


@pytest.fixture
def stack(rig):
    yield rig.stack
    rig.valkey.proxy.heal()
    rig.postgres.proxy.heal()
    rig.stack.complete()
    until(lambda: requests.get(rig.stack.url + "/readyz", timeout=5).ok, "the stack does not recover")


class Desk:
    """Browsers with a person signed in, and pages in them that must never be reloaded."""

    def __init__(self, chrome, url: str):
        self.chrome, self.url = chrome, url
        self.contexts, self.errors = [], []

    def browser(self, user, language: str = "en"):
        context = self.chrome.new_context(locale=language, viewport=chromium.DESK)
        self.contexts.append(context)
        chromium.has_signed_in(context, self.url, user)
        return context

    def open(self, context, path: str = "/accounts/") -> Page:
        page = context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(self.url + path)
        page.evaluate("window.neverReloaded = true")
        return page

    def page(self, user, path: str = "/accounts/", language: str = "en") -> Page:
        return self.open(self.browser(user, language), path)

    def in_both_languages(self, user, path: str = "/accounts/") -> list[Page]:
        """The same page twice: in English, and in Chinese."""
        return [self.page(user, path, language) for language in LANGUAGES]


@pytest.fixture
def desk(chrome, stack, live, upstream):
    desk = Desk(chrome, stack.url)
    yield desk
    for context in desk.contexts:
        context.close()
    assert desk.errors == []


def stays(page: Page) -> bool:
    return page.evaluate("window.neverReloaded === true")


def warning(page: Page, name: str):
    return page.locator(f"[data-warning={name}]")


def outage(page: Page, why: str):
    return page.locator(f"#outage [data-why={why}]")


def press_log_in(page: Page) -> LoginAttempt:
    page.locator("form[action$='/login/'] button").first.click()
    expect(page.locator("[data-attempt][data-state=waiting]").first).to_be_visible()
    return LoginAttempt.objects.latest("pk")


def streams(page: Page) -> list[str]:
    """The addresses of the event streams that this page asks for from now on."""
    asked: list[str] = []
    page.on(
        "request", lambda request: asked.append(request.method) if request.url.endswith("/events/") else None
    )
    return asked


def is_said(locators: list[Locator], *languages: str) -> None:
    """On the page in English in English, on the page in Chinese in Chinese."""
    for locator, language in zip(locators, languages or LANGUAGES, strict=True):
        expect(locator).to_be_visible()
        assert bool(HAN.search(locator.inner_text())) is (language != "en"), locator.inner_text()


def are_online(pages: list[Page]) -> None:
    for page in pages:
        expect(page.locator("[data-state=online][data-wc-id]").first).to_be_visible()


# --- nobody waits ---------------------------------------------------------------------------------------


def test_no_worker_is_said_and_unsaid(desk, stack, live, upstream):
    stack.stop("waits")
    pages = desk.in_both_languages(live.operator, f"/accounts/{live.account().pk}/")
    attempt = press_log_in(pages[0])
    is_said([warning(page, "no_worker") for page in pages])

    stack.start("waits")
    for page in pages:
        expect(warning(page, "no_worker")).to_have_count(0)
    upstream.wait(wId=attempt.w_id, step3_now=1)
    upstream.phone("confirm", wId=attempt.w_id)
    are_online(pages)
    assert all(map(stays, pages))


def test_a_wait_that_was_cut_off_and_resumed_is_called_that(desk, stack, live, upstream):
    pages = desk.in_both_languages(live.operator, f"/accounts/{live.account().pk}/")
    attempt = press_log_in(pages[0])
    upstream.wait(wId=attempt.w_id, step3_now=1)
    stack.kill("waits")
    for page in pages:
        expect(warning(page, "no_worker")).to_be_visible()

    stack.start("waits")
    is_said([warning(page, "resumed") for page in pages])
    assert [warning(page, "no_worker").count() for page in pages] == [0, 0]
    upstream.phone("confirm", wId=attempt.w_id)
    are_online(pages)
    assert [warning(page, "resumed").count() for page in pages] == [0, 0]
    assert all(map(stays, pages))


def test_a_verification_code_that_was_sent_is_no_interruption(desk, stack, live, upstream):
    page = desk.page(live.operator, f"/accounts/{live.account().pk}/")
    attempt = press_log_in(page)
    upstream.wait(wId=attempt.w_id, step3_now=1)
    upstream.phone("code", wId=attempt.w_id, code="975310")
    page.locator("input[name=code]").fill("111111")
    page.locator("input[name=code]").press("Enter")
    expect(page.locator("#code-notes")).to_contain_text("1 wrong verification code so far")
    happened = attempt.events.values_list("happened", flat=True)
    assert EventType.WAIT_RESUMED not in happened
    assert warning(page, "resumed").count() == 0


# --- the task queue is unreachable ----------------------------------------------------------------------------


def test_without_the_queue_a_login_takes_a_little_longer_and_its_page_says_so(
    desk, stack, rig, live, upstream
):
    accounts = [live.account() for _language in LANGUAGES]
    pages = [
        desk.page(live.operator, f"/accounts/{account.pk}/", language)
        for account, language in zip(accounts, LANGUAGES, strict=True)
    ]
    mates_list = desk.page(live.mate)
    rig.valkey.proxy.refuse()
    stack.send("waits", signal.SIGSTOP)  # until the pages have said so, however slowly they are drawn
    attempts = []
    for page, language in zip(pages, LANGUAGES, strict=True):
        attempts.append(press_log_in(page))
        is_said([warning(page, "queue_unreachable")], language)
    stack.send("waits", signal.SIGCONT)
    for page in pages:
        expect(warning(page, "queue_unreachable")).to_have_count(0)
        expect(warning(page, "no_worker")).to_have_count(0)

    for attempt in attempts:
        upstream.wait(wId=attempt.w_id, step3_now=1)
        upstream.phone("confirm", wId=attempt.w_id)
    are_online(pages)
    account = accounts[0]
    row = mates_list.locator(f"tr[data-account='{account.pk}']")
    expect(row).to_have_attribute("data-state", "online")

    rig.valkey.proxy.accept()
    renamed(account, "Another name")
    expect(row).to_contain_text("Another name")
    assert all(map(stays, [*pages, mates_list]))


# --- the web process, the database ----------------------------------------------------------------------


def test_a_server_that_does_not_answer_is_said_and_pages_come_back_by_themselves(desk, stack, live):
    account = live.account()
    context = desk.browser(live.operator)
    of_account = f"/accounts/{account.pk}/"
    pages = [desk.open(context), desk.open(context, of_account), desk.open(context, "/accounts/new/")]
    in_chinese = desk.page(live.operator, of_account, "zh-CN")
    pages[2].locator("[name=label]").fill("Not sent yet")
    stack.kill("web")
    for page in pages:
        is_said([outage(page, "server"), outage(in_chinese, "server")])

    stack.start("web")
    for page in [*pages, in_chinese]:
        expect(page.locator("#outage")).to_be_hidden()
    renamed(account, "Another name")
    for page in [*pages[:2], in_chinese]:
        expect(page.locator("main")).to_contain_text("Another name")
    assert pages[2].locator("[name=label]").input_value() == "Not sent yet"
    assert all(map(stays, [*pages, in_chinese]))


def test_a_page_asks_for_nothing_while_its_lost_stream_may_come_back(desk, stack, live):
    page = desk.browser(live.operator).new_page()
    page.clock.install()
    page.goto(stack.url)
    expect(page.locator("#outage")).to_be_hidden()
    page.evaluate("document.addEventListener('wk:stream', ({ detail }) => { window.streamIs = detail; })")
    until(lambda: page.evaluate("window.streamIs") == "up", "the page has no stream")
    page.clock.pause_at(page.evaluate("Date.now() + 1000"))
    stack.kill("web")
    until(lambda: page.evaluate("window.streamIs") == "down", "the stream is not lost")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "hx-request" in request.headers else None)
    page.clock.run_for(4000)
    assert asked == []

    page.clock.run_for(3000)
    until(lambda: page.wait_for_timeout(100) or asked, "the page waits for its stream for ever")
    stack.start("web")
    page.clock.resume()
    expect(page.locator("#outage")).to_be_hidden()


def test_a_database_that_does_not_answer_is_said_and_nothing_typed_is_lost(desk, stack, rig, live, upstream):
    pages = desk.in_both_languages(live.operator, f"/accounts/{live.account().pk}/")
    attempt = press_log_in(pages[0])
    upstream.wait(wId=attempt.w_id, step3_now=1)
    upstream.phone("code", wId=attempt.w_id, code="975310")
    fields = [page.locator("input[name=code]") for page in pages]
    for field in fields:
        field.fill("9753")
    rig.postgres.proxy.refuse()
    is_said([outage(page, "database") for page in pages])
    for page in pages:
        page.locator("#send-code").click()
    is_said([page.locator("#trouble") for page in pages])
    assert [field.input_value() for field in fields] == ["9753", "9753"]

    rig.postgres.proxy.accept()
    for page in pages:
        expect(page.locator("#outage")).to_be_hidden()
    fields[0].fill("975310")
    fields[0].press("Enter")
    are_online(pages)
    assert all(map(stays, pages))


def test_a_page_asked_for_without_a_database_comes_by_itself_when_it_is_back(desk, stack, rig, live):
    account = live.account(label="The one")
    pages = desk.in_both_languages(live.operator)
    rig.postgres.proxy.refuse()
    for page in pages:
        page.goto(f"{stack.url}/accounts/{account.pk}/")
    is_said([page.locator("[data-outage=database]") for page in pages])
    rig.postgres.proxy.accept()
    for page in pages:
        expect(page.locator("h1")).to_contain_text("The one")


def test_a_form_sent_without_a_database_is_kept_and_sent_again(desk, stack, rig, live):
    page = desk.page(live.operator, "/accounts/new/")
    page.locator("[name=label]").fill('<b>旗舰店</b> "01"')
    page.locator("[name=proxy]").select_option("none")
    page.locator("[name=note]").fill("two\nlines")
    rig.postgres.proxy.refuse()
    page.locator("main form button.primary").click()
    again = page.locator("[data-outage=database] button")
    expect(again).to_be_visible()
    assert page.locator("[data-outage=database] [name=label]").input_value() == '<b>旗舰店</b> "01"'
    rig.postgres.proxy.accept()
    until(lambda: requests.get(stack.url + "/readyz", timeout=5).ok, "the database is not asked again")
    again.click()
    expect(page.locator("h1")).to_contain_text("旗舰店")
    account = Account.objects.get()
    assert (account.label, account.note.split()) == ('<b>旗舰店</b> "01"', ["two", "lines"])


@pytest.mark.parametrize("what", ["postgres", "valkey"])
def test_after_a_restart_pages_are_live_again(desk, stack, rig, live, what):
    account = live.account(label="Before")
    page = desk.page(live.operator)
    expect(page.locator("main")).to_contain_text("Before")
    getattr(rig, what).restart()
    connections.close_all()
    renamed(account, "After")
    expect(page.locator("main")).to_contain_text("After")
    expect(page.locator("#outage")).to_be_hidden()
    renamed(account, "Later")
    expect(page.locator("main")).to_contain_text("Later")
    assert stays(page)


def test_every_address_answers_503_and_says_when_to_ask_again(stack, rig, live, upstream):
    account = live.account(w_id="w-1")
    attempt = make_attempt(live.account())
    operator = Operator(stack, live.operator)
    rig.postgres.proxy.refuse()
    paths = ["/accounts/", "/accounts/counts/", "/accounts/new/", "/alarm/", "/events/", "/admin/"]
    paths += [f"/accounts/{account.pk}/{part}" for part in ("", "live/", "history/", "row/", "edit/")]
    paths += [f"/attempts/{attempt.pk}/", f"/attempts/{attempt.pk}/live/"]
    with ThreadPoolExecutor(len(paths)) as at_once:
        answers = list(at_once.map(lambda path: operator.get(path, allow_redirects=False), paths))
    for path, answer in zip(paths, answers, strict=True):
        assert (path, answer.status_code, answer.headers.get("X-Away")) == (path, 503, "database")
        assert int(answer.headers["Retry-After"]) > 0 and "no-store" in answer.headers["Cache-Control"]
    short = operator.get("/accounts/", headers={"HX-Request": "true"})
    assert short.status_code == 503 and "<html" not in short.text
    for path, form in (
        (f"/accounts/{account.pk}/login/", {}),
        (f"/attempts/{attempt.pk}/cancel/", {}),
        ("/accounts/new/", {"label": "x"}),
    ):
        assert operator.post(path, **form).status_code == 503
    secret = operator.post("/login/", username="operator", password=PASSWORD)
    assert secret.status_code == 503 and PASSWORD not in secret.text
    assert requests.get(stack.url + "/healthz", timeout=5).ok


# --- the upstream does not let us in --------------------------------------------------------------------


def test_the_alarm_comes_and_goes_in_an_open_page(desk, stack, live):
    pages = [desk.browser(live.operator, language).new_page() for language in LANGUAGES]
    for page in pages:
        with page.expect_response("**/alarm/"):  # it looks once more when its stream is open
            page.goto(stack.url)
        page.evaluate("window.neverReloaded = true")
    alarms = [page.locator(".alert") for page in pages]
    assert [alarm.count() for alarm in alarms] == [0, 0]
    access = UpstreamAccess.objects.create(base_url=settings.WK_BASE_URL, account=settings.WK_ACCOUNT)
    UpstreamAccess.objects.filter(pk=access.pk).update(
        refused_at=timezone.now(), refused_why=Reason.SIGN_IN_REFUSED, refused_text="密码错误"
    )
    is_said([alarm.locator("h2") for alarm in alarms])
    for alarm in alarms:
        expect(alarm).to_contain_text("密码错误")
    UpstreamAccess.objects.update(refused_at=None, refused_why="", refused_text="")
    for alarm in alarms:
        expect(alarm).to_have_count(0)
    assert all(map(stays, pages))


# --- who may have a stream, and how many ----------------------------------------------------------------


def test_a_user_without_a_role_sees_that_and_the_page_stops_asking(desk, stack, live):
    nobody = live.person("newcomer")
    pages = [desk.browser(nobody, language).new_page() for language in LANGUAGES]
    asked = [streams(page) for page in pages]
    for page in pages:
        page.clock.install()
        page.goto(stack.url)
    is_said([outage(page, "refused") for page in pages])
    before = list(map(list, asked))
    for page in pages:
        page.clock.run_for("10:00")
    assert asked == before and [methods.count("GET") for methods in asked] == [1, 1]


def test_who_signs_out_in_another_tab_is_led_to_signing_in(desk, stack, live):
    context = desk.browser(live.operator)
    pages = [desk.open(context), desk.open(context)]
    pages[0].locator("footer form[action$='/logout/'] button").click()
    pages[1].wait_for_url("**/login/**")


def test_ten_tabs_of_one_browser_are_live_by_one_stream(desk, stack, live):
    account = live.account(label="Before")
    context = desk.browser(live.operator)
    asked: list[str] = []
    context.on("request", lambda r: asked.append(r.method) if r.url.endswith("/events/") else None)
    pages = [desk.open(context, f"/accounts/{account.pk}/" if n % 2 else "/accounts/") for n in range(10)]
    renamed(account, "After")
    for page in pages:
        expect(page.locator("main")).to_contain_text("After")
        expect(page.locator("#outage")).to_be_hidden()
    assert asked.count("GET") == 1
    pages[5].locator("form[action$='/login/'] button").first.click()
    expect(pages[5].locator("[data-attempt][data-state=waiting]").first).to_be_visible()

    pages[0].close()  # it had the stream
    renamed(account, "Much later")
    for page in pages[1:]:
        expect(page.locator("main")).to_contain_text("Much later")
    assert asked.count("GET") == 2
    assert all(map(stays, pages[1:]))


def renamed(account: Account, label: str) -> None:
    Account.objects.filter(pk=account.pk).update(label=label)
    account.refresh_from_db()
    record(account, EventType.CHANGED)


HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_hidden_tab_leaves_the_stream_to_one_that_is_shown(desk, stack, live):
    account = live.account(label="Before")
    context = desk.browser(live.operator)
    first, second = desk.open(context), desk.open(context)
    expect(first.locator("#outage")).to_be_hidden()
    asked = streams(second)
    first.evaluate(HIDE, True)
    until(lambda: second.wait_for_timeout(100) or asked.count("GET") == 1, "the stream was not handed over")
    renamed(account, "After")
    expect(second.locator("main")).to_contain_text("After")
    expect(first.locator("main")).to_contain_text("Before")
    second.close()
    first.evaluate(HIDE, False)
    expect(first.locator("main")).to_contain_text("After")
    renamed(account, "Once more")
    expect(first.locator("main")).to_contain_text("Once more")


def test_a_leader_that_sleeps_is_replaced(desk, stack, live):
    account = live.account(label="Before")
    context = desk.browser(live.operator)
    first, second = desk.open(context), desk.open(context)
    renamed(account, "After")
    expect(second.locator("main")).to_contain_text("After")
    cdp = context.new_cdp_session(first)
    cdp.send("Debugger.enable")
    cdp.send("Debugger.pause")
    asked = streams(second)
    until(lambda: second.wait_for_timeout(100) or asked.count("GET") == 1, "nobody took the stream over")
    renamed(account, "Later")
    expect(second.locator("main")).to_contain_text("Later")
    cdp.send("Debugger.disable")


def test_beyond_the_limit_a_browser_polls_and_does_not_hammer(desk, stack, live):
    account = live.account(label="Before")
    taken = [Operator(stack, live.operator).get("/events/", stream=True) for _ in range(STREAMS_PER_USER)]
    try:
        assert [answer.status_code for answer in taken] == [200] * STREAMS_PER_USER
        context = desk.browser(live.operator)
        page = context.new_page()
        page.clock.install()
        asked = streams(page)
        page.goto(stack.url + "/accounts/")
        expect(outage(page, "stream")).to_be_visible()
        renamed(account, "After")
        expect(page.locator("main")).to_contain_text("After")
        assert len(asked) <= 4
    finally:
        for answer in taken:
            answer.close()
    page.clock.fast_forward("05:00")  # past the longest pause before it asks again
    expect(page.locator("#outage")).to_be_hidden()
