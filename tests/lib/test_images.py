"""Pictures from outside become ours, or are refused."""

import io
import os
import random
import struct
import subprocess
import sys
import zlib

import pytest
import segno
import zxingcpp
from PIL import Image

from accounts.lib import images
from accounts.lib.images import NoPicture
from tests.support.processes import ROOT

TEXT = "http://weixin.qq.com/x/AbC_0123456789"
TEXTS = [
    TEXT, "1", "1" * 3000, "A" * 3000, "x" * 2300, "中文" * 300, "é", "Ã©", "£100", "ÿþ", "日本語テスト", "ﾊﾝｶｸ", "😀" * 50,
    "http://x/?a=é&b=中", "a\tb\nc", "a\0b", "a\x1db", "Привет", "한국어", "javascript:alert(1)", "<script>", "\x80\x81",
]  # fmt: skip


def saved(picture: Image.Image, kind: str = "PNG", **how) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **how)
    return buffer.getvalue()


def code(text: str = TEXT, scale: int = 4, border: int = 4, **how) -> Image.Image:
    buffer = io.BytesIO()
    drawing = {name: how.pop(name) for name in ("dark", "light") if name in how}
    segno.make_qr(text, **how).save(buffer, kind="png", scale=scale, border=border, **drawing)
    return Image.open(io.BytesIO(buffer.getvalue()))


def texts(png: bytes) -> list[str]:
    found = zxingcpp.read_barcodes(Image.open(io.BytesIO(png)), text_mode=zxingcpp.TextMode.Plain)
    return [barcode.text for barcode in found]


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of(width: int, height: int, rows: bytes, *more: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *more, chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
NO_PICTURES = {
    "nothing": b"",
    "text": b"not found",
    "SVG": SVG,
    "SVG without a head": SVG[21:],
    "HTML": b"<!doctype html><script>alert(1)</script>",
    "JSON": b'{"code":"1001"}',
    "PDF": b"%PDF-1.7\n1 0 obj<<>>endobj trailer<<>>",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage",
    "zip": b"PK\x03\x04" + bytes(100),
    "ELF": b"\x7fELF" + bytes(100),
    "a head of PNG": b"\x89PNG\r\n\x1a\n",
    "half a PNG": saved(code())[:-200],
    "a head of JPEG": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "a head of GIF": b"GIF89a",
    "GIF and script": b"GIF89a/*" + bytes(20) + b"*/=1;alert(1)",
    "TIFF": saved(code().convert("RGB"), "TIFF"),
    "ICO": saved(code().convert("RGB").resize((32, 32)), "ICO"),
    "PPM": saved(code().convert("RGB"), "PPM"),
    "a promise of 2 gigapixels": png_of(65_000, 32_000, b""),
    "a promise of 4 megapixels and one": png_of(4_000_001, 1, b""),
    "a very long line": png_of(9000, 1, bytes(9001)),
    "a wrong checksum": saved(code()).replace(b"IDAT", b"IDAU"),
}


# --- codes


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text)[:20])
def test_a_qr_code_is_drawn_again_with_the_same_text(text):
    read, png = images.read_code(saved(code(text, error="m", encoding="utf-8", eci=True)))
    assert read == text
    assert texts(png) == [text]


@pytest.mark.slow
def test_a_code_too_full_to_be_drawn_more_robustly_is_shown_as_it_is():
    text = "x" * 2900
    read, png = images.read_code(saved(code(text, error="l")))
    assert read == text
    assert texts(png) == [text]


def test_the_drawing_is_dark_on_light_with_a_quiet_zone():
    _text, png = images.read_code(saved(code(border=0)))
    drawn = Image.open(io.BytesIO(png)).convert("L")
    inner = drawn.crop((40, 40, drawn.width - 40, drawn.height - 40))
    assert {value for _count, value in drawn.getcolors()} == {0, 255}
    assert drawn.getpixel((40, 40)) == 0  # the corner of the finder, four modules of ten pixels from the edge
    frame = drawn.copy()
    frame.paste(255, (40, 40, drawn.width - 40, drawn.height - 40))
    assert frame.getextrema() == (255, 255)
    assert inner.width % 10 == 0


MODES = {
    "PNG": ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"],
    "JPEG": ["1", "L", "RGB", "CMYK"],
    "GIF": ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"],
    "WEBP": ["1", "L", "P", "RGB", "RGBA", "LA", "I;16", "CMYK"],
    "BMP": ["1", "L", "P", "RGB", "RGBA"],
}


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes])
def test_any_common_kind_of_picture_is_read(kind, mode):
    grey = code().convert("L")
    picture = (
        grey.convert("I").point(lambda value: value * 257).convert("I;16")
        if mode == "I;16"
        else grey.convert(mode)
    )
    content = saved(picture, kind)
    assert images.read_code(content)[0] == TEXT
    assert Image.open(io.BytesIO(images.avatar(content))).size == (128, 128)


