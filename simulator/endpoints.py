"""WKTeam's calls. Each takes the body of a POST and returns an envelope; server.py does the HTTP part."""

import asyncio
import base64
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from simulator import phone
from simulator.calls import WAIT_PATH
from simulator.dialect import OK, PAGE_VISIT
from simulator.logins import Login
from simulator.people import quoted
from simulator.settings import Settings
from simulator.world import World

LOGIN_PATH = "/member/login"


@dataclass(frozen=True)
class Answer:
    """An answer.

    ``code`` None is the dialect's failure code; ``ending`` "cut" or "504" replaces the envelope.
    """

    code: int | None
    text: str
    data: Any = None
    http_status: int = 200
    ending: str = ""


@dataclass(frozen=True)
class Call:
    """One request. ``base`` and ``phone_base`` are the public URLs of pictures and of phone pages."""

    world: World
    body: dict[str, Any]
    base: str
    phone_base: str

    @property
    def settings(self) -> Settings:
        return self.world.settings

    def done(self, data: Any = None, text: str = "") -> Answer:
        return Answer(OK, text or self.settings.speech.done, data)

    def text_of(self, name: str) -> str:
        """Return a str field of the body; any other type counts as absent."""
        value = self.body.get(name)
        return value if isinstance(value, str) else ""


def refused(text: str = "失败") -> Answer:
    return Answer(None, text)


async def sign_in(call: Call) -> Answer:
    """/member/login {account, password} -> {Authorization, status, callbackUrl, ...}"""
    settings, world = call.settings, call.world
    if (call.body.get("account"), call.body.get("password")) != (settings.account, settings.password):
        return refused("用户名或密码错误")
    world.sign_ins += 1
    world.token_age += settings.login_renews_token
    data = {
        "callbackUrl": world.callbacks.url,
        "status": settings.account_status,
        "Authorization": world.token,
    }
    if settings.speech.full_account:
        data |= {
            "name": settings.account,
            "account": settings.account,
            "accountType": 1,
            "overdueTime": settings.ends_at_ms,
            "availableNumber": settings.seats,
            "callbackType": 1,
            "wcIds": list(world.online),
        }
    return call.done(data)


async def make_qr(call: Call) -> Answer:
    """/iPadLogin {wcId, type, proxy, proxyIp, ...} -> {wId, qrCodeUrl}. Every call makes a new instance.

    An own proxy (proxyIp with its user and password) is used in place of the listed one.
    """
    world, settings, body = call.world, call.settings, call.body
    why = settings.speech.qr_refusal(body, settings.unknown_proxy)
    if why:
        return refused(why)
    if (body.get("proxyIp") or body.get("proxy")) in settings.bad_proxies:
        return refused("网络链接异常")
    wcId = call.text_of("wcId")
    if wcId and settings.old_qr == "expire":
        for old in list(world.recent):
            if old.wcId_sent == wcId:
                world.expire(old)
    world.devices += not wcId
    used = body.get("proxyIp") or body.get("proxy")
    login = Login("qr", wcId, used, body.get("type"), body.get("deviceType"))
    login.qr_url = f"{settings.picture_url.rstrip('/') or call.base}/qr/{login.qr_name}.png"
    login.phone_url = f"{call.phone_base}/phone/{login.wId}"
    login.page_url = f"{call.phone_base}/verify/{login.wId}"
    auto = functools.partial(phone.confirm_by_itself, world)
    world.open_login(login, phone.life(world, login), auto)
    found = {"wId": login.wId, "qrCodeUrl": qr_address(login, settings)}
    return call.done(found, settings.speech.qr_done)


def qr_address(login: Login, settings: Settings) -> str | None:
    """Return the address of the picture in the form that the setting names."""
    url = login.qr_url
    if settings.qr_address == "whole":
        return url
    encoded = base64.b64encode(login.picture(settings.qr_text)).decode()
    return {
        "blanks": f" \n{url}\r\n",
        "relative": urlsplit(url).path,
        "scheme": url.partition(":")[2],
        "data": f"data:image/png;base64,{encoded}",
        "base64": encoded,
        "svg": "data:image/svg+xml,<svg/>",
        "ftp": "ftp" + url[url.index(":") :],
        "none": None,
    }[settings.qr_address]


async def wait_for_login(call: Call) -> Answer:
    """/getIPadLoginInfo {wId, verifyCode, autoCheck} -> the profile, once the phone has decided."""
    world, settings = call.world, call.settings
    why = settings.speech.wait_refusal(call.body)
    if why:
        return refused(why)
    login = world.logins.get(call.body["wId"])
    if login is None:
        if settings.unknown_wid == "wait":
            await asyncio.sleep(settings.wait)
        return refused()
    if login.waiters and settings.parallel == "refuse":
        return refused("请勿重复请求")
    if login.waiters and settings.parallel == "kick":
        login.wake("kicked")
    return await _wait(call, login)


async def _wait(call: Call, login: Login) -> Answer:
    world, settings = call.world, call.settings
    loop = asyncio.get_running_loop()
    deadline = loop.time() + settings.wait
    code, seen_page = call.text_of("verifyCode"), settings.page_repeat == "block" and login.state == "page"
    auto_check = call.body.get("autoCheck") is True and login.device_type == "mac"
    while True:
        if login.state == "confirmed":
            phone.complete(world, login)
        if login.state == "page" and auto_check:
            phone.pass_page_by_itself(world, login)
            seen_page = True
        answer = _standing(call, login, code, seen_page)
        if answer is not None:
            return answer
        why = await login.changed(deadline - loop.time())
        if why == "kicked":
            return refused("请勿重复请求")
        if why == "limit":
            return _limit(world, login)


