"""Videos as MP4 files: H.264, ready to be played while they load. The same input gives the same bytes."""

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import av
from av.video.reformatter import ColorRange, Colorspace

OPTIONS: Final = {
    "crf": "18",  # hardly told from the original
    "preset": "medium",
    "x264-params": "mbtree=0",  # with it, and with several threads, runs differed from each other
}
_CONTAINER: Final = {"movflags": "+faststart", "fflags": "+bitexact"}
_BT709: Final = 1  # of H.264's table of colours, the same number in all three columns


def encode_mp4(frames: Sequence[Any], *, fps: int, comment: str, folder: Path) -> bytes:
    """Encode arrays (height, width, 3) of uint8, of even sizes, as yuv420p; `comment` becomes its metadata.

    A temporary file in `folder` is needed meanwhile: the index goes before the pictures only when all are there
    (faststart), and for that FFmpeg opens the file a second time. Raises OSError when it cannot be written.
    """
    height, width, _ = frames[0].shape
    with tempfile.TemporaryDirectory(prefix=".encoding-", dir=folder) as name:
        path = Path(name) / "video.mp4"
        with av.open(str(path), "w", options=_CONTAINER) as container:
            container.metadata["comment"] = comment
            stream = container.add_stream("libx264", rate=fps, options=OPTIONS)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            coder = stream.codec_context
            coder.thread_count = 1
            coder.color_primaries = coder.color_trc = coder.colorspace = _BT709
            coder.color_range = ColorRange.MPEG
            for pixels in frames:
                picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                picture = picture.reformat(
                    format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
                )
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        return path.read_bytes()


def remux_mp4(data: bytes, *, comment: str, folder: Path) -> bytes:
    """The pictures of an MP4 as they are, to the last bit, with the index before them and `comment` as metadata.

    What else it holds, such as sound, is left out. As for `encode_mp4`, a temporary file in `folder` is needed.
    """
    with tempfile.TemporaryDirectory(prefix=".encoding-", dir=folder) as name:
        path = Path(name) / "video.mp4"
        with av.open(io.BytesIO(data), "r", format="mp4") as source, av.open(str(path), "w", options=_CONTAINER) as to:
            to.metadata["comment"] = comment
            pictures = source.streams.video[0]
            stream = to.add_stream_from_template(pictures)
            for packet in source.demux(pictures):
                if packet.dts is not None:  # the last one, which only flushes the decoder, is empty
                    packet.stream = stream
                    to.mux(packet)
        return path.read_bytes()


def decode_mp4(data: bytes) -> list[Any]:
    """The frames of a video as arrays (height, width, 3) of uint8."""
    with av.open(io.BytesIO(data), "r", format="mp4") as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
