"""How much the portal adds to what the upstream takes, as a person in front of a browser sees it.

Each round logs a new account in, in a real Chromium. The reference is a plain client that makes the same two calls.
--station: from one phone's confirmation to the next account's QR code on the screen of the scan station. Nothing is clicked,
and each phone confirms when the next code was requested ahead: a person needs longer to scan.
"""

import time

import requests

from bench import report
from bench.services import start_portal

parser = report.parser(__doc__, rounds=100)
parser.add_argument("--station", action="store_true")
options = parser.parse_args()
portal = start_portal()

from django.conf import settings
from playwright.sync_api import Page

from accounts.models import Account
from tests.support.chromium import browser, has_signed_in
from tests.support.factories import make_people

WARM_UP, LOGIN_SECONDS = 3, 0.2
WHAT = {"upstream's own answers": None, "click to QR code, less that": 50, "confirmed to Online": 300}
NEXT = {"confirmed to the next QR code": 150}
SHOWN = "document.querySelector('.code[data-attempt]')?.dataset.attempt"
# In ms since 1970: the click, the QR code drawn (at the station by attempt), the account online in the page.
WATCH = """() => {
  const now = () => performance.timeOrigin + performance.now();
  window.marks = {};
  document.addEventListener("submit", () => { marks.click ??= now() }, true);
  document.addEventListener("load", ({ target }) => {
    const code = target.closest?.(".code");
    if (code) marks[code.dataset.attempt ?? "code"] ??= now();
  }, true);
  new MutationObserver(() => {
    if (document.querySelector("[data-state=online][data-wc-id]")) marks.online ??= now();
  }).observe(document.documentElement, { subtree: true, childList: true, attributes: true });
}"""


def state() -> dict:
    return requests.get(f"{settings.WK_BASE_URL}/control/state", timeout=30).json()


def control(what: str, **body) -> None:
    requests.post(f"{settings.WK_BASE_URL}/control/{what}", json=body, timeout=30)


def confirm(page: Page, login: int) -> float:
    """Confirm one of the simulator's logins on its phone; return when, in ms since 1970."""
    w_id = state()["logins"][login]["wId"]
    control("wait", wId=w_id, step3_now=1)
    page.wait_for_timeout(150)
    confirmed = time.time() * 1000
    control("phone", wId=w_id, do="confirm")
    return confirmed


def reference() -> float:
    headers, body = {"Authorization": state()["authorization"]}, {"wcId": "", "type": 2, "proxy": 1}
    began = time.perf_counter()
    answer = requests.post(f"{settings.WK_BASE_URL}/iPadLogin", json=body, headers=headers, timeout=30)
    requests.get(answer.json()["data"]["qrCodeUrl"], timeout=30)
    return (time.perf_counter() - began) * 1000


def log_in(page: Page, number: int) -> tuple[float, float, float]:
    """Log a new account in; return ms of the reference, from click to QR code less that, from tap to "Online"."""
    page.goto(f"{portal.url}/accounts/{number + 1}/")
    page.wait_for_timeout(300)  # the stream connects; a person does not click sooner
    page.evaluate(WATCH)
    upstream = reference()
    page.locator("form[action$='/login/'] button").first.click()
    page.wait_for_function("() => marks.code", polling=100)
    confirmed = confirm(page, -1)
    page.wait_for_function("() => marks.online", polling=100)
    marks = page.evaluate("() => marks")
    return upstream, marks["code"] - marks["click"] - upstream, marks["online"] - confirmed


def next_code(page: Page, number: int) -> tuple[float]:
    """Confirm the login on the screen of the station; return ms until the next QR code is drawn."""
    attempt = page.wait_for_function(SHOWN, polling=50).json_value()
    page.get_by_text("QR code ready").wait_for()
    confirmed = confirm(page, number)  # codes are requested in the order in which they are shown
    page.wait_for_function(f"(old) => {SHOWN} !== old && marks[{SHOWN}]", arg=attempt, polling=50)
    return (page.evaluate(f"marks[{SHOWN}]") - confirmed,)


def main() -> None:
    control("faults", path="/iPadLogin", kind="delay", seconds=LOGIN_SECONDS)
    [person] = make_people([("bench", "", None)], superusers={"bench"})
    numbers = range(options.rounds + WARM_UP)
    # Behind the last one on the station's screen, another code is requested ahead.
    Account.objects.bulk_create(Account(label=f"Account {n:04}", proxy=1) for n in range(len(numbers) + 2))
    with browser(whole=True) as chromium:
        page = chromium.new_context(bypass_csp=True).new_page()  # for WATCH
        has_signed_in(page.context, portal.url, person)
        if options.station:
            page.goto(f"{portal.url}/station/")
            page.keyboard.press("2")  # never logged in
            page.wait_for_url("**/station/*/")
            page.evaluate(WATCH)
        measure = next_code if options.station else log_in
        rounds = [measure(page, number) for number in numbers][WARM_UP:]
    what, figures = NEXT if options.station else WHAT, []
    for (name, aim), *times in zip(what.items(), *rounds, strict=True):
        found = report.percentiles(times, f"{name}: ")
        figures += report.figures(found, aims=dict.fromkeys(found, aim))
    report.finish(figures, options)


main()
