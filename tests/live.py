"""The product as real processes on the test database: web, waits worker, jobs worker, beat."""

import os
import subprocess
import sys
import time
from pathlib import Path

import requests
from django.contrib.auth import get_user_model

from tests import environment
from tests.base import PASSWORD

ROOT = Path(__file__).resolve().parent.parent
LONELY = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
COMMANDS = {
    "waits": ["-m", "celery", "-A", "wkportal", "worker", "-P", "gevent", "-c", "500", "-Q", "waits", "-n", "waits@test", *LONELY],
    "jobs": ["-m", "celery", "-A", "wkportal", "worker", "-P", "threads", "-c", "4", "-Q", "jobs", "-n", "jobs@test", *LONELY],
    "beat": ["-m", "celery", "-A", "wkportal", "beat", "-s", str(environment.FOLDER / "beat")],
}  # fmt: skip


class Stack:
    """Start with `with Stack() as stack`; `stack.log` is what all of it wrote, at DEBUG."""

    def __init__(self, **env: str):
        self.env = {**os.environ, "DATABASE_URL": environment.live_database_url, "LOG_LEVEL": "DEBUG", **env}
        self.processes: dict[str, subprocess.Popen] = {}
        self.port = environment.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_file = environment.FOLDER / f"stack-{self.port}.log"

    def __enter__(self) -> "Stack":
        try:
            self.start("web")
            for name in COMMANDS:
                self.start(name)
            poll(lambda: requests.get(self.url + "/healthz", timeout=2).ok, 20, "the web does not answer")
            poll(lambda: self.log.count("ready.") >= 2, 30, "the workers are not ready")
        except BaseException:
            print(self.log[-5000:])
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exc) -> None:
        for name in reversed(list(self.processes)):
            self.stop(name)

    def start(self, name: str) -> None:
        command = COMMANDS.get(name) or ["manage.py", "serve", "--port", str(self.port)]
        with self.log_file.open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=self.env,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def stop(self, name: str, grace: float = 1.5) -> None:
        """TERM, then KILL: a wait that is cut off is taken up by the next worker."""
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")


def poll(condition, seconds: float, complaint: str):
    """The first true value of `condition()`; fails with `complaint` when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = condition()
        except (requests.RequestException, AssertionError):
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)


class Operator:
    """Somebody at a browser without JavaScript: a session that signs in and posts forms."""

    def __init__(self, stack: Stack, user):
        self.url = stack.url
        self.http = requests.Session()
        self.http.trust_env = False
        self.get("/login/")
        answer = self.post("/login/", username=user.get_username(), password=PASSWORD)
        assert answer.status_code == 302, answer.text[:500]

    def get(self, path: str, **how) -> requests.Response:
        return self.http.get(self.url + path, timeout=20, **how)

    def post(self, path: str, **form) -> requests.Response:
        form["csrfmiddlewaretoken"] = self.http.cookies["wkportal_csrf"]
        return self.http.post(self.url + path, data=form, timeout=30, allow_redirects=False)


def fresh_user(name: str):
    return get_user_model().objects.get(username=name)
