"""The Caddyfile that is shipped, run by Caddy in front of a real web process. Needs `caddy`."""

import asyncio
import gc
import os
import signal
import ssl
import subprocess
import threading
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import aiohttp
import pytest
import requests
from axes.models import AccessFailureLog
from django.utils import timezone

from accounts.lib import pubsub
from accounts.models.event import record
from accounts.states import EventType
from tests.support.factories import PASSWORD, session_key
from tests.support.fake_chat_service import certificate_for
from tests.support.processes import DEADLINE, ROOT, Program, port_answers, program_path, reserve_port, until
from tests.support.scenarios import running_stack
from tests.support.stack import Stack

SECRET = "canary0secret-of-the-callback"
NO_WEB = (502, 503)  # as long as Caddy tries, and when it knows
CADDYFILE = ROOT / "deploy/Caddyfile"


def caddy() -> str:
    return program_path("caddy", "WK_REQUIRE_CADDY", "the tests of deploy/Caddyfile did not run")


def environment(folder: Path, host: str, tls: str) -> dict[str, str]:
    homes = {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    return {**os.environ, **homes, "SITE_HOST": host, "SITE_TLS": tls}


@pytest.mark.parametrize("tls", ["admin@example.com", "internal", "two files"])
def test_it_is_valid(tls, tmp_path):
    if tls == "two files":
        certificate_for(["portal.example.com"], tmp_path / "site.pem")
        tls = f"{tmp_path}/site.pem {tmp_path}/site.pem"
    done = subprocess.run(
        [caddy(), "validate", "--adapter", "caddyfile", "--config", CADDYFILE],
        env=environment(tmp_path, "portal.example.com", tls),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    assert "Valid configuration" in done.stdout + done.stderr


class WebBehindCaddy(Stack):
    """web and web-2 as docker-compose.yml starts them: by TLS, one proxy before them, which knows them by other names."""

    def __init__(self, *names: str, **env: str):
        super().__init__(*names, **env)
        self.ports = {"web": self.port, "web-2": reserve_port()}

    def command(self, name: str) -> list[str]:
        served = [str(self.ports[name]), "--host", "0.0.0.0"]  # noqa: S104
        return [*super().command(name)[:-1], *served, "--trusted-proxies", "1", "--drain", "5"]

    def wait_ready(self, name: str) -> None:
        until(lambda: port_answers(self.ports[name]), f"{name} does not get ready")


running = running_stack("web", "web-2", kind=WebBehindCaddy, HTTPS="1", WK_CALLBACK_SECRET=SECRET)


class Caddy(Program):
    """A running Caddy with the shipped file, changed only in its ports, in front of these ports."""

    def __init__(self, ports: list[int], folder: Path, patience: str = "15s"):
        self.certificate, self.port, http = folder / "site.pem", reserve_port(), reserve_port()
        certificate_for(["localhost"], self.certificate)
        text = CADDYFILE.read_text()
        assert text.count("\n{\n") == text.count(" web:8000 web-2:8000 ") == 1
        text = text.replace("\n{\n", f"\n{{\n\tadmin off\n\thttp_port {http}\n\thttps_port {self.port}\n")
        config = folder / "Caddyfile"
        text = text.replace("lb_try_duration 15s", f"lb_try_duration {patience}")
        # An address of this machine that no setting names.
        places = " ".join(f"127.0.0.2:{port}" for port in ports)
        config.write_text(text.replace("web:8000 web-2:8000", places))
        env = environment(folder, "localhost", f"{self.certificate} {self.certificate}")
        super().__init__(
            [caddy(), "run", "--adapter", "caddyfile", "--config", config], folder, env, name="caddy"
        )
        self.url = f"https://localhost:{self.port}"

    def __enter__(self) -> "Caddy":
        self.until(lambda: port_answers(self.port))
        return self

    def session(self) -> requests.Session:
        http = requests.Session()
        http.trust_env = False
        http.verify = str(self.certificate)
        http.headers["Referer"] = self.url + "/"
        return http


@pytest.fixture
def site(stack, live, tmp_path):
    with Caddy(list(stack.ports.values()), tmp_path) as site:
        yield site


def sign_in(site: Caddy, password: str, **headers: str) -> tuple[requests.Session, requests.Response]:
    http = site.session()
    http.headers.update(headers)
    http.get(site.url + "/login/")
    form = {"username": "operator", "password": password, "csrfmiddlewaretoken": http.cookies["__Host-csrf"]}
    return http, http.post(site.url + "/login/", data=form)


@pytest.mark.live
def test_a_request_that_no_web_answers_leaves_no_secret_of_an_address_and_no_headers_in_the_log(tmp_path):
    with Caddy([reserve_port()], tmp_path, patience="0s") as site:
        answer = site.session().post(
            f"{site.url}/callbacks/wkteam/{SECRET}/?a=1",
            json={"wId": "w-1"},
            headers={"X-Canary": "canary-header", "Cookie": "canary=cookie"},
        )
        assert answer.status_code in NO_WEB
        site.until_said('"uri":"/callbacks/wkteam/…/?a=1"')
        assert site.session().get(f"{site.url}/scan/{SECRET}/live/").status_code in NO_WEB
        site.until_said('"uri":"/scan/…/live/"')
        for canary in (SECRET, "canary-header", "canary=cookie"):
            assert canary not in site.said()


@pytest.mark.live
def test_people_sign_in_by_tls_and_cannot_choose_their_address(site):
    _http, answer = sign_in(site, "wrong", **{"X-Forwarded-For": "203.0.113.7"})
    assert answer.status_code == 200
    assert AccessFailureLog.objects.latest("pk").ip_address == "127.0.0.1"
    _http, answer = sign_in(site, PASSWORD)
    assert answer.url == site.url + "/"


@pytest.mark.live
def test_web_takes_the_address_that_its_one_proxy_adds(stack, live):
    """As if another host were Caddy's client; what the client itself claims stands before it."""
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "1.2.3.4, 203.0.113.7"}
    page = requests.get(stack.url + "/login/", headers=headers)
    token = page.headers["Set-Cookie"].partition("__Host-csrf=")[2].partition(";")[0]
    headers |= {"Cookie": f"__Host-csrf={token}", "Referer": stack.url.replace("http:", "https:") + "/"}
    form = {"username": "operator", "password": "wrong", "csrfmiddlewaretoken": token}
    assert requests.post(stack.url + "/login/", data=form, headers=headers).status_code == 200
    assert AccessFailureLog.objects.latest("pk").ip_address == "203.0.113.7"


@pytest.mark.live
def test_events_pass_at_once(site, live):
    http, _answer = sign_in(site, PASSWORD)
    with http.get(site.url + "/events/", stream=True, timeout=DEADLINE) as stream:
        lines = stream.iter_lines(chunk_size=1)
        assert b"event: relook" in lines
        subscribed = lambda: pubsub._client().pubsub_numsub(pubsub.CHANNEL)[0][1]  # noqa: E731
        until(subscribed, "web does not listen for events")
        account = live.account()
        record(account, EventType.CHANGED, at=timezone.now())
        assert b"event: change" in lines
        assert f'"account": {account.pk}'.encode() in next(lines)


@pytest.mark.live
def test_large_requests_are_refused(site):
    http = site.session()
    # web may close before Caddy has sent it all, which Caddy calls 502.
    assert http.post(site.url + "/login/", data=b"x" * 2_000_000).status_code in (413, 502)
    assert http.get(site.url + "/healthz", headers={"X-A": "x" * 60_000}).status_code == 200
    assert http.get(site.url + "/healthz", headers={"X-A": "x" * 500_000}).status_code in (431, 502)
    assert http.get(site.url + "/healthz", headers={"X-A": "x" * 3_000_000}).status_code == 431


@pytest.mark.live
def test_metrics_cannot_be_read_through_it(site):
    assert site.session().get(site.url + "/metrics").status_code == 404


def cookie(session: str) -> dict[str, str]:
    return {"Cookie": f"__Host-session={session}"}


class Streams:
    """Open event streams, each of somebody's session; one that ends comes back when it was told to.

    Beside them, up to `rate` requests a second for pages: as many as are answered, where these are fewer.
    """

    AT_ONCE = 50

    def __init__(self, site: Caddy, sessions: list[str], rate: int, paths: list[str]):
        self.site, self.sessions, self.rate, self.paths = site, sessions, rate, paths
        self.open, self.opened, self.refused = 0, 0, []
        self.answers: list[int] = []
        self.done = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.follow_all()))

    def __enter__(self) -> "Streams":
        self.thread.start()
        self.until_all_are_open()
        return self

    def __exit__(self, *_exc) -> None:
        self.done.set()
        self.thread.join()
        # A loop that ends closes no TLS connection in time: its sockets go here, and not during a later test.
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            gc.collect()

    def until_all_are_open(self) -> None:
        until(lambda: self.open == len(self.sessions), lambda: f"{self.open} streams are open")

    async def follow_all(self) -> None:
        trusted = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=self.site.certificate), limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=trusted, timeout=timeout) as client:
            tasks = [asyncio.create_task(self.follow(client, session)) for session in self.sessions]
            offered = asyncio.create_task(self.offer(client))
            await asyncio.to_thread(self.done.wait)
            self.answers = await offered
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def offer(self, client: aiohttp.ClientSession) -> list[int]:
        """Return the status of every answer, once all are there."""
        asked, seats = [], asyncio.Semaphore(self.AT_ONCE)

        async def ask(session: str, path: str) -> int:
            async with seats, client.get(self.site.url + path, headers=cookie(session)) as answer:
                await answer.read()
                return answer.status

        for session, path in zip(cycle(self.sessions), cycle(self.paths), strict=False):
            if self.done.is_set() or not self.rate:
                break
            if not seats.locked():
                asked.append(asyncio.create_task(ask(session, path)))
            await asyncio.sleep(1 / self.rate)
        return list(await asyncio.gather(*asked))

    async def follow(self, client: aiohttp.ClientSession, session: str) -> None:
        headers, pause = cookie(session), 1.0
        while True:
            async with client.get(f"{self.site.url}/events/", headers=headers) as stream:
                if stream.status == 200:
                    self.open, self.opened = self.open + 1, self.opened + 1
                    with suppress(aiohttp.ClientPayloadError):
                        async for line in stream.content:
                            if line.startswith(b"retry: "):
                                pause = int(line.split()[1]) / 1000
                    self.open -= 1
                else:
                    self.refused.append(stream.status)
            await asyncio.sleep(pause)