@pytest.mark.parametrize(
    "picture",
    [
        code(border=0),
        code(scale=1),
        code(dark="white", light="black"),
        code(light=None),
        code(scale=30),
        code().rotate(90),
        code().rotate(7, expand=True, fillcolor=255),
        code(dark="#07c160", light="#ffffff"),
        Image.merge("RGB", [code().convert("L").point(lambda value: 200 if value else 30)] * 3),
    ],
    ids=["no border", "tiny", "inverted", "transparent", "large", "on its side", "askew", "green", "pale"],
)
def test_a_code_in_any_dress_is_read(picture):
    text, png = images.read_code(saved(picture))
    assert (text, texts(png)) == (TEXT, [TEXT])


def test_a_photo_of_a_code_is_read():
    dice = random.Random(5)
    photo = Image.new("RGB", (900, 700), (90, 120, 80))
    photo.paste(code(scale=9).convert("RGB").rotate(4, expand=True, fillcolor=(90, 120, 80)), (120, 90))
    noisy = photo.point(lambda value: max(0, min(255, value + dice.randint(-12, 12))))
    assert images.read_code(saved(noisy, "JPEG", quality=40))[0] == TEXT


def test_a_picture_without_a_qr_code_is_shown_itself_written_again():
    marked = Image.new("RGB", (300, 200), (7, 193, 96))
    content = saved(marked, "JPEG", comment=b"canary", exif=b"Exif\0\0canary")
    text, png = images.read_code(content)
    assert text == ""
    assert png.startswith(b"\x89PNG")
    assert b"canary" in content
    assert b"canary" not in png
    assert Image.open(io.BytesIO(png)).size == (300, 200)


def test_what_hangs_on_behind_a_picture_does_not_come_through():
    _text, png = images.read_code(saved(Image.new("L", (50, 50), 200)) + SVG)
    assert b"script" not in png


@pytest.mark.slow
def test_a_large_picture_without_a_qr_code_is_searched_once_and_made_smaller(monkeypatch):
    looked_through = []
    read_barcodes = zxingcpp.read_barcodes

    def counted(picture, **how):
        looked_through.append(picture.size)
        return read_barcodes(picture, **how)

    monkeypatch.setattr(zxingcpp, "read_barcodes", counted)
    noise = Image.frombytes("L", (2000, 2000), os.urandom(4_000_000)).convert("1")
    text, png = images.read_code(saved(noise))
    assert looked_through == [(1000, 1000)]
    assert text == ""
    assert Image.open(io.BytesIO(png)).size == (800, 800)
    assert len(png) < 2_000_000


GREENLETS = """
from gevent import monkey
monkey.patch_all()
import sys, zxingcpp
from accounts.lib import images
ident, threads = monkey.get_original("_thread", "get_ident"), []
read_barcodes = zxingcpp.read_barcodes
def noted(*args, **how):
    threads.append(ident())
    return read_barcodes(*args, **how)
zxingcpp.read_barcodes = noted
assert images.read_code(sys.stdin.buffer.read())[0]
assert threads and ident() not in threads
"""


@pytest.mark.slow
def test_a_picture_is_searched_beside_the_greenlets_of_a_worker():
    subprocess.run([sys.executable, "-c", GREENLETS], input=saved(code()), check=True, timeout=60, cwd=ROOT)


# --- what is no picture


@pytest.mark.parametrize("name", NO_PICTURES)
@pytest.mark.parametrize("use", [images.read_code, images.avatar])
def test_what_is_no_picture_is_refused(name, use):
    with pytest.raises(NoPicture):
        use(NO_PICTURES[name])


@pytest.mark.slow
def test_a_bomb_of_text_is_refused():
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000), 9))
    for use in (images.read_code, images.avatar):
        with pytest.raises(NoPicture):
            use(png_of(1, 1, b"\0\0", text))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Invalid APNG")
def test_two_thousand_damaged_pictures_do_no_harm():
    dice = random.Random(20)
    small = code(scale=2).convert("RGB")
    whole = [saved(small, kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP")]
    whole += [saved(small.convert("P"), kind) for kind in ("PNG", "GIF")]
    whole += [saved(small, kind, save_all=True, append_images=[small]) for kind in ("GIF", "PNG", "WEBP")]
    ours = 0
    for _ in range(2000):
        content = bytearray(dice.choice(whole))
        for _ in range(dice.randint(1, 5)):
            place = dice.randrange(min(len(content), dice.choice((60, 10_000))))
            content[place : place + dice.choice((0, 1, 1, 9))] = (
                dice.randbytes(dice.choice((0, 1, 1, 9))) or b"\xff"
            )
        try:
            png = dice.choice((images.avatar, lambda given: images.read_code(given)[1]))(bytes(content))
        except NoPicture:
            continue
        ours += png.startswith(b"\x89PNG")
    assert ours > 100  # some damage leaves a picture


# --- avatars


@pytest.mark.parametrize("size", [(1, 1), (132, 132), (640, 640), (30, 3000), (3000, 30), (2000, 2000)])
def test_an_avatar_is_a_square_of_ours(size):
    made = Image.open(io.BytesIO(images.avatar(saved(Image.new("RGB", size, "red"), "JPEG"))))
    assert (made.format, made.mode, made.size) == ("PNG", "RGB", (128, 128))


def test_a_transparent_avatar_stands_on_white():
    made = Image.open(io.BytesIO(images.avatar(saved(Image.new("RGBA", (10, 10), (0, 0, 0, 0))))))
    assert made.getpixel((64, 64)) == (255, 255, 255)
