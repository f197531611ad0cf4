"""How much wkportal adds to what the upstream takes, as a person in front of a browser sees it.

    python -m bench.latency [--rounds 100] [--delay 0.2]

Starts the product as `make run` does (`manage.py up`, in a folder of its own, with the simulator), opens a real
Chromium, and in each round logs one account in:

- click to code: from the click on "Log in" until the QR picture has been loaded in the page, less what a bare
  client needs in the same round for `/iPadLogin` and the picture itself (the reference)
- confirm to state: from the tap on the phone until the open page shows the account online

Prints medians and 99th percentiles in milliseconds.
"""

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests
from playwright.sync_api import Page, sync_playwright

from tests.support.chromium import FLAGS

ROOT = Path(__file__).resolve().parent.parent
USER, PASSWORD = "bench", "a password for the bench"
WATCH = """() => {
  const now = () => performance.timeOrigin + performance.now();
  window.marks = {};
  document.addEventListener("submit", () => { marks.click ??= now() }, true);
  document.addEventListener("load", (event) => {
    if (event.target.matches?.(".qr img")) marks.code ??= now();
  }, true);
  new MutationObserver(() => {
    if (document.querySelector("[data-state=online][data-wc-id]")) marks.online ??= now();
  }).observe(document.documentElement, { subtree: true, childList: true, attributes: true });
}"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Product:
    """`manage.py up` in a folder of its own."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="wkbench-")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Product":
        env = {
            k: v
            for k, v in os.environ.items()
            if k not in ("REDIS_URL", "DATABASE_URL", "WK_BASE_URL", "SECRET_KEY")
        }
        env |= {"VAR_DIR": self.folder.name, "PORT": str(self.port)}
        env |= {"DJANGO_SUPERUSER_USERNAME": USER, "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
        self.log = open(Path(self.folder.name) / "bench.log", "wb")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up"], cwd=ROOT, env=env, stdout=self.log, stderr=self.log
        )
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                if requests.get(self.url + "/readyz", timeout=2).ok:
                    break
            except requests.RequestException:
                time.sleep(0.1)
        lines = (Path(self.folder.name) / "run.env").read_text().splitlines()
        values = dict(line.split("=", 1) for line in lines if "=" in line)
        self.upstream = values["WK_BASE_URL"].strip("'\"")
        return self

    def __exit__(self, *_exc) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        self.log.close()
        self.folder.cleanup()


def bare(upstream: str, authorization: str) -> float:
    """Milliseconds that the upstream's two answers take a client that does nothing else."""
    began = time.perf_counter()
    answer = requests.post(
        upstream + "/iPadLogin",
        json={"wcId": "", "type": 2, "proxy": 1},
        headers={"Authorization": authorization},
        timeout=30,
    )
    requests.get(answer.json()["data"]["qrCodeUrl"], timeout=30)
    return (time.perf_counter() - began) * 1000


def sign_in(page: Page, url: str) -> None:
    page.goto(url + "/login/")
    page.locator("[name=username]").fill(USER)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("[name=password]").press("Enter")
    page.wait_for_url(url + "/")


def one_round(
    page: Page, url: str, upstream: str, authorization: str, number: int
) -> tuple[float, float, float]:
    page.goto(url + "/accounts/new/")
    page.locator("[name=label]").fill(f"Account {number}")
    page.locator("[name=label]").press("Enter")
    page.wait_for_url("**/accounts/*/")
    page.wait_for_timeout(300)  # the stream connects; a person does not click sooner
    page.evaluate(WATCH)
    reference = bare(upstream, authorization)
    page.locator("form[action$='/login/'] button").first.click()
    page.wait_for_function("() => marks.code", polling=100)
    w_id = requests.get(upstream + "/control/state", timeout=30).json()["logins"][-1]["wId"]
    requests.post(upstream + "/control/wait", json={"wId": w_id, "step3_now": 1}, timeout=30)
    page.wait_for_timeout(150)
    tapped = time.time() * 1000
    requests.post(upstream + "/control/phone", json={"wId": w_id, "do": "confirm"}, timeout=30)
    page.wait_for_function("() => marks.online", polling=100)
    marks = page.evaluate("() => marks")
    return marks["code"] - marks["click"], reference, marks["online"] - tapped


def p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def line(title: str, values: list[float], target: float) -> str:
    return f"{title:<34} median {statistics.median(values):7.1f} ms   p99 {p99(values):7.1f} ms   target {target:.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument(
        "--delay", type=float, default=0.2, help="seconds the upstream takes for /iPadLogin (%(default)s)"
    )
    options = parser.parse_args()
    with Product() as product, sync_playwright() as playwright:
        fault = {"path": "/iPadLogin", "kind": "delay", "seconds": options.delay}
        requests.post(product.upstream + "/control/faults", json=fault, timeout=30)
        chromium = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=FLAGS
        )
        context = chromium.new_context(
            bypass_csp=True
        )  # for the watching script; the pages' own policy stays as strict
        page = context.new_page()
        sign_in(page, product.url)
        authorization = requests.get(product.upstream + "/control/state?brief=1", timeout=30).json()[
            "authorization"
        ]
        rounds = [
            one_round(page, product.url, product.upstream, authorization, n)
            for n in range(options.rounds + 3)
        ][3:]
        chromium.close()
    print(f"{options.rounds} rounds, the upstream takes {options.delay * 1000:.0f} ms for a code")
    print(line("the upstream's own answers", [r[1] for r in rounds], options.delay * 1000))
    print(line("click to code, added to that", [r[0] - r[1] for r in rounds], 50))
    print(line("confirm to state in the browser", [r[2] for r in rounds], 300))


if __name__ == "__main__":
    main()
