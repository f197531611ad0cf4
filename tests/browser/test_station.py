"""A person at the scan station, by keyboard only, with the simulator's phones."""

import os
import re

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from accounts.models import Account, Drop, Incident, LoginAttempt, ScanRun
from accounts.models.operators.scan_run import ScanSource, ScanState
from accounts.scanning import queue
from accounts.states import AccountState, NextStep
from tests.support import chromium, environment
from tests.support.processes import until
from tests.support.stack import Stack

# The attempts whose QR code is drawn.
DRAWN = """[...document.querySelectorAll(".tile .code img")]
    .filter((img) => img.complete && img.naturalWidth)
    .map((img) => Number(img.closest("[data-attempt]").dataset.attempt))"""
# The attempts whose QR code stands on the page: read at once, because the page may replace it at any time.
SHOWN = '[...document.querySelectorAll(".code[data-attempt]")].map((code) => Number(code.dataset.attempt))'
WALL = {"width": 1920, "height": 1080}
# What a page shows is the same; tests/scanning is here for the steps of a run on each database.
pytestmark = [pytest.mark.live, pytest.mark.browser, pytest.mark.timeout(400), pytest.mark.usually("sqlite")]
# Playwright's loop runs in this thread; the database calls beside it are ordinary ones.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), Stack() as running:
        yield running


@pytest.fixture
def desk(new_page, stack, live, upstream):
    """Opens signed-in pages."""

    def open_page(path, user=live.operator, language="en", viewport=chromium.DESK, **how):
        page = new_page(user, locale=language, viewport=viewport, **how)
        page.goto(stack.url + path)
        return page

    return open_page


@pytest.fixture
def phone(upstream):
    """What somebody does with the phone in front of a code: the attempt is the one on the page."""

    def do(what: str, attempt: int, **how) -> None:
        w_id = LoginAttempt.objects.get(pk=attempt).w_id
        upstream.wait(wId=w_id, step3_now=1)
        upstream.phone(what, wId=w_id, **how)

    return do


def accounts_of(live, number: int) -> list[Account]:
    return [live.account(label=f"门店 {n}", place=f"Rack 1 · Slot {n}") for n in range(1, number + 1)]


def run_of(person, accounts) -> ScanRun:
    return queue.start_run(
        person, ScanSource.SELECTION, Account.objects.filter(pk__in=[a.pk for a in accounts])
    )


def code_at(page, position: int) -> int:
    """The attempt whose code stands on the page, once the account at this position is shown with it."""
    expect(page.locator(f"[data-run][data-position='{position}'] .code[data-attempt] img")).to_be_visible()
    return int(page.locator(".code[data-attempt]").get_attribute("data-attempt"))


def state_of(account) -> str:
    return Account.objects.get(pk=account.pk).state


@pytest.mark.parametrize("number", [6, pytest.param(20, marks=pytest.mark.long)])
def test_many_accounts_without_a_click(desk, live, phone, number):
    accounts = accounts_of(live, number)
    page = desk("/station/")
    page.keyboard.press("2")  # never logged in
    page.wait_for_url(re.compile(r"/station/\d+/"))
    page.evaluate("window.neverReloaded = true")
    frames = set()
    for position, account in enumerate(accounts, start=1):
        attempt = code_at(page, position)
        expect(page.locator(".plate")).to_have_text(account.place)
        frames.add(page.evaluate("JSON.stringify(document.querySelector('.code').getBoundingClientRect())"))
        phone("confirm", attempt)
    expect(page.locator(f"[data-done='{number}']")).to_be_visible()
    assert page.evaluate("window.neverReloaded") is True
    assert {state_of(account) for account in accounts} == {"online"}
    assert len(frames) == 1  # the code never moves
    shown = LoginAttempt.objects.values_list("state", flat=True)
    assert set(shown) <= {"succeeded", "cancelled"}


def test_a_selection_of_the_list_becomes_the_queue_by_keys_alone(desk, live):
    accounts = accounts_of(live, 4)
    page = desk("/accounts/?sort=place")
    for key in ("j", "x", "j", "j", "x", "s"):
        page.keyboard.press(key)
    page.wait_for_url(re.compile(r"/bulk/"))  # says what phones will notice
    expect(page.locator("#start-bulk")).to_be_focused()  # by the browser, some time after the page is loaded
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/station/\d+/"))
    code_at(page, 1)
    in_queue = ScanRun.objects.get().items.order_by("position").values_list("account", flat=True)
    assert list(in_queue) == [accounts[0].pk, accounts[2].pk]