@pytest.mark.live
@pytest.mark.parametrize(("count", "rate"), [(20, 0), pytest.param(500, 50, marks=pytest.mark.long)])
def test_no_request_fails_while_both_webs_are_replaced_and_streams_come_back(stack, site, live, count, rate):
    """Each page and form of people who go on working is answered."""
    account, done, answers = live.account(), threading.Event(), []
    people = [live.person(f"person{number}", "operator", live.east) for number in range(-(-count // 20))]
    sessions = [session_key(person) for person in people for _stream in range(20)][:count]

    def work(http: requests.Session) -> None:
        form = {"csrfmiddlewaretoken": http.cookies["__Host-csrf"], "wanted": "0", "reason": "x"}
        with http:
            while not done.is_set():
                list_ = http.get(f"{site.url}/accounts/", timeout=DEADLINE, allow_redirects=False)
                page = http.post(
                    f"{site.url}/accounts/{account.pk}/keep-online/", data=form, timeout=DEADLINE
                )
                answers.extend([list_.status_code, page.status_code])

    paths = [f"/accounts/{account.pk}/", "/accounts/", "/"]
    began = time.monotonic()
    # One after the other: the first sign-in stores the password anew, for the hasher that web has.
    signed_in = [sign_in(site, PASSWORD)[0] for _person in range(2)]
    with ThreadPoolExecutor(2) as threads, Streams(site, sessions, rate, paths) as streams:
        working = [threads.submit(work, http) for http in signed_in]
        for name in stack.ports:
            so_far = len(answers)
            until(lambda so_far=so_far: len(answers) > so_far + 4, "nobody works")
            stack.kill(name, signal.SIGTERM)
            stack.start(name)
            stack.wait_ready(name)
            # Caddy before 2.7.5 lets no form wait while it takes both webs for down.
            site.until_said(f'"host is up","host":"127.0.0.2:{stack.ports[name]}"')
            streams.until_all_are_open()
        done.set()
        for one in working:
            one.result()
    answers += streams.answers
    seconds = time.monotonic() - began
    print(f"{len(answers)} answers in {seconds:.0f} s, {streams.opened} streams opened for {count}")
    assert set(answers) == {200}, f"{Counter(answers)}\n{site.said()}\n{stack.log[-20_000:]}"
    assert streams.refused == []
    assert streams.opened > count
