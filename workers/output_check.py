"""Looking at what was drawn before it leaves the house: it opens, has its size, and shows something."""

import io
from typing import Final

from PIL import Image

from statemachine.job import Asset
from workers.errors import GiveUp
from workers.videos import NoVideo, facts_of

DRAWING: Final = frozenset({"diffusers", "wan_script"})
"""The engines whose pictures and videos are looked at; others draw what need not be any."""


def check(asset: Asset, data: bytes) -> None:
    """Raise GiveUp unless `data` is what the asset's content type says, whole, and shows something."""
    if asset.content_type == "video/mp4":
        check_video(asset, data)
    else:
        check_picture(asset, data)


def check_picture(asset: Asset, data: bytes) -> None:
    """Raise GiveUp unless `data` is a whole PNG of the asset's size with more than one colour in it.

    One colour is what NaN becomes: SDXL's VAE in half precision is known for black pictures.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            picture.load()
            size, blank = picture.size, all(low == high for low, high in _extremes(picture))
    except (OSError, SyntaxError, ValueError) as error:
        raise _bad(asset, f"does not open as a PNG ({error})", "OutputUnreadable") from error
    _judge_size(asset, *size)
    if blank:
        raise _bad(asset, "is blank: all its pixels have one colour", "OutputBlank")


def check_video(asset: Asset, data: bytes) -> None:
    """Raise GiveUp unless `data` is an MP4 that plays anywhere, of the asset's size and frames, and not of one colour.

    Playing anywhere is H.264 in yuv420p; its index lies before its pictures, so that it plays while it loads. Every
    frame is decoded.
    """
    try:
        video = facts_of(data)
    except NoVideo as error:
        raise _bad(asset, f"does not open as a video: {error}", "OutputUnreadable") from error
    if (video.codec, video.pixel_format) != ("h264", "yuv420p"):
        what = f"is {video.codec} in {video.pixel_format} instead of h264 in yuv420p"
        raise _bad(asset, what, "OutputFormat")
    _judge_size(asset, video.width, video.height)
    if video.frames != asset.frames:
        raise _bad(asset, f"has {video.frames} frames instead of {asset.frames}", "OutputFrames")
    if not video.faststart:
        raise _bad(
            asset, "has its index behind its pictures: it does not play before all of it is there", "OutputFormat"
        )
    if video.blank:
        raise _bad(asset, "is blank: all its frames have one colour", "OutputBlank")


def _judge_size(asset: Asset, width: int, height: int) -> None:
    if (width, height) != (asset.width, asset.height):
        raise _bad(asset, f"has the size {width}*{height} instead of {asset.width}*{asset.height}", "OutputSize")


def _extremes(picture: Image.Image) -> list[tuple[float, float]]:
    found = picture.convert("RGB").getextrema()
    return [pair for pair in found if isinstance(pair, tuple)]


def _bad(asset: Asset, what: str, error_type: str) -> GiveUp:
    kind = "video" if asset.content_type == "video/mp4" else "picture"
    return GiveUp(f"Generation failed: {kind} {asset.index} {what}", error_type=error_type)
