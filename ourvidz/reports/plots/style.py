"""The house style: what all plots have in common. Its colours are told apart by colour-blind people too."""

from dataclasses import dataclass
from typing import Any, Final

from ourvidz.reports.names import Theme

SIZE: Final = (10.0, 5.6)
DPI: Final = 160


@dataclass(frozen=True)
class Palette:
    """Colours on one ground. `others` are for series that mean nothing by themselves."""

    ground: str
    ink: str
    faint: str
    grid: str
    good: str
    bad: str
    dull: str
    others: tuple[str, ...]


# Okabe and Ito's colours; on the dark ground lighter by as much as it takes to be as legible.
PALETTES: Final[dict[Theme, Palette]] = {
    Theme.LIGHT: Palette(
        ground="#ffffff",
        ink="#1f2328",
        faint="#656d76",
        grid="#e4e7eb",
        good="#0072b2",
        bad="#d55e00",
        dull="#a8b0b9",
        others=("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6bb1", "#a8b0b9"),
    ),
    Theme.DARK: Palette(
        ground="#14171c",
        ink="#e6e9ed",
        faint="#98a2ad",
        grid="#2b3138",
        good="#4ba3dd",
        bad="#f0803c",
        dull="#626b76",
        others=("#4ba3dd", "#f0b232", "#2fbf94", "#dd93bd", "#8fd0f7", "#f0803c", "#ab91cf", "#626b76"),
    ),
}


def settings(palette: Palette) -> Any:
    """What matplotlib is to be told; in its own type, which names each of its settings."""
    return {
        "figure.facecolor": palette.ground,
        "axes.facecolor": palette.ground,
        "savefig.facecolor": palette.ground,
        "text.color": palette.ink,
        "axes.labelcolor": palette.faint,
        "axes.edgecolor": palette.grid,
        "xtick.color": palette.faint,
        "ytick.color": palette.faint,
        "grid.color": palette.grid,
        "grid.linewidth": 0.8,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.spines.bottom": False,
        "xtick.major.pad": 7,
        "ytick.major.pad": 7,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
        "font.size": 10,
        "font.family": "DejaVu Sans",
        "text.parse_math": False,  # a name may have any sign in it
        "svg.hashsalt": "ourvidz",  # the same report is the same file
    }
