"""A contact sheet: many pictures on one page, each with its caption."""

import math
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

CELL: Final = 256
GAP: Final = 24
TEXT: Final = 44
PAPER: Final = "#16181d"
INK: Final = "#e8e6e3"
DIM: Final = "#9a978f"


@dataclass(frozen=True)
class Picture:
    """One picture of the sheet. `below` is cut where the cell ends."""

    path: Path
    caption: str
    below: str = ""


def contact_sheet(pictures: list[Picture], path: Path, *, columns: int = 5) -> None:
    """Write a PNG with all `pictures`, enlarged or reduced to cells of 256 pixels, in the given order."""
    columns = max(1, min(columns, len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (GAP + columns * (CELL + GAP), GAP + rows * (CELL + TEXT + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    for number, picture in enumerate(pictures):
        left = GAP + number % columns * (CELL + GAP)
        top = GAP + number // columns * (CELL + TEXT + GAP)
        with Image.open(picture.path) as opened:
            image = opened.convert("RGB")
        scale = min(CELL / image.width, CELL / image.height)
        shown = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        sheet.paste(shown, (left + (CELL - shown.width) // 2, top + (CELL - shown.height) // 2))
        draw.text((left, top + CELL + 6), _cut(draw, picture.caption, font), INK, font=font)
        draw.text((left, top + CELL + 24), _cut(draw, picture.below, font), DIM, font=font)
    sheet.save(path, optimize=True)


def _cut(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """As much of `text` as a cell is wide, in letters that Pillow's own font has."""
    text = unicodedata.normalize("NFKD", text.replace("—", "-")).encode("ascii", "ignore").decode()
    if draw.textlength(text, font=font) <= CELL:
        return text
    while text and draw.textlength(text + "...", font=font) > CELL:
        text = text[:-1]
    return text.rstrip() + "..."
