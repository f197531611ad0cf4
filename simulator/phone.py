"""Actions of a person on the phone, and their effect on a login."""

import asyncio

from simulator.logins import Login
from simulator.world import World

TAPS = ("scan", "confirm", "cancel", "code", "page", "done", "other", "expire", "new_device", "fail")
FRESH = {"scan", "confirm", "cancel", "code", "page", "other", "expire", "new_device", "fail"}
POSSIBLE = {
    "waiting": FRESH,
    "scanned": FRESH,
    "confirmed": {"cancel", "expire", "fail", "new_device"},
    "code": {"cancel", "expire", "fail", "new_device"},
    "page": {"done", "cancel", "expire", "fail", "new_device"},
}
ENDINGS = {
    "cancel": ("cancelled", "用户取消登录"),
    "expire": ("expired", "二维码已过期"),
    "fail": ("failed", "失败"),
    "new_device": ("failed", "在新设备完成验证"),
}


class NotNow(Exception):
    """The action is not possible in this state."""


def tap(world: World, login: Login, do: str, who: str | None = None, text: str = "", code: str = "") -> None:
    """Act on the phone. ``who``: wcId that scans ("new": a new account; None: the owner). Raises NotNow."""
    if do not in TAPS:
        raise NotNow(f"do must be one of {', '.join(TAPS)}, not {do!r}")
    if do not in POSSIBLE.get(login.state, ()):
        raise NotNow(f"{do} is not possible: the login is {login.state}")
    if do in ENDINGS:
        state, words = ENDINGS[do]
        if do in ("cancel", "new_device"):
            _scan(world, login, who)
        login.move(state, text or words)
    else:
        _scan(world, login, who)
        _go_on(world, login, do, code)
    world.touch()


def _go_on(world: World, login: Login, do: str, code: str) -> None:
    if do == "code":
        login.verify_code = code or world.settings.verify_code or login.verify_code
    state = {"code": "code", "page": "page", "confirm": "confirmed", "done": "confirmed"}.get(do, "scanned")
    world.keep_alive(login, life(world, login))
    login.move(state)
    if state == "confirmed":
        settle(world, login)


def settle(world: World, login: Login) -> None:
    """Complete a confirmed login as soon as step 3 waits for it; a prompt needs no step 3."""
    if login.method == "popup" or login.waiters:
        complete(world, login)


def complete(world: World, login: Login) -> None:
    """Finish a confirmed login: online, or failed if the wrong account scanned and that is refused."""
    wrong = login.wcId_sent and login.wcId != login.wcId_sent
    if wrong and world.settings.wrong_account == "refuse":
        login.move("failed", "扫码账号与登录账号不一致")
        world.touch()
    else:
        world.sign_in(login)


def life(world: World, login: Login) -> float:
    seconds = world.settings.popup_seconds if login.method == "popup" else world.settings.qr_seconds
    return world.settings.scaled(seconds)


def answer_popup(world: World, login: Login, accept: bool) -> None:
    tap(world, login, "confirm" if accept else "cancel")


def confirm_by_itself(world: World, login: Login) -> None:
    """Confirm automatically, unless a person acted first."""
    habit = login.method == "popup" and world.person(login.wcId).prompt
    if world.logins.get(login.wId) is login and login.state in ("waiting", "scanned") and not habit:
        tap(world, login, "confirm")


def answer_by_habit(world: World, login: Login) -> None:
    """Answer a prompt automatically after the person's delay, if the person always accepts or declines."""
    person = world.person(login.wcId)
    if person.prompt in ("accept", "decline"):
        loop, seconds = asyncio.get_running_loop(), world.settings.scaled(person.prompt_seconds)
        loop.call_later(seconds, lambda: login.open and answer_popup(world, login, person.prompt == "accept"))


def pass_page_by_itself(world: World, login: Login) -> None:
    """Pass the verification automatically after a delay, as a Mac with autoCheck does."""
    loop = asyncio.get_running_loop()
    seconds = world.settings.scaled(world.settings.auto_check_seconds)
    loop.call_later(seconds, lambda: login.state == "page" and tap(world, login, "done"))


def _scan(world: World, login: Login, who: str | None) -> None:
    if login.wcId and who is None:
        return
    wcId = {None: login.wcId_sent, "new": ""}.get(who, who)
    login.wcId = world.person(wcId or "").wcId
