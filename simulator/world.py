"""The simulator's state: people, logins, who is online, and the developer account."""

import asyncio
import base64
import hashlib
import hmac
import json
import random
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

from simulator.callbacks import Callbacks
from simulator.calls import Calls
from simulator.faults import Faults
from simulator.logins import Login
from simulator.people import PERSON_FIELDS, Person, invent
from simulator.settings import Settings

DROPPED = "登录出现错误，请你重新登录。"
DOCUMENT = "<e><ShowType>1</ShowType><Content><![CDATA[{}]]></Content><Url><![CDATA[]]></Url></e>"


class World:
    """Everything that a restart resets. Each change calls ``touch``, which wakes control.wait."""

    def __init__(self, settings: Settings) -> None:
        self.first_settings = settings
        self.forget()

    def forget(self) -> None:
        """Reset everything to the start, with the settings of the command line."""
        for login in getattr(self, "logins", {}).values():
            login.stop_timers()
        self.settings = self.first_settings
        self.people: dict[str, Person] = {}
        self.logins: dict[str, Login] = {}
        self.by_qr: dict[str, Login] = {}
        self.recent: deque[Login] = deque(maxlen=1000)
        self.online: dict[str, str] = {}
        self.devices = 0
        self.sign_ins = 0
        self.wx_logins = 0
        self.token_age = 0
        self.calls = Calls(self)
        self.faults = Faults()
        self.callbacks = Callbacks(self)
        self.watchers: set[asyncio.Future] = set()

    # --- the developer account

    @property
    def token(self) -> str:
        """Return the Authorization: the same after a restart, a different one after it is revoked."""
        account = self.settings.account
        head = _b64(b'{"typ":"JWT","alg":"HS512"}') + "." + _b64(json.dumps({"sub": account}).encode())
        key = f"{account}\0{self.settings.password}\0{self.token_age}".encode()
        return head + "." + _b64(hmac.digest(key, head.encode(), hashlib.sha512))

    # --- people

    def person(self, wcId: str) -> Person:
        """Return the owner of this wcId. An unknown or empty one is generated, so no wcId is ever refused."""
        if not wcId or wcId not in self.people:
            someone = invent(wcId)
            self.people[someone.wcId] = someone
            return someone
        return self.people[wcId]

    def describe(self, wcId: str, facts: dict[str, Any]) -> Person:
        """Add or change a person. Fields outside PERSON_FIELDS are ignored."""
        person = self.person(wcId)
        for name in PERSON_FIELDS:
            if name in facts:
                setattr(person, name, facts[name])
        return person

    # --- logins

    def open_login(self, login: Login, life: float, auto: Callable[[Login], None]) -> None:
        """Add a new login with its lifetime in seconds and, if set, an automatic confirmation."""
        self.logins[login.wId] = login
        self.by_qr[login.qr_name] = login
        self.recent.append(login)
        self.keep_alive(login, life)
        if self.settings.auto_confirm is not None:
            seconds = self.settings.auto_confirm + random.uniform(0, self.settings.auto_jitter)
            asyncio.get_running_loop().call_later(seconds, auto, login)
        self.touch()

    def keep_alive(self, login: Login, life: float) -> None:
        """Restart the lifetime (seconds) of a login."""
        login.stop_timers()
        login.timers.append(asyncio.get_running_loop().call_later(life, self.expire, login))

    def expire(self, login: Login) -> None:
        if login.open:
            login.move("expired", "系统失败,请重试" if login.method == "popup" else "二维码已过期")
            self.touch()

    def latest(self, wcId: str | None, method: str = "qr") -> Login | None:
        """Return the newest login requested for this wcId; for any wcId if None."""
        for login in reversed(self.logins.values()):
            if login.method == method and wcId in (None, login.wcId_sent):
                return login
        return None

    # --- online and offline

    def sign_in(self, login: Login) -> None:
        """Put the account that scanned online with this wId; a previous login of it is replaced."""
        person = self.person(login.wcId)
        old = self.logins.get(self.online.get(person.wcId, ""))
        if old is not None and old is not login:
            old.move("replaced", "失败")
        first = person.logins == 0
        person.logins += 1
        person.wIds.append(login.wId)
        person.offline_reason = None
        if login.method == "qr":
            person.popup_works = True
            person.devices += not login.wcId_sent
        self.online[person.wcId] = login.wId
        self.wx_logins += 1
        login.move("online")
        if first and self.settings.first_night_seconds is not None:
            seconds = self.settings.scaled(self.settings.first_night_seconds)
            asyncio.get_running_loop().call_later(seconds, self._first_night, person.wcId, login.wId)
        self.touch()

    def _first_night(self, wcId: str, wId: str) -> None:
        if self.online.get(wcId) == wId:
            self.drop(wcId, DROPPED)
            self.people[wcId].popup_works = False

    def put_online(self, wcId: str) -> Login:
        """Put an account online by a login made elsewhere, such as WKTeam's own console."""
        login = Login(method="console", wcId_sent=wcId, wcId=wcId)
        self.logins[login.wId] = login
        self.sign_in(login)
        return login

    def drop(self, wcId: str, reason: str, callback: bool = True, **how: Any) -> str | None:
        """Take the account offline and return its wId, None if it was not online.

        ``how``: ``duplicates`` and ``delay`` (seconds) of the callback.
        """
        wId = self.online.pop(wcId, None)
        if wId is None:
            return None
        self.people[wcId].offline_reason = reason
        self.logins[wId].move("dropped", "失败")
        if callback:
            self.callbacks.offline(wcId, wId, **how)
        self.touch()
        return wId

    def stale_wId(self, wcId: str) -> str:
        """Return a wId that this account had before the current one; a generated one if there is none."""
        current = self.online.get(wcId)
        old = [wId for wId in self.person(wcId).wIds if wId != current]
        return old[-1] if old else str(uuid.uuid4())

    def offline_reason(self, wcId: str) -> str | None:
        """Return None while online; else the reason in WKTeam's wrapping: XML in JSON in a string."""
        person = self.people.get(wcId)
        if person is None or wcId in self.online or person.offline_reason is None:
            return None
        if self.settings.reason_style == "plain":
            return person.offline_reason
        error = {"ret": -100, "errMsg": {"string": DOCUMENT.format(person.offline_reason)}}
        return json.dumps({"ret": 0, "msg": "success", "data": {"baseResponse": error}}, ensure_ascii=False)

    # --- watching

    def touch(self) -> None:
        """Wake all watchers after a change: they check their conditions again."""
        watchers, self.watchers = self.watchers, set()
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