def _standing(call: Call, login: Login, code: str, seen_page: bool) -> Answer | None:
    """Return the answer of step 3 for this login now; None to continue the wait."""
    world = call.world
    if login.state == "code" and code == login.verify_code:
        phone.complete(world, login)
    elif login.state == "code":
        if code and call.settings.wrong_code == "fail":
            login.move("failed", "验证码错误")
            return refused(login.text)
        return refused("请在ipad上输入验证码")
    if login.state == "online":
        profile = world.person(login.wcId).profile(login.wId, call.base, call.settings.account)
        if not call.settings.speech.wId_in_profile:
            del profile["wId"]
        return call.done(profile)
    if login.state == "page" and not seen_page:
        return Answer(PAGE_VISIT, "处理成功", {"url": login.page_url})
    return None if login.open else refused(login.text or "失败")


def _limit(world: World, login: Login) -> Answer:
    ending = world.settings.limit_answer
    if ending == "expired":
        world.expire(login)
        return refused("二维码已过期")
    return Answer(None, "失败", ending=ending if ending in ("cut", "504") else "")


async def popup(call: Call) -> Answer:
    """/secondLogin {wcId} -> the profile with a new wId, once the prompt on the phone is answered."""
    world, settings = call.world, call.settings
    wcId = call.text_of("wcId")
    if not wcId:
        return refused("参数错误: wcId")
    person = world.person(wcId)
    if not person.popup_works:
        return popup_failed(settings, "系统失败,请重试")
    login = Login("popup", wcId, wcId=wcId, type=call.body.get("type"))
    login.phone_url = f"{call.phone_base}/phone/popup/{quoted(wcId)}"
    world.open_login(login, phone.life(world, login), functools.partial(phone.confirm_by_itself, world))
    phone.answer_by_habit(world, login)
    while login.open:
        await login.changed(phone.life(world, login) + 60)
    if login.state == "online":
        return call.done(person.profile(login.wId, call.base, settings.account))
    if login.state == "expired" and settings.limit_answer in ("cut", "504"):
        return Answer(None, "失败", ending=settings.limit_answer)
    return popup_failed(settings, login.text)


def popup_failed(settings: Settings, text: str) -> Answer:
    """Return a plain failure, or a failure inside a success as in one example of WKTeam's docs."""
    style = settings.popup_failure
    if style == "nested" or (style == "auto" and settings.speech.nested_popup_failure):
        inner = {"message": "二次登录失败，请重新扫码登录", "code": "1001", "data": None}
        return Answer(OK, "成功", inner)
    return refused(text or "系统失败,请重试")


async def who_is_online(call: Call) -> Answer:
    """/queryLoginWx -> [{wcId, wId}]"""
    online = [{"wcId": wcId, "wId": wId} for wcId, wId in call.world.online.items()]
    if not online and call.settings.nobody_online == "null":
        return call.done(None, "成功")
    return call.done(online, "成功")


async def is_online(call: Call) -> Answer:
    """/isOnline {wId} -> {isOnline}; the code is 1000 in both cases."""
    wId = call.text_of("wId")
    if not wId:
        return refused("参数错误: wId")
    login = call.world.logins.get(wId)
    return call.done({"isOnline": login is not None and login.state == "online"}, "成功")


async def log_out(call: Call) -> Answer:
    """/member/offline {account, wcIds}; answers at once, takes effect a little later."""
    wcIds = call.body.get("wcIds")
    if not isinstance(wcIds, list):
        return refused("参数错误: wcIds")
    world, settings = call.world, call.settings
    loop = asyncio.get_running_loop()
    for wcId in filter(world.people.__contains__, (w for w in wcIds if isinstance(w, str))):
        later = functools.partial(world.drop, wcId, "用户主动下线", callback=settings.offline_callback)
        loop.call_later(settings.scaled(settings.offline_delay), later)
    return call.done()


async def offline_reason(call: Call) -> Answer:
    """/offlineReason {wcId} -> [{wcId, reason}]; reason is null while online."""
    wcId = call.text_of("wcId")
    if not wcId:
        return refused("参数错误: wcId")
    return call.done([{"wcId": wcId, "reason": call.world.offline_reason(wcId)}], "获取离线原因成功")


async def set_callback(call: Call) -> Answer:
    """/setHttpCallbackUrl {httpUrl, type}; a test callback follows at once."""
    url = call.text_of("httpUrl")
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        return refused("参数错误: httpUrl")
    call.world.callbacks.set(url, call.body.get("type"))
    return call.done()


async def cancel_callback(call: Call) -> Answer:
    """/cancelHttpCallbackUrl"""
    call.world.callbacks.cancel()
    return call.done()


ENDPOINTS: dict[str, Callable[[Call], Awaitable[Answer]]] = {
    LOGIN_PATH: sign_in,
    "/iPadLogin": make_qr,
    WAIT_PATH: wait_for_login,
    "/secondLogin": popup,
    "/queryLoginWx": who_is_online,
    "/isOnline": is_online,
    "/member/offline": log_out,
    "/offlineReason": offline_reason,
    "/setHttpCallbackUrl": set_callback,
    "/cancelHttpCallbackUrl": cancel_callback,
}


async def answer(path: str, call: Call, authorization: str | None) -> Answer:
    """Answer one call.

    Checks the Authorization (raw, without Bearer) and the state of the developer account first.
    """
    if path != LOGIN_PATH:
        if authorization != call.world.token:
            style = call.settings.auth_style
            return Answer(
                None, "Authorization无效，请重新登录", http_status=401 if style == "http401" else 200
            )
        if call.settings.account_status:
            return refused("账号已冻结" if call.settings.account_status == 1 else "账号已到期")
    return await ENDPOINTS[path](call)
