"""The Caddyfile that is shipped, run by Caddy in front of a real web process. Needs `caddy`."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import requests
from axes.models import AccessFailureLog
from django.utils import timezone

from accounts.lib import pubsub
from accounts.models.event import record
from accounts.states import EventType
from tests.support.factories import PASSWORD
from tests.support.fake_chat_service import certificate_for
from tests.support.processes import DEADLINE, ROOT, Program, port_answers, reserve_port, until
from tests.support.scenarios import running_stack
from tests.support.stack import Stack

SECRET = "canary0secret-of-the-callback"
CADDYFILE = ROOT / "deploy/Caddyfile"


def caddy() -> str:
    path = shutil.which("caddy")
    if path is None:
        message = "no Caddy is installed; the tests of deploy/Caddyfile did not run"
        if os.environ.get("WK_REQUIRE_CADDY") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return path


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
    """web as docker-compose.yml starts it: by TLS, one proxy before it."""

    def command(self, name: str) -> list[str]:
        return [*super().command(name), "--trusted-proxies", "1"]


running = running_stack("web", wait=6, kind=WebBehindCaddy, HTTPS="1", WK_CALLBACK_SECRET=SECRET)


class Caddy(Program):
    """A running Caddy with the shipped file, changed only in its ports, in front of this port."""

    def __init__(self, port: int, folder: Path):
        self.certificate, self.port, http = folder / "site.pem", reserve_port(), reserve_port()
        certificate_for(["localhost"], self.certificate)
        text = CADDYFILE.read_text()
        assert text.count("\n{\n") == text.count("web:8000") == 1
        text = text.replace("\n{\n", f"\n{{\n\tadmin off\n\thttp_port {http}\n\thttps_port {self.port}\n")
        config = folder / "Caddyfile"
        config.write_text(text.replace("web:8000", f"127.0.0.1:{port}"))
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
    with Caddy(stack.port, tmp_path) as site:
        yield site


def sign_in(site: Caddy, password: str, **headers: str) -> tuple[requests.Session, requests.Response]:
    http = site.session()
    http.headers.update(headers)
    http.get(site.url + "/login/")
    form = {"username": "operator", "password": password, "csrfmiddlewaretoken": http.cookies["__Host-csrf"]}
    return http, http.post(site.url + "/login/", data=form)


@pytest.mark.live
def test_a_502_leaves_no_secret_of_an_address_and_no_headers_in_the_log(tmp_path):
    with Caddy(reserve_port(), tmp_path) as site:
        answer = site.session().post(
            f"{site.url}/callbacks/wkteam/{SECRET}/?a=1",
            json={"wId": "w-1"},
            headers={"X-Canary": "canary-header", "Cookie": "canary=cookie"},
        )
        assert answer.status_code == 502
        site.until_said('"uri":"/callbacks/wkteam/…/?a=1"')
        assert site.session().get(f"{site.url}/scan/{SECRET}/live/").status_code == 502
        site.until_said('"uri":"/scan/…/live/"')
        assert '"status":502' in site.said()
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
        subscribed = lambda: pubsub._client().pubsub_numsub(pubsub.CHANNEL)[0][1] == 1  # noqa: E731
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
