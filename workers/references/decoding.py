"""Decoding a picture that a stranger sent: pixels come out, whatever else was in the file does not.

TIFF is left out on purpose: nobody shows one on a page, and its reader is the one with the longest list of holes.
Colour profiles are not applied.
"""

import io
import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from PIL import Image

from workers.errors import GiveUp
from workers.spool import sha256

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MOST_SCANS: Final = 100
"""Progressive JPEGs have some ten. Each one costs a pass over all pixels, and a hostile file holds 100,000."""
WHITE: Final = (255, 255, 255)

_ORIENTATION: Final = 0x0112
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MARKER: Final = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")


@dataclass(frozen=True, kw_only=True)
class PixelLimits:
    """What may be decoded: `pixels` in all, `side` along the longer side."""

    pixels: int = 40_000_000
    side: int = 16_384


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An upright RGB picture of `width` x `height` without metadata. `digest` is the sha256 of the file that came.

    `notes` say what was left behind, each in a few words.
    """

    image: Image.Image
    digest: str
    width: int
    height: int
    notes: tuple[str, ...]


def decode(data: bytes, *, limits: PixelLimits) -> Picture:
    """Decode the first frame: upright, transparency on white, 8 bits of RGB. Raises GiveUp with one sentence.

    The size is judged by the header, before a pixel is decoded.
    """
    notes: list[str] = []
    with _opened(data) as opened:
        _check(opened, data, limits)
        try:
            opened.load()  # its mode and its transparency are known for sure only then
            image = _rgb(opened, notes)
        except Exception:  # noqa: BLE001  # Pillow's readers raise all kinds of errors over files made to hurt
            raise _refused("the reference is broken: it ends too early or contradicts itself") from None
        image = _upright(opened, image, notes)
        _note_frames(opened, notes)
    plain = Image.new("RGB", image.size)
    plain.paste(image)  # the pixels alone: a converted image keeps profiles and comments
    return Picture(image=plain, digest=sha256(data), width=plain.width, height=plain.height, notes=tuple(notes))


def normalise(picture: Picture) -> bytes:
    """The picture as a PNG that holds nothing else: the same pixels give the same bytes."""
    file = io.BytesIO()
    picture.image.save(file, "PNG", compress_level=6)
    return file.getvalue()


def fit(image: Image.Image, width: int, height: int, mode: Literal["letterbox", "crop"]) -> Image.Image:
    """The image in exactly `width` x `height` pixels, undistorted.

    letterbox keeps all of it and puts white bars around it; crop fills the frame and cuts off what is beyond it,
    the same on both sides.
    """
    across, down = width / image.width, height / image.height
    if mode == "letterbox":
        scale = min(across, down)
        inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        framed = Image.new("RGB", (width, height), WHITE)
        framed.paste(image.resize(inner, Image.Resampling.LANCZOS), ((width - inner[0]) // 2, (height - inner[1]) // 2))
        return framed
    scale = max(across, down)
    left, top = (image.width - width / scale) / 2, (image.height - height / scale) / 2
    box = (max(0.0, left), max(0.0, top), min(image.width, image.width - left), min(image.height, image.height - top))
    return image.resize((width, height), Image.Resampling.LANCZOS, box=box)


def _opened(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise _refused("the reference has more pixels than are decoded") from None
    except Exception:  # noqa: BLE001  # Pillow's readers raise all kinds of errors over files made to hurt
        raise _refused(f"the reference is not a picture that can be read ({', '.join(FORMATS)})") from None


def _check(opened: Image.Image, data: bytes, limits: PixelLimits) -> None:
    width, height = opened.size
    if width < 1 or height < 1:
        raise _refused("the reference has no pixels")
    if width * height > limits.pixels or max(width, height) > limits.side:
        raise _refused(
            f"the reference has {width} x {height} pixels; at most {limits.pixels} in all and {limits.side} "
            "along a side are decoded"
        )
    if opened.format in ("JPEG", "MPO") and _scans(data) > MOST_SCANS:
        raise _refused(f"the reference is a JPEG of more than {MOST_SCANS} scans")


def _scans(data: bytes) -> int:
    """How often a JPEG goes over its pixels. What lies in its segments or behind its end does not count."""
    scans, at = 0, 2
    while scans <= MOST_SCANS and (found := _MARKER.search(data, at)):
        kind = data[found.start() + 1]
        if kind == 0xD9:
            break
        scans += kind == 0xDA
        at = found.start() + 2 + int.from_bytes(data[found.end() : found.end() + 2])
    return scans


def _rgb(opened: Image.Image, notes: list[str]) -> Image.Image:
    if opened.mode.startswith("I"):
        notes.append("16 bits a channel became 8")
        return opened.convert("I").point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    if opened.mode == "CMYK":
        notes.append("CMYK became RGB without a colour profile")
    if not opened.has_transparency_data:
        return opened.convert("RGB")
    notes.append("transparency became white")
    shown = Image.new("RGBA", opened.size, (*WHITE, 255))
    shown.alpha_composite(opened.convert("RGBA"))
    return shown.convert("RGB")


def _upright(opened: Image.Image, image: Image.Image, notes: list[str]) -> Image.Image:
    try:
        turn: Any = _UPRIGHT.get(opened.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  # damaged EXIF data is common, and the pixels are sound
        notes.append("EXIF data that cannot be read was ignored")
        return image
    return image if turn is None else image.transpose(turn)


def _note_frames(opened: Image.Image, notes: list[str]) -> None:
    """Never by counting: a GIF of a million frames would be read to its end for that."""
    try:
        several = getattr(opened, "is_animated", False)
    except Exception:  # noqa: BLE001  # what comes behind the first frame may be anything
        several = True
    if several:
        notes.append("only the first of several frames is used")


def _refused(sentence: str) -> GiveUp:
    return GiveUp(sentence, error_type="ReferenceInvalid")
