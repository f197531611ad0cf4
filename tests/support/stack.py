"""The product as real processes on the test database: web, waits workers, jobs worker, beat.

with Stack() as stack:                                  # one of each
with Stack("web", "waits-1", "waits-2", "jobs", "beat", WAIT_SLOTS="12") as stack:
    stack.kill("waits-1"); stack.start("waits-1")       # what stands before the dash is the kind
    stack.send("waits-2", signal.SIGSTOP)
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import requests
from django.conf import settings
from django.utils.crypto import get_random_string

from accounts.models import Account, LoginAttempt
from tests.support import environment, preloaded
from tests.support.factories import session_key
from tests.support.processes import DEADLINE, reserve_port, until

ROOT = Path(__file__).resolve().parents[2]
CELERY = ["-m", "celery", "--quiet", "-A", "wkportal"]
LONELY = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
ONE_OF_EACH = ("web", "waits", "jobs", "beat")


class Stack:
    """Its processes log at DEBUG, each into a file of its own; `stack.log` is what all of them wrote."""

    def __init__(self, *names: str, **env: str):
        self.names = names or ONE_OF_EACH
        self.env = {**os.environ, "DATABASE_URL": environment.database_url, "LOG_LEVEL": "DEBUG", **env}
        self.processes: dict[str, preloaded.Process] = {}
        self.log_from: dict[str, int] = {}
        self.leaving: set[str] = set()
        self.port = reserve_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = environment.FOLDER / f"stack-{self.port}"
        self.folder.mkdir()

    def __enter__(self) -> "Stack":
        try:
            for name in self.names:
                self.start(name)
            for name in self.names:
                self.wait_ready(name)
        except BaseException:
            print(self.log[-5000:])
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exc) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for name in list(self.processes):
            self.stop(name)

    def command(self, name: str) -> list[str]:
        worker = [*CELERY, "worker", "-n", f"{name}@test", *LONELY]
        kinds = {
            "web": ["manage.py", "serve", "--port", str(self.port)],
            "waits": [*worker, "-P", "gevent", "-c", "500", "-Q", "waits"],
            "jobs": [*worker, "-P", "threads", "-c", "4", "-Q", "jobs"],
            "beat": [*CELERY, "beat"],
        }
        return [sys.executable, *kinds[name.partition("-")[0]]]

    def environment(self, name: str) -> dict[str, str]:
        return self.env

    def start(self, name: str, **env: str) -> preloaded.Process:
        """Start one, with these variables beside those of all. It may not be ready yet: see `wait_ready`."""
        assert name not in self.processes or self.processes[name].poll() is not None, f"{name} runs already"
        with self.log_file(name).open("ab") as log:
            self.processes[name] = preloaded.start(
                self.command(name), self.environment(name) | env, stdout=log, stderr=log
            )
            self.log_from[name] = log.tell()
        self.leaving.discard(name)
        return self.processes[name]

    def wait_ready(self, name: str) -> None:
        """Until a process that was just started does its work; beat does at once."""

        def ready() -> bool:
            if self.processes[name].poll() is not None:
                raise RuntimeError(f"{name} ended\n{self.log_of(name)[-3000:]}")
            if name.startswith("web"):
                return requests.get(self.url + "/healthz", timeout=2).ok
            return name.startswith("beat") or "ready." in self.log_of(name)

        until(ready, f"{name} does not get ready")

    def send(self, name: str, sign: signal.Signals) -> None:
        if sign in (signal.SIGTERM, signal.SIGINT):
            self.leaving.add(name)
        self.processes[name].send_signal(sign)

    def kill(self, name: str, sign: signal.Signals = signal.SIGKILL) -> int:
        """Signal one and wait for its end: its exit code."""
        self.send(name, sign)
        return self.ended(name)

    def ended(self, name: str, seconds: float = DEADLINE) -> int:
        """Wait for the end of one that was told to end: its exit code."""
        code = self.processes[name].wait(seconds)
        del self.processes[name]
        return code

    def stop(self, name: str, grace: float = 1.5) -> None:
        """TERM, then KILL: a wait that is cut off is resumed by the next worker."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def complete(self) -> None:
        """Wake what sleeps and start again what is missing, so that the next test finds everything running."""
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
        missing = [name for name in self.names if not self.at_work(name)]
        for name in missing:
            if name in self.processes:
                self.kill(name)
            self.start(name)
        for name in missing:
            self.wait_ready(name)

    def at_work(self, name: str) -> bool:
        """It runs, and was not told to stop."""
        return name in self.processes and name not in self.leaving and self.processes[name].poll() is None

    def log_file(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def log_of(self, name: str) -> str:
        """What it wrote since it was started last."""
        return self.log_file(name).read_bytes()[self.log_from[name] :].decode(errors="replace")

    @property
    def log(self) -> str:
        return "".join(file.read_text(errors="replace") for file in sorted(self.folder.glob("*.log")))


class Operator:
    """Somebody at a browser without JavaScript, who has signed in: a session that posts forms."""

    def __init__(self, stack: Stack, user):
        self.url = stack.url
        self.http = requests.Session()
        self.http.trust_env = False
        for name, value in (
            (settings.SESSION_COOKIE_NAME, session_key(user)),
            (settings.CSRF_COOKIE_NAME, get_random_string(32)),
        ):
            # Of the host that will set it again, or there would be two.
            self.http.cookies.set(name, value, domain=urlsplit(self.url).hostname)

    def get(self, path: str, **how) -> requests.Response:
        return self.http.get(self.url + path, timeout=20, **how)

    def post(self, path: str, **form) -> requests.Response:
        form["csrfmiddlewaretoken"] = self.http.cookies[settings.CSRF_COOKIE_NAME]
        return self.http.post(self.url + path, data=form, timeout=30, allow_redirects=False)

    def log_in(self, account: Account, **form) -> LoginAttempt:
        """Press the button: the attempt that it led to."""
        answer = self.post(f"/accounts/{account.pk}/login/", **form)
        assert answer.status_code == 302, (answer.status_code, answer.text[:500])
        return LoginAttempt.objects.get(pk=re.fullmatch(r"/attempts/(\d+)/", answer.headers["Location"])[1])
