"""The four charts: stacks over time and by name, percentiles over time and by name."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ourvidz.reports.columns import Column, Form
from ourvidz.reports.plots.shapes import NAMES, Series, Shape
from ourvidz.reports.plots.style import Palette
from ourvidz.wording import duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CLASSES: Final = ("permanent", "transient", "device memory", "crash", "misconfiguration", "cancelled")
"""Classes of errors have the same colours in all plots."""
_FEW: Final = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0)
_MANY: Final = sorted(
    {*_FEW, 0.002, 0.005, 0.02, 0.05, 0.2, 0.5, 2.0, 5.0, 20.0, 30.0, 120.0, 300.0, 1_200.0, 1_800.0, 7_200.0, 43_200.0}
)
_STEPS: Final = (1, 5, 15, 60, 300, 600, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400, 172_800, 432_000, 864_000)


def stacks_over_time(axes: "Axes", shape: Shape, palette: Palette) -> None:
    """Bars, one a day or hour, their series upon one another."""
    at, step = _moments(shape)
    begun = [0.0] * len(at)
    for series, colour in zip(shape.series, colours(shape.series, palette), strict=True):
        axes.bar(at, series.values, step * (1.0 if len(at) > 120 else 0.82), bottom=begun, align="edge", color=colour)
        begun = [below + value for below, value in zip(begun, series.values, strict=True)]
    _date_axis(axes, at, step)
    axes.set_ylim(0, (max(begun) or 1) * 1.06)
    axes.grid(axis="y")
    _value_axis(axes, shape.form, max(begun))


def stacks_by_name(axes: "Axes", shape: Shape, palette: Palette) -> None:
    """Bars that lie, the greatest on top, each with its sum behind it."""
    shape, rest = _greatest(shape)
    places = range(len(shape.lines))
    begun = [0.0] * len(shape.lines)
    for series, colour in zip(shape.series, colours(shape.series, palette), strict=True):
        axes.barh(places, series.values, 0.7, left=begun, color=colour)
        begun = [before + value for before, value in zip(begun, series.values, strict=True)]
    sums, names = begun, shape.lines
    if rest:  # without a bar, which would make all others small
        sums, names = [*begun, sum(rest)], [*names, f"{len(rest):,} others"]
    told = Column("", "", shape.form).told
    for place, value in enumerate(sums):
        text = told(round(value) if shape.form is Form.COUNT else value)
        end = value if place < len(begun) else 0
        axes.annotate(text, (end, place), (5, 0), textcoords="offset points", va="center", color=palette.faint)
    axes.set_xlim(0, (max(begun) or 1) * 1.12)
    axes.set_xticks([])
    _name_axis(axes, names, palette)


def percentiles_over_time(axes: "Axes", shape: Shape, palette: Palette) -> None:
    """The median as a line, and bands up to the others, on a logarithmic axis."""
    at, step = _moments(shape)
    middle = [moment + step / 2 for moment in at]
    half, most, all_but_one = (series.values for series in shape.series)
    axes.fill_between(middle, most, all_but_one, color=palette.good, alpha=0.16, linewidth=0)
    axes.fill_between(middle, half, most, color=palette.good, alpha=0.36, linewidth=0)
    few, many = len(at) < 40, len(at) > 120
    axes.plot(middle, half, color=palette.good, linewidth=1 if many else 2, marker="o" if few else None, markersize=4)
    for values in (most, all_but_one):
        axes.plot(middle, values, color=palette.good, linewidth=0.8, alpha=0.6, marker="." if few else None)
    _date_axis(axes, at, step)
    axes.set_yscale("log")
    axes.grid(axis="y")
    _log_axis(axes, shape, along="y")
    _labels_at_the_end(axes, shape, at[-1] + step)


def percentiles_by_name(axes: "Axes", shape: Shape, palette: Palette) -> None:
    """From the median, a dot, to the ninth of ten, and a thin line on to the last of a hundred."""
    half, most, all_but_one = (series.values for series in shape.series)
    places = list(range(len(shape.lines)))
    axes.hlines(places, half, all_but_one, color=palette.good, linewidth=2, alpha=0.4)
    axes.hlines(places, half, most, color=palette.good, linewidth=7, alpha=0.6)
    axes.plot(half, places, "o", color=palette.good, markersize=9)
    axes.set_xscale("log")
    axes.grid(axis="x")
    _name_axis(axes, shape.lines, palette)
    _log_axis(axes, shape, along="x")
    told = Column("", "", Form.SECONDS).told
    for place, values in zip(places, zip(half, most, all_but_one, strict=True), strict=True):
        axes.annotate(
            "  ·  ".join(told(value) for value in values), (values[2], place), (8, 0),
            textcoords="offset points", va="center", color=palette.faint, annotation_clip=False,
        )  # fmt: skip


def legend(shape: Shape, palette: Palette, *, over_time: bool) -> list[tuple[str, str]]:
    """Words and their colours: what the marks mean, where they do not say it themselves."""
    if not shape.stacked:
        return [] if over_time else [("● half of them   ▬ nine in ten   — 99 in a hundred", palette.good)]
    return [
        (f"■ {one.label}", colour) for one, colour in zip(shape.series, colours(shape.series, palette), strict=True)
    ]


def colours(series: list[Series], palette: Palette) -> list[str]:
    """Of each series: by what it means, else one after the other."""
    classes = dict(zip(_CLASSES, palette.others, strict=False))
    meanings = {"good": palette.good, "bad": palette.bad, "dull": palette.dull}
    return [
        meanings.get(one.meaning) or classes.get(one.label, palette.others[number]) for number, one in enumerate(series)
    ]


def _labels_at_the_end(axes: "Axes", shape: Shape, end: float) -> None:
    """The last value of each series beside it, as far apart as their letters are high."""
    low, high = (math.log(limit) for limit in axes.get_ylim())
    lowest, told = low, Column("", "", Form.SECONDS).told
    for series in shape.series:
        last = [value for value in series.values if not math.isnan(value)][-1]
        place = max(math.log(last), lowest)
        lowest = place + (high - low) * 0.05
        axes.annotate(
            f"{series.label}  {told(last)}", (end, math.exp(place)), (6, 0),
            textcoords="offset points", va="center", annotation_clip=False,
        )  # fmt: skip


def _moments(shape: Shape) -> tuple[list[float], float]:
    """As matplotlib counts them: days since 1970, in UTC."""
    at = [(datetime.fromisoformat(line) - datetime(1970, 1, 1)) / timedelta(days=1) for line in shape.lines]  # noqa: DTZ001
    return at, 1 / 24 if ":" in shape.lines[0] else 1.0


def _greatest(shape: Shape) -> tuple[Shape, list[float]]:
    """Those with the most, the greatest first; and the sums of those that are left."""
    sums = [sum(series.values[number] for series in shape.series) for number in range(len(shape.lines))]
    order = sorted(range(len(sums)), key=lambda number: -sums[number])
    shown, rest = (order, []) if len(order) <= NAMES else (order[: NAMES - 1], order[NAMES - 1 :])
    series = [Series(one.label, [one.values[number] for number in shown], one.meaning) for one in shape.series]
    lines = [shape.lines[number] for number in shown]
    return Shape(shape.title, lines, series, shape.form, stacked=True), [sums[number] for number in rest]


def _date_axis(axes: "Axes", at: list[float], step: float) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, DateFormatter

    axes.set_xlim(at[0], max(at[-1], at[0] + 6 * step) + step)  # few bars stay as thin as many
    if step == 1 and len(at) <= 10:
        axes.set_xticks([one + step / 2 for one in at])
        axes.xaxis.set_major_formatter(DateFormatter("%-d %b", tz=UTC))  # type: ignore[no-untyped-call]
        return
    locator = AutoDateLocator(minticks=3, maxticks=9, tz=UTC)  # type: ignore[no-untyped-call]
    forms = ["%Y", "%b", "%-d %b", "%H:%M", "%H:%M", "%S"]
    begins = ["", "%b %Y", "%-d %b", "%-d %b", "%H:%M", "%H:%M"]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(
        ConciseDateFormatter(locator, tz=UTC, formats=forms, zero_formats=begins, show_offset=False)  # type: ignore[no-untyped-call]
    )


def _name_axis(axes: "Axes", names: list[str], palette: Palette) -> None:
    axes.set_yticks(range(len(names)), names, color=palette.ink)
    axes.set_ylim(max(len(names), 6) - 0.4, -0.6)  # few bars stay as thin as many


def _value_axis(axes: "Axes", form: Form, most: float) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

    told: Callable[[float], str] = duration if form is Form.SECONDS else Column("", "", form).told
    if form is Form.SECONDS:
        step = next((one for one in _STEPS if most / one <= 6), None)
        axes.yaxis.set_major_locator(MultipleLocator(step) if step else MaxNLocator(5))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: told(round(value) if form is Form.COUNT else value)))


def _log_axis(axes: "Axes", shape: Shape, *, along: str) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis = axes.yaxis if along == "y" else axes.xaxis
    values = [value for series in shape.series for value in series.values if not math.isnan(value)]
    low, high = min(values) / 1.4, max(values) * (1.4 if along == "y" else 2.0)
    (axes.set_ylim if along == "y" else axes.set_xlim)(low, high)
    ticks = [tick for tick in _FEW if low <= tick <= high]
    axis.set_major_locator(FixedLocator(ticks if len(ticks) > 3 else [tick for tick in _MANY if low <= tick <= high]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))
