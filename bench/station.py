"""From one phone's confirmation to the next account's QR code on the screen of the scan station.

    python -m bench.station [--rounds 100] [--delay 0.2]

Starts the product and a browser as bench.latency does. Nothing is clicked or typed once the run has started.
"""

import os
import shutil
import time

from playwright.sync_api import sync_playwright

from bench import report
from bench.latency import FLAGS, Session, start_portal

WARM_UP = 3
AIM = {"confirmed to the next QR code, p95": 150}
# In ms since 1970: when each attempt's QR code was drawn.
WATCH = """() => {
  window.drawn = {};
  document.addEventListener("load", ({ target }) => {
    const code = target.closest?.(".code[data-attempt]");
    if (code) drawn[code.dataset.attempt] ??= performance.timeOrigin + performance.now();
  }, true);
}"""
SHOWN = "document.querySelector('.code[data-attempt]')?.dataset.attempt"


def measure(session: Session, accounts: int) -> list[float]:
    page = session.page
    for number in range(accounts):
        page.goto(session.url + "/accounts/new/")
        page.locator("[name=label]").fill(f"Account {number}")
        page.locator("[name=label]").press("Enter")
        page.wait_for_url("**/accounts/*/")
    page.goto(session.url + "/station/")
    page.keyboard.press("2")
    page.wait_for_url("**/station/*/")
    page.evaluate(WATCH)
    times = []
    for _number in range(accounts - 1):
        attempt = page.wait_for_function(SHOWN, polling=50).json_value()
        page.locator("[data-state=ready]").filter(has_text="QR").wait_for()  # scanning takes a person longer
        w_id = page.evaluate("document.querySelector('.code img').dataset.wId")
        confirmed = time.time() * 1000
        session.control("phone", wId=w_id, do="confirm")
        page.wait_for_function(f"(old) => {SHOWN} !== old && drawn[{SHOWN}]", arg=attempt, polling=50)
        times.append(page.evaluate(f"drawn[{SHOWN}]") - confirmed)
    return times


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--delay", type=float, default=0.2, help="seconds of /iPadLogin (%(default)s)")
    options = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with start_portal() as (url, upstream), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        session = Session(browser.new_context(bypass_csp=True).new_page(), url, upstream)
        session.control("faults", path="/iPadLogin", kind="delay", seconds=options.delay)
        times = measure(session, options.rounds + WARM_UP)[WARM_UP:]
        browser.close()
    named = report.percentiles("confirmed to the next QR code", times)
    report.finish([report.Figure(*one, aim=AIM.get(one[0])) for one in named.items()], options)


if __name__ == "__main__":
    main()
