"""Simulated owners of WeChat accounts, and their pictures."""

import hashlib
import random
import secrets
import string
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

SURNAMES = "林陈苏周沈许顾叶江宋何夏唐孟秦白方温乔陆"
GIVEN = (
    *("晓雨", "安然", "子墨", "清和", "若溪", "一诺", "思远", "星河", "知夏", "云帆"),
    *("书瑶", "景行", "语桐", "明轩", "望舒", "南乔", "慕白", "初晴", "嘉树", "婉清"),
    *("临风", "舒窈", "听澜", "念安", "沐阳", "采薇", "怀瑾", "青禾", "长歌", "修远"),
)
CITIES = ("Guangzhou", "Nanjing", "Hangzhou", "Shanghai", "Shenzhen", "Chengdu", "Xiamen", "Suzhou")
SIGNATURES = (
    "慢慢来，比较快",
    "山高水长",
    "今天也要好好吃饭",
    "心有猛虎，细嗅蔷薇",
    "客服在线 9:00-21:00",
    "",
)
WORD = string.ascii_lowercase + string.digits


@dataclass(slots=True)
class Person:
    """A WeChat account with its phone. ``devices`` counts the devices that WKTeam created for it."""

    wcId: str
    nickname: str
    wAccount: str
    sex: int
    country: str
    city: str
    signature: str
    mobilePhone: str
    uin: int
    deviceType: str = "android"
    headUrl: str = ""  # empty: drawn and served by the simulator
    devices: int = 0
    logins: int = 0
    wIds: list[str] = field(default_factory=list)
    popup_works: bool = True
    prompt: str = ""  # automatic answer to a prompt: "accept", "decline", "ignore"
    prompt_seconds: float = 0  # (scaled) time until that answer
    offline_reason: str | None = None

    def profile(self, wId: str, base: str, settings_account: str) -> dict[str, Any]:
        """Return the profile that step 3 and the phone prompt return. ``base``: URL of the pictures."""
        head = self.headUrl or f"{base}/avatar/{quoted(self.wcId)}.png"
        return {
            "wcId": self.wcId,
            "wId": wId,
            "wAccount": self.wAccount,
            "nickName": self.nickname,
            "headUrl": head,
            "smallHeadImgUrl": head,
            "sex": self.sex,
            "country": self.country,
            "city": self.city,
            "signature": self.signature,
            "deviceType": self.deviceType,
            "uin": self.uin,
            "mobilePhone": self.mobilePhone,
            "username": settings_account,
            "type": 2,
            "status": 3,
        }


PERSON_FIELDS = (
    *("nickname", "wAccount", "sex", "country", "city", "signature", "mobilePhone"),
    *("uin", "deviceType", "headUrl", "popup_works", "prompt", "prompt_seconds"),
)


def invent(wcId: str = "") -> Person:
    """Return a generated person. The same wcId always gives the same one, also after a restart."""
    wcId = wcId or "wxid_" + "".join(secrets.choice(WORD) for _ in range(14))
    dice = random.Random(hashlib.sha256(wcId.encode("utf-8", "replace")).digest())
    return Person(
        wcId=wcId,
        nickname=dice.choice(SURNAMES) + dice.choice(GIVEN),
        wAccount="wk" + "".join(dice.choice(WORD) for _ in range(8)),
        sex=dice.choice((1, 2)),
        country="CN",
        city=dice.choice(CITIES),
        signature=dice.choice(SIGNATURES),
        mobilePhone="1" + dice.choice("35789") + "".join(dice.choice(string.digits) for _ in range(9)),
        uin=dice.randrange(10**8, 2**31),
    )


def quoted(wcId: str) -> str:
    """Return any wcId, whatever its characters, as one segment of a URL path."""
    return quote(wcId, safe="", errors="replace")


def portrait(wcId: str, cell: int = 22) -> bytes:
    """Return a PNG of 132 by 132 pixels: a mirrored 5 by 5 pattern derived from the wcId."""
    seed = hashlib.sha256(wcId.encode("utf-8", "replace")).digest()
    ink = bytes(60 + byte % 120 for byte in seed[:3])
    paper = bytes((238, 240, 236))
    rows: list[bytes] = []
    margin = paper * (cell // 2)
    for y in range(5):
        cells = [seed[3 + y * 3 + min(x, 4 - x)] & 1 for x in range(5)]
        line = b"\0" + margin + b"".join((ink if on else paper) * cell for on in cells) + margin
        rows += [line] * cell
    blank = b"\0" + paper * (6 * cell)
    return png(6 * cell, 6 * cell, b"".join([blank] * (cell // 2) + rows + [blank] * (cell // 2)))


def png(width: int, height: int, rows: bytes) -> bytes:
    """Return 8-bit RGB rows, each with its filter byte first, as a PNG file."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )
