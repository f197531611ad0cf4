"""Pages for people: the phone of a QR code, the prompt on a phone, the verification page, and the index."""

from typing import NoReturn

from aiohttp import web

from simulator import drawing, phone
from simulator.logins import Login
from simulator.people import quoted
from simulator.words import Language, language
from simulator.world import DROPPED, World

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; form-action 'self'",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Language",
    "X-Content-Type-Options": "nosniff",
}


def routes(world: World) -> list[web.RouteDef]:
    pages = Pages(world)
    return [
        web.get("/", pages.index),
        web.post("/drop", pages.drop),
        web.get("/style.css", style),
        web.get("/phone/popup/{wcId}", pages.popup),
        web.post("/phone/popup/{wcId}", pages.tap_popup),
        web.get("/phone/{wId}", pages.phone),
        web.post("/phone/{wId}", pages.tap),
        web.get("/verify/{wId}", pages.verify),
        web.post("/verify/{wId}", pages.tap_verify),
    ]


async def style(request: web.Request) -> web.Response:
    return web.Response(body=drawing.STYLE, content_type="text/css", headers={"Cache-Control": "max-age=60"})


class Pages:
    """Pages with forms. Each form posts one action, and the redirect back shows its result."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def index(self, request: web.Request) -> web.Response:
        return _html(drawing.index(self.world, _speech(request), f"http://{request.host}"))

    async def drop(self, request: web.Request) -> NoReturn:
        form = await request.post()
        self.world.drop(str(form.get("wcId", "")), DROPPED)
        raise web.HTTPSeeOther("/")

    async def phone(self, request: web.Request) -> web.Response:
        login = self.world.logins.get(request.match_info["wId"])
        if login is None:
            return _html(drawing.notice(_speech(request), "unknown"), 404)
        return _html(drawing.phone_page(self.world, login, _speech(request)))

    async def tap(self, request: web.Request) -> web.Response:
        login = self.world.logins.get(request.match_info["wId"])
        if login is None:
            return _html(drawing.notice(_speech(request), "unknown"), 404)
        await self._tap(request, login)
        raise web.HTTPSeeOther(f"/phone/{login.wId}")

    async def popup(self, request: web.Request) -> web.Response:
        login = self.world.latest(request.match_info["wcId"], "popup")
        if login is None:
            return _html(drawing.notice(_speech(request), "no_prompt", reload=2))
        return _html(drawing.phone_page(self.world, login, _speech(request)))

    async def tap_popup(self, request: web.Request) -> NoReturn:
        wcId = request.match_info["wcId"]
        login = self.world.latest(wcId, "popup")
        if login is not None:
            await self._tap(request, login)
        raise web.HTTPSeeOther(f"/phone/popup/{quoted(wcId)}")

    async def verify(self, request: web.Request) -> web.Response:
        login = self.world.logins.get(request.match_info["wId"])
        if login is None or not login.wcId:
            return _html(drawing.notice(_speech(request), "unknown"), 404)
        return _html(drawing.verify_page(self.world, login, _speech(request)))

    async def tap_verify(self, request: web.Request) -> NoReturn:
        login = self.world.logins.get(request.match_info["wId"])
        if login is None:
            raise web.HTTPNotFound
        await self._tap(request, login)
        raise web.HTTPSeeOther(f"/verify/{login.wId}")

    async def _tap(self, request: web.Request, login: Login) -> None:
        """Act on the phone.

        An action that comes too late changes nothing; the page then shows the current state.
        """
        form = await request.post()
        do = str(form.get("do", ""))
        who = str(form.get("as", "")) or None
        try:
            phone.tap(self.world, login, do, who if do == "other" else None)
        except phone.NotNow:
            return


def _speech(request: web.Request) -> Language:
    return language(request.headers.get("Accept-Language", ""))


def _html(text: str, status: int = 200) -> web.Response:
    body = text.encode("utf-8", "replace")
    return web.Response(status=status, body=body, content_type="text/html", charset="utf-8", headers=HEADERS)
