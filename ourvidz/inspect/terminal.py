"""A job's page on a terminal.

Made for 80 columns. Wider ones get longer bars and a column for the worker; narrower ones get no bars.
"""

import textwrap
from collections.abc import Iterator
from typing import Any, Final, Literal

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ourvidz.inspect.page import Cell, Gallery, Grid, Remark, Section, Step, Timeline
from ourvidz.inspect.sections import page_of
from ourvidz.tones import STYLES
from ourvidz.wording import brief, clock, printable

WIDE: Final = 110
"""From here on the data of an event stands beside it."""
_FIXED: Final = 70
"""Columns of the timeline without its bars and without the worker."""
_WHERE: Final = 44
"""At most so many for the worker."""
_LONGEST: Final = 40
_SHORTEST: Final = 6
_BEFORE_WHERE: Final = 10
"""A bar gets so many before the worker gets any."""


def render(document: dict[str, Any], *, width: int, events: bool = False) -> RenderableType:
    """The whole of it for a terminal of `width` columns; `events`: with the raw history."""
    page = page_of(document, events=events)
    style = f"bold {STYLES[page.sentence.tone]}".strip()
    parts: list[RenderableType] = [Text(printable(page.sentence.text), style=style)]
    if page.moment is not None:
        parts.append(Text(page.moment, style="dim"))
    for number, section in enumerate(page.sections):
        parts += [Text(), *_section(section, width, titled=number > 0)]
    return Group(*parts)


def _grid(given: Grid) -> Table:
    """Plain columns; only the last one may wrap."""
    table = Table.grid(padding=(0, 2, 0, 0))
    last = len(given.rows[0]) - 1
    for index in range(last + 1):
        side: Literal["left", "right"] = "right" if index in given.right else "left"
        table.add_column(no_wrap=index < last, overflow="fold" if index == last else "ellipsis", justify=side)
    if given.head:
        table.add_row(*(Text(name, style="dim") for name in given.head))
    for row in given.rows:
        table.add_row(*(_text(cell) for cell in row))
    return table


def _section(section: Section, width: int, *, titled: bool) -> Iterator[RenderableType]:
    if titled:  # the first one's rows follow the sentence, which is title enough
        yield Text(section.title, style="bold")
    for part in section.parts:
        match part:
            case Timeline():
                yield from _timeline(part, width)
            case Grid():
                if part.caption is not None:
                    yield Padding(Text(printable(part.caption), style="dim"), (0, 0, 0, 2))
                if part.long_last and width < WIDE:
                    yield from _stacked(part, width)
                else:
                    yield Padding(_grid(part), (0, 0, 0, 2))
            case Gallery():
                continue


def _stacked(given: Grid, width: int) -> Iterator[Text]:
    """Each row with its last cell beneath it."""
    widths = [max(len(printable(row[index].text)) for row in given.rows) for index in range(len(given.rows[0]) - 1)]
    for row in given.rows:
        line = Text("  ")
        for cell, wide in zip(row, widths, strict=False):
            line.append_text(_text(cell)).append(" " * (wide - len(printable(cell.text)) + 2))
        yield _line(line, width)
        yield Text(_wrapped(row[-1].text, width, first=6, others=6), style=STYLES[row[-1].tone])


def _text(cell: Cell) -> Text:
    return Text(printable(cell.text), style=STYLES[cell.tone])


def _timeline(story: Timeline, width: int) -> Iterator[Text]:
    """The rows for a terminal of `width` columns; what went wrong stands beneath its attempt."""
    names = [entry.where for entry in story.entries if isinstance(entry, Step) and entry.where]
    named = min(_WHERE, max(map(len, names), default=0)) + 2
    wide = bool(names) and width >= _FIXED + _BEFORE_WHERE + named
    bar = min(_LONGEST, width - _FIXED - (named if wide else 0))
    bar = bar if bar >= _SHORTEST else 0
    after = f" {'after':>8}" if bar else ""
    head = f"  {'stage':<13} try  {'UTC':<8} {after} {'wait':>7} {'run':>7}  "
    head += f"{'':<{bar}}  outcome" if bar else "outcome"
    yield _line(Text(head + ("      where" if wide else ""), style="dim"), width)
    before, day = None, story.began.date()
    for entry in story.entries:
        if entry.at.date() != day:
            day = entry.at.date()
            yield Text(f"  {day}", style="dim")
        if isinstance(entry, Remark):
            yield _remark(entry, width)
            continue
        yield _step(entry, story.longest, width, bar=bar, wide=wide)
        notes = list(entry.notes)
        if not wide and entry.worker not in (None, before):
            notes.insert(0, f"on {entry.where}")
        before = entry.worker or before
        if notes:
            yield Text(_wrapped("; ".join(notes), width, first=21, others=21), style="dim")


def _step(step: Step, longest: float, width: int, *, bar: int, wide: bool) -> Text:
    number = "" if step.attempt is None else str(step.attempt)
    wait, run = ("" if seconds is None else brief(seconds) for seconds in (step.wait, step.run))
    after = f" {_after(step.after):>8}" if bar else ""
    line = Text(f"  {step.stage:<13} {number:>3}  {clock(step.at)} {after} {wait:>7} {run:>7}  ")
    if bar:
        waited, ran = (round((seconds or 0.0) / longest * bar) for seconds in (step.wait, step.run))
        ran = max(1, ran) if step.run is not None else 0
        waited = min(waited, bar - ran)
        line.append("░" * waited, style="dim")
        line.append("█" * ran, style=STYLES[step.tone])
        line.append(" " * (bar - waited - ran) + "  ")
    line.append(f"{step.outcome:<11}", style=STYLES[step.tone])
    if wide:
        line.append(f"  {step.where}", style="dim")
    return _line(line, width)


def _after(seconds: float) -> str:
    return f"+{brief(seconds)}"


def _remark(remark: Remark, width: int) -> Text:
    said = f"· {clock(remark.at)} {_after(remark.after)}  {remark.said}"
    return Text(_wrapped(said, width, first=2, others=4), style=STYLES[remark.tone])


def _line(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis")
    text.rstrip()
    return text


def _wrapped(text: str, width: int, *, first: int, others: int) -> str:
    # By hand: rich has no hanging indent, and a table would widen the columns above it.
    return textwrap.fill(
        printable(text),
        max(others + 20, width),
        initial_indent=" " * first,
        subsequent_indent=" " * others,
        break_on_hyphens=False,
    )
