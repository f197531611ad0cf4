"""Calls to the upstream. The only module that imports requests.

One session serves every call. It keeps no cookies (they would be shared between all accounts' logins), follows
no redirects, reads no proxy settings from the environment, and opens a new connection for each call: a
connection that the other side closed while idle would turn "/iPadLogin was not sent" into "nobody knows".
Every call ends at its deadline, however slowly bytes arrive, and reads at most 1 MiB, decoded. Whatever goes
wrong comes out as an error of `answers`, named by its meaning.
"""

import http.cookiejar
import logging
import socket
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from accounts import answers, standing
from accounts.answers import (
    BadAnswer,
    LoginAnswer,
    LoginCode,
    OutcomeUnknown,
    SignInRefused,
    Unreachable,
    UpstreamError,
)
from accounts.deadlines import Cuttable, Deadline, Pool, SecurePool
from accounts.standing import Online

log = logging.getLogger(__name__)

BODY_LIMIT = 1024 * 1024
# Who is online: about 90 bytes for each account.
LIST_LIMIT = 4 * BODY_LIMIT
PICTURE_LIMIT = 512 * 1024
CONNECT_SECONDS = 4
# How notices are written: 2 is the "optimised" form, the only one that all generations of the API have.
CALLBACK_TYPE = 2
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args, **kwargs) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": Pool, "https": SecurePool}


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: even where no redirect is followed, requests would parse its address and read all of its body."""


def _new_session() -> requests.Session:
    session = _Session()
    session.trust_env = False
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    session.headers.update({"User-Agent": "wkportal", "Accept": "application/json", "Connection": "close"})
    adapter = _Adapter(pool_maxsize=1, max_retries=0)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


_session = _new_session()


@dataclass(frozen=True, slots=True)
class _Body:
    status: int
    charset: str
    content: bytes


def _exchange(
    method: str, url: str, seconds: float, limit: int, call: Cuttable | None = None, **request
) -> _Body:
    """One request and its whole answer within `seconds` and `limit` bytes. Raises the errors of `answers`."""
    with Deadline(seconds) as deadline:
        if call is not None:
            call.cut = deadline.shut
        timeout = urllib3.Timeout(connect=min(CONNECT_SECONDS, seconds), read=seconds)
        try:
            with _session.request(
                method, url, timeout=timeout, allow_redirects=False, stream=True, **request
            ) as response:
                content = _read(response, limit)
        except UpstreamError:
            raise
        except Exception as error:  # an answer can make the libraries stumble in more ways than they document
            raise _failure(error, deadline) from None
        whole = response.raw.chunked or response.raw.length_remaining == 0
        if deadline.passed and not whole:
            raise OutcomeUnknown("out of time")
    # Without a charset requests guesses latin-1 for text, which nobody here writes.
    said = "charset" in response.headers.get("Content-Type", "").lower()
    return _Body(response.status_code, (said and response.encoding) or "utf-8", content)


def _failure(error: Exception, deadline: Deadline) -> UpstreamError:
    if not deadline.connected:
        cause = error.args[0] if error.args else None
        refused = isinstance(getattr(cause, "reason", cause), urllib3.exceptions.NewConnectionError)
        return Unreachable(
            "the connection was refused, or the name is not known" if refused else type(error).__name__
        )
    if not deadline.left:
        return OutcomeUnknown("out of time")
    if isinstance(error, urllib3.exceptions.DecodeError):
        return BadAnswer("a body that cannot be unpacked")
    broken = isinstance(error, requests.ConnectionError | urllib3.exceptions.ProtocolError | OSError)
    return OutcomeUnknown("the connection broke" if broken else type(error).__name__)


def _read(response: requests.Response, limit: int) -> bytes:
    chunks, size = [], 0
    while chunk := response.raw.read(65536, decode_content=True):
        size += len(chunk)
        if size > limit:
            raise BadAnswer(f"more than {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


class Tokens(Protocol):
    """Where the Authorization is kept, across processes and restarts."""

    def current(self) -> str: ...

    def renew(self, refused: str, sign_in, since: float) -> str:
        """A value that is not `refused`: somebody else's newer one, or what `sign_in()` returns, once for all.

        `since` is when the refused call began; what was handed out after that is new, even if it is the same.
        """

    def alarm(self, error: answers.UpstreamError) -> None:
        """Remember that the upstream refuses our sign-in."""

    def accepted(self) -> None:
        """The upstream took the Authorization."""


@dataclass(frozen=True, slots=True)
class Client:
    """The upstream as one developer account sees it.

    `seconds` bounds every call but the wait. `login_type` and `device_type` are sent with `/iPadLogin` where
    they are not empty: servers of different generations want one, the other, or neither.
    """

    base_url: str
    account: str
    password: str = field(repr=False)
    tokens: Tokens
    seconds: float = 15
    login_type: str = "2"
    device_type: str = ""

    def sign_in(self) -> str:
        """A new Authorization, by POST `/member/login {account, password}` (step 1). It does not expire by itself."""
        if not self.password:
            raise SignInRefused("WK_PASSWORD is not set, so no new sign-in is possible")
        body = {"account": self.account, "password": self.password}
        try:
            return answers.sign_in(self._answer("/member/login", body, self.seconds)).authorization
        except OutcomeUnknown as error:
            # Of the sign-in, not of the call that it is for: that one has not left.
            raise Unreachable(f"no answer to the sign-in: {error.text}") from None

    def fetch_code(self, wc_id: str, proxy: int | None) -> LoginCode:
        """A QR code, by POST `/iPadLogin` (step 2). Every call makes a login instance: it is never repeated.

        `wc_id` is "" for an account that never logged in and has to be sent ever after: without it the
        upstream makes a new device each time. `proxy` is the line's code; None sends none.
        """
        body: dict[str, object] = {"wcId": wc_id}
        if self.login_type:
            body["type"] = int(self.login_type)
        if self.device_type:
            body["deviceType"] = self.device_type
        if proxy is not None:
            body["proxy"] = proxy
        return self._signed("/iPadLogin", body, answers.login_code)

    def wait_for_login(
        self, w_id: str, code: str, seconds: float, call: Cuttable | None = None
    ) -> LoginAnswer:
        """What the phone decided, by POST `/getIPadLoginInfo` (step 3), which blocks for up to 150 or 250 s.

        May be called again with the same `w_id` after a cut connection. `code` is the number that the phone
        shows, "" where none was asked for. `call.cut()` ends it from another thread.
        """
        body: dict[str, object] = {"wId": w_id}
        if code:
            body["verifyCode"] = code
        if self.device_type:
            body["autoCheck"] = False
        return self._signed("/getIPadLoginInfo", body, answers.login_answer, seconds, call)

    def second_login(self, wc_id: str, seconds: float, call: Cuttable | None = None) -> LoginAnswer:
        """What the phone said to a prompt, by POST `/secondLogin {wcId}`, which blocks until it is answered.

        Every call opens a prompt on the phone: it is never repeated. A success brings a new wId.
        """
        body: dict[str, object] = {"wcId": wc_id}
        if self.login_type:
            body["type"] = int(self.login_type)
        return self._signed("/secondLogin", body, answers.prompt_answer, seconds, call)

    def online(self, seconds: float | None = None) -> list[Online]:
        """Every account that is online under the developer account, by POST `/queryLoginWx`: one cheap call."""
        return self._signed("/queryLoginWx", {}, standing.online_list, seconds, limit=LIST_LIMIT)

    def is_online(self, w_id: str) -> bool | None:
        """Whether that instance is online, by POST `/isOnline {wId}`; None when the answer does not say."""
        return self._signed("/isOnline", {"wId": w_id}, standing.is_online)

    def offline_reason(self, wc_id: str) -> str:
        """Why the account went offline, by POST `/offlineReason {wcId}`: its sentence, or "".

        The vendor's rule: only for an account that is offline, and at most once in 12 hours.
        """
        return self._signed("/offlineReason", {"wcId": wc_id}, partial(standing.offline_reason, wc_id=wc_id))

    def set_callback(self, url: str) -> None:
        """Have notices posted to `url`, by POST `/setHttpCallbackUrl {httpUrl, type}`; a test notice comes at once.

        There is one such address for the whole developer account: what was set before gets nothing any more.
        """
        self._signed("/setHttpCallbackUrl", {"httpUrl": url, "type": CALLBACK_TYPE}, answers.succeeded)

    def clear_callback(self) -> None:
        """Have no notices posted any more, by POST `/cancelHttpCallbackUrl`."""
        self._signed("/cancelHttpCallbackUrl", {}, answers.succeeded)

    def log_out(self, wc_ids: list[str]) -> None:
        """Log accounts out, by POST `/member/offline {account, wcIds}`; it takes effect a little later."""
        self._signed("/member/offline", {"account": self.account, "wcIds": wc_ids}, answers.succeeded)

    def fetch_picture(self, url: str, hosts: list[str], seconds: float | None = None) -> bytes:
        """The picture at `url`, if it lies on the upstream's own host or on one of `hosts` (no redirects).

        Raises PermissionError for another host. The bytes are not checked to be a picture.
        """
        if not answers.web_address(url):
            raise BadAnswer("a picture without a web address")
        host = urlsplit(url).hostname or ""
        own = urlsplit(self.base_url).hostname or ""
        if host != own and not {host, own} <= LOOPBACK and host not in hosts:
            raise PermissionError(host)
        body = _exchange("GET", url, seconds or self.seconds, PICTURE_LIMIT, headers={"Accept": "image/*"})
        if body.status != 200:
            raise BadAnswer(f"no picture (HTTP {body.status})")
        return body.content

    def reachable(self) -> bool:
        """Whether the upstream's host accepts a connection. No call is made."""
        try:
            parts = urlsplit(self.base_url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            with socket.create_connection((parts.hostname, port), timeout=2):
                return True
        except (OSError, ValueError):
            return False

    def _answer(
        self,
        path: str,
        body: dict,
        seconds: float,
        authorization: str = "",
        call: Cuttable | None = None,
        limit: int = BODY_LIMIT,
    ) -> answers.Answer:
        headers = {"Authorization": authorization} if authorization else {}
        got = _exchange("POST", self.base_url + path, seconds, limit, call, json=body, headers=headers)
        return answers.read(got.status, got.charset, got.content, (authorization, self.password))

    def _signed(
        self,
        path: str,
        body: dict,
        meaning,
        seconds: float | None = None,
        call: Cuttable | None = None,
        limit: int = BODY_LIMIT,
    ):
        """One call with the Authorization. A refused one is renewed once, for all who wait, and the call repeated.

        Repeating is safe even for `/iPadLogin`: a call that was refused for its Authorization had no effect.
        """
        since, until = time.time(), time.monotonic() + (seconds or self.seconds)
        signed_in: list[str] = []

        def sign_in() -> str:
            signed_in.append(self.sign_in())
            return signed_in[-1]

        authorization = self.tokens.current() or self.tokens.renew("", sign_in, since)
        for tries in (1, 2, 3):
            try:
                left = max(1.0, until - time.monotonic())
                found = meaning(self._answer(path, body, left, authorization, call, limit))
                break
            except SignInRefused as refused:
                log.warning("%s: the Authorization is refused (code %s)", path, refused.code)
                # What another process got, maybe long ago, can be out of date too. What we just got cannot.
                renewed = authorization
                if tries < 3 and not signed_in:
                    renewed = self.tokens.renew(authorization, sign_in, since)
                if tries > 1 and renewed == authorization:
                    self.tokens.alarm(refused)
                    raise
                authorization = renewed
        self.tokens.accepted()
        return found
