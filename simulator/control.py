"""Control API for tests: JSON under /control/. README.md lists the calls with their fields."""

import asyncio
import dataclasses
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from simulator import phone
from simulator.logins import Login
from simulator.world import DROPPED, World

Handler = Callable[[web.Request], Awaitable[web.Response]]


class Refused(Exception):
    """A control call that cannot be done, with its HTTP status."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.status = status


def routes(world: World) -> list[web.RouteDef]:
    control = Control(world)
    posts = {
        "phone": control.phone,
        "faults": control.faults,
        "drop": control.drop,
        "callback": control.callback,
        "people": control.people,
        "account": control.account,
        "settings": control.settings,
        "reset": control.reset,
        "wait": control.wait,
    }
    return [
        web.get("/control/state", control.state),
        *(web.post(f"/control/{name}", _json(work)) for name, work in posts.items()),
    ]


def _json(work: Callable[[dict[str, Any]], Any]) -> Handler:
    """Wrap a control call: it takes a JSON object and returns one; errors are returned as {"error"}."""

    async def handle(request: web.Request) -> web.Response:
        try:
            body = json.loads(await request.read() or b"{}")
            if not isinstance(body, dict):
                raise Refused("the body must be a JSON object")
            done = work(body)
            return web.json_response(await done if asyncio.iscoroutine(done) else done)
        except (ValueError, TypeError, RecursionError) as error:
            return web.json_response({"error": str(error)}, status=400)
        except phone.NotNow as error:
            return web.json_response({"error": str(error)}, status=409)
        except Refused as error:
            return web.json_response({"error": str(error)}, status=error.status)

    return handle


class Control:
    """One method per call. Each takes the body and returns what is sent as JSON."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def state(self, request: web.Request) -> web.Response:
        """GET /control/state[?brief=1]: the full state; brief leaves out logins, people and bodies."""
        world = self.world
        facts = world.calls.as_dict() | {
            "sign_ins": world.sign_ins,
            "wx_logins": world.wx_logins,
            "devices": world.devices,
            "online_count": len(world.online),
            "open_logins": sum(login.open for login in world.logins.values()),
            "authorization": world.token,
            "callback_url": world.callbacks.url,
            "faults": world.faults.as_list(),
            "settings": dataclasses.asdict(world.settings),
        }
        if "brief" not in request.query:
            facts |= {
                "logins": [login.as_dict() for login in world.logins.values()],
                "online": world.online,
                "people": [dataclasses.asdict(person) for person in world.people.values()],
                "callbacks": world.callbacks.sent,
                "bodies": world.calls.bodies(),
            }
        return web.json_response(facts)

    def phone(self, body: dict[str, Any]) -> dict[str, Any]:
        """{wId | wcId | neither, do, as, text, code}: act on a phone, for the newest matching QR code."""
        do = body.get("do")
        if do in ("accept", "decline"):
            login = self._login(body, "popup")
            phone.answer_popup(self.world, login, do == "accept")
        else:
            login = self._login(body, "qr")
            if not isinstance(body.get("as") or "", str):
                raise Refused('as must be a wcId or "new"')
            words = {name: str(body.get(name) or "") for name in ("text", "code")}
            phone.tap(self.world, login, str(do), body.get("as"), **words)
        return login.as_dict()

    def _login(self, body: dict[str, Any], method: str) -> Login:
        if "wId" in body:
            login = self.world.logins.get(body["wId"])
        else:
            login = self.world.latest(body.get("wcId"), method)
        if login is None:
            raise Refused(f"there is no such {method} login: {body}", 404)
        return login

    def faults(self, body: dict[str, Any]) -> dict[str, Any]:
        """Set or clear faults.

        {path, kind, ...} sets one, {path} clears that path, {} clears all, {faults: [...]} sets several.
        """
        faults = self.world.faults
        if not body:
            faults.clear()
        elif "faults" in body:
            for described in body["faults"]:
                faults.add(described, append=True)
        elif set(body) == {"path"}:
            faults.clear(body["path"])
        else:
            described = {name: value for name, value in body.items() if name != "append"}
            faults.add(described, append=bool(body.get("append")))
        return {"faults": faults.as_list()}

    def drop(self, body: dict[str, Any]) -> dict[str, Any]:
        """{wcId, reason, callback, duplicates, delay, stale, popup_works}: drop an account, see README.md."""
        world, wcId = self.world, body.get("wcId")
        how = {"duplicates": int(body.get("duplicates") or 0), "delay": float(body.get("delay") or 0)}
        if body.get("stale"):
            wId = world.stale_wId(str(wcId))
            world.callbacks.offline(str(wcId), wId, **how)
            return {"wId": wId, "online": wcId in world.online}
        wId = world.drop(wcId, str(body.get("reason") or DROPPED), bool(body.get("callback", True)), **how)
        if wId is None:
            raise Refused(f"{wcId} is not online", 404)
        world.people[wcId].popup_works = bool(body.get("popup_works", True))
        return {"wId": wId, "online": False}

    def callback(self, body: dict[str, Any]) -> dict[str, Any]:
        """{body, delay, url}: post exactly this to the callback address, or to another URL."""
        url = body.get("url") or self.world.callbacks.url
        if not isinstance(url or "", str):
            raise Refused("url must be a string")
        if not url:
            raise Refused("no callback address is set and none is given", 409)
        self.world.callbacks.send(body.get("body"), float(body.get("delay") or 0), url)
        return {"url": url}

    def people(self, body: dict[str, Any]) -> dict[str, Any]:
        """{wcId, nickname, ..., online}: add or change a person; without a wcId a new one."""
        person = self.world.describe(str(body.get("wcId") or ""), body)
        if body.get("online") and person.wcId not in self.world.online:
            self.world.put_online(person.wcId)
        return dataclasses.asdict(person) | {"wId": self.world.online.get(person.wcId)}

    def account(self, body: dict[str, Any]) -> dict[str, Any]:
        """{status, auth_style, revoke_token}: change the developer account."""
        names = {"status": "account_status", "auth_style": "auth_style"}
        self._change({names[name]: value for name, value in body.items() if name in names})
        self.world.token_age += bool(body.get("revoke_token"))
        return {"authorization": self.world.token, "status": self.world.settings.account_status}

    def settings(self, body: dict[str, Any]) -> dict[str, Any]:
        """{name: value}: change settings; returns all of them."""
        self._change(body)
        return dataclasses.asdict(self.world.settings)

    def _change(self, changes: dict[str, Any]) -> None:
        self.world.settings = self.world.settings.changed(changes)

    def reset(self, body: dict[str, Any]) -> dict[str, Any]:
        """Reset the state; waiting calls are answered with a failure."""
        waiting = [login for login in self.world.logins.values() if login.waiters]
        self.world.touch()
        self.world.forget()
        for login in waiting:
            login.move("failed", "失败")
        return {}

    async def wait(self, body: dict[str, Any]) -> dict[str, Any]:
        """Wait until all conditions hold: a number means at least that many, 0 means none.

        Body: {timeout, path, calls, in_flight, wId, state, step3_now, wcId, online, prompt, logins,
        callbacks}. ``timeout`` is in seconds, 10 by default; when it passes, the status is 408.
        """
        deadline = time.monotonic() + float(body.get("timeout", 10))
        while not self._holds(body):
            watcher = asyncio.get_running_loop().create_future()
            self.world.watchers.add(watcher)
            try:
                await asyncio.wait_for(watcher, deadline - time.monotonic())
            except TimeoutError:
                raise Refused(f"this did not become true in time: {body}", 408) from None
            finally:
                self.world.watchers.discard(watcher)
        wId = body.get("wId")
        return self.world.logins[wId].as_dict() if wId else {}

    def _holds(self, body: dict[str, Any]) -> bool:
        world, path = self.world, body.get("path", "")
        login = world.logins.get(body.get("wId", ""))
        if "wId" in body and login is None:
            return False
        now = {
            "calls": world.calls.count[path],
            "in_flight": world.calls.now[path],
            "step3_now": login and login.step3_now,
            "callbacks": len(world.callbacks.sent),
            "logins": len(world.logins),
        }
        asked = {name: body[name] for name in now if name in body}
        if any(now[name] if n == 0 else (now[name] or 0) < n for name, n in asked.items()):
            return False
        if "state" in body and (login is None or login.state != body["state"]):
            return False
        prompt = world.latest(body.get("wcId"), "popup") if "prompt" in body else None
        if "prompt" in body and (prompt is not None and prompt.open) != body["prompt"]:
            return False
        return "online" not in body or (body.get("wcId") in world.online) == body["online"]
