"""A report as a table for the terminal: a header that says what it is, the rows, and their total."""

from collections.abc import Iterator
from typing import Final, Literal

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ourvidz.reports.answer import Answer, Row
from ourvidz.reports.columns import Column
from ourvidz.wording import listed, plural

MOST: Final = 60
"""Rows on a terminal; data has them all. Days and hours are never left out."""


def render(answer: Answer, *, width: int) -> Iterator[RenderableType]:
    """What is printed, part by part, at most `width` columns wide."""
    by = f" by {answer.by}" if answer.by else ""
    yield Text(f"{answer.report}{by}, {answer.span.told} (UTC)", style="bold")
    yield Text(answer.about, style="dim")
    if answer.empty:
        yield Text("Nothing of it happened in this time.")
        return
    yield Text()
    rows = answer.rows if answer.by and answer.by.moment else answer.rows[:MOST]
    columns, gap = _fitting(answer, rows, width)
    yield _table(answer, rows, columns, gap)
    if len(rows) < len(answer.rows):
        yield Text(f"and {plural(len(answer.rows) - len(rows), 'line')} more; --format csv has all", style="dim")
    if len(columns) < len(answer.columns):
        hidden = listed([column.title for column in answer.columns[len(columns) :]])
        yield Text(f"not shown for want of room: {hidden}", style="dim")


def _fitting(answer: Answer, rows: list[Row], width: int) -> tuple[list[Column], int]:
    """The columns that have room, the first ones first, and how far they stand apart."""
    widths = [
        max([len(column.title), len(_footer(answer, column)), *(len(column.told(row[column.name])) for row in rows)])
        for column in answer.columns
    ]
    for gap in (2, 1):
        if sum(widths) + gap * (len(widths) - 1) <= width:
            return answer.columns, gap
    fitting, used = len(answer.keys), sum(widths[: len(answer.keys)]) + len(answer.keys) - 1
    while fitting < len(widths) and used + 1 + widths[fitting] <= width:
        used += 1 + widths[fitting]
        fitting += 1
    return answer.columns[: max(fitting, len(answer.keys) + 1)], 1


def _table(answer: Answer, rows: list[Row], columns: list[Column], gap: int) -> Table:
    table = Table(
        box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim", show_footer=answer.totals is not None
    )
    for column in columns:
        side: Literal["left", "right"] = "left" if column.words else "right"
        footer = Text(_footer(answer, column), style="bold")
        table.add_column(column.title, footer=footer, justify=side, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(
            *(Text(column.told(row[column.name]), style="" if row[column.name] else "dim") for column in columns)
        )
    return table


def _footer(answer: Answer, column: Column) -> str:
    if answer.totals is None:
        return ""
    if column.words:
        return "all" if column is answer.keys[0] else ""
    return column.told(answer.totals[column.name])
