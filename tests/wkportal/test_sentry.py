"""What a Sentry gets: the log's errors, and nothing that the log would hide."""

import gzip
import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.processes import bare_environment

pytestmark = pytest.mark.slow

KEY = "0123456789abcdef0123456789abcdef"
SECRET = "canary-of-the-secret-key-0123456789-abcdefgh"
PROGRAM = """
import json, logging, sys
import django
django.setup()
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import path
from accounts.metrics import log_context

log = logging.getLogger("wkportal")

def fails(request, token):
    typed = request.POST["verify_code"]
    raise RuntimeError(f"no answer for wkportal_session={request.COOKIES['wkportal_session']} with {SECRET}")

SECRET = "canary-of-the-secret-key-0123456789-abcdefgh"
urlpatterns = [path("scan/<str:token>/", fails)]
with override_settings(ROOT_URLCONF="__main__", MIDDLEWARE=[]):
    client = Client(raise_request_exception=False)
    client.cookies["wkportal_session"] = "canary-of-a-cookie"
    answer = client.post(
        "/scan/canary-of-a-path/?canary-of-a-query=1", {"verify_code": "canary-of-a-form"},
        headers={"Authorization": "canary-of-a-header"},
    )
    assert answer.status_code == 500
with log_context.bound(attempt=17, request_id="r-1"):
    log.error("login of %s: password=%s", "canary-of-an-account", "canary-of-a-word")
log.warning("canary-of-a-warning")
logging.getLogger("apprise").error("https://hooks.example.com/canary-of-an-address")
"""


@contextmanager
def sentry(*statuses: int):
    """Its DSN, and the events it got. `statuses` are its first answers; then all is well."""
    events: list[dict] = []
    answers = list(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            lines = gzip.decompress(body).splitlines()
            events.extend(
                json.loads(item)
                for head, item in zip(lines[1::2], lines[2::2], strict=True)
                if json.loads(head)["type"] == "event"
            )
            self.send_response(answers.pop(0) if answers else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://{KEY}@127.0.0.1:{server.server_port}/42", events
    finally:
        server.shutdown()
        server.server_close()


def run(dsn: str, var_dir) -> subprocess.CompletedProcess:
    variables = {"SECRET_KEY": SECRET, "WK_BASE_URL": "http://127.0.0.1:1", "WK_AUTHORIZATION": "none"}
    variables |= {"SENTRY_DSN": dsn, "SENTRY_ENVIRONMENT": "shop", "VAR_DIR": str(var_dir)}
    variables |= {"DJANGO_SETTINGS_MODULE": "wkportal.settings"}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=bare_environment(**variables),
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_it_gets_the_errors_of_the_log_without_what_the_log_hides(tmp_path):
    with sentry() as (dsn, events):
        ended = run(dsn, tmp_path)
    assert ended.returncode == 0, ended.stderr
    sent = json.dumps(events, ensure_ascii=False)
    assert "canary" not in sent.replace("canary-of-an-account", "")
    of_view, of_log = sorted(events, key=lambda event: event["logger"])
    (error,) = of_view["exception"]["values"]
    assert (error["type"], error["value"]) == (
        "RuntimeError",
        "no answer for wkportal_session=[hidden] with [hidden]",
    )
    assert error["stacktrace"]["frames"][-1]["function"] == "fails"
    assert not any("vars" in frame for frame in error["stacktrace"]["frames"])
    assert "request" not in of_view
    assert of_log["logentry"]["formatted"] == "login of canary-of-an-account: password=[hidden]"
    assert of_log["tags"] == {"attempt": "17", "request_id": "r-1"}
    assert {event["environment"] for event in events} == {"shop"}
    assert {event["release"].partition("@")[0] for event in events} == {"wkportal"}
    assert KEY not in ended.stderr + ended.stdout


@pytest.mark.parametrize("answers", [(503, 429), ()])
def test_one_that_is_away_costs_nothing_but_the_report(tmp_path, answers):
    with sentry(*answers) as (dsn, events):
        if answers:
            ended = run(dsn, tmp_path)
            assert len(events) == len(answers)
    if not answers:
        ended = run(dsn, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "RuntimeError: no answer" in ended.stderr
    assert "Traceback" not in ended.stderr.partition("RuntimeError: no answer")[2]
