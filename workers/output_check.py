"""Looking at what was drawn before it leaves the house: it opens, has its size, and shows something."""

import io

from PIL import Image

from statemachine.job import Asset
from workers.errors import GiveUp


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
    if size != (asset.width, asset.height):
        got, wanted = "*".join(map(str, size)), f"{asset.width}*{asset.height}"
        raise _bad(asset, f"has the size {got} instead of {wanted}", "OutputSize")
    if blank:
        raise _bad(asset, "is blank: all its pixels have one colour", "OutputBlank")


def _extremes(picture: Image.Image) -> list[tuple[float, float]]:
    found = picture.convert("RGB").getextrema()
    return [pair for pair in found if isinstance(pair, tuple)]


def _bad(asset: Asset, what: str, error_type: str) -> GiveUp:
    return GiveUp(f"Generation failed: picture {asset.index} {what}", error_type=error_type)
