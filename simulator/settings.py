"""Settings of the simulator. They decide what WKTeam's docs leave open, and can change while it runs."""

from dataclasses import dataclass, fields, replace
from typing import Any

from simulator.dialect import DIALECTS, Dialect

CHOICES: dict[str, tuple[Any, ...]] = {
    "dialect": tuple(DIALECTS),
    "limit_answer": ("expired", "failed", "cut", "504"),
    "parallel": ("allow", "refuse", "kick"),
    "wrong_account": ("accept", "refuse"),
    "wrong_code": ("again", "fail"),
    "page_repeat": ("again", "block"),
    "unknown_wid": ("fail", "wait"),
    "unknown_proxy": ("refuse", "accept"),
    "nobody_online": ("list", "null"),
    "old_qr": ("keep", "expire"),
    "popup_failure": ("auto", "plain", "nested"),
    "qr_address": ("whole", "blanks", "relative", "scheme", "data", "base64", "svg", "ftp", "none"),
    "auth_style": ("message", "http401"),
    "account_status": (0, 1, 2),
    "reason_style": ("nested", "plain"),
}


class BadSetting(ValueError):
    """A setting has an invalid name or value."""


@dataclass(frozen=True)
class Settings:
    """Settings. Seconds marked (scaled) are multiplied by time_factor; the others are real seconds."""

    dialect: str = "default"
    account: str = "demo"
    password: str = "demo-password"
    account_status: int = 0
    seats: int = 1000
    ends_at_ms: int = 1893456000000
    auth_style: str = "message"
    login_renews_token: bool = False
    public_url: str = ""
    phone_url: str = ""
    picture_url: str = ""
    qr_text: str = ""
    qr_address: str = "whole"
    time_factor: float = 1.0
    wait_seconds: float | None = None  # (scaled) limit of step 3; None: the dialect's own
    qr_seconds: float = 300  # (scaled) life of a QR code since its creation or last action
    popup_seconds: float = 150  # (scaled) how long /secondLogin waits for the phone
    auto_check_seconds: float = 10  # (scaled) delay until a Mac with autoCheck passes the page
    offline_delay: float = 0.2  # (scaled) delay until /member/offline takes effect
    first_night_seconds: float | None = None  # (scaled) delay of the first-day drop; None: none
    callback_seconds: float = 6
    auto_confirm: float | None = None
    auto_jitter: float = 0
    limit_answer: str = "expired"
    parallel: str = "allow"
    wrong_account: str = "accept"
    wrong_code: str = "again"
    verify_code: str = ""
    page_repeat: str = "again"
    unknown_wid: str = "fail"
    unknown_proxy: str = "refuse"
    bad_proxies: tuple[int | str, ...] = ()  # codes, or host:port of own ones
    nobody_online: str = "list"
    old_qr: str = "keep"
    popup_failure: str = "auto"
    offline_callback: bool = False
    reason_style: str = "nested"
    test_callback: Any = None
    record_last: int = 50

    @property
    def speech(self) -> Dialect:
        return DIALECTS[self.dialect]

    @property
    def wait(self) -> float:
        """Return step 3's limit in real seconds."""
        return self.scaled(self.speech.wait_seconds if self.wait_seconds is None else self.wait_seconds)

    def scaled(self, seconds: float) -> float:
        return seconds * self.time_factor

    def changed(self, changes: dict[str, Any]) -> "Settings":
        """Return a copy with these values. Raises BadSetting for the first invalid one."""
        known = {field.name: field for field in fields(self)}
        clean = {}
        for name, value in changes.items():
            if name not in known:
                raise BadSetting(f"there is no setting {name!r}; known: {', '.join(sorted(known))}")
            clean[name] = _checked(name, value, getattr(known[name].type, "__name__", str(known[name].type)))
        return replace(self, **clean)


def _checked(name: str, value: Any, kind: str) -> Any:
    if name in CHOICES:
        if value not in CHOICES[name] or isinstance(value, bool):
            raise BadSetting(f"{name} must be one of {', '.join(map(str, CHOICES[name]))}, not {value!r}")
        return value
    if kind == "Any":
        return value
    if kind.startswith("tuple"):
        if not isinstance(value, list | tuple):
            raise BadSetting(f"{name} must be a list, not {value!r}")
        return tuple(value)
    if value is None and kind.endswith("None"):
        return None
    if kind.startswith(("float", "int")):
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise BadSetting(f"{name} must be a number of 0 or more, not {value!r}")
        return value
    if type(value).__name__ != kind:
        raise BadSetting(f"{name} must be a {kind}, not {value!r}")
    return value
