"""HTTP server: routes, and how an answer becomes bytes."""

import json
import socket
from typing import Any

from aiohttp import web

from simulator import control, pages, wire
from simulator.endpoints import ENDPOINTS, Answer, Call, answer
from simulator.faults import GATEWAY, HTML, Real
from simulator.people import portrait
from simulator.world import World

WORLD = web.AppKey("world", World)
LOOPBACK = ("localhost", "127.", "[::1]")


def application(world: World, everywhere: bool = False) -> web.Application:
    """Return the whole simulator. ``everywhere``: it listens on all addresses, so phones can reach it."""
    app = web.Application(client_max_size=4 << 20)
    app[WORLD] = world
    door = Door(world, everywhere)
    app.add_routes([web.post(path, door.upstream) for path in ENDPOINTS])
    app.add_routes([web.get("/qr/{name}.png", door.qr), web.get("/avatar/{wcId}.png", door.avatar)])
    app.add_routes(pages.routes(world))
    app.add_routes(control.routes(world))
    return app


class Door:
    """Everything the portal requests: the calls and the pictures. Faults act here."""

    def __init__(self, world: World, everywhere: bool) -> None:
        self.world = world
        self.lan = lan_address() if everywhere else ""

    async def upstream(self, request: web.Request) -> web.StreamResponse:
        world, path = self.world, request.path
        with world.calls.arrived(path):
            fault = world.faults.take(path)
            if fault is not None and fault.kind == "refuse":
                return await fault.play(request, _nothing)
            body = _parsed(await request.read())
            with world.calls.read(path, body, request.headers):

                async def real() -> web.Response:
                    if not isinstance(body, dict):
                        return await self._send(request, Answer(None, "参数错误"))
                    call = Call(world, body, self.base(request), self.phone_base(request))
                    found = await answer(path, call, request.headers.get("Authorization"))
                    return await self._send(request, found)

                return await (real() if fault is None else fault.play(request, real))

    async def _send(self, request: web.Request, found: Answer) -> web.Response:
        if found.ending == "cut":
            await wire.hang_up(request)
        if found.ending == "504":
            return web.Response(status=504, text=HTML.format(GATEWAY[504]), content_type="text/html")
        speech = self.world.settings.speech
        code = speech.failure if found.code is None else found.code
        envelope = speech.envelope(code, found.text, found.data)
        return web.Response(
            status=found.http_status,
            body=json.dumps(envelope, ensure_ascii=False).encode("utf-8", "surrogatepass"),
            headers={"Content-Type": "application/json;charset=UTF-8"},
        )

    async def qr(self, request: web.Request) -> web.StreamResponse:
        """GET /qr/<name>.png: the URL of the phone page as a QR code that a camera can read."""

        async def draw() -> web.Response:
            login = self.world.by_qr.get(request.match_info["name"])
            if login is None:
                raise web.HTTPNotFound
            return web.Response(body=login.picture(self.world.settings.qr_text), content_type="image/png")

        return await self._picture(request, draw)

    async def avatar(self, request: web.Request) -> web.StreamResponse:
        async def draw() -> web.Response:
            return web.Response(body=portrait(request.match_info["wcId"]), content_type="image/png")

        return await self._picture(request, draw)

    async def _picture(self, request: web.Request, draw: Real) -> web.StreamResponse:
        with self.world.calls.arrived("/" + request.path.split("/")[1] + "/*"):
            fault = self.world.faults.take(request.path)
            return await (draw() if fault is None else fault.play(request, draw))

    def base(self, request: web.Request) -> str:
        """Return the URL of pictures for the sender of this request."""
        return self.world.settings.public_url.rstrip("/") or f"http://{request.host}"

    def phone_base(self, request: web.Request) -> str:
        """Return the URL of phone pages.

        A phone cannot use a loopback name, so it gets this machine's address.
        """
        settings = self.world.settings
        given = settings.phone_url or settings.public_url
        if given:
            return given.rstrip("/")
        if self.lan and request.host.startswith(LOOPBACK):
            port = request.host.rpartition(":")[2]
            return f"http://{self.lan}:{port}" if port.isdigit() else f"http://{self.lan}"
        return f"http://{request.host}"


def lan_address() -> str:
    """Return this machine's address in the network, "" without one. Sends no packet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
        except OSError:
            return ""


def _parsed(raw: bytes) -> Any:
    """Parse a JSON body; an empty body is an empty object, an invalid one None."""
    try:
        return json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError):
        return None


async def _nothing() -> web.Response:
    return web.Response()
