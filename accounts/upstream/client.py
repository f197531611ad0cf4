"""Calls to the upstream. The only module that imports requests.

One session serves every call. It keeps no cookies (they would be shared between all accounts' logins), follows
no redirects, reads no proxy settings from the environment, and opens a new connection for each call: a
connection that the other side closed while idle would turn "/iPadLogin was not sent" into "nobody knows".
Every call ends at its deadline, however slowly bytes arrive, and reads at most 1 MiB, decoded. Whatever goes
wrong comes out as an error of `answers`, named by its meaning.
"""

import logging
import socket
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit

from accounts.upstream import errors, presence_responses, responses, transport
from accounts.upstream.errors import BadAnswer, OutcomeUnknown, SignInRefused, Unreachable
from accounts.upstream.presence_responses import Online
from accounts.upstream.responses import LoginAnswer, LoginCode
from accounts.upstream.transport import BODY_LIMIT, LIST_LIMIT, LOOPBACK, PICTURE_LIMIT, Cuttable

log = logging.getLogger(__name__)
# How notices are written: 2 is the "optimised" form, the only one that all generations of the API have.
CALLBACK_TYPE = 2


class Tokens(Protocol):
    """Where the Authorization is kept, across processes and restarts."""

    def current(self) -> str: ...

    def renew(self, refused: str, sign_in, since: float) -> str:
        """A value that is not `refused`: somebody else's newer one, or what `sign_in()` returns, once for all.

        `since` is when the refused call began; what was handed out after that is new, even if it is the same.
        """

    def alarm(self, error: errors.UpstreamError) -> None:
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
            return responses.sign_in(self._answer("/member/login", body, self.seconds)).authorization
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
        return self._signed("/iPadLogin", body, responses.login_code)

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
        return self._signed("/getIPadLoginInfo", body, responses.login_answer, seconds, call)

    def second_login(self, wc_id: str, seconds: float, call: Cuttable | None = None) -> LoginAnswer:
        """What the phone said to a prompt, by POST `/secondLogin {wcId}`, which blocks until it is answered.

        Every call opens a prompt on the phone: it is never repeated. A success brings a new wId.
        """
        body: dict[str, object] = {"wcId": wc_id}
        if self.login_type:
            body["type"] = int(self.login_type)
        return self._signed("/secondLogin", body, responses.prompt_answer, seconds, call)

    def online(self, seconds: float | None = None) -> list[Online]:
        """Every account that is online under the developer account, by POST `/queryLoginWx`: one cheap call."""
        return self._signed("/queryLoginWx", {}, presence_responses.online_list, seconds, limit=LIST_LIMIT)

    def is_online(self, w_id: str) -> bool | None:
        """Whether that instance is online, by POST `/isOnline {wId}`; None when the answer does not say."""
        return self._signed("/isOnline", {"wId": w_id}, presence_responses.is_online)

    def offline_reason(self, wc_id: str) -> str:
        """Why the account went offline, by POST `/offlineReason {wcId}`: its sentence, or "".

        The vendor's rule: only for an account that is offline, and at most once in 12 hours.
        """
        return self._signed(
            "/offlineReason", {"wcId": wc_id}, partial(presence_responses.offline_reason, wc_id=wc_id)
        )

    def set_callback(self, url: str) -> None:
        """Have notices posted to `url`, by POST `/setHttpCallbackUrl {httpUrl, type}`; a test notice comes at once.

        There is one such address for the whole developer account: what was set before gets nothing any more.
        """
        self._signed("/setHttpCallbackUrl", {"httpUrl": url, "type": CALLBACK_TYPE}, responses.succeeded)

    def clear_callback(self) -> None:
        """Have no notices posted any more, by POST `/cancelHttpCallbackUrl`."""
        self._signed("/cancelHttpCallbackUrl", {}, responses.succeeded)

    def log_out(self, wc_ids: list[str]) -> None:
        """Log accounts out, by POST `/member/offline {account, wcIds}`; it takes effect a little later."""
        self._signed("/member/offline", {"account": self.account, "wcIds": wc_ids}, responses.succeeded)

    def fetch_picture(self, url: str, hosts: list[str], seconds: float | None = None) -> bytes:
        """The picture at `url`, if it lies on the upstream's own host or on one of `hosts` (no redirects).

        Raises PermissionError for another host. The bytes are not checked to be a picture.
        """
        if not responses.web_address(url):
            raise BadAnswer("a picture without a web address")
        host = urlsplit(url).hostname or ""
        own = urlsplit(self.base_url).hostname or ""
        if host != own and not {host, own} <= LOOPBACK and host not in hosts:
            raise PermissionError(host)
        body = transport.exchange(
            "GET", url, seconds or self.seconds, PICTURE_LIMIT, headers={"Accept": "image/*"}
        )
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
    ) -> responses.Answer:
        headers = {"Authorization": authorization} if authorization else {}
        got = transport.exchange(
            "POST", self.base_url + path, seconds, limit, call, json=body, headers=headers
        )
        return responses.read(got.status, got.charset, got.content, (authorization, self.password))

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
