"""Pictures from outside, made ours: a QR code is read and drawn anew, an avatar is scaled and written anew.

Bytes from outside are opened within limits and never passed on as they came.
"""

import io
import warnings

import segno
import zxingcpp
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
PIXEL_LIMIT = 4_000_000
AVATAR_PIXELS = 128


class NoPicture(ValueError):
    """The bytes are not a picture that we open."""


def _open(content: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content), formats=FORMATS)
            if picture.width * picture.height > PIXEL_LIMIT:
                raise NoPicture("too large")
            picture.load()
            return picture
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
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def read_code(content: bytes) -> tuple[str, bytes]:
    """What the QR code in a picture says, and a PNG of it to show.

    The PNG is drawn anew: sharp, dark on light, with its quiet zone. Where the code cannot be read, the text
    is "" and the PNG is the picture itself, checked and written anew. Raises NoPicture.
    """
    picture = _on_white(_open(content))
    found = zxingcpp.read_barcodes(picture, formats=zxingcpp.BarcodeFormat.QRCode)
    text = next((code.text for code in found if code.valid and code.text), "")
    return (text, draw_code(text)) if text else ("", _png(picture))


def draw_code(text: str, scale: int = 10) -> bytes:
    buffer = io.BytesIO()
    segno.make_qr(text, error="m").save(buffer, kind="png", scale=scale, border=4, dark="#000", light="#fff")
    return buffer.getvalue()


def avatar(content: bytes) -> bytes:
    """A square PNG of 128 pixels from an avatar of any size. Raises NoPicture."""
    return _png(ImageOps.fit(_on_white(_open(content)), (AVATAR_PIXELS, AVATAR_PIXELS)))
