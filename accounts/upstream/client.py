"""The client of WKTeam's HTTP API: one method per call. Only `transport` imports requests.

One session serves every call. It keeps no cookies, because all accounts' logins would share them. It
follows no redirects (`pictures` does, within its hosts) and reads no proxy settings from the environment. It
opens a new connection for each call: on one that the other side closed while idle, it would be unknown whether
`/iPadLogin` was sent.

Every call ends at its deadline, however slowly bytes arrive. It reads at most 1 MiB after decoding (512 KiB
for a picture; the list of online accounts, read as it comes, 32 MiB and more the more accounts we know). Every
failure is an error of `errors`, named by its meaning.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from accounts.metrics import families
from accounts.proxies import OwnProxy
from accounts.upstream import errors, pictures, presence_responses, responses, sign_in_response, transport
from accounts.upstream.errors import (
    Busy,
    OutcomeUnknown,
    Refused,
    SignInRefused,
    Unreachable,
    UpstreamError,
)
from accounts.upstream.presence_responses import Online
from accounts.upstream.responses import LoginAnswer, LoginCode
from accounts.upstream.transport import BODY_LIMIT, DIRECT, ENTRY_LIMIT, LIST_LIMIT, Cuttable, Route

log = logging.getLogger(__name__)
# The format of WKTeam callbacks: 2 is the "optimised" one, the only one that all generations of the API have.
CALLBACK_TYPE = 2
WHO_IS_ONLINE = "/queryLoginWx"


class Tokens(Protocol):
    """Store of the Authorization, shared by all processes and kept across restarts."""

    def current(self) -> str: ...

    def is_refused(self, authorization: str, ask) -> bool | None:
        """Return `ask()`; concurrent callers share the result of one that began after they called."""

    def renew(self, refused: str, sign_in, began: float) -> str:
        """Return an Authorization other than `refused`: another caller's newer one, or that of `sign_in()`.

        Concurrent callers share one sign-in. `began`: time.monotonic() when the refused call began. A value
        issued after that is new, even if it equals `refused`.
        """

    def alarm(self, error: errors.UpstreamError) -> None:
        """Save that WKTeam refuses our sign-in."""

    def accepted(self) -> None:
        """Note that WKTeam accepted the Authorization."""

    def signed_in(self, answer: sign_in_response.SignIn) -> None:
        """Save what a sign-in answered about the developer account."""


@dataclass(frozen=True, slots=True)
class Client:
    """The upstream for one developer account.

    `seconds` is the time limit of a call that gets none of its own; the wait and the prompt always get one.
    `login_type` and `device_type` are sent with `/iPadLogin` if not empty: servers of different generations
    need one, the other, or neither. `sign_in_words`: words in lower case, after which a refusal may concern the
    Authorization. `accounts()`: how many accounts we know.
    """

    base_url: str
    account: str
    password: str = field(repr=False)
    tokens: Tokens
    seconds: float = 15
    login_type: str = "2"
    device_type: str = ""
    sign_in_words: tuple[str, ...] = ()
    accounts: Callable[[], int] = int
    route: Route = DIRECT

    def sign_in(self) -> str:
        """Return a new Authorization, by POST `/member/login {account, password}` (step 1).

        It has no expiry time. Raises SignInRefused if no password is set, Unreachable if the sign-in
        brings no whole answer, or if WKTeam is too busy for it.
        """
        if not self.password:
            raise SignInRefused("WK_PASSWORD is not set, so no new sign-in is possible")
        body = {"account": self.account, "password": self.password}
        try:
            answer = sign_in_response.sign_in(self._answer("/member/login", body, self.seconds))
        except (OutcomeUnknown, Busy) as error:
            # Unknown for the sign-in only: the call that needs it has not been sent.
            raise Unreachable(f"no answer to the sign-in: {error.text}") from None
        self.tokens.signed_in(answer)
        return answer.authorization

    def fetch_qr_code(self, wc_id: str, proxy: int | None, own: OwnProxy | None = None) -> LoginCode:
        """Return a QR code, by POST `/iPadLogin` (step 2). Each call creates a login instance: never retried.

        `wc_id`: "" for an account that never logged in, required for every later login: without it WKTeam
        creates a new device each time. `proxy`: proxy code, None sends none. `own`: the account's own
        proxy, which WKTeam uses in place of the code. The code is sent too, because newer servers require one.
        """
        body: dict[str, object] = {"wcId": wc_id}
        if self.login_type:
            body["type"] = int(self.login_type)
        if self.device_type:
            body["deviceType"] = self.device_type
        if proxy is not None:
            body["proxy"] = proxy
        if own is not None:
            body |= own.body
        return self._signed("/iPadLogin", body, responses.login_code, visible=True)

    def wait_for_login(
        self, w_id: str, code: str, seconds: float, call: Cuttable | None = None
    ) -> LoginAnswer:
        """Return what the phone decided, by POST `/getIPadLoginInfo` (step 3).

        The call blocks for up to 150 or 250 s. It may be repeated with the same `w_id` after a broken
        connection. `code`: the verification code that the phone shows, "" if none is required. `seconds`:
        time limit. `call.cut()` ends it from another thread.
        """
        body: dict[str, object] = {"wId": w_id}
        if code:
            body["verifyCode"] = code
        if self.device_type:
            body["autoCheck"] = False
        return self._signed("/getIPadLoginInfo", body, responses.login_answer, seconds, call, confirm=True)

    def second_login(self, wc_id: str, seconds: float, call: Cuttable | None = None) -> LoginAnswer:
        """Send a phone prompt and return its answer, by POST `/secondLogin {wcId}`, which blocks until then.

        Each call opens a prompt on the phone: never retried. A success brings a new wId. `seconds`: time
        limit. `call.cut()` ends it from another thread.
        """
        body: dict[str, object] = {"wcId": wc_id}
        if self.login_type:
            body["type"] = int(self.login_type)
        return self._signed("/secondLogin", body, responses.prompt_answer, seconds, call, visible=True)

    @property
    def list_limit(self) -> int:
        return LIST_LIMIT + ENTRY_LIMIT * self.accounts()

    def online(self, seconds: float | None = None) -> list[Online]:
        """Return every account that is online under the developer account, by POST `/queryLoginWx`.

        One cheap call, whatever the number of accounts. `seconds`: time limit, None for the client's own.
        """
        return self._signed(WHO_IS_ONLINE, {}, presence_responses.online_list, seconds)

    def is_online(self, w_id: str) -> bool | None:
        """Return whether the wId is online, by POST `/isOnline {wId}`; None if the answer does not say."""
        return self._signed("/isOnline", {"wId": w_id}, presence_responses.is_online)

    def log_out(self, wc_ids: list[str]) -> None:
        """Log accounts out, by POST `/member/offline {account, wcIds}`. It takes effect a little later."""
        self._signed("/member/offline", {"account": self.account, "wcIds": wc_ids}, responses.succeeded)

    def offline_reason(self, wc_id: str) -> str:
        """Return why the account went offline, by POST `/offlineReason {wcId}`: a sentence, or "".

        WKTeam's docs: call it only for an offline account, and at most once in 12 hours.
        """
        return self._signed(
            "/offlineReason", {"wcId": wc_id}, partial(presence_responses.offline_reason, wc_id=wc_id)
        )

    def set_callback(self, url: str) -> None:
        """Set the address of WKTeam callbacks, by POST `/setHttpCallbackUrl {httpUrl, type}`.

        WKTeam posts a test callback at once. The developer account has one address: the previous one gets no
        more callbacks.
        """
        self._signed("/setHttpCallbackUrl", {"httpUrl": url, "type": CALLBACK_TYPE}, responses.succeeded)

    def clear_callback(self) -> None:
        """Stop WKTeam callbacks, by POST `/cancelHttpCallbackUrl`."""
        self._signed("/cancelHttpCallbackUrl", {}, responses.succeeded)

    def fetch_picture(self, url: str, hosts: list[str], seconds: float | None = None) -> bytes:
        """Return the bytes at `url`, which must be on the upstream's own host or on one of `hosts`.

        `seconds`: time limit, None for the client's own. `url` may be relative, or hold the picture itself.
        The bytes may be no picture. Raises PictureAddress, PictureHost or PictureUnavailable.
        """
        return pictures.fetch(url, self.base_url, hosts, seconds or self.seconds, self.route)

    def _answer(
        self,
        path: str,
        body: dict,
        seconds: float,
        authorization: str = "",
        call: Cuttable | None = None,
    ) -> responses.Answer:
        began, result = time.monotonic(), ""
        headers = {"Authorization": authorization} if authorization else {}
        limit, take = BODY_LIMIT, responses.Body
        if path == WHO_IS_ONLINE:
            limit, take = self.list_limit, presence_responses.ListBody
        sent = OwnProxy(*(str(body.get(name, "")) for name in ("proxyIp", "proxyUser", "proxyPassword")))
        secrets = (authorization, self.password, *sent.secrets)
        try:
            got = transport.exchange(
                "POST",
                self.base_url + path,
                seconds,
                limit,
                call,
                self.route,
                take,
                json=body,
                headers=headers,
            )
            answer = responses.read(got.status, got.content, secrets)
            result = "ok" if answer.code == "1000" else "refused"
        except UpstreamError as error:
            result = errors.kind(error)
            raise
        finally:
            families.UPSTREAM_SECONDS.labels(path, result or "interrupted").observe(time.monotonic() - began)
        return answer

    def _signed(
        self,
        path: str,
        body: dict,
        meaning,
        seconds: float | None = None,
        call: Cuttable | None = None,
        *,
        visible: bool = False,
        confirm: bool = False,
    ):
        """Make one call with the Authorization and return `meaning(answer)`.

        A refused Authorization is renewed, with at most one sign-in for all concurrent callers, and the call
        is repeated. `visible`: the call shows something to a person or makes a device, so that it needs the proof
        of a call without effect. `confirm`: a refusal whose words could concern the Authorization counts only if
        WKTeam repeats it.
        """
        answer = self._authorized(path, body, seconds or self.seconds, call, visible, confirm)
        found = meaning(answer)
        self.tokens.accepted()
        return found

    def _authorized(
        self, path: str, body: dict, seconds: float, call, visible: bool, confirm: bool
    ) -> responses.Answer:
        """Return the answer to a call whose Authorization is not refused; renew that as `_signed` says."""
        began, refusals = time.monotonic(), 0
        signed_in: list[str] = []

        def sign_in() -> str:
            signed_in.append(self.sign_in())
            return signed_in[-1]

        authorization = self.tokens.current() or self.tokens.renew("", sign_in, began)
        while True:
            left = max(1.0, began + seconds - time.monotonic())
            try:
                answer = self._checked(path, body, left, authorization, call, visible)
                if not (confirm and self._may_concern_sign_in(responses.refused_text(answer))):
                    return answer
                confirm = False
            except SignInRefused as refused:
                refusals += 1
                log.warning("%s: the Authorization is refused (code %s)", path, refused.code)
                # An Authorization that another process got may be outdated too. One we just got cannot be.
                renewed = authorization
                if refusals < 3 and not signed_in:
                    renewed = self.tokens.renew(authorization, sign_in, began)
                if refusals > 1 and renewed == authorization:
                    self.tokens.alarm(refused)
                    raise
                authorization = renewed

    def _checked(
        self, path: str, body: dict, left: float, authorization: str, call, visible: bool
    ) -> responses.Answer:
        """Make the call. Raises SignInRefused only if it is proved that the Authorization is refused.

        HTTP 401 or 403 proves it, except for a visible call: a gateway may refuse its path. Otherwise the
        harmless `/queryLoginWx` is asked with the same Authorization. Raises OutcomeUnknown if that does not
        tell either.
        """
        doubt: Refused | None = None
        try:
            answer = self._answer(path, body, left, authorization, call)
            text = responses.refused_text(answer)
            if self._may_concern_sign_in(text):
                doubt = Refused(text, answer.code)
        except SignInRefused as refused:
            if not visible:
                raise
            doubt, answer = Refused(refused.text, refused.code), None
        if doubt is None:
            return answer
        refused = path == WHO_IS_ONLINE or self.tokens.is_refused(
            authorization, lambda: self._probe(authorization)
        )
        if refused:
            raise SignInRefused(doubt.text, doubt.code)
        if answer is None:
            raise doubt
        if refused is None and not visible:
            raise OutcomeUnknown(f"perhaps the Authorization is refused: {doubt.text}")
        return answer

    def _probe(self, authorization: str) -> bool | None:
        """Return whether WKTeam refuses this Authorization for a call without effect; None if it does not say."""
        try:
            answer = self._answer(WHO_IS_ONLINE, {}, self.seconds, authorization)
        except SignInRefused:
            return True
        except UpstreamError:
            return None
        if answer.code == "1000":
            return False
        return True if self._may_concern_sign_in(responses.refused_text(answer)) else None

    def _may_concern_sign_in(self, text: str) -> bool:
        return any(word in text.lower() for word in self.sign_in_words)
