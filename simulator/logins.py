"""One login: the QR code on the screen (or the prompt on the phone), and the calls that wait for it."""

import asyncio
import io
import itertools
import secrets
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import segno

# States in which the person can still act. The final states are "online", "cancelled", "expired" and
# "failed"; "dropped" and "replaced" follow "online".
OPEN = ("waiting", "scanned", "code", "page", "confirmed")

_serial = itertools.count(500000)


@dataclass(slots=True, eq=False)
class Login:
    """A wId with its history. ``method`` is "qr" or "popup", or "console" for a login made elsewhere."""

    method: str
    wcId_sent: str
    proxy: Any = None
    type: Any = None
    device_type: Any = None
    wId: str = field(default_factory=lambda: str(uuid.uuid4()))
    qr_name: str = field(default_factory=lambda: f"{time.time_ns() // 1_000_000}-{next(_serial)}")
    qr_url: str = ""
    phone_url: str = ""
    page_url: str = ""
    state: str = "waiting"
    wcId: str = ""  # account that scanned
    text: str = ""  # step 3's message about the end
    verify_code: str = field(default_factory=lambda: f"{secrets.randbelow(10**6):06d}")
    made_at: float = field(default_factory=time.time)
    changed_at: float = field(default_factory=time.time)
    step3_calls: int = 0
    step3_now: int = 0
    max_parallel: int = 0
    waiters: list[asyncio.Future] = field(default_factory=list)
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    def picture(self, text: str = "") -> bytes:
        """Return a PNG with the URL of the phone page, or this text, as a QR code that a camera can read."""
        picture = io.BytesIO()
        code = segno.make(text or self.phone_url, error="m", micro=False)
        code.save(picture, kind="png", scale=8, border=4)
        return picture.getvalue()

    @property
    def open(self) -> bool:
        return self.state in OPEN

    def move(self, state: str, text: str = "") -> None:
        """Change the state and wake every call that waits for a change."""
        self.state, self.text, self.changed_at = state, text, time.time()
        if not self.open:
            self.stop_timers()
        self.wake("changed")

    def wake(self, why: str) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(why)

    async def changed(self, seconds: float) -> str:
        """Wait for a change: returns "changed", "kicked" (by a later call) or "limit" after ``seconds``."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        timer = loop.call_later(max(seconds, 0), lambda: waiter.done() or waiter.set_result("limit"))
        self.waiters.append(waiter)
        try:
            return await waiter
        finally:
            timer.cancel()
            self.waiters.remove(waiter)

    def stop_timers(self) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()

    def as_dict(self) -> dict[str, Any]:
        return {
            "wId": self.wId,
            "method": self.method,
            "wcId_sent": self.wcId_sent,
            "wcId": self.wcId,
            "proxy": self.proxy,
            "type": self.type,
            "deviceType": self.device_type,
            "state": self.state,
            "text": self.text,
            "qr_url": self.qr_url,
            "phone_url": self.phone_url,
            "page_url": self.page_url,
            "verify_code": self.verify_code,
            "step3_calls": self.step3_calls,
            "step3_now": self.step3_now,
            "max_parallel": self.max_parallel,
            "made_at": self.made_at,
            "changed_at": self.changed_at,
        }
