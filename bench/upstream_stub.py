"""An upstream that costs almost nothing, so that a run measures its client.

`/getIPadLoginInfo` is held until `release`, but for a wId that begins with WARM. A run asks the methods of `Upstream`.
"""

import asyncio
import gc
import json
import random
import time
from collections import Counter

import uvloop
from aiohttp import web

from bench.processes import answer_requests_async
from simulator.people import invent

WARM = "warm-"


def w_id(number: int, warm: bool = False) -> str:
    return f"{WARM if warm else ''}0000a8b1-93f4-4b5c-a1d2-{number:012}"


def profile(w_id: str) -> dict:
    """The `data` of this wId's success."""
    return invent(f"wxid_bench{w_id[-8:]}").profile(w_id, "http://wx.qlogo.cn", "bench")


def success(data: object) -> bytes:
    return json.dumps({"message": "处理成功", "code": "1000", "data": data}, ensure_ascii=False).encode()


class Upstream:
    def __init__(self):
        self.online_body, self.presence_checks = success(None), 0
        self.reset()

    def reset(self) -> None:
        """Forget all calls."""
        self.decisions: dict[str, asyncio.Event] = {}  # by wId, in the order of their first calls
        self.held: Counter[str] = Counter()  # calls by wId
        self.calls: Counter[str] = Counter()
        self.answered: dict[str, float] = {}  # when the first answer to each wId was sent, seconds since 1970
        self.most_parallel = 0

    def state(self) -> dict:
        counts = {"held": self.held.total(), "repeated": self.calls.total() - len(self.calls)}
        counts |= {"answered": len(self.answered), "most_parallel": self.most_parallel}
        return counts | {"presence_checks": self.presence_checks, "url": self.url}

    def sent(self) -> dict[str, float]:
        return self.answered

    def online(self, accounts: list[tuple[str, str]]) -> None:
        """Let `/queryLoginWx` list these (wcId, wId)."""
        self.online_body = success([{"wcId": wc_id, "wId": w_id} for wc_id, w_id in accounts])

    def release(self, rate: float = 0, within: float = 0, count: int | None = None) -> None:
        """Answer `count` of the held wIds, or all: at random moments, `rate` a second, or evenly `within` seconds."""
        waiting = [decision for decision in self.decisions.values() if not decision.is_set()][:count]
        chance, due = random.Random(7), 0.0
        for decision in waiting:
            asyncio.get_running_loop().call_later(due, decision.set)
            due += within / len(waiting) if within else chance.expovariate(rate)

    async def serve(self, request: web.BaseRequest) -> web.Response:
        body = success(None)
        if request.path == "/getIPadLoginInfo":
            body = await self.wait((await request.json())["wId"])
        elif request.path == "/queryLoginWx":
            self.presence_checks += 1
            body = self.online_body
        return web.Response(body=body, content_type="application/json")

    async def wait(self, w_id: str) -> bytes:
        self.calls[w_id] += 1
        if not w_id.startswith(WARM):
            decision, held = self.decisions.setdefault(w_id, asyncio.Event()), self.held
            held[w_id] += 1
            self.most_parallel = max(self.most_parallel, held[w_id])
            try:  # a client that is not connected when it is decided is answered when it calls again
                await decision.wait()
            finally:
                held[w_id] -= 1
        body = success(profile(w_id))
        self.answered.setdefault(w_id, time.time())
        return body


async def main() -> None:
    upstream = Upstream()
    runner = web.ServerRunner(web.Server(upstream.serve, handler_cancellation=True, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    upstream.url = "http://{}:{}".format(*runner.addresses[0])
    await answer_requests_async(upstream)


if __name__ == "__main__":
    gc.disable()  # a pause would count as the client's
    uvloop.run(main())
