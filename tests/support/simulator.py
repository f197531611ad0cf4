"""The upstream's stand-in for tests: a simulator process of one's own, with a hand on its phones.

    with Simulator() as upstream:
        token = upstream.call("/member/login", **upstream.developer)["data"]["Authorization"]
        qr = upstream.call("/iPadLogin", token, wcId="", type=2, proxy=1)["data"]
        upstream.phone("confirm", wId=qr["wId"])

Starting one takes about a third of a second; ``reset()`` makes it new again much faster. Everything the
control API can do is in simulator/README.md; ``control()`` reaches what has no method here.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.support.processes import DEADLINE, ROOT


class Simulator:
    """A running simulator. Options are those of its command line: ``Simulator(time_factor=0.01)``."""

    def __init__(self, **options: Any) -> None:
        self.options = {"port": 0} | options
        self.url = ""
        self.account = str(options.get("account", "demo"))
        self.password = str(options.get("password", "demo-password"))
        self._process: subprocess.Popen | None = None
        self._http = requests.Session()
        self._http.trust_env = False

    # --- its life

    def start(self, seconds: float = DEADLINE) -> "Simulator":
        """Run it and wait until it listens; ``url`` is its address from then on."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "announce.json"
            self._process = subprocess.Popen(self._command(file), cwd=ROOT, stdout=subprocess.DEVNULL)
            deadline = time.monotonic() + seconds
            while not file.exists():
                if self._process.poll() is not None:
                    raise RuntimeError(f"the simulator ended with code {self._process.returncode}")
                if time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(f"the simulator did not listen within {seconds} s")
                time.sleep(0.005)
            self.url = json.loads(file.read_text())["url"]
        return self

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """End it at once, cutting calls that still wait; answers its exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(sign)
        try:
            return self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._http.close()

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def __enter__(self) -> "Simulator":
        return self.start()

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def _command(self, announce: Path) -> list[str]:
        words = [sys.executable, "-m", "simulator", "--announce", os.fspath(announce)]
        for name, value in self.options.items():
            flag = "--" + name.replace("_", "-")
            words += [flag] if value is True else [flag, str(value)]
        return words

    # --- the upstream's own calls, for tests of the simulator and for preparing a scene

    @property
    def developer(self) -> dict[str, str]:
        """The body of /member/login."""
        return {"account": self.account, "password": self.password}

    @property
    def authorization(self) -> str:
        """The Authorization value in force, without signing in."""
        return self.state(brief=True)["authorization"]

    def post(self, path: str, token: str | None = None, **body: Any) -> requests.Response:
        """One call of the vendor's API as it comes; a bad answer raises what requests raises."""
        headers = {} if token is None else {"Authorization": token}
        return requests.post(self.url + path, json=body, headers=headers, timeout=30, allow_redirects=False)

    def call(self, path: str, token: str | None = None, **body: Any) -> dict[str, Any]:
        """One call of the vendor's API; answers the envelope."""
        return self.post(path, token, **body).json()

    @contextmanager
    def open_call(self, path: str, **body: Any) -> Iterator[None]:
        """A call of somebody else, whose answer nobody reads: it is open while the block runs."""
        address = urlsplit(self.url)
        call = http.client.HTTPConnection(address.hostname, address.port, timeout=20)
        headers = {"Authorization": self.authorization, "Content-Type": "application/json"}
        try:
            call.request("POST", path, json.dumps(body), headers)
            yield
        finally:
            call.close()

    # --- what happened

    def state(self, brief: bool = False) -> dict[str, Any]:
        """Everything countable; ``brief`` leaves out logins, people, callbacks and bodies."""
        answer = self._http.get(self.url + "/control/state" + ("?brief=1" if brief else ""), timeout=30)
        answer.raise_for_status()
        return answer.json()

    def calls(self, path: str) -> int:
        """How many calls of this path have arrived."""
        return self.state(brief=True)["calls"].get(path, 0)

    def bodies(self, path: str) -> list[Any]:
        """The last bodies sent to this path, oldest first."""
        return [call["body"] for call in self.state()["bodies"].get(path, [])]

    def logins(self, **like: Any) -> list[dict[str, Any]]:
        """The logins so far, oldest first; ``logins(state="waiting", wcId_sent="")`` picks some."""
        return [
            login
            for login in self.state()["logins"]
            if all(login[name] == value for name, value in like.items())
        ]

    @property
    def online(self) -> dict[str, str]:
        """wcId -> wId of everybody online."""
        return self.state()["online"]

    def wait(self, timeout: float = DEADLINE, **until: Any) -> dict[str, Any]:
        """Return as soon as all of this holds: path with calls or in_flight, wId with state or step3_now,
        wcId with online or prompt (the popup is on the phone), logins, callbacks. Numbers mean at least,
        0 means none. A call counts from its headers on. Fails after ``timeout`` seconds."""
        return self.control("wait", timeout=timeout, **until)

    # --- the steering hand

    def control(self, name: str, /, **body: Any) -> dict[str, Any]:
        """POST /control/<name>; a refusal raises AssertionError with its sentence."""
        answer = self._http.post(f"{self.url}/control/{name}", json=body, timeout=DEADLINE + 60)
        if not answer.ok:
            raise AssertionError(f"/control/{name} {answer.status_code}: {answer.text}")
        return answer.json()

    def phone(self, do: str, *, who: str | None = None, **which: Any) -> dict[str, Any]:
        """A tap: scan, confirm, cancel, code, page, done, other, expire, new_device, fail; accept or decline
        for a popup. On the login ``wId=``, else on the newest for ``wcId=``, else on the newest of all.
        ``who`` is the wcId of the account that scans, or "new". ``text=``, ``code=`` as in the README."""
        return self.control("phone", do=do, **({} if who is None else {"as": who}), **which)

    def fault(self, path: str, kind: str, **how: Any) -> None:
        """Answer ``path`` wrongly from now on: ``fault("/iPadLogin", "html", status=502, times=1)``."""
        self.control("faults", path=path, kind=kind, **how)

    def clear(self, path: str | None = None) -> None:
        """No faults any more, on this path or at all."""
        self.control("faults", **({} if path is None else {"path": path}))

    def drop(self, wcId: str, **how: Any) -> dict[str, Any]:
        """Take an account offline: reason, callback, duplicates, delay, stale, popup_works."""
        return self.control("drop", wcId=wcId, **how)

    def person(self, wcId: str = "", **facts: Any) -> dict[str, Any]:
        """Add or change a person; ``online=True`` logs them in by other means. Answers them, with wId."""
        return self.control("people", wcId=wcId, **facts)

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Change settings; answers all of them."""
        return self.control("settings", **changes)

    def reset(self) -> None:
        """Forget everything, back to the settings of the command line."""
        self.control("reset")

    def log_in(self, wcId: str = "") -> dict[str, Any]:
        """A whole login in one go, by the calls a portal would make; answers the profile with wId."""
        token = self.authorization
        wId = self.call("/iPadLogin", token, wcId=wcId, type=2, proxy=1, deviceType="ipad")["data"]["wId"]
        self.phone("confirm", wId=wId)
        profile = self.call("/getIPadLoginInfo", token, wId=wId, autoCheck=False)["data"]
        return {"wId": wId} | profile