def test_a_prompt_under_way_is_replaced_by_a_code_with_one_key(desk, live, upstream):
    upstream.person("wxid_asked")
    account = live.account(label="门店 1", place="Slot 1", wc_id="wxid_asked", state="offline")
    page = desk(f"/accounts/{account.pk}/")
    page.keyboard.press("p")
    page.wait_for_url(re.compile(r"/attempts/\d+/"))
    prompt = LoginAttempt.objects.get()
    until(lambda: LoginAttempt.objects.get().state == "waiting", "the prompt is not sent")
    page.goto(page.url.split("/attempts/")[0] + f"/accounts/{account.pk}/")
    page.keyboard.press("s")
    expect(page.locator(".code img")).to_be_visible()
    assert LoginAttempt.objects.get(pk=prompt.pk).state == "cancelled"
    assert account.attempts.open().get().method == "qr"


def test_what_a_camera_reads_is_the_code_of_the_account_that_is_shown(desk, live):
    page = desk(f"/station/{run_of(live.operator, accounts_of(live, 1)).pk}/")
    attempt = code_at(page, 1)
    w_id = LoginAttempt.objects.get(pk=attempt).w_id
    assert chromium.code_on(page) == f"{environment.simulator.url}/phone/{w_id}"


def test_keys_skip_go_back_and_pause(desk, live):
    accounts = accounts_of(live, 3)
    page = desk(f"/station/{run_of(live.operator, accounts).pk}/")
    plate = page.locator(".plate")
    code_at(page, 1)
    page.keyboard.press("ArrowRight")
    expect(plate).to_have_text(accounts[1].place)
    page.keyboard.press("Space")
    expect(plate).to_have_text(accounts[2].place)
    page.keyboard.press("ArrowLeft")
    expect(plate).to_have_text(accounts[1].place)
    page.keyboard.press("p")
    expect(page.locator("[data-mode=paused]")).to_be_attached()
    expect(page.locator(".code img")).to_have_count(0)
    page.keyboard.press("p")
    code_at(page, 1)
    page.keyboard.press("/")
    page.keyboard.type("slot 1")
    page.keyboard.press("Enter")
    expect(plate).to_have_text(accounts[0].place)
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.wait_for_url(re.compile(r"/accounts/$"))


def test_an_expired_code_is_renewed_by_itself(desk, live, phone):
    page = desk(f"/station/{run_of(live.operator, accounts_of(live, 2)).pk}/")
    first = code_at(page, 1)
    phone("expire", first)
    expect(page.locator(f".code[data-attempt]:not([data-attempt='{first}']) img")).to_be_visible()
    expect(page.locator(".plate")).to_have_text("Rack 1 · Slot 1")
    expect(page.locator(".scan .advice")).to_contain_text("1 of 3")
    phone("confirm", code_at(page, 1))
    code_at(page, 2)


def test_a_verification_code_is_typed_without_a_click_and_sent_by_its_sixth_digit(desk, live, phone):
    accounts = accounts_of(live, 2)
    page = desk(f"/station/{run_of(live.operator, accounts).pk}/")
    phone("code", code_at(page, 1), code="975310")
    expect(page.locator("input[name=code]")).to_be_focused()
    page.keyboard.type("975310")
    code_at(page, 2)
    assert state_of(accounts[0]) == "online"


def test_the_wrong_phone_is_named_and_the_right_one_scans_again(desk, live, phone, upstream):
    upstream.person("wxid_right")
    upstream.person("wxid_wrong")
    account = live.account(label="门店 1", place="Slot 1", wc_id="wxid_right", state="offline")
    page = desk(f"/station/{run_of(live.operator, [account]).pk}/")
    phone("confirm", code_at(page, 1), who="wxid_wrong")
    expect(page.locator("[data-mode=wrong]")).to_be_attached()
    expect(page.locator(".two")).to_contain_text("门店 1")
    page.keyboard.press("Enter")
    phone("confirm", code_at(page, 1))
    expect(page.locator("[data-done='1']")).to_be_visible()
    assert state_of(account) == "online"


