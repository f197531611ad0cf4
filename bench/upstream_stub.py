"""An upstream that costs almost nothing, so that a run measures its client.

`/getIPadLoginInfo` is held until `release` answers it; a wId that begins with WARM is answered at once.
`/queryLoginWx` lists the accounts named by `online`. The run calls the methods of `Upstream` by `Process.ask`.
"""

import asyncio
import collections
import contextlib
import gc
import json
import random
import re
import time

import uvloop

from bench.processes import answer_requests_async

WARM = "warm-"
CONTENT_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
PROFILE = {
    "wcId": "wxid_bench{number:08}", "wAccount": "shop-{number:08}", "nickName": "林晓雨 {number:08}",
    "headUrl": "http://wx.qlogo.cn/mmhead/ver_1/{number:08}/0", "sex": 2, "country": "CN", "city": "Guangzhou",
    "smallHeadImgUrl": "http://wx.qlogo.cn/mmhead/ver_1/{number:08}/132", "signature": "今天也要好好吃饭",
    "deviceType": "ipad", "uin": 1234567890, "mobilePhone": "138{number:08}", "username": "bench", "type": 2, "status": 3,
}  # fmt: skip


def w_id(number: int, warm: bool = False) -> str:
    return f"{WARM if warm else ''}0000a8b1-93f4-4b5c-a1d2-{number:012}"


def profile(w_id: str) -> dict:
    """The `data` of this wId's success."""
    filled = {k: v.format(number=int(w_id[-12:])) if isinstance(v, str) else v for k, v in PROFILE.items()}
    return {"wId": w_id, **filled}


def response(data: object) -> bytes:
    body = json.dumps({"message": "处理成功", "code": "1000", "data": data}, ensure_ascii=False).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=UTF-8\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Upstream:
    def __init__(self):
        self.online_response, self.presence_checks = response(None), 0
        self.reset()

    def reset(self) -> None:
        """Forget all calls."""
        self.held: dict[str, list[asyncio.StreamWriter]] = {}  # by wId, in the order of their first calls
        self.holding: dict[asyncio.StreamWriter, str] = {}  # the wId of each call that is held
        self.calls: collections.Counter[str] = collections.Counter()
        self.answered: dict[str, float] = {}  # when the first answer to each wId was sent, seconds since 1970
        self.decided: set[str] = set()
        self.most_parallel = 0

    def state(self) -> dict:
        repeated = sum(self.calls.values()) - len(self.calls)
        counts = {"held": len(self.holding), "answered": len(self.answered), "repeated": repeated}
        counts |= {"most_parallel": self.most_parallel, "presence_checks": self.presence_checks}
        return counts | {"url": "http://{}:{}".format(*self.server.sockets[0].getsockname())}

    def sent(self) -> dict[str, float]:
        return self.answered

    def online(self, accounts: list[tuple[str, str]]) -> None:
        """Let `/queryLoginWx` list these (wcId, wId)."""
        self.online_response = response([{"wcId": wc_id, "wId": w_id} for wc_id, w_id in accounts])

    def release(self, rate: float = 0, within: float = 0, count: int | None = None) -> None:
        """Answer `count` of the held wIds, or all: at random moments, `rate` a second, or evenly `within` seconds."""
        waiting, chance = list(self.held)[:count], random.Random(7)
        gaps = [within / len(waiting) if within else chance.expovariate(rate) for _w_id in waiting]
        self.releasing = asyncio.get_running_loop().create_task(self._release(waiting, gaps))

    async def _release(self, waiting: list[str], gaps: list[float]) -> None:
        due = time.monotonic()
        for w_id, gap in zip(waiting, gaps, strict=True):
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self.decided.add(w_id)  # a client that is not connected now is answered when it calls again
            for client in self.held.pop(w_id):
                del self.holding[client]
                self.answer(w_id, client)
            due += gap

    async def serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """As much HTTP/1.1 as clients need that send a Content-Length, or no body."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = CONTENT_LENGTH.search(head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                self.request(head.split(b" ", 2)[1], body, client)
        if client in self.holding:
            self.held[self.holding.pop(client)].remove(client)
        client.close()

    def request(self, path: bytes, body: bytes, client: asyncio.StreamWriter) -> None:
        if path == b"/getIPadLoginInfo":
            self.wait(json.loads(body)["wId"], client)
        elif path == b"/queryLoginWx":
            self.presence_checks += 1
            client.write(self.online_response)
        else:
            client.write(response(None))

    def wait(self, w_id: str, client: asyncio.StreamWriter) -> None:
        self.calls[w_id] += 1
        if w_id in self.decided or w_id.startswith(WARM):
            self.answer(w_id, client)
            return
        self.held.setdefault(w_id, []).append(client)
        self.holding[client] = w_id
        self.most_parallel = max(self.most_parallel, len(self.held[w_id]))

    def answer(self, w_id: str, client: asyncio.StreamWriter) -> None:
        body = response(profile(w_id))
        self.answered.setdefault(w_id, time.time())
        client.write(body)


async def main() -> None:
    upstream = Upstream()
    upstream.server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, backlog=4096)
    await answer_requests_async(upstream)


if __name__ == "__main__":
    gc.disable()  # nothing here makes cycles, and a pause would count as the client's
    uvloop.run(main())
