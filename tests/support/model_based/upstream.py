"""The upstream of tests/logins/test_any_order.py, in memory: its codes and prompts, who is online, and the calls that are on."""

import functools
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from accounts.lib import images
from accounts.logins import leases
from accounts.models import LoginAttempt
from accounts.proxies import OwnProxy
from accounts.states import AttemptState, Trigger
from accounts.upstream.errors import OutcomeUnknown
from accounts.upstream.presence_responses import Online
from accounts.upstream.responses import (
    CodeAsked,
    Ending,
    LoggedIn,
    LoginCode,
    NotLoggedIn,
    PageAsked,
    Profile,
)

if TYPE_CHECKING:
    from tests.support.model_based.world import Process, World

VERIFICATION_CODE = "246810"
SAID = {
    "declined": NotLoggedIn(Ending.DECLINED, "1001", "取消"),
    "run out": NotLoggedIn(Ending.RUN_OUT, "1001", "二维码已过期"),
    "replaced": NotLoggedIn(Ending.REFUSED, "1001", "失败"),
    "code required": CodeAsked("1001", "请在ipad上输入验证码"),
    "page": PageAsked("https://upstream.example/check", "200", "处理成功"),
    "refused": NotLoggedIn(Ending.REFUSED, "1001", "系统失败,请重试"),
    "a scan": NotLoggedIn(Ending.REFUSED, "1001", "登录已失效，请重新扫码登录"),
}
WAITS_FOR_PHONE = ("/getIPadLoginInfo", "/secondLogin")
BY_ITSELF = (Trigger.RECOVERY, Trigger.SCHEDULE)


@dataclass
class Call:
    """A call to the upstream that is on. `wire` is an answer that has left there and is not here yet."""

    path: str
    until: datetime
    w_id: str = ""
    attempt: int = 0
    wire: object = None
    cut: bool = False
    process: "Process | None" = None  # that makes it

    def shut(self) -> None:
        self.cut = True


@dataclass
class Code:
    """A QR code, or a prompt, as the upstream knows it: shown (both), code required, page, online, replaced, declined, run
    out, and for a prompt any other of `SAID`, or "never": it did not leave. A prompt's wId is reported when it was confirmed.
    """

    w_id: str
    attempt: int
    is_prompt: bool = False
    state: str = "shown"
    who: str = ""
    online_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.state == "shown" if self.is_prompt else self.state in ("shown", "code required", "page")


