"""The upstream of tests/test_any_order.py, in memory: its codes, who is online, and the calls that are on."""

import functools
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from accounts import leases, pictures
from accounts.answers import (
    CodeAsked,
    Ending,
    LoggedIn,
    LoginCode,
    NotLoggedIn,
    OutcomeUnknown,
    PageAsked,
    Profile,
)
from accounts.models import LoginAttempt
from accounts.standing import Online
from accounts.states import Trigger

if TYPE_CHECKING:
    from tests.engine_model import Process, World

NUMBER = "246810"
SAID = {
    "declined": NotLoggedIn(Ending.DECLINED, "1001", "取消"),
    "run out": NotLoggedIn(Ending.RUN_OUT, "1001", "二维码已过期"),
    "replaced": NotLoggedIn(Ending.REFUSED, "1001", "失败"),
    "number": CodeAsked("1001", "请在ipad上输入验证码"),
    "page": PageAsked("https://upstream.example/check", "200", "处理成功"),
}


@dataclass
class Call:
    """A call to the upstream that is on. `wire` is an answer that has left there and is not here yet."""

    path: str
    until: datetime
    w_id: str = ""
    wire: object = None
    cut: bool = False
    process: "Process | None" = None  # that makes it

    def shut(self) -> None:
        self.cut = True


@dataclass
class Code:
    """A QR code as the upstream knows it: shown, number, page, online, replaced, declined, run out."""

    w_id: str
    line: int
    state: str = "shown"
    who: str = ""

    @property
    def is_open(self) -> bool:
        return self.state in ("shown", "number", "page")


@dataclass
class Upstream:
    """In place of `login.client()`: it knows its codes, who is online, and what it was asked."""

    world: "World"
    codes: dict[str, Code] = field(default_factory=dict)
    there: dict[str, str] = field(default_factory=dict)
    sent: Counter = field(default_factory=Counter)
    listed: dict[str, str] | None = None
    says_who_is_online: bool = True
    tells_w_id: bool = True
    unsent_numbers: set[str] = field(default_factory=set)

    def fetch_code(self, wc_id: str, proxy: int | None) -> LoginCode:
        self.world.outside()
        self.sent[proxy] += 1
        asked = LoginAttempt.objects.filter(proxy=proxy, sent_at__isnull=False)
        if not asked.exclude(trigger=Trigger.BULK, lease_epoch=0).exists():
            self.world.broken.append("a code was asked for, and its row does not say so, or not by whom")
        w_id = f"w{len(self.codes) + 1}"
        self.codes[w_id] = Code(w_id, proxy)
        self.world.block(Call("/iPadLogin", self.world.clock.at + timedelta(seconds=15), w_id))
        return LoginCode(w_id, "https://upstream.example/code.png", "")

    def fetch_picture(self, url: str, hosts: list[str]) -> bytes:
        self.world.outside()
        return picture()

    def wait_for_login(self, w_id: str, code: str, seconds: float, lease: leases.Lease):
        self.world.outside()
        call = Call("/getIPadLoginInfo", self.world.clock.at + timedelta(seconds=seconds), w_id)
        if self.world.calls_beside_this(w_id):
            self.world.broken.append(f"a second call for {w_id} while the first was on and its holder lived")
        lease.cut = call.shut
        if code:
            self.unsent_numbers.discard(w_id)
        if code == NUMBER and self.codes[w_id].state == "number":
            self.comes_online(w_id, self.codes[w_id].who)
        call.wire = self.answer(w_id)
        return self.world.block(call)

    def online(self, _seconds: float) -> list[Online]:
        self.world.outside()
        meanwhile, self.world.meanwhile = self.world.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        if not self.says_who_is_online:
            raise OutcomeUnknown("the connection broke")
        self.listed = {w_id: wc_id for wc_id, w_id in self.there.items()}
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
        code.state, code.who = "online", who
        self.there[who] = w_id

    def answer(self, w_id: str):
        code = self.codes[w_id]
        if code.state == "online":
            named = w_id if self.tells_w_id else ""
            return LoggedIn(Profile(wc_id=code.who, w_id=named, nickname=f"I am {code.who}"), "1000", "成功")
        return SAID.get(code.state)


@functools.cache
def picture() -> bytes:
    return pictures._png(pictures.draw_code("https://weixin.qq.com/x/any"))
