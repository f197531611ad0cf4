"""Answers that are wrong below HTTP: cut connections, slow bytes, endless bodies."""

import asyncio
import socket
import struct
import zlib
from typing import NoReturn

from aiohttp import web

Headers = dict[str, str]

JSON = {"Content-Type": "application/json;charset=UTF-8"}
OPENING = b'{"code":"1000","message":"'
MIB = b"a" * (1 << 20)


async def for_ever() -> NoReturn:
    """Wait until the client disconnects: the server then cancels the handler."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("unreachable")


async def reset(request: web.Request) -> NoReturn:
    """Close with a TCP reset, as a killed process does."""
    transport = request.transport
    if transport is not None:
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
    await for_ever()


async def hang_up(request: web.Request) -> NoReturn:
    """Close the connection in the ordinary way, without the rest of the answer."""
    if request.transport is not None:
        request.transport.close()
    await for_ever()


async def cut(request: web.Request, body: bytes, headers: Headers) -> NoReturn:
    """Announce the whole body, send half of it."""
    answer = await _begin(request, len(body), headers)
    await answer.write(body[: len(body) // 2])
    await hang_up(request)


async def drip(request: web.Request, body: bytes, seconds: float, headers: Headers) -> web.StreamResponse:
    """Send one byte every ``seconds`` seconds."""
    answer = await _begin(request, len(body), headers)
    for place in range(len(body)):
        await answer.write(body[place : place + 1])
        await asyncio.sleep(seconds)
    return answer


async def huge(request: web.Request, size: int, headers: Headers) -> web.StreamResponse:
    """Send ``size`` bytes of JSON with a valid start."""
    answer = await _begin(request, size, headers)
    await answer.write(OPENING[:size])
    left = size - len(OPENING)
    while left > 0:
        await answer.write(MIB[:left])
        left -= len(MIB)
    return answer


async def endless(request: web.Request, headers: Headers) -> web.StreamResponse:
    """Send chunks until the client disconnects."""
    answer = await _begin(request, None, headers)
    await answer.write(OPENING)
    while True:
        await answer.write(MIB[:4096])
        await asyncio.sleep(0.001)


async def gzip_bomb(request: web.Request, size: int, headers: Headers) -> web.StreamResponse:
    """Send a small gzip body that decodes to ``size`` bytes of valid JSON."""
    answer = web.StreamResponse(headers=JSON | headers | {"Content-Encoding": "gzip"})
    await answer.prepare(request)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    # After a full flush a block is independent, so one block is sent many times.
    head = packer.compress(OPENING) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(MIB) + packer.flush(zlib.Z_FULL_FLUSH)
    blocks = -(-size // len(MIB))
    crc = zlib.crc32(OPENING)
    await answer.write(b"\x1f\x8b\x08\0\0\0\0\0\x02\xff" + head)
    for _ in range(blocks):
        crc = zlib.crc32(MIB, crc)
        await answer.write(block)
    crc = zlib.crc32(b'"}', crc)
    length = len(OPENING) + blocks * len(MIB) + 2
    await answer.write(packer.compress(b'"}') + packer.flush())
    await answer.write(struct.pack("<II", crc, length & 0xFFFFFFFF))
    return answer


async def _begin(request: web.Request, length: int | None, headers: Headers) -> web.StreamResponse:
    answer = web.StreamResponse(headers=JSON | headers)
    if length is None:
        answer.enable_chunked_encoding()
    else:
        answer.content_length = length
    await answer.prepare(request)
    return answer
