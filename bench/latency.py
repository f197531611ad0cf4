"""How much the portal adds to what the upstream takes, as a person in front of a browser sees it.

    python -m bench.latency [--station] [--rounds 100] [--delay 0.2]

Starts the product as `make run` does (`manage.py up`, with the simulator), opens a real Chromium, and logs a new account
in each round. In the same round a plain client makes the same two calls, `/iPadLogin` and the picture: the reference.

--station: from one phone's confirmation to the next account's QR code on the screen of the scan station. Nothing is clicked
once the run has started, and each phone confirms when the next code was requested ahead: a person needs longer to scan.
"""

import os
import re
import shutil
import time
from base64 import b64decode
from io import BytesIO

import requests
import zxingcpp
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from bench import report
from bench.processes import start_portal

USER, PASSWORD = "bench", "a password for the bench"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
WARM_UP = 3
WHAT = {"upstream's own answers": None, "click to QR code, less that": 50, "confirmed to Online": 300}
NEXT, AIM_NEXT = "confirmed to the next QR code", 150
SHOWN = "document.querySelector('.code[data-attempt]')?.dataset.attempt"
# In ms since 1970: the click, the QR code drawn (also of each attempt), the account online in the page.
WATCH = """() => {
  const now = () => performance.timeOrigin + performance.now();
  window.marks = {};
  document.addEventListener("submit", () => { marks.click ??= now() }, true);
  document.addEventListener("load", ({ target }) => { if (target.matches?.(".code img")) marks.code ??= now() }, true);
  document.addEventListener("load", ({ target }) => {
    const code = target.closest?.(".code[data-attempt]");
    if (code) marks[code.dataset.attempt] ??= now();
  }, true);
  new MutationObserver(() => {
    if (document.querySelector("[data-state=online][data-wc-id]")) marks.online ??= now();
  }).observe(document.documentElement, { subtree: true, childList: true, attributes: true });
}"""


class Session:
    """A signed-in page, and the simulator's control address."""

    def __init__(self, page: Page, url: str, upstream: str):
        self.page, self.url, self.upstream = page, url, upstream
        self.authorization = {"Authorization": self.state()["authorization"]}
        page.goto(url + "/login/")
        page.locator("[name=username]").fill(USER)
        page.locator("[name=password]").fill(PASSWORD)
        page.locator("[name=password]").press("Enter")
        page.wait_for_url(url + "/")

    def state(self) -> dict:
        return requests.get(self.upstream + "/control/state", timeout=30).json()

    def control(self, what: str, **body) -> None:
        requests.post(f"{self.upstream}/control/{what}", json=body, timeout=30)

    def add_account(self, number: int) -> None:
        self.page.goto(self.url + "/accounts/new/")
        self.page.locator("[name=proxy]").select_option("1")
        self.page.locator("[name=label]").fill(f"Account {number}")
        self.page.locator("[name=label]").press("Enter")
        self.page.wait_for_url(re.compile(r"/accounts/\d+/"))

    def log_in(self, number: int) -> tuple[float, float, float]:
        """Log a new account in; return ms of the reference, from click to QR code less that, from tap to "Online"."""
        page = self.page
        self.add_account(number)
        page.wait_for_timeout(300)  # the stream connects; a person does not click sooner
        page.evaluate(WATCH)
        began, body = time.perf_counter(), {"wcId": "", "type": 2, "proxy": 1}
        address = self.upstream + "/iPadLogin"
        answer = requests.post(address, json=body, headers=self.authorization, timeout=30)
        requests.get(answer.json()["data"]["qrCodeUrl"], timeout=30)
        reference = (time.perf_counter() - began) * 1000
        page.locator("form[action$='/login/'] button").first.click()
        page.wait_for_function("() => marks.code", polling=100)
        w_id = self.state()["logins"][-1]["wId"]
        self.control("wait", wId=w_id, step3_now=1)
        page.wait_for_timeout(150)
        confirmed = time.time() * 1000
        self.control("phone", wId=w_id, do="confirm")
        page.wait_for_function("() => marks.online", polling=100)
        marks = page.evaluate("() => marks")
        return reference, marks["code"] - marks["click"] - reference, marks["online"] - confirmed

    def start_station(self, accounts: int) -> None:
        for number in range(accounts):
            self.add_account(number)
        self.page.goto(self.url + "/station/")
        self.page.keyboard.press("2")  # never logged in
        self.page.wait_for_url("**/station/*/")
        self.page.evaluate(WATCH)

    def next_code(self) -> float:
        """Confirm the login on the screen of the station; return ms until the next QR code is drawn."""
        page = self.page
        attempt = page.wait_for_function(SHOWN, polling=50).json_value()
        page.get_by_text("QR code ready").wait_for()
        picture = page.locator(".code img").get_attribute("src").partition(",")[2]
        read = zxingcpp.read_barcode(Image.open(BytesIO(b64decode(picture)))).text
        w_id = read.rpartition("/")[2]
        self.control("wait", wId=w_id, step3_now=1)
        confirmed = time.time() * 1000
        self.control("phone", wId=w_id, do="confirm")
        page.wait_for_function(f"(old) => {SHOWN} !== old && marks[{SHOWN}]", arg=attempt, polling=50)
        return page.evaluate(f"marks[{SHOWN}]") - confirmed


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--station", action="store_true")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--delay", type=float, default=0.2, help="seconds of /iPadLogin (%(default)s)")
    options = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    people = {"DJANGO_SUPERUSER_USERNAME": USER, "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
    with start_portal(**people) as portal, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_context(bypass_csp=True).new_page()  # for WATCH
        session = Session(page, portal.url, portal.upstream)
        session.control("faults", path="/iPadLogin", kind="delay", seconds=options.delay)
        numbers = range(options.rounds + WARM_UP)
        if options.station:
            session.start_station(len(numbers) + 2)  # behind the last one, another code is requested ahead
        measure = (lambda _number: (session.next_code(),)) if options.station else session.log_in
        rounds = [measure(number) for number in numbers][WARM_UP:]
        browser.close()
    figures, what = [], {NEXT: AIM_NEXT} if options.station else WHAT
    for (name, aim), *times in zip(what.items(), *rounds, strict=True):
        figures += [report.Figure(*named, aim=aim) for named in report.percentiles(name, times).items()]
    report.finish(figures, options)


if __name__ == "__main__":
    main()
