"""Pictures from outside, made ours: a QR code is read and drawn anew, an avatar is scaled and written anew.

Bytes from outside are opened within limits and never passed on as they came.
"""

import io
import warnings
from contextlib import suppress

import segno
import zxingcpp
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
PIXEL_LIMIT = 4_000_000
SIDE_LIMIT = 8_000
SHOWN_PIXELS = 800
AVATAR_PIXELS = 128


class NoPicture(ValueError):
    """The bytes are not a picture that we open."""


def _open(content: bytes) -> Image.Image:
    """The picture in RGB, its transparent parts white. Raises NoPicture."""
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
    """What the QR code in a picture says, character by character; "" where none can be read."""
    found = zxingcpp.read_barcodes(
        picture, formats=zxingcpp.BarcodeFormat.QRCode, text_mode=zxingcpp.TextMode.Plain
    )
    return next((code.text for code in found if code.valid and code.text), "")


def read_code(content: bytes) -> tuple[str, bytes]:
    """What the QR code in a picture says, and a PNG of it to show.

    The PNG is drawn anew: sharp, dark on light, with its quiet zone. Where the code cannot be read, the text
    is "" and the PNG is the picture itself, checked and written anew; that is shown, too, where the drawing
    would say something else. Raises NoPicture.
    """
    picture = _open(content)
    text = _text(picture)
    for name_encoding in (False, True) if text else ():
        with suppress(segno.DataOverflowError):
            drawn = draw_code(text, name_encoding=name_encoding)
            if _text(Image.open(io.BytesIO(drawn))) == text:
                return text, drawn
    picture.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS), Image.Resampling.BOX)
    return text, _png(picture)


def draw_code(text: str, scale: int = 10, name_encoding: bool = False) -> bytes:
    """A QR code as PNG. Few phones need to be told that its text is UTF-8, and some do not like it."""
    code = segno.make_qr(text, error="m", encoding="utf-8" if name_encoding else None, eci=name_encoding)
    buffer = io.BytesIO()
    code.save(buffer, kind="png", scale=scale, border=4, dark="#000", light="#fff")
    return buffer.getvalue()


def avatar(content: bytes) -> bytes:
    """A square PNG of 128 pixels from an avatar of any size. Raises NoPicture."""
    return _png(ImageOps.fit(_open(content), (AVATAR_PIXELS, AVATAR_PIXELS)))