def test_a_reload_and_another_device_take_the_run_up_where_it_is(desk, live, phone):
    accounts = accounts_of(live, 3)
    run = run_of(live.operator, accounts)
    page = desk(f"/station/{run.pk}/")
    phone("confirm", code_at(page, 1))
    attempt = code_at(page, 2)
    page.reload()
    assert code_at(page, 2) == attempt
    other = desk(f"/station/{run.pk}/", viewport=chromium.PHONE)
    assert code_at(other, 2) == attempt
    assert other.evaluate("document.documentElement.scrollWidth <= window.innerWidth") is True
    phone("confirm", attempt)
    assert code_at(page, 3) == code_at(other, 3)


def mass_drop(live, upstream, number: int) -> tuple[Incident, list[Account]]:
    """So many accounts of one incident, all of which have to be scanned."""
    now, accounts = timezone.now(), accounts_of(live, number)
    incident = Incident.objects.create(at=now, last_drop_at=now)
    for account in accounts:
        wc_id = upstream.person(f"wxid_dropped_{account.pk}")["wcId"]
        account.wc_id, account.state, account.queued_for_scan_at = wc_id, AccountState.OFFLINE, now
    Account.objects.bulk_update(accounts, ["wc_id", "state", "queued_for_scan_at"])
    Drop.objects.bulk_create(
        Drop(account=account, incident=incident, w_id="gone", next_step=NextStep.SCAN, next_at=None)
        for account in accounts
    )
    return incident, accounts


@pytest.mark.parametrize("number", [8, pytest.param(60, marks=pytest.mark.long)])
def test_two_operators_work_off_a_mass_drop_from_its_page(desk, live, phone, upstream, number):
    incident, accounts = mass_drop(live, upstream, number)
    pages = [desk(f"/incidents/{incident.pk}/", user=who) for who in (live.operator, live.mate)]
    for page in pages:
        page.get_by_role("button", name="Scan these").focus()
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(r"/station/\d+/"))

    def online() -> int:
        return Account.objects.filter(state="online").count()

    while online() < len(accounts):
        for attempt in {attempt for page in pages for attempt in page.evaluate(SHOWN)}:
            if LoginAttempt.objects.get(pk=attempt).state == "waiting":
                phone("confirm", attempt)
                until(lambda a=attempt: not LoginAttempt.objects.get(pk=a).is_open, "no end of a login")
        pages[0].wait_for_timeout(50)
    for page in pages:
        expect(page.locator(f"[data-done='{number}']")).to_be_visible()
    logins = LoginAttempt.objects.filter(state="succeeded").values_list("account", flat=True)
    assert sorted(logins) == sorted(account.pk for account in accounts)


def test_a_wall_of_24_is_no_higher_than_the_screen(desk, live):
    page = desk(f"/wall/{run_of(live.operator, accounts_of(live, 24)).pk}/?grid=6x4", viewport=WALL)
    expect(page.locator(".tile .code img")).to_have_count(24)
    assert page.evaluate("document.documentElement.scrollHeight <= window.innerHeight") is True
    sides = {
        round(box["width"]) for box in (tile.bounding_box() for tile in page.locator(".tile .code").all())
    }
    assert min(sides) >= 140
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tile-0")).to_be_focused()


@pytest.mark.parametrize(
    ("grid", "tiles", "number"), [("3x2", 6, 8), pytest.param("6x4", 24, 30, marks=pytest.mark.long)]
)
def test_a_wall_fills_up_until_all_are_online(desk, live, phone, grid, tiles, number):
    accounts = accounts_of(live, number)
    run = run_of(live.operator, accounts)
    page = desk(f"/wall/{run.pk}/?grid={grid}", viewport=WALL)
    expect(page.locator(".tile .code img")).to_have_count(tiles)

    def on_screen() -> list[int]:
        """Return the attempts whose QR codes a phone can scan now."""
        waiting = run.items.filter(state=ScanState.SHOWN, attempt__state="waiting")
        drawn = page.evaluate(DRAWN)
        return [attempt for attempt in waiting.values_list("attempt", flat=True) if attempt in drawn]

    while Account.objects.filter(state="online").count() < len(accounts):
        for attempt in until(on_screen, "no code on the wall"):
            phone("confirm", attempt)
            until(lambda a=attempt: not LoginAttempt.objects.get(pk=a).is_open, "no end of a login")
    expect(page.locator(".aside")).to_contain_text(f"{number} online")
    expect(page.locator(".wall")).to_have_count(0)
