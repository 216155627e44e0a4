"""A contact sheet: what several jobs made, each job a strip of pictures under its title, its references beside them."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

CELL: Final = 168
"""Pixels along the longer side of a picture."""
NARROW: Final = 104
"""A cell is as wide as its picture, but never less than this: its label needs room."""
LEAST: Final = 184
WIDTH: Final = 1480
GAP: Final = 12
BETWEEN: Final = 28
HEAD: Final = 42
FOOT: Final = 20
PAPER: Final = "#16181d"
INK: Final = "#e8e6e3"
DIM: Final = "#9a978f"
MARK: Final = "#d08c4a"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Cell:
    """One picture with its label. A reference is framed."""

    picture: Image.Image
    label: str
    reference: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Of the picture as it is shown."""
        scale = min(CELL / self.picture.width, CELL / self.picture.height)
        return max(1, round(self.picture.width * scale)), max(1, round(self.picture.height * scale))

    @property
    def width(self) -> int:
        """Pixels."""
        return max(NARROW, self.size[0])


@dataclass(frozen=True)
class Strip:
    """One job. `below` is cut where the strip ends."""

    title: str
    below: str
    cells: Sequence[Cell]

    @property
    def width(self) -> int:
        """Pixels; the title needs room, too."""
        return max(LEAST, sum(cell.width for cell in self.cells) + GAP * (len(self.cells) - 1))


def contact_sheet(strips: Sequence[Strip], path: Path) -> None:
    """Write a PNG with all strips in the given order, as many to a row as there is room for."""
    rows = _rows(strips)
    tall = HEAD + CELL + FOOT + BETWEEN
    width = max(sum(strip.width for strip in row) + BETWEEN * (len(row) + 1) for row in rows)
    sheet = Image.new("RGB", (width, BETWEEN + tall * len(rows)), PAPER)
    top = BETWEEN
    for row in rows:
        left = BETWEEN
        for strip in row:
            _draw(sheet, strip, left, top)
            left += strip.width + BETWEEN
        top += tall
    sheet.save(path, optimize=True)


def _rows(strips: Sequence[Strip]) -> list[list[Strip]]:
    rows: list[list[Strip]] = [[]]
    for strip in strips:
        if rows[-1] and sum(other.width + BETWEEN for other in [*rows[-1], strip]) > WIDTH:
            rows.append([])
        rows[-1].append(strip)
    return rows


def _draw(sheet: Image.Image, strip: Strip, left: int, top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(size=14), ImageFont.load_default(size=12)
    draw.text((left, top), _cut(draw, strip.title, large, strip.width), INK, font=large)
    draw.text((left, top + 20), _cut(draw, strip.below, small, strip.width), DIM, font=small)
    for cell in strip.cells:
        shown = cell.picture.convert("RGB").resize(cell.size, Image.Resampling.LANCZOS)
        x, y = left + (cell.width - shown.width) // 2, top + HEAD + (CELL - shown.height) // 2
        sheet.paste(shown, (x, y))
        if cell.reference:
            draw.rectangle((x - 3, y - 3, x + shown.width + 2, y + shown.height + 2), outline=MARK, width=2)
        label = _cut(draw, cell.label, small, cell.width)
        indent = (cell.width - draw.textlength(label, font=small)) // 2
        draw.text((left + indent, top + HEAD + CELL + 5), label, MARK if cell.reference else DIM, font=small)
        left += cell.width + GAP


def _cut(draw: ImageDraw.ImageDraw, text: str, font: Font, width: int) -> str:
    """As much of `text` as there is room for, in letters that Pillow's own font has."""
    text = unicodedata.normalize("NFKD", text.replace("—", "-").replace("×", "x")).encode("ascii", "ignore").decode()
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "...", font=font) > width:
        text = text[:-1]
    return text.rstrip() + "..."
