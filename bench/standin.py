"""A stand-in for the upstream that costs almost nothing: what is measured beside it is the client.

    python -m bench.standin --port 21000

Every POST `/getIPadLoginInfo` is held until its answer is released; a wId that begins with WARM is answered at
once. `/iPadLogin` with its picture, `/member/login` and `/queryLoginWx` are answered at once, too. What happened is
told, and steered, over the same port:

- GET `/control/state`: `{"held", "most_held", "calls", "wids", "repeated", "most_parallel", "answered"}`
- GET `/control/sent`: `{wId: [seconds since 1970 at which an answer to it left, ...]}`
- POST `/control/release`: `{"rate": answers per second}` or `{"within": seconds}`, and maybe `{"count": n}`
- POST `/control/reset`: forget everything
"""

import argparse
import asyncio
import collections
import gc
import http.client
import io
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import segno
import uvloop

ROOT = Path(__file__).resolve().parent.parent
WARM = "warm-"
DIGITS = 8  # both ids end in the number of the login
PROFILE = {
    "wAccount": "shop-{number}",
    "nickName": "林晓雨 {number}",
    "headUrl": "http://wx.qlogo.cn/mmhead/ver_1/{number}/0",
    "smallHeadImgUrl": "http://wx.qlogo.cn/mmhead/ver_1/{number}/132",
    "sex": 2,
    "country": "CN",
    "city": "Guangzhou",
    "signature": "今天也要好好吃饭",
    "deviceType": "ipad",
    "uin": 1234567890,
    "mobilePhone": "138{number}",
    "username": "bench",
    "type": 2,
    "status": 3,
}


def wc_id(number: int) -> str:
    return f"wxid_bench{number:0{DIGITS}}"


def w_id(number: int, warm: bool = False) -> str:
    return f"{WARM if warm else ''}0000a8b1-93f4-4b5c-a1d2-{number:012}"


def profile(w_id: str) -> dict[str, object]:
    """What the success for this wId says in its `data`."""
    number = w_id[-DIGITS:]
    told = {k: v.format(number=number) if isinstance(v, str) else v for k, v in PROFILE.items()}
    return {"wcId": wc_id(int(number)), "wId": w_id, **told}


def envelope(data: object) -> bytes:
    return json.dumps({"message": "处理成功", "code": "1000", "data": data}, ensure_ascii=False).encode()


def picture() -> bytes:
    """A QR code as the upstream draws one."""
    png = io.BytesIO()
    segno.make_qr("http://weixin.qq.com/x/4f0cXwTQyZb8mJd1kE9a", error="m").save(png, "png", scale=8)
    return png.getvalue()


class Phones:
    """All held calls, in the order in which their wIds were first heard of."""

    def __init__(self, url: str):
        self.url, self.picture = url, picture()
        self.reset()

    def reset(self) -> None:
        self.held: dict[str, list[Wire]] = {}
        self.calls: collections.Counter[str] = collections.Counter()
        self.sent: dict[str, list[float]] = {}
        self.decided: set[str] = set()
        self.count = self.most_held = self.most_parallel = 0
        self.releasing: asyncio.Task | None = None

    def wait(self, w_id: str, wire: "Wire") -> None:
        self.calls[w_id] += 1
        if w_id in self.decided or w_id.startswith(WARM):
            self.answer(w_id, wire)
            return
        wires = self.held.setdefault(w_id, [])
        wires.append(wire)
        wire.waits_for = w_id
        self.count += 1
        self.most_held = max(self.most_held, self.count)
        self.most_parallel = max(self.most_parallel, len(wires))

    def gone(self, wire: "Wire") -> None:
        self.held[wire.waits_for].remove(wire)
        self.count -= 1

    def decide(self, w_id: str) -> None:
        """The phone decided; who is not there to hear it now is told when it asks again."""
        self.decided.add(w_id)
        for wire in self.held.get(w_id, ()):
            wire.waits_for = ""
            self.count -= 1
            self.answer(w_id, wire)
        self.held[w_id] = []

    def answer(self, w_id: str, wire: "Wire") -> None:
        body = envelope(profile(w_id))
        self.sent.setdefault(w_id, []).append(time.time())
        wire.answer(body)

    async def release(self, rate: float = 0, within: float = 0, count: int = 0) -> None:
        """Answer the undecided, `rate` a second with gaps as between independent people, or all `within` seconds."""
        waiting = [w_id for w_id in self.held if w_id not in self.decided]
        waiting = waiting[:count] if count else waiting
        rate = rate or len(waiting) / max(within, 0.001)
        chance, due = random.Random(7), time.monotonic()
        for w_id in waiting:
            if due > time.monotonic():
                await asyncio.sleep(due - time.monotonic())
            self.decide(w_id)
            due += 1 / rate if within else chance.expovariate(rate)

    def state(self) -> dict[str, int]:
        return {
            "held": self.count,
            "most_held": self.most_held,
            "calls": sum(self.calls.values()),
            "wids": len(self.calls),
            "repeated": sum(self.calls.values()) - len(self.calls),
            "most_parallel": self.most_parallel,
            "answered": len(self.sent),
        }


