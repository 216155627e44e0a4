"""Pictures to hold to, and how near to them frames are."""

import io
from typing import Any

import av
import numpy
from PIL import Image


def lake(size: tuple[int, int]) -> Image.Image:
    """Orange, with broad gradients."""
    down, around = (Image.linear_gradient("L").resize(size), Image.radial_gradient("L").resize(size))
    return Image.merge("RGB", (Image.new("L", size, 230), down, around.point(lambda value: value / 3)))


def meadow(size: tuple[int, int]) -> Image.Image:
    """Green and blue, with others."""
    down, around = (Image.linear_gradient("L").resize(size), Image.radial_gradient("L").resize(size))
    return Image.merge("RGB", (around.point(lambda value: value / 3), down.rotate(180), Image.new("L", size, 200)))


def apart(frame: Any, picture: Image.Image) -> float:
    """The mean difference of a frame (height, width, 3) to a picture of its size, in levels of 255."""
    return float(numpy.abs(numpy.asarray(frame, dtype=float) - numpy.asarray(picture, dtype=float)).mean())


def decode(data: bytes) -> Any:
    """The frames of an MP4 or of a PNG, (frames, height, width, 3) of uint8."""
    if data.startswith(b"\x89PNG"):
        return numpy.asarray(Image.open(io.BytesIO(data)))[None]
    with av.open(io.BytesIO(data), "r") as container:
        return numpy.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
