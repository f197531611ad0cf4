"""Images from outside: a QR code is read and redrawn, an avatar is scaled and re-encoded.

Bytes from outside are opened within limits and never passed on unchanged.
"""

import io
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress

import segno
import zxingcpp
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
PIXEL_LIMIT = 4_000_000
SIDE_LIMIT = 8_000
SHOWN_PIXELS = 800
SEARCHED_PIXELS = 1000  # the time of a search grows with the area, to 5 s in a picture of 4 megapixels
SCALE = 10
AVATAR_PIXELS = 128


class NoPicture(ValueError):
    """Raised if the bytes are not an image in an accepted format and size."""


def _open(content: bytes) -> Image.Image:
    """Return the image in RGB, with transparent parts white. Raises NoPicture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content), formats=FORMATS)
            if picture.width * picture.height > PIXEL_LIMIT or max(picture.size) > SIDE_LIMIT:
                raise NoPicture("too large")
            picture.load()
            return _on_white(picture)
    except (
        UnidentifiedImageError,
        OSError,
        ValueError,
        SyntaxError,
        Warning,
        Image.DecompressionBombError,
    ) as error:
        raise NoPicture(type(error).__name__) from None


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture)
        picture = white
    return picture.convert("RGB")


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _text(picture: Image.Image) -> str:
    """Return the text of the QR code in an image, character by character; "" if none can be read."""
    found = zxingcpp.read_barcodes(
        picture.convert("L"), formats=zxingcpp.BarcodeFormat.QRCode, text_mode=zxingcpp.TextMode.Plain
    )
    return next((code.text for code in found if code.valid and code.text), "")


def read_code(content: bytes) -> tuple[str, bytes]:
    """Return (text, png): the text of the QR code in an image, and a PNG of it to show.

    The PNG is redrawn: sharp, dark on light, with its quiet zone. If the QR code cannot be read, the text is
    "" and the PNG is the image itself, checked and re-encoded. The PNG is also the image itself if a redrawn
    QR code would not read as the same text. Raises NoPicture.
    """
    return _beside_greenlets(_read_code, content)


def _beside_greenlets(call: Callable, *args):
    """Call in a thread of its own where greenlets share one, as in a waits worker: all of them would stop meanwhile."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        return call(*args)
    return sys.modules["gevent"].get_hub().threadpool.apply(call, args)


def _read_code(content: bytes) -> tuple[str, bytes]:
    picture = _open(content)
    picture.thumbnail((SEARCHED_PIXELS, SEARCHED_PIXELS), Image.Resampling.BOX)
    text = _text(picture)
    for draw in (draw_code, draw_named_code) if text else ():
        with suppress(ValueError):
            drawn = draw(text)
            if _text(drawn) == text:
                return text, _png(
                    drawn.resize((drawn.width * SCALE, drawn.height * SCALE), Image.Resampling.NEAREST)
                )
    picture.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS), Image.Resampling.BOX)
    return text, _png(picture)


def code_png(text: str) -> bytes:
    """Return a PNG of a text of ours as a QR code, large enough to be scanned from a screen."""
    drawn = draw_named_code(text)
    return _png(drawn.resize((drawn.width * SCALE, drawn.height * SCALE), Image.Resampling.NEAREST))


def draw_code(text: str) -> Image.Image:
    """Draw a QR code: one pixel per module, dark on light, with its quiet zone.

    Uses zxing-cpp, because a person waits for it.
    """
    code = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode, ec_level="M")
    pixels = memoryview(code.to_image(scale=1, add_quiet_zones=True))
    height, width = pixels.shape
    return Image.frombytes("L", (width, height), pixels.tobytes()).convert("1")


def draw_named_code(text: str) -> Image.Image:
    """Draw the same with segno and an ECI that declares UTF-8: few phones need it, and some reject it."""
    code = segno.make_qr(text, error="m", encoding="utf-8", eci=True)
    rows = [bytes(0 if dark else 255 for dark in row) for row in code.matrix_iter(border=4)]
    return Image.frombytes("L", (len(rows), len(rows)), b"".join(rows)).convert("1")


def avatar(content: bytes) -> bytes:
    """Return a square PNG of 128 pixels from an avatar of any size. Raises NoPicture."""
    return _png(ImageOps.fit(_open(content), (AVATAR_PIXELS, AVATAR_PIXELS)))