class Wire(asyncio.Protocol):
    """One connection. Speaks as much HTTP/1.1 as clients need that send a Content-Length, or no body."""

    __slots__ = ("buffer", "phones", "transport", "waits_for")

    def __init__(self, phones: Phones):
        self.phones, self.buffer, self.waits_for = phones, b"", ""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def connection_lost(self, _exc: Exception | None) -> None:
        if self.waits_for:
            self.phones.gone(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].split(b"\r\n")
            fields = {
                name.strip().lower(): value.strip()
                for name, _, value in (h.partition(b":") for h in head[1:])
            }
            whole = end + 4 + int(fields.get(b"content-length", 0))
            if len(self.buffer) < whole:
                return
            body, self.buffer = self.buffer[end + 4 : whole], self.buffer[whole:]
            self.request(head[0].split()[1].decode(), body)

    def request(self, path: str, body: bytes) -> None:
        if path == "/getIPadLoginInfo":
            self.phones.wait(json.loads(body)["wId"], self)
        elif path.startswith("/control/"):
            self.answer(json.dumps(control(self.phones, path, body)).encode())
        elif path == "/iPadLogin":
            number = int(json.loads(body)["wcId"][-DIGITS:])
            self.answer(envelope({"wId": w_id(number), "qrCodeUrl": f"{self.phones.url}/qr/{number}.png"}))
        elif path.startswith("/qr/"):
            self.answer(self.phones.picture, "image/png")
        elif path == "/member/login":
            self.answer(envelope({"Authorization": "bench-authorization", "status": 0}))
        else:
            self.answer(envelope(None))

    def answer(self, body: bytes, kind: str = "application/json;charset=UTF-8") -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


def control(phones: Phones, path: str, body: bytes) -> object:
    if path == "/control/sent":
        return phones.sent
    if path == "/control/reset":
        phones.reset()
    elif path == "/control/release":
        phones.releasing = asyncio.get_running_loop().create_task(phones.release(**json.loads(body)))
    return phones.state()


async def serve(port: int) -> None:
    phones = Phones(f"http://127.0.0.1:{port}")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Wire(phones), "127.0.0.1", port, backlog=4096)
    print("ready.", flush=True)
    await server.serve_forever()


class StandIn:
    """The process of a stand-in, and what it is told and asked. Start with `with StandIn(port) as upstream`."""

    def __init__(self, port: int):
        self.port, self.url = port, f"http://127.0.0.1:{port}"

    def __enter__(self) -> "StandIn":
        command = [sys.executable, "-m", "bench.standin", "--port", str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready.":
            raise RuntimeError("the stand-in for the upstream did not start")
        self.wire = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        return self

    def __exit__(self, *_exc) -> None:
        self.wire.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def ask(self, path: str, **what: float) -> dict:
        self.wire.request("POST", f"/control/{path}", json.dumps(what).encode())
        return json.loads(self.wire.getresponse().read())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    gc.disable()  # nothing here makes cycles, and a pause would count as the client's
    uvloop.run(serve(options.port))


if __name__ == "__main__":
    main()
