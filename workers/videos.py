"""Looking into MP4 files outside of the engine: what they are, and single frames of them.

PyAV is imported where it is needed: it costs 0.15 s, and a worker of the null engine has none.
"""

import io
from collections.abc import Collection
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a file says of itself, and how many frames really came out. `rate` is frames a second."""

    codec: str
    pixel_format: str
    width: int
    height: int
    rate: float
    frames: int
    faststart: bool


def facts_of(data: bytes) -> VideoFacts:
    """Decode the whole file. Raises ValueError with a sentence for what is no video that can be played to its end."""
    import av

    try:
        with av.open(io.BytesIO(data), "r", format="mp4") as container:
            stream = container.streams.video[0]
            frames = sum(1 for _ in container.decode(stream))
            return VideoFacts(
                codec=stream.codec_context.name,
                pixel_format=str(stream.codec_context.pix_fmt),
                width=stream.codec_context.width,
                height=stream.codec_context.height,
                rate=float(stream.average_rate or 0),
                frames=frames,
                faststart=-1 < data.find(b"moov") < data.find(b"mdat"),
            )
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"it cannot be played to its end ({error})") from error


def frames_of(data: bytes, indexes: Collection[int]) -> dict[int, Image.Image]:
    """Those frames, counted from 0, as RGB pictures, in their order; what is beyond the end is left out."""
    import av

    with av.open(io.BytesIO(data), "r", format="mp4") as container:
        shown = ((index, frame) for index, frame in enumerate(container.decode(video=0)) if index in indexes)
        return {index: frame.to_image() for index, frame in shown}  # type: ignore[no-untyped-call]
