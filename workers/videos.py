"""Looking into MP4 files outside of the engine: what they are, and single frames of them.

PyAV is imported where it is needed: it costs 0.15 s, and a worker of the null engine has none.
"""

import io
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from PIL import Image

if TYPE_CHECKING:
    import av

_PICTURES: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_HEAD: Final = 8
_BLANK: Final = 2
"""How far apart samples of one plane may be in a video of one colour: the encoder's rounding."""


class NoVideo(ValueError):
    """The bytes are no whole video; the message is a sentence about "it".

    `instead` is "picture" or "text" where they are that from the first byte on.
    """

    def __init__(self, message: str, *, instead: str | None = None) -> None:
        super().__init__(message)
        self.instead = instead


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a file says of itself, and how many frames really came out. `rate` is frames a second.

    `faststart` is whether its index lies before its pictures, `blank` whether all its frames have the same one colour.
    """

    codec: str
    pixel_format: str
    width: int
    height: int
    rate: float
    frames: int
    faststart: bool
    blank: bool = False


def facts_of(data: bytes) -> VideoFacts:
    """Decode the whole file. Raises NoVideo with a sentence for what is no video that can be played to its end."""
    import av

    boxes = _boxes(data)
    extremes = _Extremes()
    try:
        with av.open(io.BytesIO(data), "r", format="mp4") as container:
            stream = container.streams.video[0]
            frames = sum(extremes.take(frame) for frame in container.decode(stream))
            return VideoFacts(
                codec=stream.codec_context.name,
                pixel_format=str(stream.codec_context.pix_fmt),
                width=stream.codec_context.width,
                height=stream.codec_context.height,
                rate=float(stream.average_rate or 0),
                frames=frames,
                faststart=boxes.index("moov") < boxes.index("mdat"),
                blank=extremes.blank,
            )
    except (av.FFmpegError, IndexError) as error:
        raise NoVideo(f"it cannot be played to its end ({error})") from error


def frames_of(data: bytes, indexes: Collection[int]) -> dict[int, Image.Image]:
    """Those frames, counted from 0, as RGB pictures, in their order; what is beyond the end is left out."""
    import av

    with av.open(io.BytesIO(data), "r", format="mp4") as container:
        shown = ((index, frame) for index, frame in enumerate(container.decode(video=0)) if index in indexes)
        return {index: frame.to_image() for index, frame in shown}  # type: ignore[no-untyped-call]


def _boxes(data: bytes) -> list[str]:
    """The boxes that an MP4 file consists of, by name and in order. Raises NoVideo when one is cut or missing."""
    if not data:
        raise NoVideo("it is empty")
    if data.startswith(_PICTURES):
        raise NoVideo("it is a picture", instead="picture")
    if data[4:_HEAD] != b"ftyp":
        if _is_text(data[:1000]):
            raise NoVideo("it is a text", instead="text")
        raise NoVideo("it is no MP4")
    names = []
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:  # a long box: 64 bits behind the name
            size = int.from_bytes(data[at + _HEAD : at + 2 * _HEAD], "big")
        elif size == 0:  # the last one: as far as the file goes
            size = len(data) - at
        if size < _HEAD or at + size > len(data):
            raise NoVideo(f"it is truncated: {len(data)} bytes of at least {at + max(size, _HEAD)}")
        names.append(data[at + 4 : at + _HEAD].decode("latin-1"))
        at += size
    if missing := [name for name in ("moov", "mdat") if name not in names]:
        raise NoVideo(f"it is truncated: it has no {' and no '.join(missing)} box")
    return names


def _is_text(head: bytes) -> bool:
    """Whether it reads as UTF-8, but for a character cut at its end, without control characters."""
    text = head.decode("utf-8", "ignore")
    return len(text.encode()) > len(head) - 4 and all(sign.isprintable() or sign in "\t\r\n" for sign in text)


class _Extremes:
    """The lowest and highest sample of each plane, over all frames."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[int, int]] = {}
        self.blank = True

    def take(self, frame: "av.VideoFrame") -> int:
        """Look at one more frame, unless it is known already that they are not all of one colour. Returns 1."""
        for number, plane in enumerate(frame.planes if self.blank else ()):
            samples = bytes(plane)
            rows = [samples[at : at + plane.width] for at in range(0, plane.line_size * plane.height, plane.line_size)]
            low, high = self._found.get(number, (255, 0))
            low, high = min(low, *map(min, rows)), max(high, *map(max, rows))
            self._found[number] = low, high
            self.blank = self.blank and high - low <= _BLANK
        return 1
