"""Generations of WKTeam's API: the fields each requires, and the texts of its answers."""

import re
from dataclasses import dataclass
from typing import Any

OK = 1000
PAGE_VISIT = 200


@dataclass(frozen=True)
class Dialect:
    """One generation of WKTeam's docs. Everything not named is lenient."""

    name: str
    wait_seconds: float = 150
    int_codes: bool = False
    text_key: str = "message"
    failure: int = 1001
    done: str = "处理成功"
    qr_done: str = "处理成功"
    type_required: bool = False
    wcId_required: bool = False
    proxy_required: bool = False
    strict_types: bool = True
    proxies: range = range(1, 31)
    device_types: tuple[str, ...] = ()
    auto_check_required: bool = False
    full_account: bool = True
    nested_popup_failure: bool = False
    native_callbacks: bool = False
    wId_in_profile: bool = True

    def envelope(self, code: int, text: str, data: Any = None) -> dict[str, Any]:
        """Return ``{"message": str, "code": str, "data": object | list | null}`` as the dialect writes it."""
        return {self.text_key: text, "code": code if self.int_codes else str(code), "data": data}

    def qr_refusal(self, body: dict[str, Any], unknown_proxy: str) -> str | None:
        """Return why /iPadLogin refuses this body, or None."""
        if self.type_required and body.get("type") != 2:
            return "参数错误: type"
        wcId = body.get("wcId", None if self.wcId_required else "")
        if wcId is None and not self.wcId_required:
            wcId = ""
        if not isinstance(wcId, str):
            return "参数错误: wcId"
        if self.device_types and body.get("deviceType") not in self.device_types:
            return "参数错误: deviceType"
        return self._proxy_refusal(body, unknown_proxy)

    def _proxy_refusal(self, body: dict[str, Any], unknown_proxy: str) -> str | None:
        if body.get("proxyIp"):
            names = ("proxyIp", "proxyUser", "proxyPassword")
            wrong = next((name for name in names if not isinstance(body.get(name, ""), str)), None)
            if wrong is None and not re.fullmatch(r"\S+:\d{1,5}", body["proxyIp"]):
                wrong = "proxyIp"
            return f"参数错误: {wrong}" if wrong else None
        proxy = body.get("proxy")
        if proxy is None:
            return "参数错误: proxy" if self.proxy_required else None
        if not self.strict_types and isinstance(proxy, str) and proxy.isdecimal() and len(proxy) < 4:
            proxy = int(proxy)
        if isinstance(proxy, bool) or not isinstance(proxy, int):
            return "参数错误: proxy"
        if proxy not in self.proxies and unknown_proxy == "refuse":
            return "参数错误: proxy"
        return None

    def wait_refusal(self, body: dict[str, Any]) -> str | None:
        """Return why /getIPadLoginInfo refuses this body, or None."""
        if not isinstance(body.get("wId"), str) or not body["wId"]:
            return "参数错误: wId"
        if self.auto_check_required and not isinstance(body.get("autoCheck"), bool):
            return "参数错误: autoCheck"
        if not isinstance(body.get("verifyCode") or "", str):
            return "参数错误: verifyCode"
        return None


_G1 = {
    "done": "成功",
    "qr_done": "登录成功",
    "type_required": True,
    "proxies": range(1, 6),
    "nested_popup_failure": True,
    "native_callbacks": True,
    "wId_in_profile": False,
}
_G2 = {"wait_seconds": 250, "wcId_required": True, "proxy_required": True, "full_account": False}

DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect("default", strict_types=False),
        # The first page of WKTeam's docs taken literally, tables before examples.
        Dialect("seed", int_codes=True, text_key="msg", failure=10001, **_G1),
        Dialect("g1", **_G1),
        Dialect("g2", proxies=range(1, 24), **_G2),
        Dialect("g4", device_types=("ipad", "mac", "ipadpro"), auto_check_required=True, **_G2),
    )
}