@dataclass
class Upstream:
    """In place of `login.client()`: it knows its codes, who is online, and what it was asked."""

    world: "World"
    codes: dict[str, Code] = field(default_factory=dict)
    there: dict[str, str] = field(default_factory=dict)
    # By attempt: how often its code was asked for, or its prompt sent.
    sent: Counter = field(default_factory=Counter)
    says_who_is_online: bool = True
    tells_w_id: bool = True
    unsent_verification_codes: set[str] = field(default_factory=set)
    # How many numbers were typed for a wId; and the epoch of the wait that sent one of them.
    typed: Counter = field(default_factory=Counter)
    sent_by: dict[tuple[str, int], int] = field(default_factory=dict)

    def fetch_qr_code(self, wc_id: str, proxy: int | None, _own: OwnProxy | None) -> LoginCode:
        self.world.outside()
        attempt = LoginAttempt.objects.light().get(proxy=proxy)  # every login has a line of its own here
        self.sent[attempt.pk] += 1
        if attempt.sent_at is None or (attempt.trigger == Trigger.BULK and attempt.lease_epoch == 0):
            self.world.broken.append("a code was asked for, and its row does not say so, or not by whom")
        w_id = self.new_code(attempt.pk).w_id
        self.world.block(Call("/iPadLogin", self.world.clock.at + timedelta(seconds=15), w_id, attempt.pk))
        return LoginCode(w_id, "https://upstream.example/code.png", "")

    def new_code(self, attempt_id: int, **how) -> Code:
        w_id = f"w{len(self.codes) + 1}"
        self.codes[w_id] = Code(w_id, attempt_id, **how)
        return self.codes[w_id]

    def fetch_picture(self, url: str, hosts: list[str]) -> bytes:
        self.world.outside()
        return picture()

    def wait_for_login(self, w_id: str, code: str, seconds: float, lease: leases.Lease):
        self.world.outside()
        call = self.listens("/getIPadLoginInfo", seconds, w_id, lease)
        if self.world.calls_beside_this(w_id):
            self.world.broken.append(f"a second call for {w_id} while the first was on and its holder lived")
        if code:
            self.verification_code_is_sent(w_id, lease)
        if code == VERIFICATION_CODE and self.codes[w_id].state == "code required":
            self.comes_online(w_id, self.codes[w_id].who)
        call.wire = self.answer(w_id)
        return self.world.block(call)

    def verification_code_is_sent(self, w_id: str, lease: leases.Lease) -> None:
        """Again by the same wait only; whoever slept, and has lost it, does not know better."""
        self.unsent_verification_codes.discard(w_id)
        holds = LoginAttempt.objects.filter(pk=lease.attempt.pk, lease_epoch=lease.epoch)
        if holds.exists() and self.sent_by.setdefault((w_id, self.typed[w_id]), lease.epoch) != lease.epoch:
            self.world.broken.append("a verification code was sent again, by the wait that followed")

    def second_login(self, wc_id: str, seconds: float, lease: leases.Lease):
        self.world.outside()
        attempt = LoginAttempt.objects.light().select_related("account").get(pk=lease.attempt.pk)
        self.sent[attempt.pk] += 1
        if attempt.sent_at is None or attempt.state != AttemptState.WAITING:
            self.world.broken.append(
                f"a prompt was sent, and its row says {attempt.state}, {attempt.sent_at}"
            )
        if attempt.lease_epoch != lease.epoch:
            self.world.broken.append("a prompt was sent by who had lost the wait")
        if attempt.trigger in BY_ITSELF and not attempt.account.keep_online:
            self.world.broken.append("a prompt was sent by itself for an account that is paused")
        code = self.new_code(attempt.pk, is_prompt=True, who=wc_id)
        return self.world.block(self.listens("/secondLogin", seconds, code.w_id, lease))

    def listens(self, path: str, seconds: float, w_id: str, lease: leases.Lease) -> Call:
        call = Call(path, self.world.clock.at + timedelta(seconds=seconds), w_id, lease.attempt.pk)
        lease.cut = call.shut
        return call

    def online(self, _seconds: float) -> list[Online]:
        self.world.outside()
        meanwhile, self.world.meanwhile = self.world.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        if not self.says_who_is_online:
            raise OutcomeUnknown("the connection broke")
        return [Online(wc_id, w_id) for wc_id, w_id in self.there.items()]

    # --- what the phone does

    def phone(self, w_id: str, state: str, who: str = "") -> None:
        code = self.codes[w_id]
        if state == "online":
            self.comes_online(w_id, who)
        else:
            code.state, code.who = state, who
        for call in self.world.calls():
            if call.w_id == w_id:
                call.wire = call.wire or self.answer(w_id)

    def comes_online(self, w_id: str, who: str) -> None:
        code, old = self.codes[w_id], self.there.get(who)
        if old and old != w_id:
            self.codes[old].state = "replaced"
        code.state, code.who, code.online_at = "online", who, self.world.clock.at
        self.there[who] = w_id

    def answer(self, w_id: str):
        code = self.codes[w_id]
        if code.state == "online":
            named = w_id if self.tells_w_id else ""
            return LoggedIn(Profile(wc_id=code.who, w_id=named, nickname=f"I am {code.who}"), "1000", "成功")
        return SAID.get(code.state)


@functools.cache
def picture() -> bytes:
    return images._png(images.draw_code("https://weixin.qq.com/x/any"))
