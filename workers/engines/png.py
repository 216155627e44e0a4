"""Pictures as PNG files with the generation's parameters in them. The same input gives the same bytes."""

import io
from collections.abc import Mapping

from PIL import Image
from PIL.PngImagePlugin import PngInfo


def encode_png(image: Image.Image, parameters: Mapping[str, str]) -> bytes:
    """Encode with one text chunk per parameter: tEXt where Latin-1 holds it, iTXt otherwise. No time stamp."""
    texts = PngInfo()
    for key, value in parameters.items():
        texts.add_text(key, value)
    file = io.BytesIO()
    image.save(file, format="PNG", pnginfo=texts, compress_level=6)
    return file.getvalue()
