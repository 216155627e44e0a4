"""From an answer to a file: the chart that fits, under a title that says what it shows."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ourvidz.reports.answer import Answer
from ourvidz.reports.names import Theme
from ourvidz.reports.plots import charts
from ourvidz.reports.plots.shapes import NAMES, Shape, shape_of
from ourvidz.reports.plots.style import DPI, PALETTES, SIZE, Palette, settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

LEFT: Final = 0.02


def draw(answer: Answer, file: Path, theme: Theme) -> None:
    """Write the plot; PNG or SVG, as the file's name ends. Raises ModuleNotFoundError without matplotlib."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    palette = PALETTES[theme]
    with warnings.catch_warnings(), matplotlib.rc_context(settings(palette)):
        layout = ConstrainedLayoutEngine(rect=(LEFT, 0.02, 1 - 2 * LEFT, 0.82))
        figure = Figure(figsize=SIZE, dpi=DPI, layout=layout)
        if answer.empty:
            _title(figure, "Nothing of it happened in this time", f"{answer.report}, {answer.span.told} UTC", palette)
        else:
            shape = shape_of(answer)
            _chart(figure.add_subplot(), answer, shape, palette)
            _head(figure, answer, shape, palette)
        warnings.filterwarnings("ignore", "Glyph")  # a sign that no font has is a box, and no news
        figure.savefig(file, format=file.suffix[1:].lower(), metadata=_no_date(file))


def _chart(axes: "Axes", answer: Answer, shape: Shape, palette: Palette) -> None:
    over_time = _over_time(answer)
    if shape.stacked:
        chart = charts.stacks_over_time if over_time else charts.stacks_by_name
    else:
        chart = charts.percentiles_over_time if over_time else charts.percentiles_by_name
    chart(axes, shape, palette)


def _head(figure: "Figure", answer: Answer, shape: Shape, palette: Palette) -> None:
    """Title and span, and the series by name, each in its colour, instead of a legend in a box."""
    by = f" by {answer.by}" if answer.by else ""
    cut = f", the {NAMES} with the most" if not shape.stacked and len(shape.lines) < len(answer.rows) else ""
    text = _title(figure, shape.title, f"{answer.report}{by}, {answer.span.told} UTC{cut}", palette)
    for words, colour in charts.legend(shape, palette, over_time=_over_time(answer)):
        text = figure.axes[0].annotate(
            words, (1, 0), (14, 0), xycoords=text, textcoords="offset points", color=colour, va="bottom"
        )
        text.set_in_layout(False)


def _title(figure: "Figure", title: str, below: str, palette: Palette) -> "Text":
    figure.text(LEFT, 0.965, title, fontsize=15, fontweight="bold", va="top")
    return figure.text(LEFT, 0.865, below, color=palette.faint, va="bottom")


def _over_time(answer: Answer) -> bool:
    return answer.by is not None and answer.by.moment is not None


def _no_date(file: Path) -> dict[str, str | None]:
    """The same report is the same file, whenever it is drawn."""
    return {"Date": None} if file.suffix.lower() == ".svg" else {"Software": "ourvidz"}
