"""From one phone's confirmation to the next account's QR code on the screen of the scan station.

    python -m bench.station [--rounds 100] [--delay 0.2]

Starts the product and a browser as bench.latency does. Nothing is clicked or typed once the run has started, and each
phone confirms when the next code was requested ahead: a person needs longer to scan.
"""

import os
import shutil
import time
from base64 import b64decode
from io import BytesIO

import zxingcpp
from PIL import Image
from playwright.sync_api import sync_playwright

from bench import report
from bench.latency import FLAGS, Session, start_portal

WARM_UP = 3
WHAT, PERCENTS, AIM_P95 = "confirmed to the next QR code", (50, 95, 99), 150
# In ms since 1970: when each attempt's QR code was drawn.
WATCH = """() => {
  window.drawn = {};
  document.addEventListener("load", ({ target }) => {
    const code = target.closest?.(".code[data-attempt]");
    if (code) drawn[code.dataset.attempt] ??= performance.timeOrigin + performance.now();
  }, true);
}"""
SHOWN = "document.querySelector('.code[data-attempt]')?.dataset.attempt"


def start_run(session: Session, accounts: int) -> None:
    page = session.page
    for number in range(accounts):
        session.add_account(number)
    page.goto(session.url + "/station/")
    page.keyboard.press("2")  # never logged in
    page.wait_for_url("**/station/*/")
    page.evaluate(WATCH)


def scan(session: Session) -> str:
    """Return the wId in the QR code on the screen."""
    picture = session.page.locator(".code img").get_attribute("src").partition(",")[2]
    return zxingcpp.read_barcode(Image.open(BytesIO(b64decode(picture)))).text.rpartition("/")[2]


def next_code(session: Session) -> float:
    """Confirm the login on the screen; return ms until the next QR code is drawn."""
    page = session.page
    attempt = page.wait_for_function(SHOWN, polling=50).json_value()
    page.get_by_text("QR code ready").wait_for()
    w_id = scan(session)
    session.control("wait", wId=w_id, step3_now=1)
    confirmed = time.time() * 1000
    session.control("phone", wId=w_id, do="confirm")
    page.wait_for_function(f"(old) => {SHOWN} !== old && drawn[{SHOWN}]", arg=attempt, polling=50)
    return page.evaluate(f"drawn[{SHOWN}]") - confirmed


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--delay", type=float, default=0.2, help="seconds of /iPadLogin (%(default)s)")
    options = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    rounds = options.rounds + WARM_UP
    with start_portal() as (url, upstream), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        session = Session(browser.new_context(bypass_csp=True).new_page(), url, upstream)
        session.control("faults", path="/iPadLogin", kind="delay", seconds=options.delay)
        start_run(session, rounds + 2)  # behind the last one, another code is requested ahead
        times = [next_code(session) for _round in range(rounds)][WARM_UP:]
        browser.close()
    figures = [
        report.Figure(f"{WHAT}: p{percent}, ms", report.percentile(times, percent)) for percent in PERCENTS
    ]
    figures[1].aim = AIM_P95
    report.finish(figures, options)


if __name__ == "__main__":
    main()
